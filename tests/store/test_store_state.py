"""The fold: jobs, points and counts after any history."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest

from archsearch.jobs import ArtifactRef, Event, EventKind, Failure, FailureKind, Job, JobState, Resources, Stage
from archsearch.store import RunState

REF = ArtifactRef("artifacts/000001/1/weights-00.bin", "00", 4)


class Story:
    """Numbers events as they are told; the clock advances by a second each."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def add(self, kind: EventKind, job: int | None = None, /, **data: Any) -> None:
        number = len(self.events) + 1
        self.events.append(Event(number, 100.0 + number, kind, job, data))

    def ask(self, job: int, stage: Stage, parent: int | None = None, work: str = "train", gpu: float = 0.0) -> None:
        made = Job(job, stage, work, {"arch": {"n": job}}, seed=1, parent=parent, resources=Resources(gpu=gpu))
        self.add(EventKind.ASKED, job, **made.to_json())

    def tell(self, job: int, seconds: float = 2.0, **metrics: Any) -> None:
        artifacts = {"weights": REF.to_json()}
        self.add(EventKind.TOLD, job, attempt=1, metrics=metrics, artifacts=artifacts, seconds=seconds, node="n1")

    def fail(self, job: int, kind: FailureKind, *, final: bool, attempt: int = 1) -> None:
        self.add(
            EventKind.FAILED, job, attempt=attempt, kind=str(kind), message="why", traceback="where", seconds=3.0, final=final
        )

    @property
    def state(self) -> RunState:
        return RunState(self.events)


def test_a_job_from_asking_to_its_end() -> None:
    story = Story()
    story.ask(1, Stage.SEED_TRAINED)
    assert story.state.jobs[1].state is JobState.QUEUED and story.state.jobs[1].asked == 101.0
    story.add(EventKind.STARTED, 1, attempt=1)
    story.fail(1, FailureKind.LOST, final=False)
    record = story.state.jobs[1]
    assert (record.state, record.attempts, record.started, record.finished) == (JobState.FAILED, 1, 102.0, None)
    assert record.failure == Failure(FailureKind.LOST, "why", "where") and not record.ended
    story.add(EventKind.STARTED, 1, attempt=2)
    assert story.state.jobs[1].state is JobState.RUNNING
    assert [record.job.id for record in story.state.open_jobs()] == [1]
    story.tell(1, val_error=0.25)
    record = story.state.jobs[1]
    assert (record.state, record.attempts, record.started, record.finished) == (JobState.COMPLETED, 2, 104.0, 105.0)
    assert (record.metrics, record.artifacts, record.seconds, record.node) == ({"val_error": 0.25}, {"weights": REF}, 5.0, "n1")
    assert record.ended and list(story.state.open_jobs()) == [] and story.state.artifact_keys() == {REF.key}


@pytest.mark.parametrize(
    ("kind", "data", "state"),
    [
        (EventKind.CANCELLED, {"attempt": 1, "reason": "budget"}, JobState.CANCELLED),
        (EventKind.PRUNED, {"attempt": 1}, JobState.PRUNED),
        (EventKind.FAILED, {"attempt": 1, "kind": "exception", "message": "", "final": True}, JobState.ABANDONED),
        (EventKind.FAILED, {"attempt": 1, "kind": "exception", "message": "", "final": False}, JobState.FAILED),
        (EventKind.FAILED, {"attempt": 1, "kind": "interrupted", "message": "", "final": False}, JobState.QUEUED),
    ],
)
def test_other_ends(kind: EventKind, data: dict[str, Any], state: JobState) -> None:
    story = Story()
    story.ask(1, Stage.SEED_TRAINED)
    story.add(EventKind.STARTED, 1, attempt=1)
    story.add(kind, 1, **data)
    ended = state in (JobState.CANCELLED, JobState.PRUNED, JobState.ABANDONED)
    assert story.state.jobs[1].state is state and story.state.counts[state] == 1
    assert story.state.jobs[1].ended == ended == (story.state.jobs[1].finished is not None)
    assert story.state.points() == []


