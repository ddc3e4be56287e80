"""How much is kept of what may be deleted."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from pathlib import Path


def note_use(path: Path) -> None:
    """Say that a kept file or folder is used now: what was not for the longest time goes first."""
    with suppress(OSError):
        os.utime(path)


def thin_out(folder: Path, most: int, idle: float = 0.0, pattern: str = "*") -> None:
    """Leave so many of a folder's files and folders of this pattern, those that were used last; and what was used in the last
    ``idle`` seconds."""
    found: list[tuple[float, Path]] = []
    for path in folder.glob(pattern):
        with suppress(OSError):  # another process removes it
            found.append((path.stat().st_mtime, path))
    for used, path in sorted(found, reverse=True)[most:]:
        if time.time() - used >= idle:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
