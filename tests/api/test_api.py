"""The Python interface: a search from a dict, the frontier, a model with its weights, damage named."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from torch.nn import functional

import archsearch
from archsearch.data import DataSection, load, normalise
from archsearch.jobs import InputError, StoreDamaged

CONFIG = {
    "data": {"name": "digits", "max_train": 600},
    "search": {"init_node_ch": [4], "max_hull_points": 3, "band_standard_errors": 1},
    "seed_train": {"epochs": 6, "optimizer": "adamw", "lr": 0.02, "schedule": "one_cycle", "tensorwatch_stats": False},
    "post_train": {"epochs": 2, "optimizer": "adamw", "lr": 0.01, "tensorwatch_stats": False},
    "weak_learner": {"steps": 4},
    "cluster": {"executor": "inline"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return archsearch.search(CONFIG, run_dir=tmp_path_factory.mktemp("api") / "run")


def test_a_search_from_a_dict_ends_with_a_frontier(run):
    assert run.outcome.state == "done" and len(run.points()) >= 3
    front = run.frontier()
    assert front == archsearch.load_run(run.path).frontier() and front[-1]["error"] < 0.5


def test_the_model_of_a_point_has_the_error_that_was_reported(run):
    data = load(DataSection(**CONFIG["data"]))
    mean, std = normalise(data)
    images = torch.from_numpy((data.x_test / 255 - np.array(mean)) / np.array(std)).permute(0, 3, 1, 2).float()
    for point in run.points():
        model = run.load(point.id)
        assert isinstance(model, torch.nn.Module) and not model.training
        with torch.no_grad():
            logits = model(images)
        wrong = float((logits.argmax(1) != torch.from_numpy(data.y_test)).float().mean())
        if "test_error" in point.metrics:
            assert wrong == pytest.approx(point.metrics["test_error"], abs=1e-6)
            loss = float(functional.cross_entropy(logits, torch.from_numpy(data.y_test)))
            assert loss == pytest.approx(point.metrics["test_loss"], rel=1e-3)
    assert any("test_error" in point.metrics for point in run.points())


def test_a_grown_model_is_larger_than_its_parent(run):
    points = {point.id: point for point in run.points()}
    child = next(point for point in points.values() if point.parent is not None)
    assert child.metrics["madds"] > points[child.parent].metrics["madds"]
    grown, parent = (set(run.load(id_).state_dict()) for id_ in (child.id, child.parent))
    assert parent < grown


def test_no_such_point(run):
    with pytest.raises(InputError, match="no point 9999"):
        run.load(9999)


def test_a_flipped_byte_in_the_weights_is_named(run):
    point = run.points()[0]
    file = run.path / point.weights.key
    good = file.read_bytes()
    file.write_bytes(good[:100] + bytes([good[100] ^ 1]) + good[101:])
    try:
        with pytest.raises(StoreDamaged, match=os.path.basename(point.weights.key)):
            run.load(point.id)
    finally:
        file.write_bytes(good)


def test_a_search_that_needs_damaged_weights_stops_and_names_them(tmp_path):
    config = {
        **CONFIG,
        "search": {**CONFIG["search"], "max_hull_points": 1, "test_frontier": False},
        "seed_train": {"epochs": 1, "tensorwatch_stats": False},
    }
    run = archsearch.search(config, run_dir=tmp_path / "run")
    key = run.points()[0].weights.key
    file = run.path / key
    good = file.read_bytes()
    file.write_bytes(good[:-1])
    stopped = archsearch.resume(run.path, overrides=["search.max_hull_points=2"])
    assert stopped.outcome.state == "failed" and key in stopped.outcome.reason
    file.write_bytes(good)
    assert archsearch.resume(run.path).outcome.state == "done"
    assert len(archsearch.load_run(run.path).points()) >= 2


def test_a_run_of_one_slot_is_repeatable_bit_for_bit(tmp_path):
    training = {"epochs": 1, "tensorwatch_stats": False}
    config = {**CONFIG, "seed_train": training, "post_train": training}
    first, second = (archsearch.search(config, run_dir=tmp_path / name) for name in "ab")
    assert [point.weights.sha256 for point in first.points()] == [point.weights.sha256 for point in second.points()]
    assert first.frontier() == second.frontier()
    third = archsearch.search({**config, "run": {"seed": 9}}, run_dir=tmp_path / "c")
    assert [p.weights.sha256 for p in third.points()] != [p.weights.sha256 for p in first.points()]
