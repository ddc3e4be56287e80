"""Writing local files so that they are whole and on the disk, or not there at all."""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path

#: What the names of half-written files start with; nothing else in a run does.
TEMPORARY = ".writing-"


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def make_folders(path: Path) -> None:
    """``mkdir -p``, each new name durable."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def write_durably(path: Path, payload: bytes) -> None:
    """Write the file whole, replacing one of that name; durable when this returns.

    Raises:
        OSError: nothing was changed.
    """
    make_folders(path.parent)
    temporary = path.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(path.parent)
