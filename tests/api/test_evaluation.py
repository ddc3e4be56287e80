"""Evaluating a run from Python: what is trained, what is found, what is refused."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

import archsearch
from archsearch import api
from archsearch.arch import Architecture, cost, scale_cells
from archsearch.data import DataSection, load, normalise
from archsearch.jobs import InputError, JobState, StoreBusy
from archsearch.store import open_store

TRAIN = {"epochs": 3, "batch_size": 50, "optimizer": "adamw", "lr": 0.02, "drop_path": 0.05}
CONFIG = {
    "data": {"name": "digits", "max_train": 300},
    "search": {"init_node_ch": [2, 8], "max_hull_points": 3, "band_standard_errors": 2, "test_frontier": False},
    "seed_train": {"epochs": 6, "batch_size": 50, "optimizer": "adamw", "lr": 0.02, "tensorwatch_stats": False},
    "post_train": {"epochs": 1, "batch_size": 50, "optimizer": "adamw", "lr": 0.01, "tensorwatch_stats": False},
    "weak_learner": {"steps": 4},
    "evaluation": {"seeds": 2, "cell_count_scale": 2, "n_cells": 5, "train": TRAIN},
    "cluster": {"executor": "inline"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return archsearch.search(CONFIG, run_dir=tmp_path_factory.mktemp("evaluation") / "run")


@pytest.fixture(scope="module")
def evaluation(run):
    return archsearch.evaluate(run.path)


def test_the_frontier_is_trained_with_every_seed_and_more_cells(run, evaluation):
    assert len(run.frontier()) >= 2
    assert evaluation.outcome.state == "done" and evaluation.path == run.path / "evaluations" / "final"
    summary = evaluation.summary()
    assert sorted(model["point"] for model in summary["models"]) == sorted(entry["id"] for entry in run.frontier())
    trainings = [record for record in evaluation.run.state.jobs.values() if record.job.work == "train"]
    assert len(trainings) == 2 * len(summary["models"])
    for record in trainings:
        spec = record.job.spec
        wanted = scale_cells(Architecture.from_json(run.state.point(spec["point"]).arch), 2, 5)
        assert Architecture.from_json(spec["arch"]) == wanted and len(wanted.layout) == 5
        assert record.metrics["madds"] == cost(wanted).madds > run.state.point(spec["point"]).metrics["madds"]
        assert {key: spec["train"][key] for key in TRAIN} == TRAIN and spec["train"]["auxiliary"] == 0.4
        assert spec["inherit"] is None and record.metrics["epochs"] == 3
    weights = {record.artifacts["weights"].sha256 for record in trainings}
    assert len(weights) == len(trainings), "each seed gives other weights"
    assert not evaluation.run.points(), "nothing enters a pool"


def test_the_search_is_left_as_it_was_but_for_its_page(run, evaluation):
    assert archsearch.load_run(run.path).state.last_number == run.state.last_number
    page = (run.path / "report.html").read_text()
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    (shown,) = data["evaluations"]
    assert shown["name"] == "final" and len(shown["rows"]) == len(run.frontier()) and "Student" in shown["note"]


def test_mean_and_network_are_those_of_the_trainings(run, evaluation):
    data = load(DataSection(**CONFIG["data"]))
    mean, std = normalise(data)
    images = torch.from_numpy((data.x_test / 255 - np.array(mean)) / np.array(std)).permute(0, 3, 1, 2).float()
    model = evaluation.summary()["models"][0]
    wrong = []
    for repeat in range(2):
        network = evaluation.load(model["point"], repeat)
        with torch.no_grad():
            wrong.append(float((network(images).argmax(1) != torch.from_numpy(data.y_test)).float().mean()))
    assert model["test_errors"] == pytest.approx(wrong, abs=1e-6)
    assert model["test_error"] == pytest.approx(np.mean(wrong), abs=1e-6)
    assert model["interval"][0] <= model["test_error"] <= model["interval"][1]
    with pytest.raises(InputError, match="no finished training 2"):
        evaluation.load(model["point"], 2)
    assert archsearch.load_evaluation(run.path).summary() == evaluation.summary()


def test_the_same_call_again_trains_nothing(run, evaluation):
    again = archsearch.evaluate(run.path)
    assert again.outcome.state == "done" and again.run.state.last_number == evaluation.run.state.last_number


def test_its_files_and_no_others(evaluation):
    files = {path.name for path in evaluation.path.iterdir()} - {"artifacts", "checkpoints", "run.db-shm", "run.db-wal"}
    assert files == {"HEAD", "config.yaml", "lock", "run.db", "evaluation.tsv", "evaluation.json", "evaluation.png"}


def test_single_points_under_another_name(run, evaluation):
    point = run.points()[0].id
    other = archsearch.evaluate(
        run, points=[point], name="one", overrides=["evaluation.seeds=1", "evaluation.cell_count_scale=1"]
    )
    (model,) = other.summary()["models"]
    assert (model["point"], model["trainings"], model["interval"]) == (point, 1, None)
    assert model["madds"] == run.state.point(point).metrics["madds"], "not scaled"
    assert {each["name"] for each in api.evaluations_in(run.folder)} == {"final", "one"}


def test_a_budget_of_the_search_does_not_end_its_evaluation(tmp_path):
    config = {**CONFIG, "budget": {"jobs": 3, "wall_clock": 4}, "evaluation": {**CONFIG["evaluation"], "seeds": 1}}
    run = archsearch.search(config, run_dir=tmp_path / "run")
    found = archsearch.evaluate(run, top=1)
    assert found.outcome.state == "done" and found.summary()["models"][0]["trainings"] == 1
    assert found.run.config["budget"].wall_clock is None


def test_trainings_that_all_diverge_end_it_with_the_reason(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run")
    found = archsearch.evaluate(
        tmp_path / "run", top=2, name="wild", overrides=["evaluation.train.lr=1e30", "evaluation.train.grad_clip=0"]
    )
    assert found.outcome.state == "failed" and "loss" in found.outcome.reason
    assert found.summary()["best"] is None and (found.path / "evaluation.tsv").exists()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"top": 99}, "top = 99: the frontier of run has"),
        ({"top": 0}, "top = 0"),
        ({"points": [1, 99]}, "run has no point 99"),
        ({"points": []}, "points is empty"),
        ({"points": [1], "top": 1}, "the one or the other"),
        ({"name": "../x"}, "evaluation name '../x'"),
        ({"overrides": ["search.max_hull_points=9"]}, "only cluster, evaluation, resources can"),
        ({"overrides": ["evaluation.train.epoch=9"]}, "epochs"),
        ({"overrides": ["evaluation.n_cells=2"]}, "point .* cannot have .* evaluation.n_cells = 2"),
    ],
)
def test_bad_input_starts_and_writes_nothing(run, wrong, said):
    before = sorted(run.path.rglob("*"))
    with pytest.raises(InputError, match=said):
        archsearch.evaluate(run.path, **{"name": "new", **wrong})
    assert [path for path in sorted(run.path.rglob("*")) if path not in before] == []


def test_other_points_or_settings_under_the_same_name_are_refused(run, evaluation):
    with pytest.raises(InputError, match=r"evaluation.train.epochs was 3, not 4.*another --name"):
        archsearch.evaluate(run.path, overrides=["evaluation.train.epochs=4"])
    with pytest.raises(InputError, match="its points are"):
        archsearch.evaluate(run.path, points=[run.points()[0].id])
    with pytest.raises(InputError, match="is an evaluation"):
        archsearch.resume(evaluation.path)
    with pytest.raises(InputError, match="is itself an evaluation"):
        archsearch.evaluate(evaluation.path)
    with pytest.raises(InputError, match="no run"):
        archsearch.evaluate(run.path / "nothing")


def test_a_run_that_is_being_searched_is_refused(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "run", ignore=shutil.ignore_patterns("evaluations"))
    with open_store(tmp_path / "run", write=True), pytest.raises(StoreBusy, match="is being searched"):
        archsearch.evaluate(tmp_path / "run")
    assert not (tmp_path / "run" / "evaluations").exists()


def test_a_run_without_a_trained_point_is_refused(tmp_path):
    config = {**CONFIG, "seed_train": {**CONFIG["seed_train"], "lr": 1e30, "grad_clip": 0}}
    run = archsearch.search(config, run_dir=tmp_path / "run")
    assert run.state.counts[JobState.COMPLETED] == 0
    with pytest.raises(InputError, match="no trained point yet"):
        archsearch.evaluate(run.path)


def test_a_simulated_run_is_refused(tmp_path):
    from archsearch.simulation import simulate

    run = simulate({**CONFIG, "evaluation": {}}, slots=2, run_dir=tmp_path / "run").run
    with pytest.raises(InputError, match="was simulated"):
        archsearch.evaluate(run.path)
