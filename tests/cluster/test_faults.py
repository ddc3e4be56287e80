"""The failure table on a real multi-node cluster: each row is caused for real, under the real run loop and store."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import psutil
import pytest
import ray
from listed_run import Bench, Session, until

from archsearch.arch import seed_architecture
from archsearch.cluster.ray_executor import RayExecutor
from archsearch.cluster.section import ClusterSection
from archsearch.jobs import EventKind, FailureKind, Job, JobState, Resources, Stage


class Log:
    """What the work ``count`` noted: a row for each step that was begun."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def rows(self, job: int) -> list[dict[str, str]]:
        names = ("job", "attempt", "pid", "step", "time", "gpu", "devices")
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [row for line in lines if (row := dict(zip(names, line.split(), strict=True)))["job"] == str(job)]

    def steps(self, job: int) -> dict[int, list[int]]:
        """Steps begun, by attempt."""
        found = defaultdict(list)
        for row in self.rows(job):
            found[int(row["attempt"])].append(int(row["step"]))
        return dict(found)

    def reached(self, job: int, step: int, attempt: int = 1) -> int | None:
        """The process of an attempt once it has begun a step."""
        for row in self.rows(job):
            if int(row["attempt"]) == attempt and int(row["step"]) >= step:
                return int(row["pid"])
        return None


class Place:
    """A bench on the cluster, and nodes that are taken away at the end."""

    def __init__(self, cluster, digits, path):
        self.cluster, self.digits = cluster, digits
        self.bench = Bench(path / "run", digits)
        self.log = Log(path / "log")
        self.nodes = []
        self.executor: RayExecutor | None = None

    def add(self, **node):
        self.nodes.append(self.cluster.add_node(**node))
        return self.nodes[-1]

    def remove(self, node, *, graceful=False):
        """Take a node away: its processes are killed, or asked to leave."""
        self.nodes.remove(node)
        self.cluster.remove_node(node, allow_graceful=graceful)

    def job(self, steps=3, *, resources=None, **spec):
        spec = {"steps": steps, "log": str(self.log.path), **spec}
        return Job(0, Stage.COMPAT, "count", spec, seed=1, resources=resources or Resources(cpu=1))

    def start(self, jobs, *nodes, say=lambda text: None, gpu_memory=None, ahead=0, **policy):
        """A session on the cluster, to which nodes are added once the driver has connected itself to the head."""
        section = ClusterSection(address=self.cluster.address, gpu_memory=gpu_memory, ahead=ahead)
        wants = {Stage.COMPAT: jobs[0].resources}
        self.executor = RayExecutor(self.digits, str(self.bench.path), resources=wants, policy=section, say=say)
        for node in nodes:
            self.add(**node)
        return self.go_on(jobs, **policy)

    def go_on(self, jobs, **policy):
        self.session = Session(self.bench, jobs, self.executor, **policy)
        return self.session

    def failures(self, job):
        return [data for each, data in self.bench.events(EventKind.FAILED) if each == job]


@pytest.fixture
def place(cluster, digits, tmp_path):
    made = Place(cluster, digits, tmp_path)
    yield made
    if made.executor is not None:
        made.session.stop()
    for node in list(made.nodes):
        made.remove(node, graceful=True)
    if made.executor is not None:
        until(lambda: sum(node["Alive"] for node in ray.nodes()) == 1, timeout=90, what="the nodes are known to be gone")
        made.executor.close()


