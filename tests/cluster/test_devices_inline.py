"""Jobs on a device of this machine, without Ray: a process for each, its faults, the host's lock, turns, the section."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest
from listed_run import Bench, Notes, until

from archsearch import config as configuration
from archsearch.cluster.device_turns import Turns
from archsearch.cluster.devices_section import DevicesSection
from archsearch.cluster.inline import InlineExecutor
from archsearch.jobs import EventKind, FailureKind, InputError, Job, Result, Stage
from archsearch.planning import refuse_unasked
from archsearch.registry import WORKS
from archsearch.store import Artifacts, RunFolder


def section(**devices):
    return DevicesSection.model_validate(devices)


def job(id_=1, device="here", attempt=1, **spec):
    return Job(id_, Stage.PROFILE, "on_device", spec, seed=1, queue=f"device:{device}", attempt=attempt)


@pytest.fixture
def locks(tmp_path, monkeypatch):
    """Where this test's locks lie: other tests on this machine do not wait for it."""
    folder = tmp_path / "locks"
    folder.mkdir()
    monkeypatch.setenv("ARCHSEARCH_DEVICE_LOCKS", str(folder))
    return folder


@pytest.fixture
def run(probes, digits, locks, tmp_path):
    """Runs one job and returns its completion."""

    def body(wanted, listener=lambda progress: False, **settings):
        executor = InlineExecutor(digits, Artifacts(str(tmp_path)), devices=section(here=settings))
        executor.listen(listener)
        assert executor.room(wanted) and executor.capacity()["device:here"] == 1
        executor.submit(wanted)
        (done,) = executor.wait(0)
        assert (done.job, done.attempt) == (wanted.id, wanted.attempt)
        return done

    return body


def test_what_starts_on_a_device_for_each_job_loads_neither_the_store_nor_a_framework():
    """Each job pays for it, and a small board is slow."""
    heavy = ("sqlalchemy", "fsspec", "torch", "numpy", "pydantic")
    code = f"import sys, archsearch.cluster.device_child, archsearch.cluster.context\nprint({{*sys.modules}} & {{*{heavy}}})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


def test_a_work_on_a_device_has_its_artifacts_and_no_data_set(run, tmp_path):
    """What it prints is no answer, and what it reads and writes passes through the node."""
    there = Artifacts(str(tmp_path))
    payload = os.urandom(300_000)
    ref = there.save(7, 1, "weights", payload)
    seen = []
    wanted = job(does="artifacts", ref=ref.to_json(), seconds=0.7)
    done = run(wanted, lambda progress: seen.append(progress.data) or False)
    assert isinstance(done.outcome, Result), done
    metrics = dict(done.outcome.metrics)
    assert "do not travel to devices" in metrics.pop("data")
    assert metrics == {"bytes": 300_000, "before": None, "after": "half way"}
    assert there.load(done.outcome.artifacts["again"]) == payload[::-1]
    assert done.outcome.artifacts["again"].key.startswith("artifacts/000001/1/again")
    assert any("step" in data for data in seen), "progress arrives"
    bad = {**ref.to_json(), "key": ref.key.replace("000007", "000008")}
    damaged = run(job(does="artifacts", ref=bad)).outcome
    assert damaged.kind is FailureKind.DAMAGED and "000008" in damaged.message, "it fails as it would in a task"
    plain = run(job(), threads=2).outcome
    assert plain.metrics["threads"] == 2 and plain.metrics["omp"] == "2" and plain.metrics["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("does", "kind", "words"),
    [
        ("raise", FailureKind.EXCEPTION, "this runtime knows no such operation"),
        ("crash", FailureKind.EXCEPTION, "device here: the job's process was ended by SIGSEGV without an answer"),
        ("leave", FailureKind.EXCEPTION, "left with exit code 7 without an answer"),
        ("die", FailureKind.LOST, "was ended by SIGKILL"),
        ("no json", FailureKind.EXCEPTION, "'on_device' returned what is not JSON"),
    ],
)
def test_a_fault_takes_one_job_and_is_said(run, does, kind, words):
    failure = run(job(does=does)).outcome
    assert failure.kind is kind and words in failure.message


