"""A pack: files that are carried together, with a manifest that names each one's hash, size, source and version.

It is a folder, or the same as one .tar or .zip file (by its name), where nothing is compressed: the same files give the same
bytes on every machine. Whoever takes a pack reads it with `check_pack` or `unpack`, which believe nothing that it says: each
byte of each file is hashed, and what is not in the manifest, or leads out of the pack, is refused by its name.

>>> pack = write_pack("model.tar", [PackFile("data/train.npz", Path("train.npz"), source="scikit-learn", version="1.9.1")])
>>> check_pack("model.tar", pack.id) == pack
True
"""

from __future__ import annotations

import hashlib
import io
import os
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import rmtree
from typing import IO
from uuid import uuid4

from archsearch.jobs import JSON, InputError, StoreDamaged, StoreUnavailable
from archsearch.recipes.pack_forms import CHUNK, DAMAGED, FOLDER, Member, form_of
from archsearch.recipes.pack_manifest import MANIFEST, Entry, Pack, id_of, manifest_of, read_manifest
from archsearch.store.durable import TEMPORARY, make_folders, sync_folder

#: Problems that an error names, of perhaps many.
NAMED = 10


@dataclass(frozen=True, slots=True)
class PackFile:
    """A file to pack: its ``path`` in the pack, and its bytes or where they lie; ``source`` says where it came from."""

    path: str
    content: Path | bytes
    source: str
    version: str = ""