def test_a_killed_worker_and_a_stall_go_on_from_the_jobs_own_checkpoint(place):
    jobs = [place.job(12), place.job(6, faults={"1": {"at": 3, "does": "hang"}})]
    session = place.start(jobs, stall_timeout=8, backoff=1.5)
    killed = until(lambda: place.log.reached(1, 5))
    os.kill(killed, signal.SIGKILL)
    hung = until(lambda: place.log.reached(2, 3))
    outcome, loop = session.end()
    assert outcome.state == "done" and loop.searcher.told == [1, 2]
    for job, kind in ((1, "lost"), (2, "stalled")):
        (failure,) = place.failures(job)
        assert failure["kind"] == kind and not failure["final"]
        first, second = place.log.steps(job).values()
        assert second[0] in (first[-1], first[-1] + 1), "the steps before the checkpoint are not made again"
    last, again = place.log.rows(1)[-2:], place.log.steps(1)[2][0]
    began = min(float(row["time"]) for row in place.log.rows(1) if row["attempt"] == "2")
    died = max(float(row["time"]) for row in place.log.rows(1) if row["attempt"] == "1")
    assert began - died > 1.4 and again and last, "there is a wait before the second try"
    until(lambda: not psutil.pid_exists(hung), what="the attempt that hung is ended")
    (stalled,) = place.failures(2)
    assert 8 < stalled["seconds"] == stalled["device_seconds"]


def test_a_job_queued_behind_another_user_of_the_cluster_is_not_stalled(place):
    """Four times ``stall_timeout`` in the queue, then one attempt."""
    shared = Resources(labels={"kind": "shared"})
    session = place.start([place.job(3, resources=shared)], {"num_cpus": 1, "labels": {"kind": "shared"}})
    until(lambda: place.log.reached(1, 0))
    assert session.end()[0].state == "done"
    other = ray.remote(num_cpus=1, label_selector={"kind": "shared"})(lambda: time.sleep(9)).remote()
    session = place.go_on([place.job(3), place.job(3, resources=shared)], stall_timeout=2)
    outcome, loop = session.end()
    assert ray.wait([other], timeout=0)[0], "the other one had the node all the time"
    assert outcome.state == "done" and loop.state.jobs[2].attempts == 1 and not place.failures(2)
    assert loop.state.jobs[2].seconds < 5, "what it waited is not counted as its own time"


