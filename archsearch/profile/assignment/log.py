"""Evaluations as they come, one line of JSON each, on the disk before the next one is begun: what ``--resume`` goes on from."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from overrides import overrides

from archsearch.jobs import JSON, InputError
from archsearch.profile.assignment.encoding import Encoding
from archsearch.profile.assignment.evaluation import Evaluation
from archsearch.profile.assignment.tables import encoding_json

FORMAT = "archsearch assignment log 1"


class Log:
    """One file: a line that says what is being estimated, then a line an evaluation. Made by ``open_log``."""

    def __init__(self, file: IO[bytes], first: list[Evaluation], again: list[Evaluation]) -> None:
        self._file = file
        self.first = first  # evaluations that were recorded before
        self.again = again  # second measurements

    def append(self, evaluation: Evaluation, *, again: bool = False) -> None:
        """Record one; durable when this returns."""
        self._write(_line({"again": evaluation.to_json()} if again else evaluation.to_json()))

    def _write(self, line: bytes) -> None:
        self._file.write(line)
        self._file.flush()
        os.fsync(self._file.fileno())


class KeptLog(Log):
    """A log that has no file of its own: whoever keeps it is given all of it after each evaluation.

    Args:
        content: what was kept before; of another estimation (the device has become another, say) it is dropped.
        keep: durable when it returns.
    """

    def __init__(self, content: bytes | None, header: dict[str, JSON], keep: Callable[[bytes], None]) -> None:
        self._content, self._keep = _line(header), keep
        if content is not None and content.startswith(self._content):
            self._content = content
        self.first, self.again = _read(Path("checkpoint"), self._content, header)

    @overrides
    def _write(self, line: bytes) -> None:
        self._content += line
        self._keep(self._content)


@contextmanager
def open_log(path: Path, header: dict[str, JSON]) -> Iterator[Log]:
    """Go on with the log at ``path``, or begin one.

    A last line that was cut short, as a kill may leave it, is dropped: that evaluation is made again.

    Args:
        header: what is estimated and how (see ``header_of``); another one in the file is refused.

    Raises:
        InputError: another process writes it, it is another's or damaged, or cannot be written.
    """
    try:
        file = path.open("a+b")
    except OSError as error:
        raise InputError(f"the log {path} cannot be opened: {error.strerror}") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"another process is writing {path}; wait for it, or give another file") from error
        file.seek(0)
        content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        if not whole and content and not json.dumps({"format": FORMAT}).encode().startswith(content[:12]):
            raise InputError(f"{path} is not an assignment log, and was left as it is")
        log = Log(file, *_read(path, whole, header))
        if len(whole) < len(content):
            file.truncate(len(whole))
        if not whole:
            log._write(_line(header))
        yield log


def header_of(encoding: Encoding, estimator: str, seed: int, source: str) -> dict[str, JSON]:
    """What a log's first line says. ``source`` names what is measured: a table's file and hash, or a model and its device."""
    text = json.dumps(encoding_json(encoding), sort_keys=True)
    model = hashlib.sha256(text.encode()).hexdigest()
    return {"format": FORMAT, "model": model, "source": source, "estimator": estimator, "seed": seed}


def _read(path: Path, content: bytes, header: dict[str, JSON]) -> tuple[list[Evaluation], list[Evaluation]]:
    """First and second measurements."""
    first: list[Evaluation] = []
    again: list[Evaluation] = []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            data: dict[str, Any] = json.loads(line)
            if number == 1:
                _same(path, data, header)
            elif "again" in data:
                again.append(Evaluation.from_json(data["again"]))
            else:
                first.append(Evaluation.from_json(data))
        except InputError:
            raise
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise InputError(f"{path}, line {number}, is damaged ({error}); nothing was changed") from error
    return first, again


def _same(path: Path, found: dict[str, Any], wanted: dict[str, JSON]) -> None:
    if found.get("format") != FORMAT:
        raise InputError(f"{path} is not an assignment log, and was left as it is")
    different = [f"{name} {found.get(name)} (now {wanted[name]})" for name in wanted if found.get(name) != wanted[name]]
    if different:
        raise InputError(f"{path} is of another estimation: {'; '.join(different)}. Give it another file.")


def _line(data: dict[str, JSON]) -> bytes:
    return (json.dumps(data) + "\n").encode()
