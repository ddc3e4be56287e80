"""The simulated executor: virtual time, what it says of capacity and progress, and whole searches in it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from small_run import history, small

import archsearch
from archsearch import api
from archsearch.arch import seed_architecture
from archsearch.cluster.outcomes import Anatomy, Forecast, Law, Outcomes, Recorded
from archsearch.cluster.simulated import ROLL_CALL, SimulatedExecutor
from archsearch.jobs import (
    Completion,
    Event,
    EventKind,
    Failure,
    FailureKind,
    InputError,
    Job,
    Progress,
    Result,
    Stage,
)
from archsearch.simulation import describe, shortcuts, simulate

ARCH = seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=4).to_json()
FEW = {"max_hull_points": 6}
ANATOMY = Anatomy(describe, shortcuts, images=1000, val_images=400, test_images=300, classes=10)


class Fixed(Outcomes):
    """Job i takes i seconds."""

    def forecast(self, job: Job) -> Forecast:
        return Forecast(float(job.id), Result({"id": job.id}))


def job(id_: int, work: str = "train", *, attempt: int = 1, seed: int | None = None) -> Job:
    specs = {
        "train": {"arch": ARCH, "train": {"epochs": 10}},
        "petridish": {"arch": ARCH, "learner": {"steps": 8, "batch_size": 50, "primitives": ["max_pool_3x3", "skip_connect"]}},
        "test": {"arch": ARCH},
    }
    return Job(id_, Stage.SEED_TRAINED, work, specs.get(work, {"arch": ARCH}), id_ if seed is None else seed, attempt=attempt)


# --------------------------------------------------------------------------------------------------------------- the clock
def test_time_jumps_to_the_next_completion_and_no_further_than_the_timeout():
    executor = SimulatedExecutor(Fixed(), 3, start=100.0)
    for id_ in (5, 2, 2 + 1):
        executor.submit(job(id_))
    assert executor.wait(1.0) == [Progress(5, 1, {}), Progress(2, 1, {}), Progress(3, 1, {})], "nothing ended: who lives"
    assert executor.now() == 101.0
    assert [(done.job, done.seconds) for done in executor.wait(60)] == [(2, 2.0)]
    assert executor.now() == 102.0
    assert [done.job for done in executor.wait(60)] == [3]
    assert [done.job for done in executor.wait(math.inf)] == [5]
    assert executor.now() == 105.0
    assert executor.wait(math.inf) == [], "nothing runs: time cannot pass for ever"
    assert executor.now() == 105.0
    assert executor.wait(2.5) == []
    assert executor.now() == 107.5
    assert executor.busy_seconds == 10.0
    assert executor.busy_share == pytest.approx(10.0 / (3 * 7.5))


def test_busy_time_between_two_moments():
    executor = SimulatedExecutor(Fixed(), 2, start=10.0)
    executor.submit(job(4))
    assert executor.busy_between(0.0, 20.0) == 0.0, "nothing has passed yet"
    executor.wait(1.0)
    executor.submit(job(8))
    executor.wait(math.inf)  # 10..14: the first; the second has begun at 11 and goes on
    assert executor.busy_between(10.0, 14.0) == pytest.approx((4 + 3) / 8)
    assert executor.busy_between(12.0, 13.0) == pytest.approx(1.0)
    executor.wait(2.0)
    executor.cancel(8, force=True)  # at 16
    executor.wait(9.0)
    assert executor.busy_between(14.0, 25.0) == pytest.approx(2 / 22)
    assert executor.busy_between(10.0, 25.0) == pytest.approx(executor.busy_share)


def test_what_ends_at_one_moment_is_told_at_once():
    executor = SimulatedExecutor(Fixed(), 2)
    executor.submit(job(4))
    executor.wait(2)
    executor.submit(job(2))
    assert sorted(done.job for done in executor.wait(math.inf)) == [2, 4]


def test_capacity_is_free_slots_less_the_planned():
    executor = SimulatedExecutor(Fixed(), 2)
    assert executor.capacity() == {"train": 2, "search": 2}
    executor.submit(job(1))
    assert executor.capacity() == {"train": 1, "search": 1}
    assert executor.capacity([job(2), job(3)]) == {"train": 0, "search": 0}
    assert executor.slots() == {"total": 2, "busy": 1}
    executor.wait(math.inf)
    assert executor.slots() == {"total": 2, "busy": 0}


def test_cancel_by_force_leaves_no_trace_and_by_request_an_interrupted_attempt():
    executor = SimulatedExecutor(Fixed(), 3)
    for id_ in (3, 5, 9):
        executor.submit(job(id_))
    executor.wait(1.0)
    executor.cancel(3, force=True)
    executor.cancel(5, force=False)
    executor.cancel(77, force=False)
    (done,) = executor.wait(math.inf)
    assert executor.now() == 1.0, "it ends when it is asked to"
    assert (done.job, done.seconds) == (5, 1.0)
    assert isinstance(done.outcome, Failure) and done.outcome.kind is FailureKind.INTERRUPTED
    executor.submit(job(3, attempt=2))
    assert [(done.job, done.attempt) for done in executor.wait(math.inf)] == [(3, 2)], "the end of the first attempt is void"
    assert executor.now() == 4.0
    assert [done.job for done in executor.wait(math.inf)] == [9]
    assert executor.busy_seconds == 1 + 1 + 3 + 9


def test_long_jobs_show_signs_of_life_while_others_end():
    executor = SimulatedExecutor(Fixed(), 2)
    executor.submit(job(1000))
    alive = 0
    for _ in range(20):
        executor.submit(job(10))
        alive += sum(isinstance(item, Progress) and item.job == 1000 for item in executor.wait(math.inf))
    assert executor.now() == 200.0
    assert alive == 200 // ROLL_CALL


def test_the_driver_is_charged_only_on_request(monkeypatch):
    clock = iter(range(0, 10_000))
    monkeypatch.setattr("archsearch.cluster.simulated.time.perf_counter", lambda: float(next(clock)))
    charged = SimulatedExecutor(Fixed(), 1, charge=True)
    before = charged.now()
    assert charged.now() > before, "the clock runs while the driver works"
    free = SimulatedExecutor(Fixed(), 1)
    assert free.now() == free.now() == 0.0
    free.wait(0.0)
    assert free.driver_seconds > 0, "it is measured all the same"


def test_forecasts_are_not_the_drivers_time(monkeypatch):
    passed = [0.0]
    monkeypatch.setattr("archsearch.cluster.simulated.time.perf_counter", lambda: passed[0])

    class Slow(Fixed):
        def forecast(self, job: Job) -> Forecast:
            passed[0] += 50.0
            return super().forecast(job)

    executor = SimulatedExecutor(Slow(), 1, charge=True)
    passed[0] += 2.0
    executor.submit(job(3))
    assert executor.now() == 2.0
    (done,) = executor.wait(math.inf)
    assert isinstance(done, Completion)
    assert (executor.now(), executor.driver_seconds) == (5.0, 2.0)


# ---------------------------------------------------------------------------------------------------------------- the law
def test_a_law_is_a_function_of_seed_and_attempt():
    law = Law(ANATOMY)
    assert law.forecast(job(1)) == law.forecast(job(1))
    assert law.forecast(job(1)) != law.forecast(job(2))
    first, second = law.forecast(job(1)), law.forecast(job(1, attempt=2))
    assert first.seconds != second.seconds, "another attempt has other luck"
    assert first.outcome.metrics == second.outcome.metrics, "and the same result"


def test_durations_are_log_normal_around_the_work():
    law = Law(ANATOMY, overhead=0.0)
    logs = [math.log(law.forecast(job(1, seed=seed)).seconds) for seed in range(2000)]
    madds = describe(ARCH).madds
    assert sum(logs) / len(logs) == pytest.approx(math.log(0.6e-9 * madds * 1000 * 10), abs=0.06)
    spread = math.sqrt(sum((value - sum(logs) / len(logs)) ** 2 for value in logs) / len(logs))
    assert spread == pytest.approx(law.sigma, rel=0.06)
    assert max(logs) - sum(logs) / len(logs) > 2 * law.sigma, "a heavy tail"


def test_larger_networks_make_fewer_errors():
    law = Law(ANATOMY, noise=0.0)
    wide = seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=16).to_json()
    deep = seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=3, channels=16).to_json()
    errors = []
    for arch in (ARCH, wide, deep):
        metrics = law.forecast(replace(job(1), spec={"arch": arch, "train": {"epochs": 1}})).outcome.metrics
        assert metrics["madds"] == describe(arch).madds and metrics["flops"] == 2 * metrics["madds"]
        assert 0 < metrics["val_standard_error"] < 0.03
        errors.append(metrics["val_error"])
    assert 0.9 > errors[0] > errors[1] > errors[2] > law.floor


def test_results_have_the_form_of_the_works_own():
    law = Law(ANATOMY)
    trained = law.forecast(job(7)).outcome
    assert trained.artifacts["weights"].key.startswith("artifacts/000007/1/weights-")
    assert len(trained.artifacts["weights"].sha256) == 64
    searched = law.forecast(job(8, "petridish")).outcome
    for cell, ranked in searched.metrics["ranked"].items():
        assert sorted((source, op) for source, op, _ in ranked) == sorted(
            shortcuts(ARCH, ["max_pool_3x3", "skip_connect"])[cell]
        )
        alphas = [alpha for _, _, alpha in ranked]
        assert alphas == sorted(alphas, reverse=True) and alphas[-1] >= 0
    assert set(searched.metrics["ranked"]) == set(ARCH["cells"])
    assert set(law.forecast(job(9, "test")).outcome.metrics) == {"test_error", "test_standard_error"}
    with pytest.raises(InputError, match="not 'baking'"):
        law.forecast(job(10, "baking"))


def test_the_wanted_share_of_attempts_fails():
    law = Law(ANATOMY, failure_share=0.2)
    ends = [law.forecast(job(1, seed=seed)) for seed in range(1000)]
    lost = [end for end in ends if isinstance(end.outcome, Failure)]
    assert len(lost) == pytest.approx(200, abs=40)
    assert all(end.outcome.kind is FailureKind.LOST for end in lost)
    assert not any(isinstance(Law(ANATOMY).forecast(job(1, seed=seed)).outcome, Failure) for seed in range(200))


# ----------------------------------------------------------------------------------------------------------- the recording
def recording(costs: dict[int, float], failed: int = 0) -> list[Event]:
    """A run with one training of each number of channels: it took so many seconds and had the error channels / 100."""
    events: list[Event] = []

    def add(kind: EventKind, id_: int, data: dict) -> None:
        events.append(Event(len(events) + 1, 0.0, kind, id_, data))

    for id_, (channels, seconds) in enumerate(costs.items(), 1):
        arch = seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=channels).to_json()
        add(EventKind.ASKED, id_, replace(job(id_), spec={"arch": arch, "train": {"epochs": 10}}).to_json())
        if id_ <= failed:
            add(EventKind.FAILED, id_, {"kind": "lost", "message": "gone", "seconds": 0.5, "final": False})
        add(EventKind.TOLD, id_, {"metrics": {"val_error": channels / 100}, "artifacts": {}, "seconds": seconds})
    return events


def test_recorded_figures_are_those_of_the_nearest_effort():
    costs = {channels: 100.0 + channels for channels in range(2, 30)}
    recorded = Recorded(recording(costs), ANATOMY, Law(ANATOMY))
    drawn = [recorded.forecast(job(1, seed=seed)) for seed in range(60)]
    assert {end.seconds for end in drawn} == {102.0, 103.0, 104.0, 105.0, 106.0}, "of 4 channels, and the four nearest"
    assert all(end.outcome.metrics["val_error"] == pytest.approx((end.seconds - 100) / 100) for end in drawn)
    assert {end.outcome.metrics["madds"] for end in drawn} == {describe(ARCH).madds}, "costs are its own"
    assert recorded.forecast(job(1, seed=3)) == recorded.forecast(job(1, seed=3))


def test_recorded_attempts_fail_as_often_as_they_did():
    costs = dict.fromkeys(range(2, 12), 1.0)
    recorded = Recorded(recording(costs, failed=5), ANATOMY, Law(ANATOMY))
    ends = [recorded.forecast(job(1, seed=seed)) for seed in range(600)]
    lost = [end for end in ends if isinstance(end.outcome, Failure)]
    assert len(lost) == pytest.approx(200, abs=40)
    assert {(end.seconds, end.outcome.message) for end in lost} == {(0.5, "gone")}


def test_a_work_that_was_not_recorded_follows_the_law():
    law = Law(ANATOMY)
    recorded = Recorded(recording({4: 9.0}), ANATOMY, law)
    assert recorded.forecast(job(2, "petridish")) == law.forecast(job(2, "petridish"))
    with pytest.raises(InputError, match="no finished job"):
        Recorded([], ANATOMY, law)


# -------------------------------------------------------------------------------------------------------------- whole runs
def test_a_simulated_search_is_a_function_of_its_seed(tmp_path):
    first, second = (simulate(small(search=FEW), slots=3, run_dir=tmp_path / name) for name in ("a", "b"))
    assert history(tmp_path / "a")[1:] == history(tmp_path / "b")[1:]  # the first says which versions and host
    assert (first.seconds, first.busy_share) == (second.seconds, second.busy_share)
    assert first.run.outcome.state == "done" and len(first.run.points()) >= 6
    other = simulate(small(run={"seed": 6}, search=FEW), slots=3, run_dir=tmp_path / "c")
    assert other.seconds != first.seconds
    assert not (tmp_path / "a" / "artifacts").exists()


def test_more_slots_take_less_time(tmp_path):
    few, many = (
        simulate(small(search={"max_hull_points": 30}), slots=slots, run_dir=tmp_path / str(slots)) for slots in (1, 6)
    )
    assert few.busy_share == pytest.approx(1.0)
    assert many.seconds < few.seconds / 2
    assert 0.4 < many.busy_share <= 1.0


def test_lost_attempts_are_tried_again_in_virtual_time(tmp_path):
    done = simulate(
        small(search={"max_hull_points": 20}, cluster={"backoff": 500.0, "max_attempts": 9}),
        slots=2,
        run_dir=tmp_path / "run",
        failure_share=0.2,
    )
    events = history(tmp_path / "run")
    lost = [job for _, kind, job, _ in events if kind is EventKind.FAILED]
    assert lost and done.run.outcome.state == "done"
    assert done.run.state.counts["completed"] == len(done.run.state.jobs)
    assert done.seconds > 500.0, "the wait before a second try passed on the virtual clock"


def test_budgets_of_time_are_virtual(tmp_path):
    done = simulate(small(search={"max_hull_points": None}, budget={"wall_clock": 3.0}), slots=2, run_dir=tmp_path / "run")
    assert "budget.wall_clock = 3 s used up" in done.run.outcome.reason
    assert 3.0 <= done.seconds < 6.0


def test_jobs_longer_than_the_stall_timeout_are_alive(tmp_path):
    quick = small(search={"max_hull_points": 4}, cluster={"stall_timeout": 0.02})
    done = simulate(quick, slots=1, run_dir=tmp_path / "run")
    assert done.seconds > 0.4
    assert not [kind for _, kind, _, _ in history(tmp_path / "run") if kind is EventKind.FAILED]


def test_a_simulated_run_cannot_be_resumed(tmp_path):
    simulate(small(search={"max_hull_points": 3}), slots=1, run_dir=tmp_path / "run")
    with pytest.raises(InputError, match="was simulated"):
        api.resume(tmp_path / "run")


def test_a_recorded_run_sets_the_pace(tmp_path):
    archsearch.search(small(search={"max_hull_points": 3}), run_dir=tmp_path / "real")
    simulate(small(search=FEW), slots=2, run_dir=tmp_path / "run", recorded=tmp_path / "real")
    real = {data["seconds"] for _, kind, _, data in history(tmp_path / "real") if kind is EventKind.TOLD}
    drawn = {data["seconds"] for _, kind, _, data in history(tmp_path / "run") if kind is EventKind.TOLD}
    assert drawn <= real and len(drawn) > 3


@pytest.mark.parametrize("wrong", [{"slots": 0}, {"slots": 1, "failure_share": 1.0}])
def test_impossible_simulations_are_refused(tmp_path, wrong):
    with pytest.raises(InputError):
        simulate(small(), run_dir=tmp_path / "run", **wrong)
    assert not (tmp_path / "run").exists()
