"""Devices of a real cluster: a head that trains, two nodes with devices, and everything that can go away taken away."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import ray
from listed_run import Bench, Session, until

from archsearch.arch import seed_architecture
from archsearch.cluster import device_reservation
from archsearch.cluster.device_actor import NAMESPACE
from archsearch.cluster.device_bench import DeviceBench
from archsearch.cluster.device_listing import list_devices
from archsearch.cluster.device_queue import DeviceQueues
from archsearch.cluster.device_visit import OnCluster, settings_of
from archsearch.cluster.devices_section import DevicesSection
from archsearch.cluster.placement import waits_for
from archsearch.cluster.ray_executor import RayExecutor
from archsearch.cluster.ray_task import Mailbox
from archsearch.cluster.section import ClusterSection
from archsearch.jobs import Completion, EventKind, FailureKind, InputError, Job, Resources, Result, Stage
from archsearch.profile.cache import _key, own_cache
from archsearch.profile.models import Model, read_model
from archsearch.profile.protocol import device_environment
from archsearch.profile.settings import Settings, Subject

DEVICES = DevicesSection.model_validate({"one": {"threads": 2}, "two": {}, "beside": {}})

#: How the two nodes join: one by its label, with cores on which it trains, and another device; one for a device alone.
ONE = {"num_cpus": 2, "labels": {"device": "one"}, "resources": {"device:beside": 1}}
TWO = {"num_cpus": 0, "resources": {"device:two": 1}}


def job(id_=0, device="two", **spec):
    return Job(id_, Stage.PROFILE, "on_device", spec, seed=1, queue=f"device:{device}")


class Lab:
    """The cluster's device nodes, and the executor that all tests of this file share."""

    def __init__(self, cluster, digits, root: Path, locks: Path) -> None:
        self.cluster, self.digits, self.root, self.locks = cluster, digits, root, locks
        policy, wants = ClusterSection(address=cluster.address), {Stage.COMPAT: Resources(cpu=1)}
        self.executor = RayExecutor(digits, str(root), resources=wants, policy=policy, devices=DEVICES)
        self.done: list[Completion] = []
        self.nodes = {"one": cluster.add_node(**ONE), "two": cluster.add_node(**TWO)}

    def state(self, device):
        """What a device's actor says of itself, or nothing while there is none."""
        try:
            return ray.get(ray.get_actor(f"device:{device}", namespace=NAMESPACE).state.remote(), timeout=10)
        except (ValueError, ray.exceptions.RayError):
            return None

    def until(self, condition, timeout=60.0, what=""):
        """As ``until``, while the executor does its work."""

        def look():
            self.done += [item for item in self.executor.wait(0.1) if isinstance(item, Completion)]
            return condition()

        return until(look, timeout, what)

    def ends(self, count=1, timeout=60.0):
        """The next completions."""
        deadline = time.monotonic() + timeout
        self.until(lambda: len(self.done) >= count or time.monotonic() > deadline, timeout + 30)
        found, self.done = self.done, []
        return found

    def forget(self, device):
        """End a device's actor for good."""
        with contextlib.suppress(ValueError):
            ray.kill(ray.get_actor(f"device:{device}", namespace=NAMESPACE))
        self.executor._devices._actors.pop(device, None)

    def close(self):
        self.forget("one")
        self.forget("two")
        self.forget("beside")
        for node in self.nodes.values():
            self.cluster.remove_node(node, allow_graceful=True)
        until(lambda: sum(node["Alive"] for node in ray.nodes()) == 1, timeout=90, what="the nodes are known to be gone")
        self.executor.close()


@pytest.fixture(scope="module")
def lab(cluster, digits, tmp_path_factory):
    locks = tmp_path_factory.mktemp("locks")
    os.environ["ARCHSEARCH_DEVICE_LOCKS"] = str(locks)
    made = Lab(cluster, digits, tmp_path_factory.mktemp("root"), locks)
    yield made
    made.close()
    del os.environ["ARCHSEARCH_DEVICE_LOCKS"]


@pytest.fixture
def session(lab, tmp_path):
    """Starts a run through the real run loop, in a thread."""
    started = []

    def start(jobs, **policy):
        started.append(Session(Bench(tmp_path / "run", lab.digits), jobs, lab.executor, **{"backoff": 0.2, **policy}))
        return started[-1]

    yield start
    for each in started:
        each.stop()


