"""``HEAD``: the last event's number, kept outside the database so that a shortfall is seen.

Two records of 512 bytes are written in turn, each with a sequence number and a checksum of its own, so that a write cut by a
power failure leaves the record before it. A record may also carry the SHA-256 of the cleanly closed database file; no such
record may stand when the database is written again, which is why ``open`` replaces both.
"""

from __future__ import annotations

import os
import time
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

from archsearch.jobs import StoreDamaged, StoreUnavailable

SLOT = 512
_MAGIC = b"archsearch HEAD 1"


@dataclass(frozen=True, slots=True)
class Head:
    """``number`` and ``crc`` of the last event; ``digest`` is the closed database's SHA-256 (hex), empty while it is open."""

    sequence: int
    number: int
    crc: int
    digest: str = ""


def _encode(head: Head) -> bytes:
    text = b"%s %d %d %d %s" % (_MAGIC, head.sequence, head.number, head.crc, head.digest.encode() or b"open")
    line = text + b" %08x\n" % zlib.crc32(text)
    return line.ljust(SLOT - 1) + b"\n"


def _decode(slot: bytes) -> Head | None:
    line = slot.split(b"\n", 1)[0]
    text, _, checksum = line.rpartition(b" ")
    if not text.startswith(_MAGIC) or checksum != b"%08x" % zlib.crc32(text):
        return None
    sequence, number, crc, digest = text[len(_MAGIC) :].split()
    return Head(int(sequence), int(number), int(crc), "" if digest == b"open" else digest.decode())


def read_head(path: Path) -> Head:
    """The newest intact record.

    Raises:
        StoreDamaged: the file is missing, or neither record is intact.
    """
    for attempt in range(3):  # a reader may meet a record half written; the other one is then intact, or soon will be
        try:
            with path.open("rb") as file:
                data = file.read(2 * SLOT)
        except FileNotFoundError:
            raise StoreDamaged(f"{path} is missing: the number of the last event is not known") from None
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be read: {error}") from error
        heads = [head for at in (0, SLOT) if (head := _decode(data[at : at + SLOT])) is not None]
        if heads:
            return max(heads, key=lambda head: head.sequence)
        time.sleep(0.01 * (attempt + 1))
    raise StoreDamaged(f"{path} holds no intact record: the number of the last event is not known")


def create_head(path: Path, head: Head) -> None:
    """Write a new file with both records, durably; the caller syncs the folder."""
    with path.open("wb") as file:
        file.write(_encode(replace(head, sequence=2)) + _encode(replace(head, sequence=1)))
        file.flush()
        os.fsync(file.fileno())


class HeadWriter:
    """Moves an existing ``HEAD`` forward. Every write is durable when it returns; OSError is the caller's to translate."""

    def __init__(self, path: Path) -> None:
        self._last = read_head(path)
        self._file = os.open(path, os.O_RDWR)

    @property
    def last(self) -> Head:
        return self._last

    def write(self, number: int, crc: int, digest: str = "") -> None:
        head = Head(self._last.sequence + 1, number, crc, digest)
        data = _encode(head)
        if os.pwrite(self._file, data, SLOT * (head.sequence % 2)) != len(data):
            raise OSError("short write to HEAD")
        os.fdatasync(self._file)
        self._last = head

    def open(self, number: int, crc: int) -> None:
        """Both records without a digest: from here on the database may change."""
        self.write(number, crc)
        self.write(number, crc)

    def is_at(self, path: Path) -> bool:
        """Whether ``path`` still names the file that is being written."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._file))
        except OSError:
            return False

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