def test_all_nodes_of_a_kind_go_and_one_comes_back(place):
    """Meanwhile ``status`` says what was asked for and what there is; then the job goes on from its checkpoint."""
    wants = Resources(labels={"kind": "rare"})
    rare = {"num_cpus": 1, "labels": {"kind": "rare"}}
    session = place.start([place.job(40, resources=wants), place.job(40, resources=wants)], rare, rare)
    until(lambda: place.log.reached(1, 3) and place.log.reached(2, 3))
    assert session.summary()["waiting"] == [] and session.summary()["slots"]["total"] == 2
    for node in list(place.nodes):
        place.remove(node)
    gone = time.monotonic()
    found = until(lambda: session.summary()["waiting"], timeout=60)
    assert time.monotonic() - gone < 40, "Ray notices that the nodes are dead, and then it is said at once"
    assert found[0]["asked"] == {"cpu": 1.0, "labels": {"kind": "rare"}}
    assert [kind["nodes"] for kind in found[0]["exists"]] == [1] and session.summary()["jobs"]["running"] == 0
    said = subprocess.run(
        [sys.executable, "-c", "from archsearch.cli import main; main()", "status", str(place.bench.path)],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "waits for a node: asks for 1 CPU, kind=rare; there is 1 node with 1 CPU" in said
    until(lambda: session.summary()["slots"]["total"] == 0)
    place.add(num_cpus=2, labels={"kind": "rare"})
    back = time.monotonic()
    until(lambda: place.log.reached(1, 4, attempt=2) and place.log.reached(2, 4, attempt=2))
    assert time.monotonic() - back < 30
    outcome, loop = session.end()
    assert outcome.state == "done" and loop.searcher.told and session.summary()["waiting"] == []
    for job in (1, 2):
        first, second = place.log.steps(job).values()
        assert second[0] in (first[-1], first[-1] + 1) and [f["kind"] for f in place.failures(job)] == ["lost"]


def test_what_no_node_has_is_said_within_ten_seconds_and_used_when_it_comes(place):
    session = place.start([place.job(2, resources=Resources(cpu=1, gpu=1))])
    until(lambda: session.bench.path.joinpath("run.db").exists())
    began = time.monotonic()
    (found,) = until(lambda: session.summary()["waiting"], timeout=10)
    assert found["job"] == 1 and found["asked"]["gpu"] == 1 and found["exists"][0]["gpu"] == 0
    assert session.summary()["jobs"]["queued"] == 1 and time.monotonic() - began < 10
    json.dumps(found)
    place.add(num_cpus=1, num_gpus=1)
    outcome, loop = session.end()
    assert outcome.state == "done" and loop.state.jobs[1].attempts == 1 and not loop.state.waiting


def test_candidates_that_raise_or_diverge_are_abandoned_and_the_first_failures_stop_a_run(place):
    faults = {does: {"*": {"at": 1, "does": does}} for does in ("raise", "diverge")}
    session = place.start([place.job(3, faults=faults["raise"]) for _ in range(5)], first_failures=2)
    outcome, loop = session.end()
    assert outcome.state == "failed" and outcome.exit_code == 3 and "the shapes differ" in outcome.reason
    states = [record.state for record in loop.state.jobs.values()]
    assert states.count(JobState.FAILED) == 2 and set(states) <= {JobState.FAILED, JobState.QUEUED} and len(states) < 5
    jobs = [place.job(2), place.job(2), *(place.job(3, faults=faults[does]) for does in ("raise", "diverge")), place.job(2)]
    place.bench = Bench(place.bench.path.with_name("second"), place.digits)
    outcome, loop = place.go_on(jobs).end()
    states = [record.state for record in loop.state.jobs.values()]
    assert outcome.state == "done" and states == [JobState.COMPLETED] * 2 + [JobState.ABANDONED] * 2 + [JobState.COMPLETED]
    raised, diverged = loop.state.jobs[3].failure, loop.state.jobs[4].failure
    assert raised.kind is FailureKind.EXCEPTION and "in count" in raised.traceback
    assert diverged.kind is FailureKind.NON_FINITE and loop.state.jobs[4].attempts == 1


def test_out_of_device_memory_is_tried_alone_and_then_given_up(place):
    """Two logical GPUs; the work raises torch's own error. Four share a device, the one tried again has one to itself."""
    quarter = Resources(cpu=1, gpu=0.25)
    crowded = {"*": {"at": 2, "does": "fill the device"}}
    hopeless = {"*": {"at": 2, "does": "overfill the device"}}
    jobs = [place.job(8, resources=quarter) for _ in range(5)]
    jobs += [place.job(8, resources=quarter, faults=crowded), place.job(8, resources=quarter, faults=hopeless)]
    outcome, loop = place.start(jobs, {"num_cpus": 8, "num_gpus": 2}, backoff=0.1).end()
    assert outcome.state == "done" and sorted(loop.searcher.told) == [1, 2, 3, 4, 5, 6]
    assert [failure["kind"] for failure in place.failures(6)] == ["device_memory"] and loop.state.jobs[6].attempts == 2
    assert loop.state.jobs[7].state is JobState.ABANDONED and "infeasible" in loop.state.jobs[7].failure.message
    assert [failure["final"] for failure in place.failures(7)] == [False, True]
    rows = [row for job in range(1, 8) for row in place.log.rows(job)]
    assert {row["gpu"] for row in rows if row["attempt"] == "1"} == {"0.25"}
    shared = defaultdict(set)
    for row in rows:
        shared[row["devices"]].add(row["job"])
    assert max(len(jobs) for jobs in shared.values()) >= 3, "several share a device"
    for job in (6, 7):
        mine = [row for row in place.log.rows(job) if row["attempt"] == "2"]
        begin, end = float(mine[0]["time"]), float(mine[-1]["time"])
        assert {row["gpu"] for row in mine} == {"1.0"} and int(mine[0]["step"]) >= 2
        beside = [r for r in rows if r["devices"] == mine[0]["devices"] and r["job"] != str(job)]
        assert not [r for r in beside if begin < float(r["time"]) < end], "nothing else was on its device"
    started = {(job, data["attempt"]): data for job, data in place.bench.events(EventKind.STARTED)}
    assert started[6, 2]["resources"]["gpu"] == 1.0 and "resources" not in started[6, 1]
    told = next(data for job, data in place.bench.events(EventKind.TOLD) if job == 1)
    assert told["device_seconds"] == pytest.approx(told["seconds"] / 4)
    records = loop.state.jobs.values()
    assert loop.state.device_seconds == pytest.approx(sum(record.device_seconds for record in records))


def test_auto_packs_by_the_estimated_memory(place, digits):
    said: list[str] = []
    place.start([place.job(1)], {"num_cpus": 16, "num_gpus": 2}, gpu_memory="8GB", say=said.append).end()
    auto = Resources(cpu=1, gpu="auto")

    def share(channels, batch):
        arch = seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=channels)
        spec = {"arch": arch.to_json(), "train": {"batch_size": batch, "optimizer": "adamw"}}
        return place.executor.placed(Job(1, Stage.SEED_TRAINED, "train", spec, 1, resources=auto)).resources.gpu

    shares = [share(8, 64), share(128, 256), share(512, 4096)]
    assert shares[0] == 0.1428 and shares[0] < shares[1] < shares[2] == 1.0, shares
    other = place.executor.placed(place.job(1, resources=auto))
    assert other.resources.gpu == 1.0, "what an unknown work needs is not known: it is alone"
    wants = Resources(cpu=1, gpu=shares[0])
    assert place.executor._wanted(wants, [place.job(1, resources=wants)] * 3) == 11 and not said


