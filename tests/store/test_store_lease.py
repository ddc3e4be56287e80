"""One writer at a time: refused while it lives, taken over as soon as it is dead, fenced off when it slept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from store_helpers import ask, asked, closed_run, history, new_run

from archsearch.jobs import LeaseLost, StoreBusy
from archsearch.store import RunFolder, lease, open_store, read_run
from archsearch.store.lease import this_host

OWNER = """
import sys; sys.path.insert(0, sys.argv[2])
from archsearch.jobs import LeaseLost
from archsearch.store import open_store
from store_helpers import asked
store = open_store(sys.argv[1], write=True)
n = sum(1 for _ in store.events())
print("ready", flush=True)
for line in sys.stdin:
    if line == "close\\n":
        store.close()
        break
    n += 1
    try:
        store.commit([asked(n)])
        print("committed", n, flush=True)
    except LeaseLost as error:
        n -= 1
        print("lost", error, flush=True)
"""


class Owner:
    """Another process that has the run open for writing and does one commit a line."""

    def __init__(self, folder: RunFolder) -> None:
        command = [sys.executable, "-c", OWNER, str(folder.path), str(Path(__file__).parent)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.read() == "ready"

    def read(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def say(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def commit(self) -> str:
        self.say("commit")
        return self.read()


@contextmanager
def owning(folder: RunFolder) -> Iterator[Owner]:
    owner = Owner(folder)
    try:
        yield owner
    finally:
        owner.process.kill()
        owner.process.communicate()


def edit_lease(folder: RunFolder, **values: object) -> None:
    ask(folder, f"UPDATE lease SET {', '.join(f'{name} = :{name}' for name in values)}", **values)


def lease_row(folder: RunFolder) -> dict[str, object]:
    return ask(folder, "SELECT * FROM lease")[0]


def test_a_second_writer_is_refused_by_name_and_a_reader_is_not(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    with owning(folder) as owner:
        assert owner.commit() == "committed 1"
        with pytest.raises(StoreBusy) as error:
            open_store(folder, write=True)
        assert f"process {owner.process.pid} on" in str(error.value) and "since 20" in str(error.value)
        assert read_run(folder).events == [asked(1)]
        driver = open_store(folder, write=False).driver()
        assert driver is not None and driver.pid == owner.process.pid and lease.lock_holder(RunFolder.at(folder).lock)
        assert owner.commit() == "committed 2"  # the refused one has disturbed nothing
        owner.say("close")
        owner.process.wait()
    assert not lease.lock_holder(RunFolder.at(folder).lock) and lease_row(folder)["owner"] is None
    with open_store(folder, write=True) as store:
        assert len(list(store.events())) == 2


def test_taken_over_at_once_after_kill_9(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    with owning(folder) as owner:
        for n in range(1, 6):
            assert owner.commit() == f"committed {n}"
        owner.process.send_signal(signal.SIGKILL)
        with open_store(folder, write=True) as store:  # not even waited for its end
            assert list(store.events()) == [asked(n) for n in range(1, 6)]
            store.commit([asked(6)])
    assert lease_row(folder)["epoch"] == 2


def test_children_of_a_killed_driver_do_not_hold_its_lock(tmp_path: Path) -> None:
    """Neither those that were started as programs nor those that were forked."""
    folder = new_run(tmp_path / "run")
    script = (
        "import os, subprocess, sys, time\n"
        "from archsearch.store import open_store\n"
        "store = open_store(sys.argv[1], write=True)\n"
        "program = subprocess.Popen(['sleep', '60'], close_fds=False, stdout=subprocess.DEVNULL)\n"
        "fork = os.fork()\n"
        "if fork == 0:\n"
        "    os.close(1); time.sleep(60); os._exit(0)\n"
        "print(program.pid, fork, flush=True)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(folder.path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    children = [int(pid) for pid in process.stdout.readline().split()]
    try:
        process.kill()
        process.communicate()
        for child in children:
            os.kill(child, 0)  # they live
        open_store(folder, write=True).close()
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


def test_a_driver_that_slept_while_another_host_took_over_cannot_commit(tmp_path: Path) -> None:
    folder = new_run(tmp_path / "run")
    with owning(folder) as owner:
        assert owner.commit() == "committed 1"
        owner.process.send_signal(signal.SIGSTOP)
        epoch = lease_row(folder)["epoch"]
        assert isinstance(epoch, int)
        edit_lease(folder, epoch=epoch + 1, owner="process 7 on elsewhere", host="elsewhere/boot", pid=7, heartbeat=time.time())
        owner.process.send_signal(signal.SIGCONT)
        for _ in range(2):  # and it does not come back by trying again
            assert owner.commit().startswith("lost the run")
        owner.say("close")
        owner.process.wait()
    assert read_run(folder).events == [asked(1)]
    assert lease_row(folder)["owner"] == "process 7 on elsewhere"  # its closing has not given away what is another's


def test_a_lock_file_that_was_removed_leaves_the_epoch_to_decide(tmp_path: Path) -> None:
    """Somebody deletes ``lock`` to get rid of a driver that hangs; it then wakes up."""
    folder = new_run(tmp_path / "run")
    with owning(folder) as owner:
        assert owner.commit() == "committed 1"
        owner.process.send_signal(signal.SIGSTOP)
        folder.lock.unlink()
        with open_store(folder, write=True) as store:
            store.commit([asked(2)])
            owner.process.send_signal(signal.SIGCONT)
            assert owner.commit().startswith("lost")
            store.commit([asked(3)])
    assert read_run(folder).events == [asked(1), asked(2), asked(3)]


def test_another_host_is_waited_for_until_its_sign_of_life_is_old(tmp_path: Path) -> None:
    folder = closed_run(tmp_path / "run", history(3))
    with open_store(folder, write=True) as store:
        store.heartbeat()
        edit_lease(folder, host="elsewhere/boot", owner="process 7 on elsewhere, since noon", heartbeat=time.time() - 12)
        store._lock.release()  # the other host's lock is not seen here
        head = folder.head.read_bytes()
        with pytest.raises(StoreBusy, match=r"process 7 on elsewhere.* 1[23] s ago.*try again in 1[78] s"):
            open_store(folder, write=True)
        assert not lease.lock_holder(RunFolder.at(folder).lock) and folder.head.read_bytes() == head
        driver = open_store(folder, write=False).driver()
        assert driver is not None and driver.host == "elsewhere/boot"
        open_store(folder, write=True, ttl=10).close()  # old enough by this measure
        with pytest.raises(LeaseLost, match="taken over"):
            store.heartbeat()
        with pytest.raises(LeaseLost):
            store.commit([asked(4)])


def test_closing_after_the_run_was_taken_over_touches_nothing(tmp_path: Path) -> None:
    folder = closed_run(tmp_path / "run", history(3))
    store = open_store(folder, write=True)
    edit_lease(folder, host="elsewhere/boot", owner="process 7", epoch=9)
    row, head = lease_row(folder), folder.head.read_bytes()
    store.close()
    assert lease_row(folder) == row and folder.head.read_bytes() == head and not lease.lock_holder(RunFolder.at(folder).lock)


def test_an_old_lease_of_another_host_is_taken(tmp_path: Path) -> None:
    folder = closed_run(tmp_path / "run", [])
    store = open_store(folder, write=True)
    for heartbeat in (time.time() - 31, time.time() + 3600):  # dead; or a clock that was an hour ahead
        edit_lease(folder, host="elsewhere/boot", owner="process 7", heartbeat=heartbeat)
        store._lock.release()
        assert open_store(folder, write=False).driver() is None
        store = open_store(folder, write=True)
    store.commit([asked(1)])
    store.close()


def test_heartbeats_and_commits_are_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, clock = new_run(tmp_path / "run"), [100.0]
    monkeypatch.setattr(lease.time, "time", lambda: clock[0])
    with open_store(folder, write=True) as store:
        row = lease_row(folder)
        assert (row["host"], row["pid"], row["epoch"], row["heartbeat"]) == (this_host(), os.getpid(), 1, 100.0)
        clock[0] = 105.0
        store.heartbeat()
        assert lease_row(folder)["heartbeat"] == 105.0
        clock[0] = 110.0
        store.commit([asked(1)])
        assert lease_row(folder)["heartbeat"] == 110.0


def test_failing_to_open_leaves_the_lock_free(tmp_path: Path) -> None:
    folder = closed_run(tmp_path / "run", history(4))
    data = folder.db.read_bytes()
    folder.db.write_bytes(data[:-1])
    with pytest.raises(Exception, match="was changed after"):
        open_store(folder, write=True)
    folder.db.write_bytes(data)
    open_store(folder, write=True).close()
