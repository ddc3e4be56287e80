"""The best assignment as the work ``profile`` looks for it: what is tried, what is chosen, and an attempt that was ended."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from archsearch.arch import seed_architecture
from archsearch.jobs import Context, InputError, Interrupted, Job, Stage
from archsearch.measured import QUANTITIES, read_answer
from archsearch.profile import bench
from archsearch.profile.assignment import best
from archsearch.profile.assignment.best import SHORT, Wanted, choose
from archsearch.profile.graph import Described, Graph, Operation
from archsearch.profile.measurement import Measurement, Profile
from archsearch.profile.protocol import Step
from archsearch.profile.settings import Failed
from archsearch.profile.work import profile

ARCH = seed_architecture((3, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4).to_json()
BACKENDS = ("onednn", "native", "nnpack")
GRAPH = Graph((Operation("Conv2D", 9), Operation("Add", 9, (0,)), Operation("Linear", 9, (1,))))
#: Linear alone gains by another backend; NNPACK has no kernel but Conv2D's.
SPEEDS = {"onednn": (4.0, 1.0, 2.0), "native": (5.0, 1.0, 1.0), "nnpack": (6.0,)}
OWN = 7.5


def measured(median: float, unit: str, spread: float = 0.01) -> Measurement:
    return Measurement(median, (1 - spread) * median, (1 + spread) * median, unit, median, median, 0.0, 30)


def taken(ms: float, kib: float = 1e5, spread: float = 0.01, energy: float | None = None) -> Profile:
    spent = None if energy is None else measured(energy, "mJ", spread)
    return Profile(measured(ms, "ms", spread), None, measured(kib, "KiB", spread), spent, "pytorch", "f0", 1)


class Device:
    """Stands in for the measuring processes, and notes what they are asked for. Short measurements see luck: ``lucky``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.short: list[tuple[str, ...]] = []
        self.full: list[list[tuple[str, ...] | None]] = []
        self.lucky: dict[tuple[str, ...], float] = {}
        self.memory_runs: set[int] = set()
        self.fingerprint = "f0"
        supported = tuple(frozenset(BACKENDS if node.name == "Conv2D" else BACKENDS[:2]) for node in GRAPH.nodes)
        monkeypatch.setattr(bench, "describe", lambda *_: Described(GRAPH, BACKENDS, supported))
        monkeypatch.setattr(bench, "device_environment", lambda *_: (self.fingerprint, {}))
        monkeypatch.setattr(bench.Here, "measure", lambda _, *given, **named: self.measure(*given, **named))
        monkeypatch.setattr(best, "measure", self.measure)

    def measure(self, subjects: Any, settings: Any, *, watch: Any) -> list[Profile | Failed]:
        watch(Step("time", 1, 2, 0))
        ways = [subject.assignment for subject in subjects]
        if settings.launches == SHORT["launches"]:
            self.short += ways
            self.memory_runs.add(settings.memory_runs)
            return [taken(self.true(way) * self.lucky.get(way, 1.0), spread=0.3) for way in ways]
        self.full.append(ways)
        return [taken(OWN if way is None else self.true(way)) for way in ways]

    @staticmethod
    def true(way: tuple[str, ...]) -> float:
        return sum(SPEEDS[backend][place] for place, backend in enumerate(way))


class OneJob(Context):
    """A job's context with a checkpoint slot; it is to leave once it has reported so often."""

    def __init__(self, seed: int = 3, leave_after: int = 10**9) -> None:
        self.job = Job(1, Stage.PROFILE, "profile", None, seed=seed)
        self.device, self.threads, self.left = "cpu", 1, leave_after
        self.kept: bytes | None = None
        self.phases: list[str] = []

    def report(self, **progress: Any) -> None:
        self.phases.append(progress["phase"])
        self.left -= 1
        if self.left < 0:
            raise Interrupted

    def data(self, *, test: bool = False) -> Any: ...
    def load(self, ref: Any) -> bytes: ...
    def save(self, name: str, payload: bytes) -> Any: ...
    def load_checkpoint(self) -> bytes | None:
        return self.kept

    def save_checkpoint(self, payload: bytes) -> None:
        self.kept = payload


def spec(**changes: Any) -> dict[str, Any]:
    wanted = {"estimator": "brute", "budget": 27, "mode": "name", "backends": None, "objective": "latency_ms", "limits": []}
    return {"arch": ARCH, "protocol": {"launches": 3, "patience": 0}, "assignment": wanted | changes}


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    return Device(monkeypatch)


