"""Searches with objectives that devices measure: simulated, for real on this machine, on a cluster that loses its devices."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from listed_run import until
from small_run import history, small

from archsearch import api
from archsearch.cli.driving import show_end
from archsearch.cluster.simulated import SimulatedExecutor
from archsearch.frontier import pareto_front
from archsearch.jobs import EventKind, InputError, Stage
from archsearch.simulation import outcomes, simulate

ONE, TWO = "latency_ms@one", "latency_ms@two"
#: Two devices, of which one's latency is the cost.
TWO_DEVICES = {"search": {"cost": ONE, "objectives": [TWO]}, "devices": {"one": {"lock": "one"}, "two": {"lock": "two"}}}


def fronts(run):
    """Ids on the frontier of each objective, worked out from the points alone."""
    points, found = run.points(), {}
    for name in (ONE, TWO):
        there = [point for point in points if name in point.metrics]
        values = np.array([[point.metrics[name], point.metrics["val_error"]] for point in there])
        found[name] = sorted(there[i].id for i in pareto_front(values)) if there else []
    return found


def shown(run):
    return {name: sorted(entry["id"] for entry in about["frontier"]) for name, about in run.summary()["measurements"].items()}


def page_data(run):
    """What report.html knows."""
    page = (run.path / "report.html").read_text()
    return json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def sources(run):
    """Stage and parent of what each job was made for, by job."""
    return {id_: (record.job.stage, record.job.parent) for id_, record in run.state.jobs.items()}


# -------------------------------------------------------------------------------------------------------------- simulated
@pytest.mark.parametrize("slots", [1, 6])
def test_a_simulated_search_keeps_a_frontier_for_each_device(tmp_path, slots):
    wanted = {"assignment": "best"} if slots == 6 else {}
    config = small(**{**TWO_DEVICES, "search": {**TWO_DEVICES["search"], "max_hull_points": 20}, "profile": wanted})
    done = simulate(config, slots=slots, run_dir=tmp_path / "run")
    run, again = done.run, simulate(config, slots=slots, run_dir=tmp_path / "again").run
    assert [event[1:] for event in history(run.path)][2:] == [event[1:] for event in history(again.path)][2:]
    about = run.summary()["measurements"]
    assert [len(about[name]["measured"]) for name in (ONE, TWO)] == [len(run.points())] * 2 and len(run.points()) >= 20
    assert shown(run) == fronts(run) and shown(run)[ONE] != shown(run)[TWO]
    assert run.summary()["cost"] == ONE and [each["id"] for each in run.frontier()] == [
        each["id"] for each in about[ONE]["frontier"]
    ]
    assert done.busy_share <= 1.0
    header, *lines = (run.path / "full_pool.tsv").read_text().splitlines()
    columns = header.split("\t")
    first = dict(zip(columns, lines[0].split("\t"), strict=True))
    assert float(first[f"{TWO}_low"]) < float(first[TWO]) < float(first[f"{TWO}_high"]) and first[f"{TWO}_noisy"] == "0"
    assert (f"backends@{TWO[11:]}" in first) == bool(wanted)
    assert all(set(point.metrics.get("assignments", ())) == ({"one", "two"} if wanted else set()) for point in run.points())
    assert (run.path / "device_frontiers.png").read_bytes().startswith(b"\x89PNG")
    data = page_data(run)
    drawn = {each["name"]: sorted(p["id"] for p in each["points"] if p["front"]) for each in data["devices"]}
    assert drawn == fronts(run) and [each["label"] for each in data["devices"]] == [
        "latency on one (ms)",
        "latency on two (ms)",
    ]


class WithoutDevice(SimulatedExecutor):
    """What is sent to a device that is gone never ends."""

    gone: tuple[str, ...] = ("two",)

    def submit(self, job):
        super().submit(job)
        if self._is_gone(job):
            self._ends = [entry for entry in self._ends if entry[1] != job.id]

    def wait(self, timeout):
        items, gone = super().wait(timeout), {id_ for id_, each in self._running.items() if self._is_gone(each.job)}
        return [item for item in items if item.job not in gone]  # no sign of life either

    def _is_gone(self, job):
        return job.queue.removeprefix("device:") in self.gone


def test_a_lost_device_is_waited_for_only_at_the_end_and_only_so_long(tmp_path):
    """In virtual time: the search is over as ever, then half an hour passes, and what is missing is said."""
    config = small(**{**TWO_DEVICES, "profile": {"wait": "30m"}, "search": {**TWO_DEVICES["search"], "confirm": 1}})
    made = []

    def executor(plan):
        made.append(WithoutDevice(outcomes(plan), 2, devices=("one", "two")))
        return made[0]

    run = api.search(config, run_dir=tmp_path / "run", executor=executor)
    summary = run.summary()
    about = summary["measurements"]
    assert summary["state"] == "done" and len(about[ONE]["measured"]) == summary["points"] >= 8
    assert summary["reason"].startswith("max_hull_points = 8 reached; without latency_ms@two: points 1, 2")
    assert "no device gave a sign of life for 1800 s (profile.wait)" in summary["reason"]
    assert about[TWO]["measured"] == [] and len(about[TWO]["waiting"]) + sum(map(len, about[TWO]["lacking"].values())) >= 8
    events = history(run.path)
    given_up = next(number for number, kind, _, data in events if kind is EventKind.BUDGET and "unmeasured" in data)
    stages = sources(run)
    for number, kind, job, _ in events:
        if kind is EventKind.ASKED:
            afterwards = stages[job][0] in (Stage.EVAL, Stage.EVAL_TRAINED)
            assert (number > given_up) == afterwards, "what is done with the frontier waits for it; the search did not"
    assert 1800 <= made[0].now() < 2400 and sum(run.summary()["jobs"][state] for state in ("running", "queued")) == 0


def test_a_search_that_can_do_nothing_without_its_device_ends_too(tmp_path, capsys):
    """Its cost is measured on the device that is gone: after the seeds there is nothing to grow."""
    config = small(search={"cost": TWO, "objectives": []}, devices=TWO_DEVICES["devices"])
    run = api.search(
        config, run_dir=tmp_path / "run", executor=lambda plan: WithoutDevice(outcomes(plan), 2, devices=("one", "two"))
    )
    summary = run.summary()
    assert summary["state"] == "done" and summary["points"] == 2 and not run.state.jobs[1].failure
    assert summary["reason"].startswith("nothing is left to try; without latency_ms@two: points 1, 2")
    show_end(run)
    said = capsys.readouterr().out
    assert "0 on the frontier" in said and "device_frontiers.png" in said and "best model" not in said


# ------------------------------------------------------------------------------------------------------------------ inline
def test_for_real_on_this_machine(tmp_path, monkeypatch):
    """The work ``profile`` itself, with hardly any runs: what is told is what is shown, and an earlier run's counts."""
    locks = tmp_path / "locks"
    locks.mkdir()
    monkeypatch.setenv("ARCHSEARCH_DEVICE_LOCKS", str(locks))
    knobs = {"launches": 1, "rounds": 1, "runs": 3, "seconds": 0, "warmup": 0.05, "repeats": 0, "memory_runs": 0, "patience": 0}
    config = small(
        search={"cost": ONE, "objectives": ["energy_mj@one"], "max_hull_points": 2, "test_frontier": False},
        devices={"one": {}},
        profile={"protocol": knobs},
    )
    run = api.search(config, run_dir=tmp_path / "run")
    points = run.points()
    assert len(points) == 2 and all(point.metrics[ONE] > 0 for point in points)
    for point in points:
        figure = point.metrics["measured"][ONE]
        assert figure["low"] <= figure["value"] == point.metrics[ONE] <= figure["high"] and figure["unit"] == "ms"
    assert run.summary()["cost"] == ONE and run.frontier()[0]["cost"] == min(point.metrics[ONE] for point in points)
    if "energy_mj@one" not in points[0].metrics:
        assert "without energy_mj@one: points 1, 3 (the device does not tell its energy)" in run.summary()["reason"]
    more = api.search(config, overrides=["search.max_hull_points=3"], run_dir=tmp_path / "more", warm_from=run)
    profiles = [parent for stage, parent in sources(more).values() if stage is Stage.PROFILE]
    assert sorted(profiles) == [1, *(point.id for point in more.points() if point.origin is None)], "one proves the rest"
    assert [point.metrics[ONE] for point in more.points()][1] == points[1].metrics[ONE]