def test_host_memory_exceeded_kills_the_job_and_not_the_node(place):
    """Ray's memory monitor ends the job; it is tried again, and goes on from its checkpoint."""
    memory = psutil.virtual_memory()
    limit = round((memory.total - memory.available + (3 << 30)) / memory.total, 3)
    settings = {"RAY_memory_usage_threshold": str(limit), "RAY_memory_monitor_refresh_ms": "250", "RAY_task_oom_retries": "0"}
    node = {"num_cpus": 1, "labels": {"kind": "small"}, "env_vars": settings}
    wants = Resources(labels={"kind": "small"})
    jobs = [place.job(1, resources=wants), place.job(5, resources=wants, faults={"1": {"at": 3, "does": "eat"}})]
    outcome, loop = place.start(jobs, node, backoff=0.1).end()
    assert outcome.state == "done" and loop.state.jobs[2].state is JobState.COMPLETED
    assert [failure["kind"] for failure in place.failures(2)] == ["host_memory"]
    assert place.log.steps(2)[2][0] == 3


def test_slots_grow_and_shrink_with_the_cluster(place):
    """Nodes that are added are used within seconds; when one goes, its job moves, and fewer are submitted."""
    wants = Resources(labels={"kind": "elastic"})
    one = {"num_cpus": 1, "labels": {"kind": "elastic"}}
    session = place.start([place.job(40, resources=wants) for _ in range(6)], one, backoff=0.1)
    until(lambda: place.log.reached(1, 0))
    assert session.summary()["slots"] == {"total": 1, "busy": 1}
    place.add(num_cpus=3, labels={"kind": "elastic"})
    added = time.monotonic()
    until(lambda: all(place.log.rows(job) for job in (2, 3, 4)))
    assert time.monotonic() - added < 30
    assert session.summary()["slots"]["total"] == 4
    place.remove(place.nodes[0], graceful=True)
    until(lambda: session.summary()["slots"]["total"] == 3)
    outcome, loop = session.end()
    assert outcome.state == "done" and sorted(loop.searcher.told) == list(range(1, 7))
    assert sum(len(place.failures(job)) for job in range(1, 7)) == 1
