"""Who may write a run: a lock of the operating system on one host, a row with an epoch for all the others.

The lock falls with its process, so a run whose driver was killed can be taken over at once. The epoch grows at every
acquisition and is checked inside every transaction, so a driver that slept while another took over cannot commit.
"""

from __future__ import annotations

import fcntl
import os
import socket
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sqlalchemy import Connection, Row, select, update

from archsearch.jobs import LeaseLost, StoreBusy, StoreDamaged, StoreUnavailable
from archsearch.store.schema import LEASE

#: Seconds after its last heartbeat for which a driver on another host is taken to be alive.
TTL = 30.0

_held: set[int] = set()  # descriptors of held locks; a forked child closes its copies, else they outlive a killed driver


def _forget_in_child() -> None:
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_forget_in_child)


@dataclass(frozen=True, slots=True)
class Driver:
    """The process that holds a run. ``host`` is its name and boot, ``since`` is local time as text."""

    pid: int
    host: str
    since: str

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host.split('/')[0]}, since {self.since}"


@cache
def this_host() -> str:
    """The host's name and its current boot: processes for which this is equal share their file locks."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = f"{uuid.getnode():x}"
    return f"{socket.gethostname()}/{boot}"


def lock_holder(path: Path) -> Driver | None:
    """Who holds the file lock at ``path`` on this host, or None. Writes nothing."""
    try:
        file = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _read_driver(file)
    finally:
        os.close(file)


def _read_driver(file: int) -> Driver:
    fields = os.pread(file, 4096, 0).decode(errors="replace").split("\n")
    if len(fields) < 3 or not fields[0].isdigit():  # it has the lock and has not said so yet
        return Driver(0, this_host(), "this moment")
    return Driver(int(fields[0]), fields[1], fields[2])


class FileLock:
    """The lock on a run's ``lock`` file, held until ``release`` or the process's end."""

    def __init__(self, path: Path, *, patience: float = 1.0) -> None:
        """``patience``: seconds that a process just killed may take to disappear.

        Raises:
            StoreBusy: a living process holds the lock.
            StoreUnavailable: the lock's file cannot be opened.
        """
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise StoreUnavailable(f"{path} cannot be opened: {error}") from error
        end = time.monotonic() + patience
        while True:
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() < end:
                    time.sleep(0.05)
                    continue
                driver = _read_driver(self._file)
                os.close(self._file)
                raise StoreBusy(
                    f"the run in {path.parent} is held by {driver}: wait for its end, or stop it (Ctrl-C or kill {driver.pid})"
                ) from None
            except OSError as error:
                os.close(self._file)
                raise StoreUnavailable(f"{path} cannot be locked: {error}; a run needs a disk with file locks") from error
        _held.add(self._file)
        since = time.strftime("%Y-%m-%d %H:%M:%S")
        with suppress(OSError):  # a full disk: the lock holds, only its holder's name is not to be read
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n{this_host()}\n{since}\n".encode(), 0)

    def release(self) -> None:
        if self._file in _held:
            _held.discard(self._file)
            os.close(self._file)


def lease_row(connection: Connection) -> Row[tuple[int, int, str | None, str | None, int | None, float]]:
    """The lease as it stands: epoch, owner, host, pid, heartbeat.

    Raises:
        StoreDamaged: there is none, or it does not hold what a lease holds.
    """
    row = connection.execute(select(LEASE).where(LEASE.c.id == 1)).one_or_none()
    if row is None or [type(row.epoch), type(row.heartbeat), type(row.owner or ""), type(row.host or "")] != [
        int,
        float,
        str,
        str,
    ]:
        raise StoreDamaged("the lease (table lease) is not what was written")
    return row


def refuse_other_host(connection: Connection, ttl: float = TTL) -> int:
    """The lease's epoch, if it may be taken now by a process that has this host's file lock.

    Raises:
        StoreBusy: its owner is on another host and gave a sign of life less than ``ttl`` seconds ago.
    """
    row = lease_row(connection)
    age = time.time() - row.heartbeat
    if row.owner and row.host != this_host() and abs(age) < ttl:
        raise StoreBusy(
            f"the run is held by {row.owner}, which gave a sign of life {max(age, 0):.0f} s ago: stop that one first; "
            f"if it is dead, try again in {ttl - age:.0f} s"
        )
    return int(row.epoch)


def acquire(connection: Connection, ttl: float = TTL) -> int:
    """Take the lease in the caller's transaction; the new epoch.

    Raises:
        StoreBusy: as for ``refuse_other_host``.
    """
    epoch = refuse_other_host(connection, ttl)
    owner = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
    taken = update(LEASE).where(LEASE.c.id == 1, LEASE.c.epoch == epoch)
    values = {"epoch": epoch + 1, "owner": owner[:256], "host": this_host()[:256], "pid": os.getpid(), "heartbeat": time.time()}
    if connection.execute(taken.values(**values)).rowcount != 1:
        raise StoreBusy("another driver took the run over at this moment")
    return epoch + 1


def renew(connection: Connection, epoch: int) -> None:
    """A sign of life in the caller's transaction, which with it holds the lease until its end.

    Raises:
        LeaseLost: the epoch has moved on.
    """
    mine = update(LEASE).where(LEASE.c.id == 1, LEASE.c.epoch == epoch)
    if connection.execute(mine.values(heartbeat=time.time())).rowcount != 1:
        row = lease_row(connection)
        other = row.owner or "another driver"
        raise LeaseLost(f"the run was taken over by {other} (epoch {row.epoch}, ours {epoch}); nothing was written")


def clear(connection: Connection, epoch: int) -> None:
    """Give the lease back in the caller's transaction: anybody may take it at once."""
    connection.execute(update(LEASE).where(LEASE.c.id == 1, LEASE.c.epoch == epoch).values(owner=None, host=None, pid=None))
