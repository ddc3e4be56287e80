"""Callbacks hear of a run in order, once, in a thread of their own, and can neither end it, change it nor hold it up."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest
from recording import Heard, Recording, config

import archsearch
from archsearch.frontier import pareto_front
from archsearch.jobs import Event, EventKind, InputError, Job, Stage
from archsearch.simulation import simulate
from archsearch.store import open_store
from archsearch.tracking import RunEnd, tracked
from archsearch.tracking.news import About, Item, News


def history(run):
    with open_store(run.folder, write=False) as store:
        return list(store.events())


@pytest.fixture(scope="module")
def followed(tmp_path_factory):
    recording, heard = Recording(), Heard()
    run = archsearch.search(
        config(run={"name": "r"}), run_dir=tmp_path_factory.mktemp("followed") / "r", callbacks=[recording], observer=heard
    )
    return run, recording, heard


def test_the_news_are_the_runs_events_in_order(followed):
    run, recording, _ = followed
    names = {EventKind.ASKED: "on_job_asked", EventKind.STARTED: "on_job_started", EventKind.TOLD: "on_job_told"}
    expected = [(names[event.kind], event.job, event.time) for event in history(run) if event.job is not None]
    told = [(name, arguments[0].id, arguments[0].time) for name, arguments in recording.calls if name in names.values()]
    assert told == expected and len(told) > 15
    order = [name for name, _ in recording.calls]
    assert order[:2] == ["open", "on_start"] and order[-3:] == ["on_report", "on_end", "close"]
    assert recording.told("on_end") == [(RunEnd("done", run.outcome.reason),)]
    attempts = {arguments[0].attempt for arguments in recording.told("on_job_asked")}
    assert attempts == {0} and {arguments[0].attempt for arguments in recording.told("on_job_told")} == {1}


def test_the_start_says_what_run_it_is(followed):
    run, recording, _ = followed
    ((start,),) = recording.told("on_start")
    assert (start.name, start.folder, start.resumed, start.points) == ("r", run.path, False, ())
    assert (start.cost, start.error) == ("madds", "val_error")
    assert start.config["search"]["max_hull_points"] == 5 and start.session["executor"] == "inline"


def test_points_are_the_pool(followed):
    run, recording, _ = followed
    points, pool = recording.points, run.points()
    assert [point.number for point in points] == list(range(1, len(pool) + 1))
    for told, known in zip(points, pool, strict=True):
        assert (told.id, told.parent, told.stage, told.arch) == (known.id, known.parent, known.stage, known.arch)
        assert told.cost == known.metrics["madds"] and told.error == known.metrics["val_error"]
        assert told.standard_error == known.metrics["val_standard_error"] and told.metrics["curve"] == known.metrics["curve"]
    assert list(points[-1].frontier) == [entry["id"] for entry in run.frontier()]
    assert points[-1].best_error == run.summary()["best"]["error"]


def test_the_hypervolume_is_the_mean_accuracy_bought_and_never_falls(followed):
    _, recording, _ = followed
    points = recording.points
    for last in range(1, len(points) + 1):
        costs, errors = (np.array([getattr(point, name) for point in points[:last]]) for name in ("cost", "error"))
        budgets = np.linspace(0, costs.max(), 200_001)[:-1]
        bought = [np.max(1 - errors[costs <= budget], initial=0.0) for budget in np.sort(costs)]
        mean = np.concatenate([[0.0], bought])[np.searchsorted(np.sort(costs), budgets, side="right")].mean()
        assert points[last - 1].hypervolume == pytest.approx(mean, abs=1e-4)
        front = pareto_front(np.column_stack([costs, errors]))
        assert set(points[last - 1].frontier) == {points[i].id for i in front}
        assert points[last - 1].on_frontier == (last - 1 in front)
    volumes = [point.hypervolume for point in points]
    assert volumes == sorted(volumes) and volumes[-1] > 0.02


def test_progress_and_the_report_are_told(followed):
    run, recording, heard = followed
    assert recording.told("on_job_progress"), "no job reported within the whole search"
    job, attempt, figures = recording.told("on_job_progress")[0]
    assert job in run.state.jobs and attempt == 1 and figures["step"] >= 1
    ((files,),) = recording.told("on_report")
    assert run.path / "report.html" in files and [list(shown) for shown in heard.reports] == [list(files)]


def test_one_thread_that_is_not_the_drivers(followed):
    _, recording, _ = followed
    assert recording.threads == {"archsearch callbacks", threading.main_thread().name}  # the latter: open and close
    for thread in threading.enumerate():
        if thread.name == "archsearch callbacks":
            thread.join(60)
            assert not thread.is_alive(), "it has not ended with the run"


def test_without_callbacks_there_is_nothing_between_run_and_display(tmp_path):
    heard = Heard()
    with tracked([], About("r", tmp_path, {}, "madds"), heard) as observer:
        assert observer is heard
        assert not [thread for thread in threading.enumerate() if thread.name == "archsearch callbacks"]


# ------------------------------------------------------------------------------------------------------------------ errors
class Broken(archsearch.Callback):
    error: type[BaseException] = RuntimeError

    def on_point(self, point):
        raise self.error("the disk of the logger is full")


class Leaves(Broken):
    error = SystemExit


class NeverStarts(archsearch.Callback):
    points = 0

    def on_start(self, start):
        raise OSError("no network")

    def on_point(self, point):
        type(self).points += 1


def test_a_callback_that_raises_ends_nothing_and_is_named_once(tmp_path):
    heard, recording = Heard(), Recording()
    broken = [Broken(), Leaves(), NeverStarts()]
    run = archsearch.search(config(), run_dir=tmp_path / "r", callbacks=[*broken, recording], observer=heard)
    assert run.outcome.state == "done" and len(recording.points) == len(run.points()) >= 5
    raised = [text for text in heard.messages if " raised in " in text]
    assert len(raised) == 3
    (text,) = [text for text in raised if "callback Broken raised in on_point" in text]
    assert "RuntimeError: the disk of the logger is full (test_callbacks.py:" in text
    assert [text for text in raised if "callback Leaves raised in on_point" in text and "SystemExit" in text]
    (text,) = [text for text in raised if "NeverStarts" in text]
    assert "it is told nothing more" in text and NeverStarts.points == 0
    assert f"note: the callback Broken raised {len(run.points())} times in all" in heard.messages


class CannotOpen(archsearch.Callback):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def open(self):
        raise self.error


@pytest.mark.parametrize("error", [InputError("say please"), ConnectionError("say please")])
def test_a_callback_that_cannot_open_refuses_the_search_before_anything_is_written(tmp_path, error):
    before, after = Recording(), Recording()
    with pytest.raises(InputError, match="say please") as refused:
        archsearch.search(config(), run_dir=tmp_path / "r", callbacks=[before, CannotOpen(error), after])
    assert isinstance(error, InputError) or "the callback CannotOpen cannot start: ConnectionError" in str(refused.value)
    assert not (tmp_path / "r").exists()
    assert [name for name, _ in before.calls] == ["open", "close"] and after.calls == []


def test_a_class_instead_of_an_instance_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"callbacks: expected instances of archsearch\.Callback.*Write MyCallback\(\)"):
        archsearch.search(config(), run_dir=tmp_path / "r", callbacks=[Recording])
    assert not (tmp_path / "r").exists()


def test_a_driver_that_crashes_tells_callbacks_so(tmp_path):
    recording = Recording()

    def reached(name):
        if name == "submit.before" and recording.told("on_job_told"):
            raise MemoryError("driver")

    with pytest.raises(MemoryError):
        archsearch.search(config(), run_dir=tmp_path / "r", callbacks=[recording], reached=reached)
    assert recording.calls[-2:] == [("on_end", (RunEnd("crashed", "MemoryError: driver"),)), ("close", ())]


# ----------------------------------------------------------------------------------------------------- neither change nor hold
class Vandal(archsearch.Callback):
    def on_start(self, start):
        start.config["search"].clear()

    def on_job_told(self, job, metrics, seconds, node):
        metrics.clear()

    def on_point(self, point):
        point.metrics.clear()
        point.arch.clear()


def test_what_a_callback_does_to_its_data_does_nothing_to_the_run(tmp_path, followed):
    run = archsearch.search(config(), run_dir=tmp_path / "r", callbacks=[Vandal()])
    untouched = followed[0]
    assert run.frontier() == untouched.frontier()
    assert [p.weights.sha256 for p in run.points()] == [p.weights.sha256 for p in untouched.points()]
    assert (run.path / "full_pool.tsv").read_text() == (untouched.path / "full_pool.tsv").read_text()


def test_a_slow_callback_does_not_hold_the_search_up(tmp_path):
    """It sleeps at its very first news until the search has written its report."""
    ended = threading.Event()

    class Slow(Recording):
        def on_start(self, start):
            super().on_start(start)
            self.waited = ended.wait(280)

    class Ends(Heard):
        def on_report(self, files):
            ended.set()

    slow = Slow()
    run = archsearch.search(config(), run_dir=tmp_path / "r", callbacks=[slow], observer=Ends())
    assert slow.waited and len(slow.points) == len(run.points()), "it heard everything all the same"


def test_the_end_does_not_wait_for_ever(tmp_path):
    never, heard = threading.Event(), Heard()

    class Hangs(archsearch.Callback):
        def on_report(self, files):
            never.wait(100)

    with tracked([Hangs()], About("r", tmp_path, {}, "madds"), heard, patience=0.2) as observer:
        observer.on_report([])
    assert "note: callbacks have not ended; the last news did not reach all of them" in heard.messages
    never.set()


def test_ctrl_c_leaves_callbacks_that_do_not_end_and_keeps_the_runs_outcome(tmp_path, monkeypatch):
    """Were it not heard, the end would wait for longer than this test may take."""
    never, heard = threading.Event(), Heard()
    monkeypatch.setitem(tracked.__wrapped__.__kwdefaults__, "patience", 1000.0)

    class Hangs(archsearch.Callback):
        def on_end(self, end):
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
            never.wait(1000)

    run = archsearch.search(config(search={"max_hull_points": 1}), run_dir=tmp_path / "r", callbacks=[Hangs()], observer=heard)
    assert run.outcome.state == "done" and heard.messages[-1].startswith("note: callbacks have not ended")
    never.set()


# ------------------------------------------------------------------------------------------------------------------- resume
def test_a_resumed_session_goes_on_where_the_history_does(tmp_path):
    first, second = Recording(), Recording()
    archsearch.search(config(search={"max_hull_points": 3}), run_dir=tmp_path / "r", callbacks=[first])
    run = archsearch.resume(tmp_path / "r", overrides=["search.max_hull_points=6"], callbacks=[second])
    ((start,),) = second.told("on_start")
    assert start.resumed and not first.told("on_start")[0][0].resumed
    names = ("id", "number", "cost", "error", "best_error", "frontier", "hypervolume", "time", "seconds", "node")
    then, now = ([[getattr(point, name) for name in names] for point in points] for points in (first.points, start.points))
    assert now == then
    assert [p.number for p in (*start.points, *second.points)] == list(range(1, len(run.points()) + 1))
    assert [p.id for p in (*start.points, *second.points)] == [p.id for p in run.points()] and second.points
    ended = [job.id for recording in (first, second) for job, *_ in recording.told("on_job_told")]
    assert len(ended) == len(set(ended)), "a result was told twice"


# ------------------------------------------------------------------------------------------------------ failures, by the fold
JOB = Job(3, Stage.SEARCH_TRAINED, "train", {"arch": {}}, 1, parent=2)


@pytest.mark.parametrize(
    ("kind", "data", "call"),
    [
        (
            EventKind.FAILED,
            {"attempt": 2, "kind": "lost", "message": "gone", "traceback": "t", "seconds": 1.0, "final": False},
            ("on_job_failed", "lost", "gone", False),
        ),
        (
            EventKind.FAILED,
            {"attempt": 2, "kind": "exception", "message": "bad", "traceback": "t", "seconds": 1.0, "final": True},
            ("on_job_failed", "exception", "bad", True),
        ),
        (EventKind.CANCELLED, {"attempt": 2, "reason": "budget"}, ("on_job_cancelled", "budget")),
        (EventKind.PRUNED, {"attempt": 2}, ("on_job_cancelled", "pruned")),
    ],
)
def test_failures_and_cancelled_jobs(tmp_path, kind, data, call):
    ((method, arguments),) = News(About("r", tmp_path, {}, "madds")).calls(Item(Event(7, 5.0, kind, 3, data), JOB))
    job, *rest = arguments
    assert (method, *rest) == call
    assert (job.id, job.stage, job.work, job.parent, job.attempt, job.time) == (3, "SEARCH_TRAINED", "train", 2, 2, 5.0)


def test_a_simulation_is_not_followed_by_what_the_configuration_names(tmp_path):
    made = simulate(config(tracking={"callbacks": ["jsonl"]}), slots=2, run_dir=tmp_path / "r")
    assert len(made.run.points()) >= 5 and not (tmp_path / "r" / "points.jsonl").exists()


def test_points_of_an_earlier_run_are_there_at_the_start(tmp_path, followed):
    recording = Recording()
    run = archsearch.search(
        config(search={"max_hull_points": 7}), run_dir=tmp_path / "r", warm_from=followed[0], callbacks=[recording]
    )
    ((start,),) = recording.told("on_start")
    assert not start.resumed and len(start.points) >= 5
    assert [p.number for p in (*start.points, *recording.points)] == list(range(1, len(run.points()) + 1))
    assert [p.id for p in (*start.points, *recording.points)] == [p.id for p in run.points()]