def test_the_time_limit_ends_a_job_with_all_that_it_started(run, tmp_path):
    failure = run(job(does="hang", child=str(tmp_path / "child")), timeout=4).outcome
    assert failure.kind is FailureKind.STALLED and "no answer within 4 s (devices.here.timeout)" in failure.message
    child = int((tmp_path / "child").read_text())
    until(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def test_a_job_leaves_when_it_is_asked_to(run):
    done = run(job(seconds=60), lambda progress: progress.data.get("step", 0) > 3)
    assert done.outcome.kind is FailureKind.INTERRUPTED and done.seconds < 50
    looks = []
    before = run(job(seconds=60), lambda progress: looks.append(progress) or len(looks) > 1)
    assert (before.outcome.kind, before.outcome.message) == (FailureKind.INTERRUPTED, "it had not begun")


def test_a_lock_that_another_process_holds_is_said_and_waited_for(run, locks):
    """The lock is the host's: another device of this machine, another cluster, another user."""
    path = locks / "archsearch-device-host.lock"
    with path.open("w") as file:
        file.write(json.dumps({"pid": 4711, "holder": "device other, run far"}))
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        said = []

        def listener(progress):
            if "paused" in progress.data:
                said.append((progress.data["paused"], time.monotonic()))
                time.sleep(0.5)
                fcntl.flock(file, fcntl.LOCK_UN)
            return False

        done = run(job(), listener)
    assert isinstance(done.outcome, Result)
    ((words, _),) = said
    assert "locked by another" in words and "process 4711 (device other, run far)" in words
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # it was given back
        assert file.read() == ""


ALONE = """
import sys
from archsearch.cluster.inline import InlineExecutor
from archsearch.cluster.devices_section import DevicesSection
from archsearch.data import DataSection, load
from archsearch.jobs import Job, Stage
from archsearch.store import Artifacts

digits = load(DataSection(name="digits", max_train=100))
executor = InlineExecutor(digits, Artifacts(sys.argv[1]), devices=DevicesSection.model_validate({"here": {}}))
spec = {"does": "hang", "log": sys.argv[1] + "/log", "child": sys.argv[1] + "/child"}
executor.submit(Job(1, Stage.PROFILE, "on_device", spec, seed=1, queue="device:here"))
executor.wait(0)
"""


def test_nothing_is_measured_for_a_dead_driver_and_its_lock_is_free(probes, locks, tmp_path):
    """SIGKILL: the process that measures holds the lock until it has gone too, with what it has started."""
    driver = subprocess.Popen([sys.executable, "-c", ALONE, str(tmp_path)])
    try:
        child = int(until(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text().strip()))
        measuring = int((tmp_path / "log").read_text().split()[3])
        os.kill(measuring, signal.SIGSTOP)  # it cannot end itself now
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    with (locks / "archsearch-device-host.lock").open() as file:
        assert not _lockable(file), "what measures has it still"
    os.kill(measuring, signal.SIGCONT)
    for pid in (measuring, child):
        until(lambda pid=pid: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    with (locks / "archsearch-device-host.lock").open() as file:
        until(lambda: _lockable(file), what="the lock is free")


def _lockable(file) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def test_through_the_run_loop_a_profile_job_is_one_like_any_other(probes, digits, locks, tmp_path):
    """Lost at its first attempt, told at its second; a device that nobody knows ends the run before anything is asked."""
    bench = Bench(tmp_path / "run", digits)
    executor = InlineExecutor(digits, Artifacts(str(bench.path)), devices=section(here={}))
    jobs = [job(does="die"), job()]
    outcome, loop = bench.session(jobs, executor=executor, observer=Notes())
    assert outcome.state == "done" and sorted(loop.searcher.told) == [1, 2]
    (failed,) = [data for id_, data in bench.events(EventKind.FAILED)]
    assert failed["kind"] == "lost" and not failed["final"]
    (told,) = [data for id_, data in bench.events(EventKind.TOLD) if id_ == 1]
    assert told["attempt"] == 2 and told["metrics"]["latency_ms"] == 1.5
    other = Bench(tmp_path / "other", digits)
    with pytest.raises(InputError, match=r"'pi5', which section devices does not have. Known: here\."):
        other.session([job(device="pi5")], executor=executor)
    assert not other.events(EventKind.ASKED)


class Shut(InlineExecutor):
    """Its device has no room for a second attempt until something was trained."""

    trained = False

    def room(self, job, planned=()):
        return super().room(job, planned) and (self.trained or job.queue == "train" or job.attempt == 1)


def test_a_device_without_room_holds_up_no_training(probes, digits, locks, tmp_path):
    """Both are to be tried again and hold the same resources."""

    @WORKS.register("short_of_memory")
    def short_of_memory(spec, context):
        if context.job.attempt == 1:
            raise MemoryError("not now")
        executor.trained = True
        return Result({})

    bench = Bench(tmp_path / "run", digits)
    executor = Shut(digits, Artifacts(str(bench.path)), devices=section(here={}))
    late = time.monotonic() + 30
    watch = Notes(lambda loop: loop.request_stop() if time.monotonic() > late else None)
    outcome, loop = bench.session(
        [job(does="die"), Job(0, Stage.COMPAT, "short_of_memory", {}, seed=1)], executor=executor, observer=watch
    )
    assert outcome.state == "done" and loop.searcher.told == [2, 1]


# ------------------------------------------------------------------------------------------------------------------ turns
def test_runs_take_turns_and_each_is_served_in_its_own_order():
    order = []

    async def scene():
        turns, gate = Turns(), asyncio.Event()

        async def one(run, number):
            async with turns.turn(run, number):
                order.append(f"{run}{number}")
                await gate.wait()

        tasks = [asyncio.create_task(one("a", number)) for number in (3, 1, 2)]
        while not order:
            await asyncio.sleep(0.01)
        tasks += [asyncio.create_task(one(run, number)) for run, number in (("b", 1), ("b", 2), ("c", 1))]
        await asyncio.sleep(0)
        assert turns.lengths() == {"a": 2, "b": 2, "c": 1}
        gate.set()
        await asyncio.gather(*tasks)
        assert turns.lengths() == {}

    asyncio.run(asyncio.wait_for(scene(), 5))
    assert order == ["a1", "b1", "c1", "a2", "b2", "a3"]


@pytest.mark.parametrize("when", ["while it waits", "just before its turn comes", "as its turn comes"])
def test_a_cancelled_job_loses_its_turn_and_nobody_elses(when):
    order = []

    async def scene():
        turns, gate = Turns(), asyncio.Event()

        async def one(name):
            async with turns.turn(name, 1):
                order.append(name)
                if name == "a":
                    await gate.wait()
            if name == "a" and when == "as its turn comes":
                tasks[1].cancel()  # it has the turn now, and does not know it yet

        tasks = [asyncio.create_task(one(name)) for name in "abc"]
        while not order:
            await asyncio.sleep(0.01)
        if when == "while it waits":
            tasks[1].cancel()
        gate.set()
        if when == "just before its turn comes":
            tasks[1].cancel()  # the holder passes its turn on before this one can leave its line
        await asyncio.gather(*tasks, return_exceptions=True)
        assert turns.lengths() == {} and tasks[1].cancelled()

    asyncio.run(asyncio.wait_for(scene(), 5))
    assert order == ["a", "c"]


# ---------------------------------------------------------------------------------------------------------------- section
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{pi4: {runner: ssh}}", "runner: ssh needs a host, such as host: pi@10.0.0.7"),
        ("{pi4: {host: pi@board}}", "host is for runner: ssh"),
        ("{pi4: {runner: ssh, host: '-oProxyCommand=touch x'}}", "devices.pi4.host"),
        ("{pi4: {runner: adb}}", "one of local, ssh"),
        ("{pi4: {timeout: 0}}", "devices.pi4.timeout is 0"),
        ("{'pi 4': {}}", "devices: 'pi 4' is no device's name"),
        ("{pi4: {thread: 2}}", "unknown key devices.pi4.thread. Did you mean threads?"),
        ("{pi4: {torch_device: tpu}}", "devices.pi4.torch_device"),
    ],
)
def test_what_is_wrong_in_the_section_is_said_by_key(text, words, tmp_path):
    conf = tmp_path / "conf.yaml"
    conf.write_text(textwrap.dedent(f"data: {{name: digits}}\ndevices: {text}\n"))
    with pytest.raises(InputError) as caught:
        configuration.load(conf)
    assert words in str(caught.value)