def write_pack(target: str | Path, files: Iterable[PackFile], *, about: Mapping[str, JSON] | None = None) -> Pack:
    """Write a pack whole, or not at all.

    Args:
        target: a name that does not exist; .tar and .zip make one file, any other name a folder.
        about: what else the manifest says of the pack.

    Raises:
        InputError: the target exists; or a path leaves the pack, is there twice, or is the manifest's; or a file is not there.
        StoreUnavailable: it cannot be written.
    """
    target = Path(target).expanduser().absolute()
    chosen = sorted(files, key=lambda file: file.path)
    _refuse_paths([file.path for file in chosen])
    for file in chosen:
        if isinstance(file.content, Path) and not file.content.is_file():
            raise InputError(f"{file.path}: there is no file {file.content} to pack")
    if os.path.lexists(target):
        raise InputError(f"{target} exists already: name a new pack")
    temporary = target.with_name(f"{TEMPORARY}{uuid4().hex}{target.suffix}")
    entries: dict[str, Entry] = {}
    try:
        make_folders(target.parent)
        with form_of(target).writer(temporary) as writer:
            for file in chosen:
                with ExitStack() as stack:
                    given = file.content
                    size = len(given) if isinstance(given, bytes) else given.stat().st_size
                    stream = io.BytesIO(given) if isinstance(given, bytes) else stack.enter_context(given.open("rb"))
                    hashed = Hashed(stream)
                    writer(file.path, size, hashed)
                if hashed.size != size:
                    raise InputError(f"{file.path} was changed while it was packed; try again")
                entries[file.path] = Entry(hashed.digest.hexdigest(), size, file.source, file.version)
            pack = Pack(id_of(about or {}, entries), dict(about or {}), entries)
            manifest = manifest_of(pack)
            writer(MANIFEST, len(manifest), Hashed(io.BytesIO(manifest)))
        if os.path.lexists(target):
            raise InputError(f"{target} exists already: name a new pack")
        os.rename(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise StoreUnavailable(f"{target} cannot be written: {error}; free the disk or check rights") from error
    finally:
        _remove(temporary)
    return pack


def check_pack(path: str | Path, id: str | None = None) -> Pack:
    """Hash every file of a pack; what its manifest says, once all is as that says.

    Args:
        id: of the pack that is expected (``Pack.id``). Without it a pack is only known to agree with itself.

    Raises:
        InputError: no pack is there; or a path in it leaves it, or is a link.
        StoreDamaged: a file was changed, is missing or was added; the text names each.
    """
    return _checked(Path(path), id, lambda name, stream: None)


def unpack(path: str | Path, folder: str | Path, id: str | None = None) -> Pack:
    """Check a pack and write its files, less the manifest, into a folder that does not exist yet: all of them or none.

    Raises:
        InputError, StoreDamaged: as ``check_pack``; or the folder exists. Nothing was written.
        StoreUnavailable: the folder cannot be written.
    """
    target = Path(folder).expanduser().absolute()
    if os.path.lexists(target):
        raise InputError(f"{target} exists already: name a new folder")
    temporary = target.with_name(f"{TEMPORARY}{uuid4().hex}")
    try:
        make_folders(target.parent)
        with form_of(temporary).writer(temporary) as writer:
            pack = _checked(Path(path), id, lambda name, stream: writer(name, stream.expected, stream))
        os.rename(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise StoreUnavailable(f"{target} cannot be written: {error}; free the disk or check rights") from error
    finally:
        _remove(temporary)
    return pack


def mark_pack(path: str | Path, id: str, mark: Mapping[str, JSON]) -> Pack:
    """Check a pack and write into its manifest what its verification has found, in place of an earlier mark; its id stays.

    A kill at any moment leaves the pack as it was or as it is to be: a folder's manifest is replaced, a file as a whole.

    Raises:
        InputError, StoreDamaged: as ``check_pack``; nothing was changed.
        StoreUnavailable: it cannot be written; nothing was changed.
    """
    target = Path(path).expanduser().resolve()
    temporary = target.with_name(f"{TEMPORARY}{uuid4().hex}{target.suffix}")
    try:
        if (form := form_of(target)) is FOLDER:
            pack = replace(check_pack(target, id), verified=dict(mark))
            with temporary.open("xb") as file:
                file.write(manifest_of(pack))
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target / MANIFEST)
            sync_folder(target)
            return pack
        with form.writer(temporary) as writer:
            pack = _checked(target, id, lambda name, stream: writer(name, stream.expected, stream))
            pack = replace(pack, verified=dict(mark))
            manifest = manifest_of(pack)
            writer(MANIFEST, len(manifest), Hashed(io.BytesIO(manifest)))
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise StoreUnavailable(f"{target} cannot be marked as verified: {error}; the pack is as it was") from error
    finally:
        _remove(temporary)
    return pack


class Hashed:
    """A stream that is hashed while it is read, and gives no more than was ``expected`` and one byte."""

    def __init__(self, stream: IO[bytes], expected: int = 1 << 62) -> None:
        self.digest = hashlib.sha256()
        self.size = 0
        self.expected = expected
        self._stream = stream

    def read(self, count: int = CHUNK) -> bytes:
        data = self._stream.read(max(0, min(CHUNK if count < 0 else count, self.expected + 1 - self.size)))
        self.digest.update(data)
        self.size += len(data)
        return data


def _checked(path: Path, id: str | None, each: Callable[[str, Hashed], None]) -> Pack:
    """The pack, with ``each`` told of its files; what it reads of a stream may turn out to be wrong at its end."""
    path = path.expanduser().absolute()
    if not path.exists():
        raise InputError(f"{path}: there is no such pack")
    try:
        with form_of(path).reader(path) as members:
            found = _by_path(path, members)
            if MANIFEST not in found:
                raise InputError(f"{path} has no {MANIFEST}: it is no pack, or not a whole one")
            pack = read_manifest(path, found.pop(MANIFEST))
            if id is not None and id != pack.id:
                raise StoreDamaged(f"{path} is another pack: its id is {pack.id}, not {id}")
            problems = [f"{name} is missing" for name in sorted(pack.files.keys() - found.keys())]
            problems += [f"{name} was added" for name in sorted(found.keys() - pack.files.keys())]
            both = sorted(pack.files.keys() & found.keys())
            problems += [f"{name} was changed" for name in both if not _same(found[name], pack.files[name], each)]
            if problems:
                more = f" and {len(problems) - NAMED} more" if len(problems) > NAMED else ""
                raise StoreDamaged(f"{path} is not what was packed: {'; '.join(problems[:NAMED])}{more}. Get it again.")
    except RecursionError as error:
        raise InputError(f"{path} has folders in folders without end; refused") from error
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be read, or what it holds not be written: {error}") from error
    return pack


def _same(member: Member, entry: Entry, each: Callable[[str, Hashed], None]) -> bool:
    """Whether a file is what the manifest says; ``each`` is told of it on the way."""
    if member.size != entry.size:
        return False
    try:
        with member.open() as stream:
            hashed = Hashed(stream, entry.size)
            each(member.path, hashed)
            while hashed.read():
                pass
    except DAMAGED:
        return False
    return (hashed.digest.hexdigest(), hashed.size) == (entry.sha256, entry.size)


def _by_path(path: Path, members: Sequence[Member]) -> dict[str, Member]:
    """
    Raises:
        InputError: a member is no plain file inside of the pack.
    """
    for member in members:
        if member.wrong:
            raise InputError(f"{path}: {member.path!r} {member.wrong}; refused")
    try:
        _refuse_paths([member.path for member in members if member.path != MANIFEST])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    if len(found := {member.path: member for member in members}) < len(members):
        raise InputError(f"{path}: {MANIFEST} is there twice; refused")
    return found


def _refuse_paths(paths: Sequence[str]) -> None:
    """
    Raises:
        InputError: one leaves the pack, is not the same on every system, or is there twice.
    """
    seen: dict[str, str] = {}
    for path in paths:
        parts = path.split("/")
        if (
            any(part in ("", ".", "..") or part != part.strip() or part.endswith(".") for part in parts)
            or any(character in '\\:*?"<>|' or not character.isprintable() for character in path)
            or unicodedata.normalize("NFC", path) != path
            or len(path.encode(errors="replace")) > 240  # what other systems hold, and a plain tar
        ):
            raise InputError(
                f"the path {path!r} leaves the pack, or is none on every system: expected one such as data/train.npz; refused"
            )
        if path.casefold() in seen or path.casefold() == MANIFEST:
            raise InputError(f"the path {path!r} is there twice ({seen.get(path.casefold(), MANIFEST)!r}); refused")
        seen[path.casefold()] = path
    for path in seen:
        for index in (i for i, character in enumerate(path) if character == "/"):
            if path[:index] in seen:
                raise InputError(f"the path {seen[path[:index]]!r} is a file, and the folder of {seen[path]!r}; refused")


def _remove(path: Path) -> None:
    """What is left of a pack that was not finished."""
    with suppress(OSError):
        if path.is_dir():
            rmtree(path)
        else:
            path.unlink()