def test_with_the_best_assignment_for_real_on_this_machine_and_through_a_kill(tmp_path, monkeypatch):
    """The device's process is killed once it has tried an assignment: the next attempt goes on from there."""
    locks, killed = tmp_path / "locks", []
    locks.mkdir()
    monkeypatch.setenv("ARCHSEARCH_DEVICE_LOCKS", str(locks))

    def kill():
        until(lambda: [*tmp_path.glob("run/checkpoints/*/1.ckpt")], 250, "something was tried")
        killed.extend(each for each in psutil.Process().children() if "archsearch.cluster.device_child" in each.cmdline())
        killed[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    knobs = {"launches": 1, "rounds": 1, "runs": 3, "seconds": 0, "warmup": 0.05, "memory_runs": 0, "patience": 0}
    wanted = {"estimator": "random", "budget": 2, "backends": ["onednn", "native"]}
    config = small(
        search={"cost": ONE, "max_hull_points": 1, "test_frontier": False},
        devices={"one": {}},
        profile={"protocol": {**knobs, "repeats": 0}, "assignment": wanted},
    )
    run = api.search(config, run_dir=tmp_path / "run")
    killer.join()
    (told,) = (record for record in run.state.jobs.values() if record.job.stage is Stage.PROFILE)
    about = told.metrics["assignment"]
    assert told.attempts == 2 and not killed[0].is_running() and about["resumed"] >= 1 and about["tried"] == 3
    assert about["rule"] == {**wanted, "mode": "name", "objective": "latency_ms", "limits": []}
    (point,) = run.points()
    chosen = point.metrics["assignments"]["one"]
    assert chosen["tried"] == 3 and chosen["backends"] == about["backends"]
    if about["backends"] is not None:
        assert set(about["backends"].values()) <= {"onednn", "native"} and len(about["operations"]) > len(about["backends"])
    assert "backends@one" in (run.path / "full_pool.tsv").read_text().splitlines()[0].split("\t")
    assert ["backends on one", chosen["words"]] in page_data(run)["points"][0]["rows"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search": {"cost": "latency_ms@too"}}, "section devices has no device 'too'. Did you mean two? Known: one, two."),
        ({"search": {"constraints": ["latency_ms@x < 3"]}}, "search.constraints.0: section devices has no device 'x'"),
        ({"profile": {"runtimes": {"x": "pytorch"}}}, "profile.runtimes.x: section devices has no device 'x'"),
        ({"profile": {"runtime": "tflow"}}, "no runtime is called 'tflow'. Known: "),
        ({"profile": {"work": "walk"}}, "no work is called 'walk'"),
        ({"profile": {"protocol": {"runs": 0}}}, "runs = 0: expected a whole number from 1"),
        ({"profile": {"protocol": {"threads": 4}}}, "devices.NAME.threads says it"),
        ({"devices": {"two": {"threads": 5000}}}, "devices.two.threads = 5000: this process may use"),
        ({"profile": {"assignment": "bset"}}, 'profile.assignment is "bset", which is not allowed. Did you mean best?'),
        ({"profile": {"assignment": {"estimator": "hlpz"}}}, "no estimator is called 'hlpz'. Did you mean 'hlps'?"),
        ({"profile": {"assignment": {"backends": ["native", "cuda"]}}}, "'pytorch' of device one has no backend 'cuda' here"),
        (
            {"profile": {"assignment": "best", "runtimes": {"two": "pytorch-compile"}}},
            "'pytorch-compile' of device two has one backend here: there is nothing to choose",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_starts(changes, words, tmp_path):
    changes = {name: {**TWO_DEVICES.get(name, {}), **changes.get(name, {})} for name in {**TWO_DEVICES, **changes}}
    with pytest.raises(InputError) as caught:
        api.search(small(**changes), run_dir=tmp_path / "run")
    assert words in str(caught.value) and not (tmp_path / "run").exists()


def test_a_device_of_this_machine_without_its_runtime_is_said_with_the_extra(tmp_path, monkeypatch):
    from archsearch.profile.runtimes.pytorch import PyTorch

    monkeypatch.setattr(PyTorch, "packages", ("no-such-library",))
    monkeypatch.setattr(PyTorch, "extra", "openvino")
    with pytest.raises(InputError, match=r"no-such-library, not installed here: pip install 'archsearch\[openvino\]'"):
        api.search(small(**TWO_DEVICES), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# ----------------------------------------------------------------------------------------------------------------- cluster
def rows(log: Path) -> list[list[str]]:
    """Job, attempt, what, process, device, time."""
    return [line.split() for line in log.read_text().splitlines()] if log.exists() else []


def begun(log: Path, device: str) -> int | None:
    """The process of the measurement that goes on there."""
    going = {row[3]: row[2] for row in rows(log) if row[4] == device}
    return next((int(pid) for pid, what in going.items() if what == "begin" and psutil.pid_exists(int(pid))), None)


def test_a_search_survives_a_killed_actor_and_a_lost_device(cluster, tmp_path, monkeypatch):
    """SIGKILL of one device's actor as it measures; the other's node goes away as it measures, and comes back at the end.

    The search goes on meanwhile; what waits is seen; and in the end every point was told once by each device.
    """
    log, path = tmp_path / "log", tmp_path / "run"
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("ARCHSEARCH_DEVICE_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("ARCHSEARCH_TEST_LOG", str(log))
    one = {"num_cpus": 0, "labels": {"device": "one"}}
    two = {"num_cpus": 0, "labels": {"device": "two"}}
    nodes = {"one": cluster.add_node(**one), "two": cluster.add_node(**two)}
    search = {**TWO_DEVICES["search"], "max_hull_points": 5}
    config = small(
        **{**TWO_DEVICES, "search": search},
        cluster={"executor": "ray", "address": cluster.address},
        profile={"work": "takes_its_time"},
    )
    conf = tmp_path / "conf.yaml"
    conf.write_text(yaml.safe_dump(config))
    command = [sys.executable, "-c", "from archsearch.cli import main; main()", "search", str(conf), "--run-dir", str(path)]
    with (tmp_path / "driver.log").open("w") as words:
        driver = subprocess.Popen([*command, "--json"], stdout=subprocess.PIPE, stderr=words, text=True)
    try:
        actor = psutil.Process(until(lambda: begun(log, "one"), 120, "a measurement on one")).parent()
        assert "DeviceActor" in " ".join(actor.cmdline())
        actor.send_signal(signal.SIGKILL)
        lost = until(lambda: begun(log, "two"), 60, "a measurement on two")
        cluster.remove_node(nodes.pop("two"))
        until(lambda: begun(log, "two") is None, 30, f"process {lost} ends with its node")

        def status():
            return api.load_run(path).summary()

        found = until(lambda: [each for each in status()["waiting"] if each["asked"].get("device") == "two"], 90)
        assert found[0]["stage"] == "PROFILE"
        until(lambda: len(status()["measurements"][ONE]["measured"]) >= 5, 120, "the search has come to its end without two")
        about = status()
        assert about["state"] == "running" and about["points"] >= 5 and about["measurements"][TWO]["waiting"]
        assert about["frontier"], "there is a frontier on the device that is there"
        nodes["two"] = cluster.add_node(**two)
        out, _ = driver.communicate(timeout=120)
    finally:
        driver.kill()
        driver.wait()
        for node in nodes.values():
            cluster.remove_node(node)
    assert driver.returncode == 0, (tmp_path / "driver.log").read_text()[-2000:]
    summary = json.loads(out)
    run = api.load_run(path)
    points = {point.id for point in run.points()}
    assert summary["state"] == "done" and "without" not in summary["reason"] and len(points) >= 5
    told = Counter(run.state.jobs[job].job.stage for _, kind, job, _ in history(path) if kind is EventKind.TOLD)
    assert told[Stage.PROFILE] == 2 * len(points), "each once, on each device"
    assert {data["kind"] for _, kind, _, data in history(path) if kind is EventKind.FAILED} == {"lost"}
    measurements = run.summary()["measurements"]
    assert all(set(measurements[name]["measured"]) == points for name in (ONE, TWO))
    assert shown(run) == fronts(run) and os.environ["ARCHSEARCH_TEST_LOG"]
