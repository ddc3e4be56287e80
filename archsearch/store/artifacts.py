"""Weights and other large results named by their content, and the checkpoints of attempts under way.

An artifact is written once, whole and durably, before the event that names it; what no event names is collected.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from collections.abc import Callable, Collection

from archsearch.jobs import ArtifactRef, InputError, StoreDamaged
from archsearch.store.files import Files

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_KEY = re.compile(rf"artifacts/[0-9]{{6,}}/[0-9]+/{_NAME.pattern}")
_CHECKPOINT = re.compile(r"checkpoints/[0-9]{6,}/([0-9]+)\.ckpt")
_OWNER = "OWNER"  # names the run that the place belongs to
_MAGIC = b"archsearch checkpoint 1\n"


def _nothing(_point: str) -> None:
    pass


class Artifacts:
    """The artifacts below one root: a folder or an fsspec URL. Cheap to make; a worker makes its own from ``url``.

    ``reached`` is called with ``artifact.before`` and ``artifact.after`` around each durable write of an artifact.
    All methods raise ``StoreUnavailable`` when the store cannot be reached or is full; nothing was changed then.
    """

    def __init__(self, url: str | os.PathLike[str], reached: Callable[[str], None] = _nothing) -> None:
        self._files = Files(os.fspath(url))
        self.url = self._files.url
        self._reached = reached

    def save(self, job: int, attempt: int, name: str, payload: bytes) -> ArtifactRef:
        """Write ``payload`` durably. ``name`` may carry an extension (``weights.safetensors``); without one it gets ``.bin``.

        Raises:
            InputError: the name is not one file's name.
        """
        if not _NAME.fullmatch(name):
            raise InputError(f"artifact name {name!r}: expected letters, digits, '_', '-', '.', not starting with '.' or '-'")
        sha256 = hashlib.sha256(payload).hexdigest()
        stem, extension = os.path.splitext(name)
        ref = ArtifactRef(f"artifacts/{job:06d}/{attempt}/{stem}-{sha256[:16]}{extension or '.bin'}", sha256, len(payload))
        self._reached("artifact.before")
        self._files.write(ref.key, payload, once=True)
        self._reached("artifact.after")
        return ref

    def load(self, ref: ArtifactRef) -> bytes:
        """The artifact's bytes.

        Raises:
            StoreDamaged: missing, or not the bytes that were written; the text names the key.
            InputError: the key is not an artifact's, or leads out of the root.
        """
        _refuse_other(ref.key)
        payload = self._files.read(ref.key)
        if payload is None:
            raise StoreDamaged(f"artifact {ref.key} is missing in {self.url}")
        if len(payload) != ref.size:
            raise StoreDamaged(f"artifact {ref.key} in {self.url} has {len(payload)} bytes, {ref.size} were written")
        if hashlib.sha256(payload).hexdigest() != ref.sha256:
            raise StoreDamaged(f"artifact {ref.key} in {self.url} is not what was written (its SHA-256 differs)")
        return payload

    def put(self, ref: ArtifactRef, payload: bytes) -> None:
        """Write what another place has, under the same name: ``payload`` is what ``load`` gave for ``ref`` there."""
        _refuse_other(ref.key)
        self._files.write(ref.key, payload, once=True)

    def holds(self, ref: ArtifactRef) -> bool:
        """Whether the artifact lies here, whole."""
        try:
            self.load(ref)
        except StoreDamaged:
            return False
        return True

    def claim(self, run: str, *, new: bool = False) -> None:
        """Check that this place belongs to the run with that id; with ``new`` it gets it, if it is nobody's yet.

        Without it a run could collect what is another's: it is enough that the two share a name and ``run.artifacts``.

        Raises:
            InputError: it is another's, or nobody's.
        """
        owner = self._files.read(_OWNER)
        if owner is None and new:
            self._files.write(_OWNER, run.encode(), once=True)
            owner = self._files.read(_OWNER)
        if owner != run.encode():
            raise InputError(
                f"the artifacts in {self.url} are not this run's (file {_OWNER} there, id {run}): give another run.artifacts "
                "or run.name"
            )

    def leave_sign(self) -> str:
        """Write something that nobody can guess, and return it: whoever ``finds_sign`` has the same place."""
        sign = uuid.uuid4().hex
        self._files.write(f"signs/{sign}", sign.encode(), once=True)
        return sign

    def finds_sign(self, sign: str) -> bool:
        """Whether the sign lies here; it is removed."""
        found = self._files.read(f"signs/{sign}") == sign.encode()
        self._files.remove(f"signs/{sign}")
        return found

    def collect(self, keep: Collection[str], *, spare: Collection[int] = ()) -> list[str]:
        """Remove the artifacts whose keys are not in ``keep``; the keys removed, sorted. Jobs in ``spare`` are left alone:
        name those that run, since they may have written what no event names yet."""
        kept, spared = set(keep), {f"{job:06d}" for job in spare}
        removed = [key for key in self._files.keys("artifacts") if key not in kept and key.split("/")[1] not in spared]
        for key in removed:
            self._files.remove(key)
        return removed

    def drop(self, keys: Collection[str]) -> None:
        """Remove these artifacts; those that are gone already are passed over.

        Raises:
            InputError: one is no artifact's key; nothing was removed.
        """
        for key in keys:
            _refuse_other(key)
        for key in keys:
            self._files.remove(key)

    # ---------------------------------------------------------------------------------------------------- checkpoints
    def save_checkpoint(self, job: int, attempt: int, payload: bytes) -> None:
        """Replace the attempt's checkpoint: a crash leaves the one before or this one, never a part."""
        self._files.write(f"checkpoints/{job:06d}/{attempt}.ckpt", _header(job, attempt, payload) + payload, once=False)

    def load_checkpoint(self, job: int, attempt: int) -> bytes | None:
        """The newest intact checkpoint of this attempt or an earlier one, or None; damaged ones are passed over."""
        for number, key in sorted(self._checkpoints(job).items(), reverse=True):
            data = self._files.read(key) if number <= attempt else None
            if data is not None:
                payload = data[len(_MAGIC) + 65 :]
                if data[: len(_MAGIC) + 65] == _header(job, number, payload):
                    return payload
        return None

    def drop_checkpoints(self, job: int) -> None:
        """Remove all checkpoints of an ended job."""
        for key in self._files.keys(f"checkpoints/{job:06d}"):
            self._files.remove(key)

    def _checkpoints(self, job: int) -> dict[int, str]:
        keys = self._files.keys(f"checkpoints/{job:06d}")
        return {int(match[1]): key for key in keys if (match := _CHECKPOINT.fullmatch(key))}


def _refuse_other(key: str) -> None:
    """
    Raises:
        InputError: the key is not of the form that ``save`` gives.
    """
    if not _KEY.fullmatch(key):
        raise InputError(f"{key!r} is no artifact's key: expected one such as artifacts/000001/1/weights-0123abcd.safetensors")


def _header(job: int, attempt: int, payload: bytes) -> bytes:
    digest = hashlib.sha256(b"%d %d " % (job, attempt))
    digest.update(payload)
    return _MAGIC + digest.hexdigest().encode() + b"\n"
