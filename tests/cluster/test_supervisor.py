"""The supervisor's patience, with real processes that die as drivers do."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

SUPERVISOR = """
import sys
from archsearch.cluster.supervisor import supervise
sys.exit(supervise(sys.argv[1:], say=lambda text: print(text, flush=True), first_pause=0.05))
"""

#: A driver whose n-th life ends as the n-th word says: an exit code, a signal's name, or "wait" for SIGTERM.
DRIVER = """
import os, pathlib, signal, sys, time
book, *fates = sys.argv[1:]
lives = pathlib.Path(book)
lives.write_text(lives.read_text() + "x" if lives.exists() else "x")
fate = fates[min(len(lives.read_text()), len(fates)) - 1]
if fate == "wait":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    print("waiting", flush=True)
    time.sleep(60)
if fate.isdigit():
    sys.exit(int(fate))
os.kill(os.getpid(), getattr(signal, fate))
"""


def supervised(tmp_path: Path, *fates: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SUPERVISOR, sys.executable, "-c", DRIVER, str(tmp_path / "lives"), *fates]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def lives(tmp_path: Path) -> int:
    return len((tmp_path / "lives").read_text())


@pytest.mark.parametrize("last", ["0", "2", "3"])
def test_it_goes_on_until_the_driver_means_to_end(tmp_path, last):
    process = supervised(tmp_path, "SIGKILL", "1", "130", last)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == int(last) and lives(tmp_path) == 4
    assert "was killed by SIGKILL" in out and "ended with exit code 1 " in out


def test_it_gives_up_when_the_driver_dies_at_once_again_and_again(tmp_path):
    process = supervised(tmp_path, "SIGSEGV")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 3 and lives(tmp_path) == 5
    assert "given up" in out.splitlines()[-1] and "SIGSEGV" in out and "5 times in a row" in out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_passes_on_that_it_is_to_stop(tmp_path, number):
    process = supervised(tmp_path, "wait")
    assert process.stdout is not None and process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 130 and lives(tmp_path) == 1


def test_it_leaves_at_once_when_told_so_between_two_drivers(tmp_path):
    code = SUPERVISOR.replace("0.05", "30.0")
    command = [sys.executable, "-c", code, sys.executable, "-c", DRIVER, str(tmp_path / "lives"), "SIGKILL"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and "going on in 30.0 s" in process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)  # not after the pause
    assert process.returncode == 130 and lives(tmp_path) == 1
