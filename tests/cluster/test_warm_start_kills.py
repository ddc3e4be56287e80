"""A warm start killed with SIGKILL while it copies and right after: there is no run, or one that has the whole pool."""

from __future__ import annotations

import random
import shutil

import pytest
from small_run import history, results
from warm_run import FIRST, SECOND, finish, killed_after, killed_at, pool

from archsearch import api
from archsearch.jobs import EventKind
from archsearch.store import list_runs


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return api.search(FIRST, run_dir=tmp_path_factory.mktemp("source") / "first").path


@pytest.fixture(scope="module")
def undisturbed(source, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(path, source)
    return path


def whole(path, source) -> bool:
    """Whether there is a run; if so it has every point of its source, however it died."""
    if not list_runs(path.parent) or not (path / "run.db").exists():
        return False
    imported = [(kind, job) for _, kind, job, _ in history(path) if kind is EventKind.IMPORTED]
    assert imported == [(EventKind.IMPORTED, number) for number in range(1, 1 + len(pool(source)))]
    assert [point[2] for point in pool(path)][: len(imported)] == [point[2] for point in pool(source)]
    return True


def check_equal(path, undisturbed):
    assert pool(path) == pool(undisturbed) and results(path) == results(undisturbed)


def test_the_undisturbed_run_is_worth_comparing_with(source, undisturbed):
    points = pool(undisturbed)
    assert len(points) == SECOND["search"]["max_hull_points"] and sum(point[4] is not None for point in points) == 5
    grown = [point for point in points if point[4] is None and point[3] is not None]
    assert any(parent <= 5 for _, _, _, parent, _, _ in grown), "one grew from an imported point"


#: Crash points in the order in which the same search is killed there; how often each is reached; whether there is a run then.
KILLS = [
    ("artifact.before", 1, False),
    ("artifact.after", 3, False),
    ("create.before", 1, False),
    ("create.after", 1, True),
    ("commit.before", 1, True),
    ("submit.before", 1, True),
    ("artifact.before", 1, True),
]


def test_killed_at_a_crash_point_again_and_again(source, undisturbed, tmp_path):
    path = tmp_path / "run"
    for point, occurrence, there in KILLS:
        assert killed_at(path, source, point, occurrence), "the run ended before the kill"
        assert whole(path, source) == there, f"killed at {point}"
    finish(path, source)
    check_equal(path, undisturbed)


def test_killed_at_random_moments(source, undisturbed, tmp_path):
    rng, path = random.Random(3), tmp_path / "run"
    for _ in range(4):
        if not killed_after(path, source, rng.uniform(0.02, 0.6)):
            break
        whole(path, source)
    finish(path, source)
    check_equal(path, undisturbed)


@pytest.mark.parametrize("call", range(1, 15))
def test_creation_cut_short_at_any_step_leaves_no_run_or_all_points(call, source, tmp_path, monkeypatch):
    """Each durable step of the creation in turn is the one at which the process dies."""
    import os

    class Killed(BaseException):
        pass

    left, on = [call], [False]

    def counted(function):
        def wrapped(*arguments, **options):
            left[0] -= on[0]
            if left[0] == 0:
                raise Killed
            return function(*arguments, **options)

        return wrapped

    def reached(name):
        on[0] = name == "create.before"
        if name == "create.after":
            raise Killed

    path = tmp_path / "run"
    path.mkdir()
    with monkeypatch.context() as patch:
        for name in ("fsync", "replace"):
            patch.setattr(os, name, counted(getattr(os, name)))
        with pytest.raises(Killed):
            api.search(SECOND, run_dir=path, warm_from=source, reached=reached)
    if whole(path, source):
        again = tmp_path / "again"
        shutil.copytree(path, again)
        assert pool(again) == pool(path)
    else:
        with pytest.raises(Killed):
            api.search(SECOND, run_dir=path, warm_from=source, reached=reached)
        assert whole(path, source), "the search can be started again there"
