"""A device behind SSH: a real sshd on loopback, with answers that are garbage and connections that are lost."""

from __future__ import annotations

import os

import psutil
import pytest
from listed_run import until
from ssh_board import needs_ssh

from archsearch.cluster.devices_section import DevicesSection
from archsearch.cluster.inline import InlineExecutor
from archsearch.jobs import FailureKind, Job, Result, Stage
from archsearch.store import Artifacts

pytestmark = needs_ssh


@pytest.fixture
def run(board, digits, tmp_path, monkeypatch):
    monkeypatch.setenv("ARCHSEARCH_DEVICE_LOCKS", str(tmp_path))
    monkeypatch.setattr("archsearch.cluster.device_measure.TRY_AGAIN", 0.5)

    def body(listener=lambda progress: False, attempt=1, changes=None, **spec):
        devices = DevicesSection.model_validate({"board": board.settings(**(changes or {}))})
        executor = InlineExecutor(digits, Artifacts(str(tmp_path / "run")), devices=devices)
        executor.listen(listener)
        executor.submit(Job(1, Stage.PROFILE, "on_device", spec, seed=1, queue="device:board", attempt=attempt))
        (done,) = executor.wait(0)
        return done.outcome

    return body


def test_a_job_on_a_board_that_comes_back(board, run, tmp_path):
    """It does not answer at first, and that is said; then a job runs there, with its artifacts; then its power goes."""
    said = []

    def listener(progress):
        if "paused" in progress.data and not said:
            said.append(progress.data["paused"])
            board.start()
        return False

    payload = os.urandom(100_000)
    ref = Artifacts(str(tmp_path / "run")).save(7, 1, "weights", payload)
    done = run(listener, does="artifacts", ref=ref.to_json())
    assert isinstance(done, Result) and done.metrics["bytes"] == 100_000, done
    assert "unreachable" in said[0] and "Connection refused" in said[0]
    log = tmp_path / "notes"

    def power_cut(progress):
        if progress.data.get("step", 0) > 2 and board.server is not None:
            board.stop()
        return False

    failure = run(power_cut, seconds=60, log=str(log))
    assert failure.kind is FailureKind.LOST and "the connection to root@127.0.0.1 was lost" in failure.message
    there = int(log.read_text().split()[3])
    until(lambda: not psutil.pid_exists(there), what="what ran on the board has ended itself")


def test_a_killed_process_on_the_board_is_no_lost_connection(board, run):
    board.start()
    failure = run(does="crash")
    assert failure.kind is FailureKind.EXCEPTION and "was ended by SIGSEGV" in failure.message
    failure = run(does="die")
    assert failure.kind is FailureKind.LOST and "was ended by SIGKILL" in failure.message


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("echo Welcome to the board", "the answer is none of archsearch's: 'Welcome to the board'"),
        ('echo \'{"ready": {}}\'; read job; echo \'{"result": {"metrics": 5}}\'', "garbage instead of an answer: "),
        ('echo \'{"ready": {}}\'; read job; echo \'{"ask": "shell"}\'; cat >/dev/null', "garbage instead of a question: "),
        ("echo '{\"ready\": {}}'; read job; head -c 70000000 /dev/zero", "an answer of more than 64 MiB"),
        ("echo no module named archsearch >&2; exit 1", "left with exit code 1 instead of starting archsearch: no module"),
    ],
    ids=["a greeting", "no metrics", "a strange question", "too long", "not installed"],
)
def test_an_answer_that_is_none_is_a_clear_failure(board, run, script, words):
    board.start()
    failure = run(changes={"python": board.script(script)})
    assert failure.kind is FailureKind.EXCEPTION and words in failure.message and len(failure.message) < 500


def test_an_answer_that_never_comes_is_a_clear_failure(board, run):
    board.start()
    silent = board.script("echo '{\"ready\": {}}'; cat >/dev/null")
    failure = run(changes={"python": silent, "timeout": 2})
    assert failure.kind is FailureKind.STALLED and "no answer within 2 s (devices.board.timeout)" in failure.message


def test_an_unknown_host_key_is_refused(board, run):
    """Nothing is sent to a host that is not the board: the job waits, and says why."""
    board.start()
    board.known.write_text("")
    said = []

    def listener(progress):
        said.extend([progress.data["paused"]] if "paused" in progress.data else [])
        return bool(said)

    failure = run(listener)
    assert failure.kind is FailureKind.INTERRUPTED and "Host key verification failed" in said[0]
