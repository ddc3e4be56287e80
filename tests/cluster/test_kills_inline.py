"""Nothing is lost: an inline run is killed with SIGKILL at every crash point and at random moments, and goes on."""

from __future__ import annotations

import random

import pytest
from small_run import SMALL, asked, finish, frontier, history, killed_after, killed_at, results

from archsearch import api

#: Crash points, and how often one is reached at most before the kill: a session must not come to the run's end.
POINTS = {
    "commit.before": 3,
    "commit.head": 3,
    "commit.after": 3,
    "artifact.before": 2,
    "artifact.after": 2,
    "submit.before": 3,
    "submit.after": 3,
}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    finish(path, SMALL)
    return path


def check_equal(path, undisturbed):
    """The run at ``path`` ended as if nothing had happened."""
    ids = asked(path)
    assert ids == list(range(1, len(ids) + 1)), "every job id once, in order"
    assert results(path) == results(undisturbed)
    assert frontier(path) == frontier(undisturbed)


def test_the_undisturbed_run_is_worth_comparing_with(undisturbed):
    stages = [data["stage"] for _, kind, _, data in history(undisturbed) if kind == "asked"]
    assert stages.count("SEARCH_TRAINED") >= 3 and stages.count("SEED_TRAINED") == 2 and "EVAL" in stages
    assert len(frontier(undisturbed)) >= 2


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_crash_point_again_and_again(point, undisturbed, tmp_path):
    """Six kills a point, each in the session after the one before: 42 in all."""
    path = tmp_path / "run"
    rng = random.Random(point)
    committed = []
    for _ in range(6):
        assert killed_at(path, SMALL, point, rng.randint(1, POINTS[point])), "the run ended before the kill"
        now = history(path) if (path / "run.db").exists() else []
        assert now[: len(committed)] == committed, "a committed event is missing or changed"
        committed = now
    status = api.load_run(path).summary()
    assert status["state"] == "killed" and status["jobs"]["running"] == 0 and status["jobs"]["queued"] == 1
    finish(path, SMALL)
    assert history(path)[: len(committed)] == committed
    check_equal(path, undisturbed)


def test_killed_at_random_moments(undisturbed, tmp_path):
    path = tmp_path / "run"
    rng = random.Random(11)
    committed = []
    for _ in range(8):
        killed_after(path, SMALL, rng.uniform(0.05, 1.2))
        now = history(path) if (path / "run.db").exists() else []
        assert now[: len(committed)] == committed
        committed = now
    finish(path, SMALL)
    check_equal(path, undisturbed)
