"""Trainings that are stopped early, for real: inline, on Ray with a killed driver, and simulated on many slots."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from listed_run import Bench, Listed, Notes
from overrides import overrides
from rich.console import Console
from small_run import asked, finish, history, killed_after, killed_at, results, small
from test_ray_runs import Driver, wait_for

from archsearch import api
from archsearch.cli.display import Lines
from archsearch.cluster.context import AttemptContext
from archsearch.cluster.inline import InlineExecutor
from archsearch.cluster.outcomes import Forecast, Outcomes
from archsearch.cluster.simulated import SimulatedExecutor
from archsearch.data import DataSection, load
from archsearch.jobs import EventKind, JobState, Result
from archsearch.registry import WORKS
from archsearch.simulation import simulate
from archsearch.store import Artifacts

_SEARCH = {"name": "random", "max_nodes": 2, "init_node_ch": [2, 6], "band_standard_errors": 2, "test_frontier": False}
_TRAIN = {**small()["seed_train"], "epochs": 3, "batch_size": 15, "checkpoint_every": {"epochs": 1}}
#: Random cells of two widths on digits; the fourth and the fifth of seven trainings are stopped after the second epoch.
STOPPING: dict[str, Any] = {
    **small(),
    "data": {"name": "digits", "max_train": 150},
    "search": {**_SEARCH, "early_stopping": {"rungs": [1, 2], "least": 3, "optimism": 1.0, "eta": 2}},
    "budget": {"jobs": 7},
    "seed_train": _TRAIN,
    "post_train": _TRAIN,
}


def judged(path: Path) -> list[tuple[Any, ...]]:
    """What was reported and pruned, in order, less what a clock measured and which attempt it was."""
    return [
        (kind, job, {name: value for name, value in data.items() if name not in ("attempt", "seconds", "device_seconds")})
        for _, kind, job, data in history(path)
        if kind in (EventKind.REPORTED, EventKind.PRUNED) and "epoch" in data
    ]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("stopping") / "run"
    finish(path, STOPPING)
    return path


def test_stopped_trainings_are_pruned_and_leave_nothing_behind(undisturbed):
    run = api.load_run(undisturbed)
    states = {id_: record.state for id_, record in run.state.jobs.items()}
    pruned = [id_ for id_, state in states.items() if state is JobState.PRUNED]
    assert pruned == [4, 5] and run.summary()["jobs"]["pruned"] == 2 and len(run.points()) == 5
    assert not set(pruned) & results(undisturbed).keys() and all(run.state.jobs[id_].seconds > 0 for id_ in pruned)
    assert [kind for kind, job, _ in judged(undisturbed) if job == 4] == ["reported", "reported", "pruned"]
    told = {job: metrics["rungs"] for job, (metrics, _) in results(undisturbed).items()}
    reported: dict[int, list[Any]] = {}
    for kind, job, data in judged(undisturbed):
        if kind is EventKind.REPORTED and job not in pruned:
            reported.setdefault(job, []).append(data)
    assert reported == told, "what was reported on the way is what the result says"
    for place in ("checkpoints", "artifacts"):
        assert not [path for id_ in pruned for path in (undisturbed / place).rglob(f"{id_:06d}/*/*")]


def test_killed_again_and_again_the_same_trainings_are_stopped(undisturbed, tmp_path):
    path, rng, committed = tmp_path / "run", random.Random(3), []
    for number in range(4):
        if number % 3 == 2:
            killed_at(path, STOPPING, "commit.before", rng.randint(2, 4))
        else:
            killed_after(path, STOPPING, rng.uniform(0.3, 2.0))
        now = history(path) if (path / "run.db").exists() else []
        assert now[: len(committed)] == committed
        committed = now
    finish(path, STOPPING)
    assert asked(path) == list(range(1, 8))
    assert judged(path) == judged(undisturbed) and results(path) == results(undisturbed)


def test_on_ray_with_its_driver_killed_the_same_trainings_are_stopped(undisturbed, tmp_path):
    path = tmp_path / "run"
    driver = Driver(path, STOPPING, tmp_path)
    wait_for(lambda: (path / "run.db").exists() and any(job == 2 for _, job, _ in judged(path)), 180, "job 2 reports")
    driver.kill()
    committed = history(path)
    end = Driver(path, STOPPING, tmp_path).end()
    assert end["state"] == "done" and end["points"] == 5 and history(path)[: len(committed)] == committed
    assert judged(path) == judged(undisturbed) and results(path) == results(undisturbed)


# ------------------------------------------------------------------------------------------- the loop, with made-up trainings
@WORKS.register("test_climb")
def climb(spec: Any, context: AttemptContext) -> Result:
    """Six steps, of which the second and fourth are rungs; goes on from its checkpoint, and says its rungs again."""
    step, rungs = int(context.load_checkpoint() or b"0"), []
    while step < 6:
        step += 1
        rungs = [{"epoch": epoch, "val_error": 0.5, "compute_madds": epoch} for epoch in (2, 4) if epoch <= step]
        context.save_checkpoint(str(step).encode())
        context._last_beat = 0.0
        context.report(step=step, rungs=rungs)
    return Result({"rungs": rungs}, {"weights": context.save("weights.bin", b"w")})


class Strict(Listed):
    """Gives a job up after the rung that its spec names."""

    def __init__(self, specs):
        super().__init__(specs)
        self.latest: dict[int, int] = {}

    def ask(self, capacity):
        return [replace(job, work="test_climb") for job in super().ask(capacity)]

    def apply(self, event):
        super().apply(event)
        if event.kind is EventKind.REPORTED and "epoch" in event.data:
            self.latest[event.job] = event.data["epoch"]

    def gives_up(self, job):
        return "bad" if self.latest[job] == self.jobs[job - 1].spec.get("bad") else None


class Mute(InlineExecutor):
    """No sign of life arrives before the job has ended."""

    name: ClassVar[str] = "mute"

    @overrides
    def listen(self, listener): ...


@pytest.fixture
def bench(tmp_path, monkeypatch):
    monkeypatch.setattr("listed_run.Listed", Strict)
    return lambda name: Bench(tmp_path / name, load(DataSection(name="digits", max_train=100)))


def brief(path: Path) -> list[tuple[Any, ...]]:
    return [(kind, job, data.get("epoch")) for _, kind, job, data in history(path) if job is not None]


def test_what_is_pruned_does_not_depend_on_how_fast_messages_travel(bench):
    specs = [{}, {"bad": 2}, {"bad": 4}, {}]
    fast, slow = bench("fast"), bench("slow")
    fast.session(specs)
    console = Console(file=io.StringIO(), width=100)
    outcome, loop = slow.session(specs, executor=Mute(slow.digits, Artifacts(str(slow.path))), observer=Lines(console))
    assert "job 2 COMPAT stopped early: bad" in console.file.getvalue()
    assert brief(fast.path) == brief(slow.path) and outcome.state == "done"
    states = {id_: record.state for id_, record in loop.state.jobs.items()}
    assert states == {1: "completed", 2: "pruned", 3: "pruned", 4: "completed"}
    assert loop.searcher.told == [1, 4] and not loop.state.jobs[2].artifacts


def test_a_rung_is_reported_once_however_often_the_job_is_interrupted(bench):
    found, specs = bench("run"), [{"bad": 4}, {}]
    for step in (2, 3):  # the second attempt says the first rung again, and so does the third

        def stop(loop, step=step):
            if loop.progress.get(1, {}).get("step", 0) >= step:
                loop.request_stop()

        assert found.session(specs, observer=Notes(stop))[0].state == "interrupted"
    _, loop = found.session(specs)
    assert [entry for entry in brief(found.path) if entry[1] == 1 and entry[0] in ("reported", "pruned")] == [
        ("reported", 1, 2),
        ("reported", 1, 4),
        ("pruned", 1, 4),
    ]
    assert loop.state.jobs[1].attempts == 3


# ------------------------------------------------------------------------------------------------------------ virtual time
@dataclass
class Slow(Outcomes):
    """A job takes 100 s and says after half of it where it stands."""

    def forecast(self, job):
        row = {"epoch": 2, "val_error": 0.5, "compute_madds": 1}
        return Forecast(100.0, Result({"rungs": [row]}, {}))


class Deaf(SimulatedExecutor):
    """Its attempts stop only when they are forced to."""

    attention: ClassVar[float] = 1.0
    forced: ClassVar[list[tuple[int, float]]] = []

    @overrides
    def cancel(self, job, *, force):
        if force:
            self.forced.append((job, self.now()))
            super().cancel(job, force=True)


def test_a_pruned_attempt_that_does_not_stop_is_forced_to_after_the_grace(bench):
    Deaf.forced.clear()
    specs = [{"bad": 2, "train": {"epochs": 4}}, {"train": {"epochs": 4}}]
    outcome, loop = bench("deaf").session(specs, executor=Deaf(Slow(), 1), grace=15.0)
    assert outcome.state == "done" and loop.searcher.told == [2]
    assert [job for job, _ in Deaf.forced] == [1] and 65 < Deaf.forced[0][1] < 68
    assert loop.state.jobs[1].seconds == pytest.approx(50.0, abs=1.0), "from its first sign of life"


def test_a_simulated_search_stops_trainings_early_the_same_every_time(undisturbed, tmp_path):
    """Errors are drawn from the real run's, whatever a network costs: many networks are dominated."""
    train = {**_TRAIN, "epochs": 20}
    config = {**STOPPING, "seed_train": train, "post_train": train, "budget": {"jobs": 60}}
    config["search"] = {**_SEARCH, "early_stopping": {"rungs": [5, 10, 15]}}
    ends = [simulate(config, slots=4, recorded=undisturbed, run_dir=tmp_path / name) for name in ("one", "two")]
    assert judged(tmp_path / "one") == judged(tmp_path / "two") and ends[0].seconds == ends[1].seconds
    pruned = ends[0].run.summary()["jobs"]["pruned"]
    assert pruned >= 6 and len(ends[0].run.points()) == 60 - pruned
    without = simulate({**config, "search": _SEARCH}, slots=4, recorded=undisturbed, run_dir=tmp_path / "without")
    assert len(without.run.points()) == 60 and ends[0].seconds < without.seconds
    assert [(point["cost"], point["error"]) for point in ends[0].run.frontier()] == [
        (point["cost"], point["error"]) for point in without.run.frontier()
    ], "networks do not depend on each other here, and none of the frontier was stopped"