def test_points_their_parents_and_how_often_they_were_chosen() -> None:
    story = Story()
    story.ask(1, Stage.SEED_TRAINED)
    story.ask(2, Stage.SEED_TRAINED)
    story.tell(2, val_error=0.5)
    story.ask(3, Stage.SEARCH, parent=2, work="petridish")
    story.tell(3, ranked={})
    story.ask(4, Stage.SEARCH_TRAINED, parent=3)
    story.tell(4, val_error=0.4)
    story.ask(5, Stage.SEARCH_TRAINED, parent=4)  # growth: no search in between
    story.ask(6, Stage.SEARCH, parent=2, work="petridish")
    story.tell(1, val_error=0.6)
    story.tell(5, val_error=0.3)
    points = story.state.points()
    assert [(p.id, p.stage, p.parent, p.sampling_count, p.metrics["val_error"]) for p in points] == [
        (2, Stage.SEED_TRAINED, None, 2, 0.5),
        (4, Stage.SEARCH_TRAINED, 2, 1, 0.4),
        (1, Stage.SEED_TRAINED, None, 0, 0.6),
        (5, Stage.SEARCH_TRAINED, 4, 0, 0.3),
    ]
    assert points[0].arch == {"n": 2} and points[0].weights == REF


def test_a_test_belongs_to_its_point() -> None:
    story = Story()
    story.ask(1, Stage.SEED_TRAINED)
    story.tell(1, val_error=0.5)
    story.ask(2, Stage.EVAL, parent=1, work="test")
    story.ask(3, Stage.EVAL, parent=1, work="other")
    story.tell(3, val_error=9.0)
    assert story.state.points()[0].metrics == {"val_error": 0.5}
    story.tell(2, test_error=0.7)
    story.ask(4, Stage.SEARCH, parent=1)
    point = story.state.point(1)
    assert point is not None and point.metrics == {"val_error": 0.5, "test_error": 0.7} and point.sampling_count == 1
    assert story.state.jobs[1].metrics == {"val_error": 0.5}


def test_a_test_does_not_replace_what_the_training_took() -> None:
    story = Story()
    story.ask(1, Stage.SEED_TRAINED)
    story.tell(1, val_error=0.5, cpu_seconds=60.0)
    story.ask(2, Stage.EVAL, parent=1, work="test")
    story.tell(2, test_error=0.7, cpu_seconds=0.1)
    assert story.state.points()[0].metrics == {"val_error": 0.5, "test_error": 0.7, "cpu_seconds": 60.0}


def test_stopped_until_the_run_goes_on() -> None:
    story = Story()
    story.ask(1, Stage.SEED_TRAINED)
    story.add(EventKind.STARTED, 1, attempt=1)
    story.add(EventKind.STOPPED, state="interrupted", reason="asked to stop")
    stopped = story.state
    assert stopped.stopped == {"state": "interrupted", "reason": "asked to stop"}
    assert stopped.jobs[1].state is JobState.QUEUED and stopped.counts[JobState.RUNNING] == 0
    story.add(EventKind.REPORTED, 1)
    story.add(EventKind.BUDGET, exhausted="jobs")
    assert story.state.stopped is not None
    for kind, data in (
        (EventKind.BUDGET, {"resumed": {}}),
        (EventKind.BUDGET, {"session": {}}),
        (EventKind.STARTED, {"attempt": 2}),
    ):
        number = len(story.events) + 1
        state = RunState([*story.events, Event(number, 1.0, kind, 1 if kind is EventKind.STARTED else None, data)])
        assert state.stopped is None and state.last_number == number


def test_settings_and_device_seconds() -> None:
    story = Story()
    story.add(EventKind.BUDGET, set={"budget.jobs": 5, "budget.cost": 2})
    story.add(EventKind.BUDGET, resumed={}, set={"budget.jobs": 9})
    story.ask(1, Stage.SEED_TRAINED)
    story.ask(2, Stage.SEED_TRAINED, gpu=0.25)
    story.ask(3, Stage.SEED_TRAINED, gpu=2)
    story.fail(1, FailureKind.LOST, final=False)
    for job in (1, 2, 3):
        story.tell(job, seconds=8.0)
    assert story.state.settings == {"budget.jobs": 9, "budget.cost": 2}
    assert story.state.device_seconds == 3 + 8 + 2 + 16


def test_events_that_do_not_fit_are_refused() -> None:
    story = Story()
    story.ask(1, Stage.SEED_TRAINED)
    state = story.state
    for event, text in (
        (Event(1, 0.0, EventKind.STARTED, 1, {"attempt": 1}), "event 1 was given after event 1"),
        (Event(3, 0.0, EventKind.STARTED, 1, {"attempt": 1}), "event 3 was given after event 1"),
        (Event(2, 0.0, EventKind.TOLD, 5, {}), "job 5, which was never asked for"),
        (Event(2, 0.0, EventKind.ASKED, 1, story.events[0].data), "a second time"),
    ):
        with pytest.raises(ValueError, match=text):
            state.apply(event)


