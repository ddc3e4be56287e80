"""Objectives that devices measure: a point joins when its measurement is told, and nothing else waits for a device."""

from __future__ import annotations

import numpy as np
import pytest
from searcher_bench import ALL, Bench, growth, outcome, petridish, random

from archsearch.arch import Architecture, cost
from archsearch.frontier import convex_hull, pareto_front
from archsearch.jobs import EventKind, Job, Stage, derive_seed
from archsearch.searchers.constraints import parse_constraint

A, B = "latency_ms@a", "latency_ms@b"
ON_BOTH = {"cost": A, "objectives": [B, "energy_mj@b"]}


def profile(job: Job, **changes):
    """A made-up answer: on device a as multiply-adds say, on b as the number of parameters does."""
    found = cost(Architecture.from_json(job.spec["arch"]))
    noise = np.random.default_rng(derive_seed(1, str(job.spec["arch"]), job.queue)).uniform(0.8, 1.2)
    median = float(noise * (found.madds / 1e4 if job.queue == "device:a" else found.params / 1e3))
    latency = {"median": median, "low": 0.9 * median, "high": 1.1 * median, "unit": "ms", "noisy": False}
    about = {"fingerprint": job.queue, "runtime": "pytorch", "protocol": 1}
    return {"latency": latency, "energy": {**latency, "unit": "mJ"}, **about, **changes}


class Lab(Bench):
    """Jobs end in any order; each device takes two at once; ``lost`` devices take theirs and never answer."""

    def __init__(self, searcher, slots=2, lost=()):
        super().__init__(searcher, slots)
        self.lost = lost
        self.answer = profile

    def capacity(self):
        queues = [job.queue for job in self.open]
        free = self.slots - sum(not queue.startswith("device:") for queue in queues)
        return {"train": free, "search": free} | {f"device:{name}": 2 - queues.count(f"device:{name}") for name in "ab"}

    def fill(self):
        while jobs := [job for job in self.searcher.ask(self.capacity()) if self.capacity()[job.queue] > 0]:
            self.emit(EventKind.ASKED, jobs[0].id, jobs[0].to_json())
            self.open.append(jobs[0])

    def step(self, fail=None):
        self.fill()
        able = [job for job in self.open if job.queue.removeprefix("device:") not in self.lost]
        if not able:
            return False
        job = able[derive_seed(len(self.events)) % len(able)]
        self.open.remove(job)
        if fail and fail(job):
            self.emit(EventKind.FAILED, job.id, {"seconds": 1.0, "final": True, "kind": "exception", "message": "no such op"})
        elif job.stage is Stage.PROFILE:
            metrics = self.answer(job)
            self.emit(EventKind.TOLD, job.id, {"metrics": metrics, "artifacts": {}, "seconds": 1.0})
        else:
            self.emit(EventKind.TOLD, job.id, outcome(job))
        return True

    @property
    def profiles(self):
        return [job for job in self.asked if job.stage is Stage.PROFILE]

    def told(self):
        """Number of the event that told each job's result."""
        return {event.job: event.number for event in self.events if event.kind is EventKind.TOLD}


def expected(bench, name, without=()):
    """Hull, band and front over what was told of every point, worked out anew."""
    trained = {job.id: job for job in bench.asked if job.stage in (Stage.SEED_TRAINED, Stage.SEARCH_TRAINED)}
    answers = {event.job: event.data["metrics"] for event in bench.events if event.kind is EventKind.TOLD}
    latency = {}
    for job in bench.profiles:
        if f"@{job.queue.removeprefix('device:')}" in name and job.id in answers:
            latency[trained[job.parent].spec["hash"]] = answers[job.id]["latency"]["median"]
    ids = [id_ for id_ in trained if trained[id_].spec["hash"] in latency and id_ in answers and id_ not in without]
    costs = np.array([latency[trained[id_].spec["hash"]] for id_ in ids])
    errors = np.array([answers[id_]["val_error"] for id_ in ids])
    hull, band = convex_hull(costs, errors, bench.searcher.config.convex_hull_eps)
    front = pareto_front(np.column_stack([costs, errors]))
    return [{ids[i] for i in chosen} for chosen in (hull, band, front)]


def stands(frontier):
    return [set(frontier.hull()), set(frontier.band()), set(frontier.front())]