def rows(log: Path) -> list[list[str]]:
    """Job, attempt, what, process, time."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_jobs_run_where_their_device_is_and_two_runs_take_turns(lab, tmp_path):
    """And nothing is trained on a node while it measures."""
    until(lambda: lab.executor.capacity()["train"] == 3, what="the head's slot, and those of the device's node")
    log, seen = tmp_path / "log", tmp_path / "seen"
    mailbox = ray.remote(num_cpus=0)(Mailbox).remote()
    other = DeviceQueues(DEVICES, lab.executor._nodes, str(tmp_path / "other"), mailbox)
    for id_, spec in ((1, {"seconds": 60, "until": str(seen)}), (2, {"seconds": 0.3}), (3, {"seconds": 0.3})):
        lab.executor.submit(job(id_, "one", log=str(log), **spec))
    assert not lab.executor.room(job(4, "one")) and lab.executor.room(job(4, "two")), "a few at once, for each device"
    with pytest.raises(InputError, match="'three', which section devices does not have"):
        lab.executor.room(job(4, "three"))
    lab.until(lambda: (lab.state("one") or {}).get("running"), what="the first job has its turn")
    for id_ in (11, 12):
        other.submit(job(id_, "one", log=str(log)))
    others = lab.until(lambda: refs if len(refs := other.refs()) == 2 else None)
    lab.until(lambda: lab.state("one")["queue"] == {str(lab.root): 2, str(tmp_path / "other"): 2})
    assert lab.state("one")["node"] == lab.nodes["one"].node_id
    lab.until(lambda: lab.executor.capacity()["train"] == 1, what="the node's slots are taken away")
    lab.until(lambda: rows(log) and time.time() - float(rows(log)[0][4]) > 0.5, what="the first has measured for a while")
    seen.touch()
    done = lab.ends(3)
    assert all(isinstance(each.outcome, Result) and each.seconds > 0.2 for each in done), done
    assert done[0].outcome.metrics["threads"] == 2 and done[0].outcome.metrics["omp"] == "2"
    assert len(ray.wait(others, num_returns=2, timeout=60)[0]) == 2
    assert [isinstance(other.take(ref).outcome, Result) for ref in others] == [True, True]
    assert [row[0] for row in rows(log) if row[2] == "begin"] == ["1", "11", "2", "12", "3"]
    lab.until(lambda: lab.executor.capacity()["train"] == 3, what="its slots are given back")


def test_a_node_is_reserved_before_it_measures(lab, tmp_path):
    """A training is there: the measurement waits until it has ended, and says so."""
    training, log, said = tmp_path / "training", tmp_path / "log", tmp_path / "said"
    here = Resources(cpu=1, labels={"device": "one"})
    spec = {"seconds": 60, "log": str(training), "until": str(said)}
    lab.executor.submit(Job(20, Stage.COMPAT, "wait_for_it", spec, seed=1, resources=here))
    lab.until(training.exists, what="the training runs")
    lab.executor.submit(job(21, "one", seconds=1, log=str(log)))
    says = "waits for device one: reserving its node: waits for 1 of 2 CPUs of its node"
    lab.until(lambda: any(waits_for(about).startswith(says) for about in lab.executor.waiting().values()), what="it is said")
    lab.executor.submit(Job(22, Stage.COMPAT, "wait_for_it", {**spec, "seconds": 0}, seed=1, resources=here))
    assert not rows(log), "it waits"
    said.touch()
    first, second, third = lab.ends(3)
    assert first.job == 20 and {second.job, third.job} == {21, 22}
    began, ended = (float(row[4]) for row in rows(log))
    assert all(isinstance(each.outcome, Result) for each in (first, second, third)) and ended - began > 0.9
    assert lab.executor.waiting() == {}


def test_two_devices_of_one_node_reserve_it_in_turn(lab, tmp_path, monkeypatch):
    """Each holding one of its two CPUs would wait for the other without an end."""
    for id_, device in ((24, "one"), (25, "beside"), (26, "one"), (27, "beside")):
        lab.executor.submit(job(id_, device, log=str(tmp_path / "log")))
    done = lab.ends(4)
    assert len(done) == 4 and all(isinstance(each.outcome, Result) for each in done), done
    placement_group, deadline = device_reservation.placement_group, time.monotonic() + 40

    def slowly(*arguments, **options):
        group = placement_group(*arguments, **options)
        time.sleep(1)  # the other one has its first CPU by then, if it may
        return group

    def wait(missing: str) -> None:
        assert time.monotonic() < deadline, missing

    def hold(device: str) -> None:
        reservation = device_reservation.Reservation(lab.nodes["one"].node_id, device)
        try:
            reservation.take(wait)
        finally:
            reservation.release()

    monkeypatch.setattr(device_reservation, "placement_group", slowly)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(hold, ("one", "beside")))
    until(lambda: ray.available_resources().get("CPU") == 3, what="nothing is left reserved")


def test_the_actor_killed_in_the_middle_of_a_job(lab, session, tmp_path):
    """SIGKILL: one attempt is lost, with its process; the job is told once; crashes and trainings beside it are as ever."""
    log, killed = tmp_path / "log", tmp_path / "killed"
    jobs = [job(device="one", seconds=60, log=str(log), until=str(killed)), job(device="two", does="crash")]
    jobs += [Job(0, Stage.COMPAT, "probe", {}, seed=1)] * 3
    running = session(jobs)
    until(lambda: rows(log), what="the job has begun")
    measuring = int(rows(log)[0][3])
    actor = psutil.Process(measuring).parent()
    assert "DeviceActor" in " ".join(actor.cmdline())
    actor.send_signal(signal.SIGKILL)
    until(lambda: gone(measuring), timeout=20, what="what it measured has ended")
    killed.touch()
    outcome, loop = running.end()
    assert outcome.state == "done" and sorted(loop.searcher.told) == [1, 3, 4, 5]
    failures = {id_: data for id_, data in running.bench.events(EventKind.FAILED)}
    assert failures[1]["kind"] == "lost" and not failures[1]["final"]
    assert failures[2]["kind"] == "exception" and "SIGSEGV" in failures[2]["message"] and failures[2]["final"]
    assert [row[1] for row in rows(log) if row[2] == "end"] == ["2"], "the second attempt, and it alone, came to its end"
    (told,) = [data for id_, data in running.bench.events(EventKind.TOLD) if id_ == 1]
    assert told["attempt"] == 2 and told["metrics"]["latency_ms"] == 1.5
    lab.until(lambda: lab.executor.capacity()["train"] == 3)
    until(lambda: ray.available_resources().get("CPU") == 3, what="nothing is left reserved")


def test_a_device_node_lost_in_the_middle_of_a_job(lab, session, tmp_path):
    """Its job waits, visibly; trainings go on; the node comes back, and the job comes to its end."""
    log, lost = tmp_path / "log", tmp_path / "lost"
    jobs = [job(device="two", seconds=60, log=str(log), until=str(lost)), job(device="two", log=str(log))]
    jobs += [Job(0, Stage.COMPAT, "wait_for_it", {"seconds": 1, "log": str(tmp_path / "trained")}, seed=1)] * 20
    running = session(jobs)
    until(lambda: rows(log), what="the job has begun")
    measuring = int(rows(log)[0][3])
    trained = running.bench.loop.ledger.told
    lab.cluster.remove_node(lab.nodes.pop("two"))
    text = "waits for a node: asks for device two; there are"  # once its death is known
    until(lambda: any(text in waits_for(each) for each in running.summary()["waiting"] if each["job"] == 1), what="it is said")
    until(lambda: gone(measuring), timeout=20)
    lost.touch()
    until(lambda: running.bench.loop.ledger.told >= trained + 2, what="trainings go on")
    (two,) = [each for each in list_devices() if each.device == "two"]
    assert two.state == "waiting for node" and two.about["cpus"] and two.seen and "--labels device=two" in two.detail
    lab.nodes["two"] = lab.cluster.add_node(num_cpus=0, labels={"device": "two"})  # by its label now
    outcome, loop = running.end()
    assert outcome.state == "done" and sorted(loop.searcher.told) == list(range(1, 23))
    assert running.summary()["waiting"] == []
    assert {data["kind"] for _, data in running.bench.events(EventKind.FAILED)} == {"lost"}
    assert sorted(row[0] for row in rows(log) if row[2] == "end") == ["1", "2"]


def test_a_lock_held_on_the_host_is_said_and_waited_for(lab, tmp_path):
    """Meanwhile one job is cancelled while it waits, at once or in order, and none of them runs."""
    log = tmp_path / "log"
    with (lab.locks / "archsearch-device-host.lock").open("a") as file:
        until(lambda: _locked(file))
        for id_ in (31, 32, 33):
            lab.executor.submit(job(id_, "two", log=str(log)))
        says = "waits for device two: locked by another: the lock 'host' on"
        told = lambda: [waits_for(about) for id_, about in lab.executor.waiting().items() if id_ == 33]  # noqa: E731
        lab.until(lambda: any(says in text for text in told()), what="it is said once its actor has answered")
        (two,) = [each for each in list_devices() if each.device == "two"]
        assert two.state == "locked by another" and sum(two.queue.values()) == 2 and two.running["job"] == 31
        lab.executor.cancel(31, force=True)
        lab.executor.cancel(32, force=False)
        (done,) = lab.ends(1)
        assert done.job == 32 and done.outcome.kind is FailureKind.INTERRUPTED
        lab.until(lambda: lab.state("two")["running"] == {"run": str(lab.root), "job": 33, "attempt": 1})
    (done,) = lab.ends(1)
    assert done.job == 33 and isinstance(done.outcome, Result)
    assert [row[0] for row in rows(log)] == ["33", "33"]


def _locked(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_a_job_that_runs_is_cancelled_or_asked_to_leave(lab, tmp_path):
    for id_, force in ((41, True), (42, False)):
        log = tmp_path / f"log{id_}"
        lab.executor.submit(job(id_, "two", seconds=60, log=str(log)))
        lab.until(lambda log=log, id_=id_: rows(log) and id_ in lab.executor._devices._began)
        lab.executor.cancel(id_, force=force)
        lab.until(lambda log=log: gone(int(rows(log)[0][3])), timeout=20, what="its process has ended")
        done = lab.ends(1, timeout=2 if force else 20)
        assert done == [] if force else done[0].outcome.kind is FailureKind.INTERRUPTED
    until(lambda: lab.state("two")["state"] == "ready")


#: Hardly any runs: what is measured here is not looked at.
KNOBS = {"launches": 1, "rounds": 1, "runs": 3, "seconds": 0.0, "warmup": 0.05, "repeats": 0, "patience": 0.0, "width": 9.0}


def test_a_model_is_measured_there_for_somebody_without_a_run(lab, tmp_path):
    """By ``profile --device``: after what others measure; and a device that is away is waited for until Ctrl-C."""
    net, conf = tmp_path / "net.yaml", tmp_path / "conf.yaml"
    arch = seed_architecture((3, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4)
    net.write_text(arch.to_yaml())
    conf.write_text(f"data: {{name: digits}}\ncluster: {{address: '{lab.cluster.address}'}}\ndevices: {{away: {{}}}}\n")
    command = [sys.executable, "-c", "from archsearch.cli import main; main()", "profile", str(net), "--json"]
    short = ["--seconds", "0", "--repeats", "0", "--memory-runs", "0", "--patience", "0", "--width", "9"]
    places = {"two": ["--address", lab.cluster.address], "away": ["--config", str(conf)]}
    lanes = [OnCluster("two", print) for _ in range(3)]
    assert all(ray.get([lane._mailbox.hears.remote() for lane in lanes]))
    where = {ray._private.state.actors(lane._mailbox._actor_id.hex())["Address"]["NodeID"] for lane in lanes}
    assert where == {ray.get_runtime_context().get_node_id()}, "no other node takes a visitor's mailbox with it"
    bench, model = DeviceBench(lanes[0], settings_of("two", None, print), print), read_model(str(net))
    seen = []
    (known,) = bench.measure([Subject(model)], Settings(**KNOBS, memory_runs=0), watch=seen.append)
    assert seen and known.latency.median > 0 and known.fingerprint == device_environment("pytorch", Settings())[0]
    asked = Settings(seconds=0.0, repeats=0, memory_runs=0, patience=0.0, width=9.0)
    assert own_cache().keep(_key(Subject(model), asked, known.fingerprint), known) == ""
    lab.executor.submit(job(51, "two", seconds=300, log=str(tmp_path / "log")))
    lab.until(lambda: rows(tmp_path / "log"), what="another's job runs there")
    running = {}
    for name, place in places.items():
        with (tmp_path / f"{name}.out").open("w") as out, (tmp_path / f"{name}.err").open("w") as err:
            running[name] = subprocess.Popen([*command, *short, "--device", name, *place], stdout=out, stderr=err)
    try:
        turn = "profile: waits for its turn on device two: 1 job of others there"
        lab.until(lambda: turn in (tmp_path / "two.err").read_text(), timeout=120)
        lab.until(lambda: "waits for a node: asks for device away; there are" in (tmp_path / "away.err").read_text())
        running["away"].send_signal(signal.SIGINT)
        lab.executor.cancel(51, force=True)
        lab.until(lambda: all(process.poll() is not None for process in running.values()), timeout=120)
    finally:
        for process in running.values():
            process.kill()
            process.wait()
    assert running["away"].returncode == 130 and (tmp_path / "away.out").read_text() == ""
    assert running["two"].returncode == 0, (tmp_path / "two.err").read_text()
    (row,) = json.loads((tmp_path / "two.out").read_text())
    assert row["profile"]["latency"] == known.to_json()["latency"] and row["profile"]["about"]["cached"]
    (two,) = [each for each in list_devices() if each.device == "two"]
    assert two.fingerprints == {"pytorch": row["profile"]["fingerprint"]}
    with pytest.raises(InputError, match=r"no device is called 'nine' in this cluster. Known: beside, one, two"):
        settings_of("nine", None, print)
    with pytest.raises(InputError, match="m:f runs code where it is measured, and the device two is not known to be this"):
        bench.measure([Subject(Model("function", "m:f", "m:f"))], Settings())


def test_the_command_line_lists_them(lab):
    command = [sys.executable, "-c", "from archsearch.cli import main; main()", "devices", "--address"]
    done = subprocess.run([*command, lab.cluster.address, "--json"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    beside, one, two = json.loads(done.stdout)
    assert [row["device"] for row in (beside, one, two)] == ["beside", "one", "two"]
    assert one["state"] == two["state"] == "ready"
    assert one["settings"]["threads"] == 2 and two["about"]["cpus"] == os.cpu_count() and one["queue"] == {}
    assert abs(two["seen"] - time.time()) < 60
    done = subprocess.run([*command, "127.0.0.1:1"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2 and "no Ray cluster at --address = '127.0.0.1:1'" in done.stderr and not done.stdout


FAR = """
import sys
from archsearch.cluster import ray_environment
address, root, log = sys.argv[1:]
ray_environment.prepare(address, root)
from archsearch.cluster.devices_section import DevicesSection
from archsearch.cluster.ray_executor import RayExecutor
from archsearch.cluster.section import ClusterSection
from archsearch.data import DataSection, load
from archsearch.jobs import Job, Resources, Stage