def test_incremental_counts_and_points_equal_those_counted_afresh() -> None:
    draw, story, alive, told = random.Random(4), Story(), [], []
    for _ in range(3000):
        choice = draw.random()
        if choice < 0.4 or not alive:
            job = len(alive) + len(told) + sum(e.kind is EventKind.CANCELLED for e in story.events) + 1
            stage = draw.choice([Stage.SEED_TRAINED, Stage.SEARCH, Stage.SEARCH_TRAINED])
            story.ask(job, stage, parent=draw.choice(told) if told and stage is not Stage.SEED_TRAINED else None)
            alive.append(job)
            continue
        job = draw.choice(alive)
        if choice < 0.6:
            story.add(EventKind.STARTED, job, attempt=1)
        elif choice < 0.7:
            story.fail(job, FailureKind.LOST, final=False)
        elif choice < 0.75:
            story.add(EventKind.CANCELLED, job, attempt=1, reason="")
            alive.remove(job)
        elif choice < 0.76:
            story.add(EventKind.STOPPED, state="done", reason="")
        else:
            story.tell(job, val_error=0.1)
            alive.remove(job)
            told.append(job)
    state = story.state
    assert state.counts == {kind: Counter(r.state for r in state.jobs.values()).get(kind, 0) for kind in JobState}
    jobs, pool = {n: r.job for n, r in state.jobs.items()}, (Stage.SEED_TRAINED, Stage.SEARCH_TRAINED)
    chosen = Counter(job.parent for job in jobs.values() if job.stage in (Stage.SEARCH, Stage.SEARCH_TRAINED))
    assert [point.id for point in state.points()] == [job for job in told if jobs[job].stage in pool]
    for point in state.points():
        parent = jobs[point.id].parent
        while parent is not None and jobs[parent].stage not in pool:
            parent = jobs[parent].parent
        assert (point.parent, point.sampling_count) == (parent, chosen[point.id])
    assert len(state.points()) > 300 and max(chosen.values()) > 3


def test_confirmations_belong_to_their_point_and_are_no_points() -> None:
    story = Story()
    story.ask(1, Stage.SEED_TRAINED)
    story.tell(1, val_error=0.5)
    story.ask(2, Stage.EVAL_TRAINED, parent=1)
    story.ask(3, Stage.EVAL_TRAINED, parent=1)
    assert story.state.points()[0].metrics == {"val_error": 0.5}
    story.fail(2, FailureKind.LOST, final=False)
    assert story.state.points()[0].metrics == {"val_error": 0.5}, "it will be tried again"
    story.fail(2, FailureKind.LOST, final=True)
    assert story.state.points()[0].metrics == {"val_error": 0.5, "confirmations": []}
    story.tell(3, val_error=0.7)
    assert story.state.points()[0].metrics == {"val_error": 0.5, "confirmations": [{"val_error": 0.7}]}
    assert [point.id for point in story.state.points()] == [1]


def test_imported_points_are_points_that_took_nothing() -> None:
    story = Story()
    for number, parent in ((1, None), (2, 1)):
        stage = Stage.SEED_TRAINED if parent is None else Stage.SEARCH_TRAINED
        job = Job(number, stage, "train", {"arch": {"n": number}}, seed=1, parent=parent)
        origin = {"run": "old", "id": "x", "point": 10 + number}
        data = {"metrics": {"val_error": 0.5}, "artifacts": {"weights": REF.to_json()}, "origin": origin}
        story.add(EventKind.IMPORTED, number, job=job.to_json(), **data)
    story.ask(3, Stage.SEARCH, parent=2)
    story.tell(3)
    story.ask(4, Stage.SEARCH_TRAINED, parent=3)
    story.tell(4, val_error=0.1)
    story.ask(5, Stage.EVAL, parent=2, work="test")
    story.tell(5, test_error=0.4)
    state = story.state
    one, two, four = state.points()
    assert (one.parent, two.parent, four.parent) == (None, 1, 2) and two.sampling_count == 1
    assert two.origin == {"run": "old", "id": "x", "point": 12} and four.origin is None
    assert two.metrics == {"val_error": 0.5, "test_error": 0.4} and two.weights == REF
    record = state.jobs[1]
    assert (record.state, record.attempts, record.seconds, record.started) == (JobState.COMPLETED, 0, 0.0, None)
    assert state.device_seconds == 6.0 and REF.key in state.artifact_keys() and not list(state.open_jobs())
    story.add(
        EventKind.IMPORTED, 3, job=Job(3, Stage.SEED_TRAINED, "train", {}, 1).to_json(), metrics={}, artifacts={}, origin={}
    )
    with pytest.raises(ValueError, match="imports point 3"):
        _ = story.state
