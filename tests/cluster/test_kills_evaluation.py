"""An evaluation is killed with SIGKILL at every crash point, and in the middle of a training; the same call goes on."""

from __future__ import annotations

import shutil

import evaluation_run
import pytest
from small_run import asked, history, results, start_or_resume

from archsearch import api
from archsearch.jobs import StoreDamaged


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    path = tmp_path_factory.mktemp("searched") / "run"
    start_or_resume(path, evaluation_run.SMALL)
    return path


@pytest.fixture(scope="module")
def undisturbed(searched, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed") / "run"
    shutil.copytree(searched, path)
    evaluation_run.finish(path)
    return path / "evaluations" / "final"


@pytest.fixture
def run(searched, tmp_path):
    shutil.copytree(searched, tmp_path / "run")
    return tmp_path / "run"


def check_equal(path, undisturbed):
    assert asked(path) == list(range(1, 9)), "four trainings and four tests, every id once"
    assert results(path) == results(undisturbed)
    found, wanted = (api.Evaluation(api.RunFolder.at(each)).summary() for each in (path, undisturbed))
    assert found["state"] == "done" and found["models"] == wanted["models"]


@pytest.mark.parametrize("point", ["commit.before", "commit.head", "artifact.after", "submit.before"])
def test_killed_at_a_crash_point_again_and_again(point, run, undisturbed):
    path, committed, before = run / "evaluations" / "final", [], history(run)
    for occurrence in (1, 3):
        assert evaluation_run.killed_at(run, point, min(occurrence, 2 if "artifact" in point else 3)), (
            "it ended before the kill"
        )
        now = history(path) if (path / "run.db").exists() else []
        assert now[: len(committed)] == committed, "a committed event is missing or changed"
        committed = now
    evaluation_run.finish(run)
    assert history(path)[: len(committed)] == committed
    check_equal(path, undisturbed)
    assert history(run) == before, "the search's own history is not touched"


def test_killed_in_the_middle_of_a_training_goes_on_from_its_checkpoint(run, undisturbed):
    path = run / "evaluations" / "final"
    assert evaluation_run.killed_when(run, "evaluations/final/checkpoints/000001/1.ckpt")
    assert not results(path)
    evaluation_run.finish(run)
    check_equal(path, undisturbed)
    # the first attempt had made its checkpoint; the second ends with the curve of all epochs
    told = {job: data for _, kind, job, data in history(path) if kind == "told"}
    assert told[1]["attempt"] == 2 and len(told[1]["metrics"]["curve"]) == 3


def test_a_damaged_evaluation_is_named_and_the_search_can_still_be_read(run, undisturbed):
    shutil.copytree(undisturbed, run / "evaluations" / "final")
    db = run / "evaluations" / "final" / "run.db"
    content = bytearray(db.read_bytes())
    content[len(content) // 2] ^= 1
    db.write_bytes(content)
    with pytest.raises(StoreDamaged):
        api.evaluate(run, top=2)
    (shown,) = api.evaluations_in(api.RunFolder.at(run))
    assert shown["name"] == "final" and "models" not in shown and shown["error"]
    assert api.load_run(run).report()