digits = load(DataSection(name="digits", max_train=100))
devices = DevicesSection.model_validate({"one": {}})
policy = ClusterSection(address=address)
executor = RayExecutor(digits, root, resources={Stage.COMPAT: Resources()}, policy=policy, devices=devices)
for id_ in (1, 2, 3):
    executor.submit(Job(id_, Stage.PROFILE, "on_device", {"log": log, "seconds": 60}, seed=1, queue="device:one"))
while True:
    executor.wait(1)
"""


def test_a_device_outlives_the_driver_that_made_it_and_measures_nothing_for_the_dead(lab, tmp_path):
    """SIGKILL: what it had running there ends, what it had waiting never begins, and the next run is served."""
    lab.forget("one")
    log, mine = tmp_path / "far", tmp_path / "mine"
    driver = subprocess.Popen([sys.executable, "-c", FAR, lab.cluster.address, str(lab.root), str(log)])
    try:
        lab.until(lambda: rows(log), timeout=120, what="another driver's job has begun")
        lab.executor.submit(job(61, "one", log=str(mine)))
        lab.until(lambda: sum(lab.state("one")["queue"].values()) == 3)
    finally:
        driver.kill()
        driver.wait()
    (done,) = lab.ends(1)
    assert isinstance(done.outcome, Result) and len(rows(mine)) == 2
    lab.executor.submit(job(62, "one", log=str(mine)))
    (done,) = lab.ends(1)
    assert isinstance(done.outcome, Result) and len(rows(mine)) == 4
    assert gone(int(rows(log)[0][3])) and [row[:3] for row in rows(log)] == [["1", "1", "begin"]]


LOCAL = """
import json, sys
from archsearch.cluster import ray_environment
ray_environment.prepare("local", sys.argv[1])
from archsearch.cluster.devices_section import DevicesSection
from archsearch.cluster.ray_executor import RayExecutor
from archsearch.cluster.section import ClusterSection
from archsearch.data import DataSection, load
from archsearch.jobs import Completion, Job, Resources, Stage

devices = DevicesSection.model_validate({"here": {}, "there": {"threads": 2}})
digits = load(DataSection(name="digits", max_train=100))
policy = ClusterSection(address="local", slots=2)
executor = RayExecutor(digits, sys.argv[1], resources={Stage.COMPAT: Resources()}, policy=policy, devices=devices)
executor.submit(Job(1, Stage.COMPAT, "probe", {}, seed=1))
for id_ in (2, 3, 4, 5):
    executor.submit(Job(id_, Stage.PROFILE, "on_device", {}, seed=1, queue=f"device:{('here', 'there')[id_ % 2]}"))
done = []
while len(done) < 5:
    done += [item for item in executor.wait(0.5) if isinstance(item, Completion)]
executor.close()
print(json.dumps({item.job: dict(item.outcome.metrics) for item in done}))
"""


@pytest.mark.soak
def test_a_cluster_of_this_machine_alone_has_the_devices_that_are_configured(probes, lab, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-c", LOCAL, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["1"]["train"] == 100 and [found[job]["threads"] for job in "2345"] == [1, 2, 1, 2]
