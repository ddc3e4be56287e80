"""The run loop on the inline executor: failures, retries, budgets, stops, resumes, a store that cannot be written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest
from listed_run import Bench, Notes
from small_run import history

from archsearch.cluster.context import AttemptContext
from archsearch.cluster.inline import InlineExecutor
from archsearch.jobs import (
    Completion,
    EventKind,
    FailureKind,
    Job,
    JobState,
    NonFinite,
    Progress,
    Result,
    Stage,
    StoreUnavailable,
)
from archsearch.registry import WORKS
from archsearch.store import Artifacts


@WORKS.register("test_steps")
def steps(spec: Any, context: AttemptContext) -> Result:
    """A job that fails as its spec says, else counts its steps into an artifact."""
    if spec.get("raise"):
        raise ValueError(spec["raise"])
    if "needs" in spec:
        Path(spec["needs"]).read_text()
    if spec.get("diverge"):
        raise NonFinite("loss is nan at step 3")
    if context.job.attempt <= spec.get("memory_errors", 0):
        raise MemoryError("not enough")
    done = int(context.load_checkpoint() or b"0")
    while done < spec.get("steps", 1):
        done += 1
        context.save_checkpoint(str(done).encode())
        context._last_beat = 0.0  # every step is a sign of life here
        context.report(step=done)
    return Result(
        {"steps": done, "madds": 1, "val_error": 0.5}, {"weights": context.save("weights.bin", b"w%d" % context.job.id)}
    )


@pytest.fixture
def bench(tmp_path, digits):
    return Bench(tmp_path / "run", digits)


def states(loop):
    return {id_: record.state for id_, record in loop.state.jobs.items()}


def test_a_raising_and_a_diverging_candidate_do_not_end_the_search(bench):
    outcome, loop = bench.session([{}, {"raise": "shapes differ"}, {"diverge": True}, {}])
    assert outcome.state == "done"
    assert states(loop) == {1: JobState.COMPLETED, 2: JobState.ABANDONED, 3: JobState.ABANDONED, 4: JobState.COMPLETED}
    failure = loop.state.jobs[2].failure
    assert failure.kind is FailureKind.EXCEPTION and "shapes differ" in failure.message and "in steps" in failure.traceback
    assert loop.state.jobs[3].failure.kind is FailureKind.NON_FINITE


def test_lost_memory_is_tried_again_up_to_max_attempts(bench):
    outcome, loop = bench.session([{}, {"memory_errors": 2}, {"memory_errors": 9}], max_attempts=3)
    assert outcome.state == "done"
    assert states(loop) == {1: JobState.COMPLETED, 2: JobState.COMPLETED, 3: JobState.ABANDONED}
    assert loop.state.jobs[2].attempts == 3 and loop.state.jobs[3].attempts == 3


def test_the_first_jobs_all_failing_with_one_error_stop_the_run_resumably(bench, tmp_path):
    font = tmp_path / "font.ttf"
    outcome, loop = bench.session([{"needs": str(font)}] * 8, first_failures=3)
    assert outcome.state == "failed" and outcome.exit_code == 3 and "font.ttf" in outcome.reason
    assert set(states(loop).values()) == {JobState.FAILED} and len(loop.state.jobs) == 3
    font.write_text("mended")
    outcome, loop = bench.session([{"needs": str(font)}] * 8)
    assert outcome.state == "done" and set(states(loop).values()) == {JobState.COMPLETED} and len(loop.state.jobs) == 8


def test_a_failure_before_the_first_success_is_final_only_after_one(bench):
    _, loop = bench.session([{"raise": "odd"}, {}, {}])
    assert states(loop) == {1: JobState.ABANDONED, 2: JobState.COMPLETED, 3: JobState.COMPLETED}
    assert "in steps" in loop.state.jobs[1].failure.traceback


def test_too_many_failures_stop_the_run(bench):
    specs = [{}, *[{"raise": f"error {i}"} if i % 3 else {} for i in range(30)]]
    outcome, loop = bench.session(specs, max_failure_share=0.5)
    assert outcome.state == "failed" and "max_failure_share" in outcome.reason
    assert 10 <= len(loop.state.jobs) < 30


def test_a_stopped_job_goes_on_from_its_checkpoint_as_another_attempt(bench):
    def stop_at_third(loop):
        if loop.progress.get(1, {}).get("step") == 3:
            loop.request_stop()

    outcome, loop = bench.session([{"steps": 10}, {}], observer=Notes(stop_at_third))
    assert outcome.state == "interrupted" and outcome.exit_code == 130
    assert states(loop) == {1: JobState.QUEUED}
    seen = []
    outcome, loop = bench.session(
        [{"steps": 10}, {}], observer=Notes(lambda loop: seen.append(loop.progress.get(1, {}).get("step")))
    )
    assert outcome.state == "done" and loop.state.jobs[1].attempts == 2
    assert next(step for step in seen if step) == 4, "the steps done before are not done again"
    assert Artifacts(str(bench.path)).load_checkpoint(1, 9) is None, "checkpoints of an ended job are removed"


def test_resume_repeats_no_decision_and_counts_nothing_twice(bench):
    bench.session([{}] * 3)
    outcome, loop = bench.session([{}] * 5)
    assert outcome.state == "done" and loop.searcher.told == [1, 2, 3, 4, 5]
    asked = [job for _, kind, job, _ in history(bench.path) if kind is EventKind.ASKED]
    assert asked == [1, 2, 3, 4, 5]


class Dictionaries(InlineExecutor):
    """Notes what its jobs' specs are made of."""

    name: ClassVar[str] = "dictionaries"

    def submit(self, job):
        kinds.append(type(job.spec))
        super().submit(job)


