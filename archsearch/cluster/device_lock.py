"""The lock on a device's host: of all clusters and drivers there, one measures at a time. Held by the operating system.

The process that measures inherits the lock, so that it is held until that one has gone too, whoever was killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import time
from collections.abc import Callable, Iterator

#: Where the locks lie, if not in the folder that this variable names: one place for all users of a host.
FOLDER, VARIABLE = "/tmp", "ARCHSEARCH_DEVICE_LOCKS"

#: Seconds between two tries, and for which a lock that was just given up is left to the others.
TRY_EVERY, LEFT_TO_OTHERS = 0.1, 0.25


@contextlib.contextmanager
def host_lock(name: str, holder: str, wait: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock of that name; gives the file descriptor that a measuring process is to inherit.

    Args:
        holder: what others are told of who has it.
        wait: called again and again with who has it meanwhile; whatever it raises ends the waiting.
    """
    descriptor = _opened(os.path.join(os.environ.get(VARIABLE) or FOLDER, f"archsearch-device-{_plain(name)}.lock"))
    try:
        while not _taken(descriptor):
            wait(_holder(descriptor))
            time.sleep(TRY_EVERY)
        _note(descriptor, holder)
        try:
            yield descriptor
        finally:
            _note(descriptor, "")
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            time.sleep(LEFT_TO_OTHERS)
    finally:
        os.close(descriptor)


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)


def _opened(path: str) -> int:
    """A lock's file, made for all users if it is not there. Nothing is followed and nothing else than a file is taken."""
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        with contextlib.suppress(FileNotFoundError):
            try:
                found = os.open(path, os.O_RDWR | flags)
            except PermissionError:  # another user's umask: it can be locked all the same
                found = os.open(path, os.O_RDONLY | flags)
            if stat.S_ISREG(os.fstat(found).st_mode):
                return found
            os.close(found)
            raise OSError(f"{path} is no file: remove it, it is the place of a lock")
        with contextlib.suppress(FileExistsError):
            made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | flags, 0o666)
            with contextlib.suppress(OSError):
                os.fchmod(made, 0o666)
            return made


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _note(descriptor: int, holder: str) -> None:
    """Tell others who has it; a file that is another user's is left as it is."""
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "holder": holder}).encode() if holder else b"", 0)


def _holder(descriptor: int) -> str:
    """Who has it, as they said themselves: for people only."""
    try:
        said = json.loads(os.pread(descriptor, 2000, 0))
        return f"process {int(said['pid'])} ({str(said['holder'])[:200]})"
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # anybody may have written anything
        return "another process"
