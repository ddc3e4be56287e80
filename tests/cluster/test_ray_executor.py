"""The Ray executor on a real multi-node cluster: slots, data, cancelling, lost workers and nodes."""

from __future__ import annotations

import os
import signal
import time

import pytest
from listed_run import until

from archsearch.cluster.ray_executor import RayExecutor
from archsearch.cluster.section import ClusterSection
from archsearch.jobs import Completion, Failure, FailureKind, Job, Progress, Resources, Result, Stage

RESOURCES = {Stage.SEED_TRAINED: Resources(cpu=1), Stage.SEARCH: Resources(cpu=1)}


@pytest.fixture(scope="module")
def executor(cluster, digits, tmp_path_factory):
    said: list[str] = []
    policy = ClusterSection(address=cluster.address)
    made = RayExecutor(digits, str(tmp_path_factory.mktemp("root")), resources=RESOURCES, policy=policy, say=said.append)
    made.said = said  # type: ignore[attr-defined]
    yield made
    made.close()


def job(id_, work="probe", **spec):
    resources = spec.pop("resources", Resources(cpu=1))
    return Job(id_, Stage.COMPAT, work, spec, seed=1, resources=resources)


def ends(executor, count=1, timeout=60.0):
    """The next completions."""
    found, deadline = [], time.monotonic() + timeout
    while len(found) < count and time.monotonic() < deadline:
        found += [item for item in executor.wait(0.2) if isinstance(item, Completion)]
    return found


def begun(executor, log):
    executor.wait(0)
    return log.exists() and log.read_text().endswith("\n")


def test_the_test_split_travels_only_to_tests(executor, digits):
    executor.submit(job(1))
    (done,) = ends(executor)
    assert isinstance(done.outcome, Result), done
    assert done.outcome.metrics["train"] == 100 and done.outcome.metrics["test"] == 0
    assert done.outcome.metrics["hash"] == digits.hash and done.outcome.metrics["device"] == "cpu"
    assert done.seconds > 0 and done.node


def test_slots_follow_the_cluster(executor, cluster):
    until(lambda: executor.capacity()["train"] == 1)
    node = cluster.add_node(num_cpus=2)
    until(lambda: executor.capacity() == {"train": 3, "search": 3})
    assert executor.capacity([job(1), job(2)])["train"] == 1
    cluster.remove_node(node)
    until(lambda: executor.capacity()["train"] == 1)


def test_progress_arrives_and_a_job_stops_when_asked(executor, tmp_path):
    executor.submit(job(3, "wait_for_it", seconds=30, log=str(tmp_path / "log")))
    assert executor.capacity()["train"] == 0 and executor.slots() == {"total": 1, "busy": 1}
    steps: list[int] = []
    until(
        lambda: (
            steps.extend(i.data["step"] for i in executor.wait(0.2) if isinstance(i, Progress) and i.data) or steps[-1:] > [5]
        )
    )
    executor.cancel(3, force=False)
    (done,) = ends(executor, timeout=20)  # before its 30 s are over
    assert done.outcome.kind is FailureKind.INTERRUPTED and executor.capacity()["train"] == 1


def test_a_killed_worker_is_a_lost_attempt(executor, tmp_path):
    log = tmp_path / "log"
    executor.submit(job(4, "wait_for_it", seconds=60, log=str(log)))
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    os.kill(int(log.read_text().split()[2]), signal.SIGKILL)
    (done,) = ends(executor)
    assert isinstance(done.outcome, Failure) and done.outcome.kind is FailureKind.LOST
    time.sleep(2.0)
    assert len(log.read_text().splitlines()) == 1, "Ray ran it again behind our back"


def test_a_forced_cancel_gives_no_completion_and_never_runs_again(executor, tmp_path):
    """Two of three while the work waits for a child: that dies first, and the work returns a result."""
    logs = []
    for number in range(3):
        work, id_ = ("wait_for_a_child", "wait_for_it")[number % 2], 500 + number
        logs.append(tmp_path / f"log{number}")
        executor.submit(job(id_, work, seconds=30, log=str(logs[-1])))
        until(lambda log=logs[-1]: begun(executor, log), what=f"job {id_}")
        executor.cancel(id_, force=True)
        assert executor.capacity()["train"] == 1
    assert ends(executor, timeout=3) == []
    assert [len(log.read_text().splitlines()) for log in logs] == [1] * 3


def test_a_removed_node_loses_the_attempt_and_another_takes_it(executor, cluster, tmp_path):
    node = cluster.add_node(num_cpus=1, labels={"kind": "spare"})
    until(lambda: executor.capacity()["train"] == 2)
    log = tmp_path / "log"
    executor.submit(job(6, "wait_for_it", seconds=60, log=str(log), resources=Resources(cpu=1, labels={"kind": "spare"})))
    until(lambda: log.exists() and log.read_text().endswith("\n"))
    cluster.remove_node(node)
    (done,) = ends(executor, timeout=90)
    assert done.outcome.kind is FailureKind.LOST
    executor.submit(job(6).again(2))
    (done,) = ends(executor)
    assert isinstance(done.outcome, Result) and done.attempt == 2


def test_auto_without_gpus_runs_on_cpus_and_says_so(executor):
    asked = job(7, resources=Resources(cpu=1, gpu="auto"))
    assert executor.room(executor.placed(asked))
    executor.submit(executor.placed(asked))
    (done,) = ends(executor)
    assert isinstance(done.outcome, Result) and done.outcome.metrics["device"] == "cpu"
    assert any("run on CPUs" in text for text in executor.said)


def test_an_exception_carries_its_traceback(executor):
    executor.submit(job(8, "wait_for_it", seconds="many"))
    (done,) = ends(executor)
    assert (
        done.outcome.kind is FailureKind.EXCEPTION
        and "KeyError" in done.outcome.message
        and "wait_for_it" in done.outcome.traceback
    )