def test_the_best_is_found_measured_at_full_length_and_told(device: Device) -> None:
    context = OneJob()
    device.lucky["native", "onednn", "onednn"] = 0.2  # by luck it looks best, and is not
    answer = json.loads(json.dumps(dict(profile(spec(), context).metrics)))
    about = answer["assignment"]
    assert about["backends"] == {"Add": "onednn", "Conv2D": "onednn", "Linear": "native"}
    assert about["operations"] == ["onednn", "onednn", "native"] and answer["latency"]["median"] == 6.0
    assert about["tried"] == 28 and about["infeasible"] == 27 - 3 * 2 * 2 and about["gain"] == pytest.approx(1 - 6.0 / OWN)
    assert len(device.short) == 12 and device.memory_runs == {0}, "nobody has asked for memory"
    assert len(device.full) == 1 and device.full[0][0] is None and ("native", "onednn", "onednn") in device.full[0]
    assert "assignment 1 of 27, time" in context.phases and context.phases[-1] == "the best again, time"
    choice = read_answer("pi", answer).choice
    assert choice is not None
    assert str(choice) == "onednn, but native: Linear (of 28 tried, 20.0% less than the library's own choice)"
    device.lucky.clear()
    few = dict(profile(spec(budget=1, backends=["native", "onednn"]), OneJob()).metrics)
    assert few["assignment"]["backends"] == {"Add": "native", "Conv2D": "native", "Linear": "native"}, "7.0 is below its own"
    none = dict(profile(spec(budget=1, backends=["nnpack", "native"]), OneJob()).metrics)
    assert none["assignment"]["backends"] is none["assignment"]["operations"] is None, "the only one tried cannot run"
    assert none["latency"]["median"] == OWN and none["assignment"]["infeasible"] == 1
    assert str(read_answer("pi", none).choice) == "the library's own choice (of 2 tried)"


def test_an_attempt_that_was_ended_is_gone_on_from_and_nothing_is_measured_twice(device: Device) -> None:
    whole = profile(spec(estimator="structured", budget=9), OneJob()).metrics
    asked, device.short = list(device.short), []
    context = OneJob(leave_after=4)
    with pytest.raises(Interrupted):
        profile(spec(estimator="structured", budget=9), context)
    assert len(device.short) == 4 and context.kept is not None, "an interruption is no failure of an assignment"
    context.left = 10**9
    again = profile(spec(estimator="structured", budget=9), context).metrics
    assert device.short == asked and max(Counter(device.short).values()) == 1
    assert again["assignment"]["resumed"] == context.kept.count(b"\n") - 1 - (9 - again["assignment"]["resumed"]) > 0
    assert {**again["assignment"], "resumed": 0} == whole["assignment"], "it asks for the same as one that was never ended"
    device.fingerprint, device.short = "f1", []
    anew = profile(spec(estimator="structured", budget=9), context).metrics
    assert anew["assignment"]["resumed"] == 0 and device.short == asked, "what another device was like does not count"


LESS = Wanted("brute", 9, "name", None, "latency_ms")
AT = QUANTITIES["peak_memory_mb"].factor * 1e5
LEAN = replace(LESS, limits=(("peak_memory_mb", AT, False),))
DEAD = Failed("error", "no kernel")


@pytest.mark.parametrize(
    ("wanted", "found", "best_of_them"),
    [
        (LESS, [taken(10), taken(9), taken(8)], 2),
        (LESS, [taken(10), taken(9.9), taken(12)], 0),  # its interval reaches into that of the own choice
        (LESS, [taken(10), taken(9), taken(8, spread=0.4)], 1),
        (LESS, [DEAD, taken(9), taken(8)], 2),
        (LESS, [taken(10), DEAD, DEAD], 0),
        (LESS, [DEAD, DEAD], 0),
        (LEAN, [taken(10, 9e4), taken(8, 2e5), taken(9, 1e5)], 2),  # just at the limit, which it may be
        (LEAN, [taken(10, 2e5), taken(20, 9e4), taken(21, 8e4)], 1),
        (LEAN, [taken(10, 2e5), taken(20, 1.9e5), taken(9, 3e5)], 1),  # none keeps it: the nearest
        (replace(LEAN, limits=(("peak_memory_mb", AT, True),)), [taken(10, 9e4), taken(9, 1e5)], 0),
        (replace(LESS, objective="peak_memory_mb"), [taken(10, 1e5), taken(99, 9e4), taken(1, 1e5)], 1),
        (replace(LESS, objective="energy_mj"), [taken(10, energy=3), taken(99, energy=2), taken(1)], 1),
        (replace(LESS, objective="energy_mj"), [taken(10), taken(1)], 0),  # without a counter nothing is better
    ],
)
def test_what_is_chosen(wanted: Wanted, found: list[Profile | Failed], best_of_them: int) -> None:
    assert choose(found, wanted) == best_of_them


def test_memory_is_measured_where_it_counts_and_bad_wishes_are_refused(device: Device) -> None:
    limited = profile(spec(limits=[["peak_memory_mb", 500.0, True]]), OneJob()).metrics
    assert device.memory_runs == {1} and limited["assignment"]["backends"]["Linear"] == "native"
    for wrong in ({"objective": "speed"}, {"limits": [["latency_ms"]]}, {"mode": "nam"}, {"bugdet": 3}, {"backends": ["cuda"]}):
        with pytest.raises(InputError):
            profile(spec(**wrong), OneJob())