@pytest.mark.parametrize("make", ALL)
def test_every_point_is_measured_once_on_each_device_and_each_device_has_its_frontier(make):
    bench = Lab(make(max_hull_points=14, test_frontier=True, **ON_BOTH)).run()
    searcher, told = bench.searcher, bench.told()
    points = {job.id: job for job in bench.asked if job.id in searcher.pool.trained}
    assert len(points) >= 14 and set(searcher.pool.points) == set(points)
    asked = [(job.parent, job.queue) for job in bench.profiles]
    assert sorted(asked) == sorted((id_, queue) for id_ in points for queue in ("device:a", "device:b"))
    measured = {job.parent: told[job.id] for job in bench.profiles if job.queue == "device:a"}
    numbers = {event.job: event.number for event in bench.events if event.kind is EventKind.ASKED}
    for job in bench.asked:
        if job.stage is Stage.PROFILE:
            assert job.work == "profile" and job.spec["arch"] == points[job.parent].spec["arch"]
            assert told[job.parent] < numbers[job.id], "it follows the training"
        elif job.parent in points:  # a parent was chosen, or a member of a frontier is tested
            assert measured[job.parent] < numbers[job.id], "nothing is built on what was not measured"
    frontiers = searcher.pool.frontiers
    assert stands(frontiers[A]) == expected(bench, A) and stands(frontiers[B]) == expected(bench, B)
    assert set(frontiers[A].front()) != set(frontiers[B].front())
    tested = {job.parent for job in bench.asked if job.stage is Stage.EVAL}
    assert tested == {id_ for frontier in frontiers.values() for id_ in (*frontier.band(), *frontier.front())}


@pytest.mark.parametrize("make", ALL)
def test_a_replay_at_any_event_decides_the_same(make):
    """Measurements fail, limits are broken, points leave the frontiers: all of it is in the history."""
    keys = {**ON_BOTH, "constraints": ["latency_ms@b < 3"], "max_hull_points": 12}
    whole = Lab(make(**keys), slots=3).run(fail=lambda job: job.stage is Stage.PROFILE and job.id % 7 == 0)
    assert whole.searcher.pool.out
    again = Lab(make(**keys), slots=3)
    for event in whole.events:
        if event.kind is EventKind.ASKED:
            fresh = Lab(make(**keys), slots=3)
            for earlier in again.events:
                fresh.searcher.apply(earlier)
            for bench in (again, fresh):
                bench.open = again.open
                assert [job.to_json() for job in bench.searcher.ask(bench.capacity())] == [event.data]
        again.events.append(event)
        again.searcher.apply(event)
        if event.kind is EventKind.ASKED:
            again.open = [*again.open, Job.from_json(event.data)]
        else:
            again.open = [job for job in again.open if job.id != event.job]


def test_what_cannot_run_on_a_device_is_on_no_frontier_of_it():
    def fails(job):
        return job.queue == "device:a" and job.id % 3 == 0

    bench = Lab(petridish(max_hull_points=14, **ON_BOTH)).run(fail=fails)
    pool = bench.searcher.pool
    infeasible = {job.parent for job in bench.profiles if fails(job)}
    assert infeasible and not infeasible & pool.points.keys()
    assert len(pool) >= 14 and stands(pool.frontiers[A]) == expected(bench, A)
    assert stands(pool.frontiers[B]) == expected(bench, B), "the other device has them"
    assert not infeasible & {job.parent for job in bench.asked if job.stage is Stage.SEARCH}
    ids = sorted(infeasible)
    assert f"without {A}: point" in bench.searcher.done and f"{ids[0]}" in bench.searcher.done
    assert "no such op" in bench.searcher.done and len(bench.profiles) == 2 * len(pool), "none is tried again"


@pytest.mark.parametrize("answer", [{"latency": None}, {"latency": {"median": "quick"}}, {"latency": {"median": float("nan")}}])
def test_garbage_for_an_answer_is_no_measurement(answer):
    bench = Lab(random({"jobs": 8}, **ON_BOTH))
    bench.answer = lambda job: profile(job, **(answer if job.queue == "device:a" else {}))
    bench.run()
    pool = bench.searcher.pool
    assert len(pool) == 8 and not pool.points and len(pool.frontiers[B].front()) > 0
    assert f"without {A}: points" in bench.searcher.done


def test_a_lost_device_blocks_nothing_and_is_asked_again_when_the_run_goes_on():
    bench = Lab(petridish({"jobs": 24}, **ON_BOTH))
    while len(bench.searcher.pool.points) < 4:
        bench.step()
    bench.lost = ("a", "b")
    while bench.step():
        pass
    searcher = bench.searcher
    assert searcher.done.startswith("budget.jobs = 24 reached"), "the search went on with what it knew"
    assert {job.stage for job in bench.open} == {Stage.PROFILE} and len(bench.open) == 4
    assert searcher.measurements.awaited and len(searcher.pool) > len(searcher.pool.points)
    bench.emit(EventKind.BUDGET, None, {"unmeasured": "no device gave a sign of life"})
    for job in bench.open:
        bench.emit(EventKind.CANCELLED, job.id, {"reason": "no device gave a sign of life", "seconds": 0.0})
    bench.open = []
    assert not searcher.measurements.awaited and "(no device gave a sign of life)" in searcher.done
    known = set(searcher.pool.points)
    while bench.step():
        pass
    assert not [job for job in bench.open if job.stage is Stage.PROFILE], "nobody is asked any more"
    tested = {job.parent for job in bench.asked if job.stage is Stage.EVAL}
    assert tested and tested <= known
    waiting = searcher.pool.trained.keys() - known
    assert waiting and waiting <= searcher.kept(), "their weights may be needed yet"
    bench.emit(EventKind.BUDGET, None, {"resumed": True, "set": {}})
    bench.lost = ()
    bench.run()
    assert searcher.pool.points.keys() == searcher.pool.trained.keys() and "without" not in searcher.done
    assert stands(searcher.pool.frontier) == expected(bench, A)