kinds: list[type] = []


def test_a_job_that_is_started_again_has_a_spec_of_plain_dictionaries(bench):
    """In memory the specs of a history are text; a work gets what it would have got the first time."""
    kinds.clear()
    for specs in ([{"steps": 3}], [{"steps": 3}, {"steps": 1}]):
        executor = Dictionaries(bench.digits, Artifacts(str(bench.path)))
        stop = Notes(lambda loop: loop.request_stop() if loop.progress.get(1, {}).get("step") == 1 else None)
        outcome, loop = bench.session(specs, executor=executor, observer=stop)
    assert outcome.state == "done" and loop.state.jobs[1].attempts == 2
    assert kinds == [dict, dict, dict]
    assert loop.state.jobs[1].job.spec == {"steps": 3}


class TwiceAnswering(InlineExecutor):
    """Reports every completion twice, the second time as if from an attempt that was given up or lost."""

    name: ClassVar[str] = "twice"

    def wait(self, timeout):
        items = super().wait(timeout)
        done = [item for item in items if isinstance(item, Completion)]
        return (
            items
            + [Completion(c.job, c.attempt, c.outcome) for c in done]
            + [Completion(c.job, c.attempt + 1, c.outcome) for c in done]
        )


def test_late_and_repeated_results_are_ignored(bench):
    executor = TwiceAnswering(bench.digits, Artifacts(str(bench.path)))
    outcome, loop = bench.session([{}] * 4, executor=executor)
    assert outcome.state == "done" and loop.searcher.told == [1, 2, 3, 4]


class Silent(InlineExecutor):
    """Its first job begins and never answers; time passes quickly."""

    name: ClassVar[str] = "silent"
    seconds = 0.0
    begun = False

    def now(self):
        self.seconds += 1.0
        return 1e9 + self.seconds

    def wait(self, timeout):
        if self._queue and self._queue[0].id == 1 and self._queue[0].attempt == 1:
            first, self.begun = not self.begun, True
            return [Progress(1, 1, {})] if first else []
        return super().wait(0)

    def cancel(self, job, *, force):
        if force:
            self._queue.clear()


def test_a_job_without_a_sign_of_life_is_tried_elsewhere(bench):
    executor = Silent(bench.digits, Artifacts(str(bench.path)))
    outcome, loop = bench.session([{}, {}], executor=executor, stall_timeout=30)
    assert outcome.state == "done" and loop.state.jobs[1].attempts == 2
    failed = [data for _, kind, _, data in history(bench.path) if kind is EventKind.FAILED]
    assert [data["kind"] for data in failed] == ["stalled"] and "stall_timeout" in failed[0]["message"]


class Late(Silent):
    """The first job's first attempt answers after all, when its second is already running."""

    name: ClassVar[str] = "late"
    sent = False

    def wait(self, timeout):
        if self._queue and self._queue[0].attempt == 2 and not self.sent:
            self.sent = True
            return [Completion(1, 1, Result({"late": True}))]
        return super().wait(timeout)


def test_the_late_result_of_an_attempt_that_was_given_up_is_not_counted(bench):
    executor = Late(bench.digits, Artifacts(str(bench.path)))
    outcome, _ = bench.session([{}, {}], executor=executor, stall_timeout=30)
    assert outcome.state == "done" and executor.sent
    told = [
        (job, data["attempt"], "late" in data["metrics"])
        for _, kind, job, data in history(bench.path)
        if kind is EventKind.TOLD
    ]
    assert told == [(1, 2, False), (2, 1, False)]


class Flaky:
    """A store whose commits fail now and then, as on a full disk."""

    def __init__(self, store, period):
        self.store = store
        self.period = period
        self.calls = 0

    def __getattr__(self, name):
        return getattr(self.store, name)

    def commit(self, events):
        self.calls += 1
        if self.calls % self.period:
            raise StoreUnavailable("no space left on device")
        self.store.commit(events)


def test_a_store_that_cannot_be_written_pauses_the_run(bench):
    notes = Notes()
    outcome, loop = bench.session([{}] * 2, observer=notes, wrap=lambda store: Flaky(store, 2))
    assert outcome.state == "done" and loop.searcher.told == [1, 2]
    assert any("no space left" in text and "trying again" in text for text in notes.messages)
    assert [n for n, *_ in history(bench.path)] == list(range(1, loop.state.last_number + 1))


def test_the_wall_clock_counts_all_sessions(bench):
    executor = Silent(bench.digits, Artifacts(str(bench.path)))
    executor.wait = lambda timeout: InlineExecutor.wait(executor, 0)  # type: ignore[method-assign]
    _, loop = bench.session([{}] * 100, executor=executor, wall_clock=40)
    exhausted = [
        data["exhausted"] for _, kind, _, data in history(bench.path) if kind is EventKind.BUDGET and "exhausted" in data
    ]
    assert exhausted and "wall_clock" in exhausted[0]
    assert loop.ledger.spent(executor.now()) >= 38


def test_a_job_survives_json():
    job = Job(7, Stage.SEARCH, "petridish", {"a": [1, 2.5, None]}, 2**60, parent=3)
    assert Job.from_json(json.loads(json.dumps(job.to_json()))) == job