def test_a_section_survives_the_snapshot_that_a_run_keeps(tmp_path):
    conf = tmp_path / "conf.yaml"
    conf.write_text("data: {name: digits}\ndevices: {pi4: {runner: ssh, host: pi@10.0.0.7, timeout: 2m}, here: {threads: 2}}\n")
    found = configuration.load(conf)
    again = configuration.from_snapshot(found.source_text, expanded=found.expanded)
    assert again["devices"] == found["devices"] and found["devices"].hosts() == {"pi4": "pi@10.0.0.7"}
    assert found["devices"].root["pi4"].timeout == 120 and found["devices"].root["pi4"].lock_name == "10.0.0.7"
    assert found["devices"].root["here"].lock_name == "host" and found["devices"].node_labels("here") == {"device": "here"}
    assert Path(conf).exists() and configuration.from_values({"data": {"name": "digits"}})["devices"].root == {}


def test_a_board_that_a_strangers_run_names_is_not_connected_to_unasked(tmp_path):
    folder = RunFolder.at(tmp_path)
    named = {"pi4": {"runner": "ssh", "host": "pi@10.0.0.7"}, "here": {}}
    config = configuration.from_values({"data": {"name": "digits"}, "cluster": {"executor": "inline"}, "devices": named})
    for overrides in ([], ["cluster.grace=3"], ["devices.here.threads=2"]):
        with pytest.raises(InputError, match=r"--set devices\.pi4\.host=pi@10\.0\.0\.7"):
            refuse_unasked(config, overrides, folder)
    refuse_unasked(config, ["devices.pi4.host=pi@10.0.0.7"], folder)
    local = configuration.from_values({"data": {"name": "digits"}, "cluster": {"executor": "inline"}, "devices": {"here": {}}})
    refuse_unasked(local, [], folder)
