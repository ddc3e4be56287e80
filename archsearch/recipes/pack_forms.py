"""The three forms of a pack, a folder, a .tar and a .zip: how each is written, the same bytes every time, and what it holds."""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple, Protocol, cast

from archsearch.jobs import StoreDamaged

#: Bytes that are in memory at a time.
CHUNK = 1 << 20
_DATE = (1980, 1, 1, 0, 0, 0)
#: What the archives' readers raise where bytes are not those that were written.
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError, OverflowError)


class Readable(Protocol):
    def read(self, count: int = ..., /) -> bytes: ...


#: Takes path, size and content of a file, in the order of paths.
Writer = Callable[[str, int, Readable], None]


class Member(NamedTuple):
    """Something that lies in a pack. ``wrong``: why it is no plain file of it, such as "is a link"; then it is never opened."""

    path: str
    size: int
    wrong: str
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Form:
    writer: Callable[[Path], AbstractContextManager[Writer]]
    reader: Callable[[Path], AbstractContextManager[list[Member]]]


def form_of(path: Path) -> Form:
    """The form that a name says."""
    return {".tar": TAR, ".zip": ZIP}.get(path.suffix.lower(), FOLDER)


# ---------------------------------------------------------------------------------------------------------------- folder
@contextmanager
def _write_folder(folder: Path) -> Iterator[Writer]:
    folder.mkdir()

    def write(path: str, size: int, stream: Readable) -> None:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("xb") as file:
            shutil.copyfileobj(cast(IO[bytes], stream), file, CHUNK)
            file.flush()
            os.fsync(file.fileno())

    yield write
    for place, _, _ in os.walk(folder):
        _sync(place)


@contextmanager
def _read_folder(folder: Path) -> Iterator[list[Member]]:
    if not folder.is_dir():
        raise StoreDamaged(f"{folder} is no pack: expected a folder, a .tar or a .zip file")
    yield list(_entries(folder, ""))


def _entries(folder: Path, below: str) -> Iterator[Member]:
    empty = True
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        empty = False
        path, about = f"{below}{entry.name}", entry.stat(follow_symlinks=False)
        if stat.S_ISDIR(about.st_mode):
            yield from _entries(folder / entry.name, f"{path}/")
        else:
            wrong = "" if stat.S_ISREG(about.st_mode) else "is a link" if entry.is_symlink() else "is no plain file"
            yield Member(path, about.st_size, wrong, partial(_open_plain, entry.path))
    if empty and below:
        yield Member(below, 0, "is an empty folder, which no pack has", partial(_open_plain, str(folder)))


def _open_plain(path: str) -> IO[bytes]:
    """Open a file that has not become a link meanwhile."""
    return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")


def _sync(place: str) -> None:
    descriptor = os.open(place, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------------------------------------- tar
@contextmanager
def _write_tar(target: Path) -> Iterator[Writer]:
    with target.open("xb") as file:
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:

            def write(path: str, size: int, stream: Readable) -> None:
                info = tarfile.TarInfo(path)
                info.size, info.mode = size, 0o644
                archive.addfile(info, cast(IO[bytes], stream))

            yield write
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _read_tar(path: Path) -> Iterator[list[Member]]:
    with path.open("rb") as file:
        try:
            archive = tarfile.open(fileobj=file, mode="r:")  # noqa: SIM115  closed with the file
            found = archive.getmembers()
        except DAMAGED as error:
            raise StoreDamaged(f"{path} is no whole .tar file: {error}. Get the pack again.") from error
        end = archive.offset
        yield [Member(info.name, info.size, _wrong_in_tar(info), partial(_open_in_tar, archive, info)) for info in found]
        file.seek(end)
        while part := file.read(CHUNK):
            if part.strip(b"\0"):  # perhaps a header that is damaged: tarfile takes it for the end
                raise StoreDamaged(f"{path}: something lies behind the end of the archive. Get the pack again.")


def _wrong_in_tar(info: tarfile.TarInfo) -> str:
    if info.issym() or info.islnk():
        return f"is a link to {info.linkname!r}"
    return "" if info.type == tarfile.REGTYPE and not info.issparse() else "is no plain file"


def _open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    assert stream is not None  # a plain file
    return stream


# ------------------------------------------------------------------------------------------------------------------- zip
@contextmanager
def _write_zip(target: Path) -> Iterator[Writer]:
    with target.open("xb") as file:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:

            def write(path: str, size: int, stream: Readable) -> None:
                info = zipfile.ZipInfo(path, _DATE)
                info.create_system, info.external_attr, info.file_size = 3, (stat.S_IFREG | 0o644) << 16, size
                with archive.open(info, "w", force_zip64=size >= 1 << 31) as place:
                    shutil.copyfileobj(cast(IO[bytes], stream), place, CHUNK)

            yield write
        file.flush()
        os.fsync(file.fileno())


@contextmanager
def _read_zip(path: Path) -> Iterator[list[Member]]:
    with path.open("rb") as file:
        try:
            archive = zipfile.ZipFile(file)
        except DAMAGED as error:
            raise StoreDamaged(f"{path} is no whole .zip file: {error}. Get the pack again.") from error
        found = archive.infolist()
        yield [Member(info.filename, info.file_size, _wrong_in_zip(info), partial(archive.open, info)) for info in found]
        file.seek(-22, os.SEEK_END)  # the last record, which has no comment
        if not file.read().startswith(b"PK\5\6") or min((info.header_offset for info in found), default=0):
            raise StoreDamaged(f"{path}: something lies before or behind the archive. Get the pack again.")


def _wrong_in_zip(info: zipfile.ZipInfo) -> str:
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind == stat.S_IFLNK:
        return "is a link"
    if info.is_dir() or kind not in (0, stat.S_IFREG):
        return "is no plain file"
    if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1 or info.compress_size != info.file_size:
        return "is compressed or encrypted, which nothing in a pack is"
    return ""


FOLDER, TAR, ZIP = Form(_write_folder, _read_folder), Form(_write_tar, _read_tar), Form(_write_zip, _read_zip)