@pytest.mark.parametrize("cost_", ["madds", A])
def test_what_is_beyond_a_limit_leaves_the_frontiers_and_gives_back_what_it_hid(cost_):
    limit = "latency_ms@b <= 1.1"
    bench = Lab(growth(cost=cost_, objectives=[A], constraints=[limit], max_hull_points=16))
    joined = set()
    while bench.step():
        joined |= bench.searcher.pool.members()
    pool = bench.searcher.pool
    values = {job.parent: profile(job)["latency"]["median"] for job in bench.profiles if job.queue == "device:b"}
    beyond = {id_ for id_, value in values.items() if not parse_constraint(limit).holds({B: value})}
    assert beyond and set(pool.out) == beyond and beyond < pool.trained.keys()
    assert stands(pool.frontiers[A]) == expected(bench, A, without=beyond)
    assert beyond & joined, "before it was measured nothing was left out"
    told = {job.parent: bench.told()[job.id] for job in bench.profiles if job.queue == "device:b"}
    for event in bench.events:
        if event.kind is EventKind.ASKED and event.data["stage"] == "SEARCH_TRAINED":
            parent = event.data["parent"]
            assert parent not in beyond or told[parent] > event.number, "none is grown once that is known"


def test_the_same_architecture_is_measured_once_however_often_it_is_trained():
    bench = Lab(petridish(moves=["train"], max_hull_points=7, **ON_BOTH)).run()
    trainings = [job for job in bench.asked if job.id in bench.searcher.pool.trained]
    hashes = {job.spec["hash"] for job in trainings}
    assert len(hashes) < len(trainings) == len(bench.searcher.pool.points)
    assert len(bench.profiles) == 2 * len(hashes)


@pytest.mark.parametrize(
    ("then", "now", "same"),
    [
        ({}, {}, True),
        ({"protocol": 0}, {}, False),
        ({"assignment": {"rule": {"budget": 20}, "tried": 3}}, {"assignment": {"rule": {"budget": 20}}}, True),
        ({"assignment": {"rule": {"budget": 20}}}, {"assignment": {"rule": {"budget": 5}}}, False),
        ({"assignment": {"rule": {"budget": 20}}}, {}, False),  # of the best assignments, and of the library's own choice
        ({}, {"assignment": {"rule": {"budget": 20}}}, False),
    ],
)
def test_what_an_earlier_run_measured_counts_once_the_device_has_told_that_it_is_the_same(then, now, same):
    searcher = random({"jobs": 2}, **ON_BOTH)
    bench, archs = Lab(searcher), searcher.seeds[:6]
    bench.answer = lambda job: profile(job, **now)
    for number, arch in enumerate(archs, 1):
        job = Job(number, Stage.SEED_TRAINED, "train", {"arch": arch.to_json(), "hash": arch.hash}, 0)
        asked = [Job(0, Stage.PROFILE, "profile", {"arch": arch.to_json()}, 0, queue=f"device:{name}") for name in "ab"]
        before = [profile(each, **then) for each in asked]
        origin = {"run": "before", "id": "0", "point": number}
        bench.emit(EventKind.IMPORTED, number, {"job": job.to_json(), **outcome(job), "measured": before, "origin": origin})
    assert not searcher.pool.points, "nobody knows yet what the devices are"
    bench.fill()
    assert [job.parent for job in bench.profiles] == [1, 1], "one of them proves it for all"
    events = bench.events
    bench.events = [event for event in events if event.kind is not EventKind.IMPORTED]
    bench.run()
    imported = [job for job in bench.profiles if job.parent <= 6]
    assert len(imported) == (2 if same else 12) and set(range(1, 7)) <= searcher.pool.points.keys()
    assert len(bench.profiles) == len(imported) + 4, "and every new point"


def test_early_stopping_needs_a_cost_that_is_known_in_time():
    with pytest.raises(ValueError, match="latency_ms@a is measured after"):
        petridish(cost=A, early_stopping={"rungs": [1]})


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"cost": "latency_ms"}, "no cost is called so"),
        ({"cost": "latenc_ms@a"}, "did you mean latency_ms"),
        ({"objectives": ["latency_ms@"]}, "does not say on which device"),
        ({"objectives": ["madds"]}, "nothing that is measured is called 'madds'"),
        ({"constraints": ["speed@a < 3"]}, "nothing that is measured is called 'speed'"),
        ({"constraints": ["latency_ms@a > 3"]}, "an upper limit"),
    ],
)
def test_bad_objectives_are_said(keys, words):
    with pytest.raises(ValueError, match=words):
        petridish(**keys)


def test_a_search_without_measured_objectives_asks_for_no_measurement():
    bench = Lab(petridish(max_hull_points=12)).run()
    assert not bench.profiles and bench.searcher.measurements.pending() == set()
