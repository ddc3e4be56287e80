"""What a search trained is trained again from its recipe, bit for bit: a seed, a grown point, after a kill; and from the
command line."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import archsearch
from archsearch.arch.export import ExportFailed
from archsearch.cli import main
from archsearch.data import DataSection, load, normalise
from archsearch.jobs import InputError, StoreBusy, StoreDamaged
from archsearch.recipe_export import export_recipe
from archsearch.recipe_run import load_recipe_run, run_recipe
from archsearch.recipe_weights import weights_in, weights_of_run
from archsearch.recipes.ingredient import made
from archsearch.recipes.pantry import from_recipe_id
from archsearch.recipes.points import recipe_of, recorded
from archsearch.recipes.recipe import Recipe
from archsearch.recipes.weights import copy_weights, needed_weights

CONFIG = {
    "data": {"name": "digits", "max_train": 400},
    "search": {"init_node_ch": [4, 6], "max_hull_points": 3, "band_standard_errors": 1, "test_frontier": False},
    "seed_train": {
        "epochs": 6,
        "batch_size": 32,
        "optimizer": "adamw",
        "lr": 0.02,
        "augment": {"shift": 0.1},
        "tensorwatch_stats": False,
    },
    "post_train": {
        "epochs": 2,
        "batch_size": 32,
        "optimizer": "adamw",
        "lr": 0.01,
        "keep": "best",
        "drop_path": 0.1,
        "tensorwatch_stats": False,
    },
    "weak_learner": {"steps": 4},
    "cluster": {"executor": "inline"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return archsearch.search(CONFIG, run_dir=tmp_path_factory.mktemp("recipes") / "run")


def points(run: Any) -> tuple[Any, Any]:
    """The first seed and the first grown point."""
    seed = next(point for point in run.points() if point.parent is None)
    return seed, next(point for point in run.points() if point.parent is not None)


def same(result: Any, point: Any) -> None:
    """Bit for bit what was recorded."""
    assert result["weights"]["sha256"] == point.weights.sha256
    for name in ("val_error", "val_loss", "train_error", "initial_val_loss", "best_epoch", "curve", "madds", "compute_madds"):
        assert result["metrics"][name] == point.metrics[name], name


def test_points_are_trained_again_to_the_same_weights(run: Any, tmp_path: Path) -> None:
    stored = {recipe_of(run, point).id: json.dumps(recipe_of(run, point).to_json()) for point in run.points()}
    assert len(stored) == len(run.points())
    for point in points(run):
        id_ = recipe_of(run, point).id
        recipe = from_recipe_id(id_, lambda id: json.loads(stored[id]))
        done = run_recipe(recipe, tmp_path / id_, sources=[weights_of_run(run)])
        low, high = recorded(run, point)["interval"]
        assert done.state == "done" and low <= done.result["value"] <= high < 0.9
        assert done.recipe.id == done.result["recipe"] == id_, "what is written into the folder is the very recipe"
        same(done.result, point)
        network = done.load()
        assert network.state_dict().keys() == run.load(point.id).state_dict().keys() and not network.training
    trained_at = (tmp_path / id_ / "result.json").stat().st_mtime_ns
    assert run_recipe(recipe, tmp_path / id_).result == done.result, "it has ended: nothing is trained, nothing is needed"
    assert (tmp_path / id_ / "result.json").stat().st_mtime_ns == trained_at
    search = next(id for id, record in run.state.jobs.items() if record.job.work == "petridish")
    for wrong in (999, search):
        with pytest.raises(InputError, match=f"has no point {wrong} that is trained"):
            recipe_of(run, wrong)


def test_weights_that_are_missing_or_changed_are_refused(run: Any, tmp_path: Path) -> None:
    recipe = recipe_of(run, points(run)[1])
    assert len(needed_weights(recipe)) == 2, "the parent's weights and the candidates'"
    with pytest.raises(InputError, match="--weights RUN_OR_FOLDER"):
        run_recipe(recipe, tmp_path / "out")
    files = copy_weights(recipe, weights_of_run(run), tmp_path / "kept")
    damaged = bytearray(files[0].read_bytes())
    damaged[-1] ^= 1
    files[0].write_bytes(damaged)
    with pytest.raises(StoreDamaged, match="not what the recipe was made with"):
        run_recipe(recipe, tmp_path / "out", sources=[weights_in(tmp_path / "kept")])
    with pytest.raises(InputError, match="no longer there"):
        copy_weights(recipe, lambda sha256: None, tmp_path / "none")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="device 'cuda' is not here"):
            run_recipe(recipe, tmp_path / "out", sources=[weights_of_run(run)], device="cuda")
    assert not (tmp_path / "out").exists() and not (tmp_path / "none").exists()
    scratch = recipe.with_("weights", None)
    assert scratch.id != recipe.id and not needed_weights(scratch)


def _train(recipe: Any, folder: Path, source: Path, slowly: float) -> None:
    """In a process of its own, with a checkpoint at every step."""

    def progress(data: Any) -> None:
        with (folder / "steps").open("a") as file:
            file.write(f"{data['step']}\n")
        time.sleep(slowly)

    run_recipe(Recipe.from_json(recipe), folder, sources=[weights_in(source)], checkpoint_every=0.0, progress=progress)


def test_a_killed_training_goes_on_from_its_checkpoint(run: Any, tmp_path: Path) -> None:
    point, folder = points(run)[1], tmp_path / "out"
    forks = multiprocessing.get_context("spawn")
    process = forks.Process(target=_train, args=(recipe_of(run, point).to_json(), folder, run.path, 600.0))
    process.start()
    while not list(folder.glob("checkpoints/*/*")) or not (folder / "steps").exists():
        assert process.is_alive()
        time.sleep(0.02)
    with pytest.raises(StoreBusy, match="held by"):
        run_recipe(recipe_of(run, point), folder, sources=[weights_of_run(run)])
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert load_recipe_run(folder).state == "interrupted"
    before = [int(line) for line in (folder / "steps").read_text().split()]
    steps: list[int] = []
    done = run_recipe(
        recipe_of(run, point),
        folder,
        sources=[],  # what it starts from lies in the folder
        checkpoint_every=0.0,
        progress=lambda data: steps.append(data["step"]),
    )
    assert steps[0] > before[0] >= 1, "it began anew"
    same(done.result, point)
    assert not list(folder.glob("checkpoints/*/*"))
    with pytest.raises(InputError, match="differ in seed"):
        run_recipe(Recipe("classification", 1, done.recipe.slots, done.recipe.rungs), folder, sources=[weights_of_run(run)])
    result = folder / "result.json"
    result.write_text(result.read_text().replace(done.recipe.id, "0" * 32))
    with pytest.raises(StoreDamaged, match="is of recipe 000"):
        load_recipe_run(folder)
    with pytest.raises(InputError, match="holds something else"):
        run_recipe(done.recipe, run.path, sources=[weights_of_run(run)])


def test_a_training_that_is_asked_to_stop_goes_on_later(run: Any, tmp_path: Path) -> None:
    point = points(run)[0]
    steps: list[int] = []

    def stop(data: Any) -> None:
        steps.append(data["step"])
        os.kill(os.getpid(), signal.SIGTERM)

    done = run_recipe(recipe_of(run, point), tmp_path / "out", progress=stop)
    assert done.state == "interrupted" and not done.result and len(steps) == 1
    with pytest.raises(InputError, match="no result yet"):
        done.load()
    done = run_recipe(recipe_of(run, point), tmp_path / "out", progress=lambda data: steps.append(data["step"]))
    assert steps[1] == steps[0] + 1
    same(done.result, point)


# ----------------------------------------------------------------------------------------------------------- command line
@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")

    def run(*words: object, code: int = 0) -> Any:
        with pytest.raises(SystemExit) as left:
            main(["recipe", *(str(word) for word in words)])
        said = capsys.readouterr()
        assert int(left.value.code or 0) == code, said.err
        return said

    return run


def test_a_runs_best_point_is_trained_again_by_two_commands(run: Any, call: Callable[..., Any], tmp_path: Path) -> None:
    point = points(run)[1]
    made = json.loads(call("new", "--from", run.path, "--point", point.id, "-o", "grown.yaml", "--json").out)
    assert made["recorded"]["value"] == point.metrics["val_error"] and len(made["weights"]) == 2
    for file in made["weights"]:
        assert hashlib.sha256((tmp_path / file).read_bytes()).hexdigest() == Path(file).stem
    said = call("run", "grown.yaml", "-o", "again", "--json")
    result = json.loads(said.out)
    assert result["recipe"] == made["id"] and "epoch" in said.err
    same(result, point)
    assert "95 % interval" in call("run", "grown.yaml", "-o", "again").out
    assert "grown.yaml is there already" in call("new", "-o", "grown.yaml", code=2).err
    shown = call("show", "grown.yaml").out
    assert made["id"] in shown and "parent_weights" in shown and "multiply-adds" in shown
    best = json.loads(call("new", "--from", run.path, "-o", "best.yaml", "--json").out)
    assert best["recorded"]["value"] == min(entry["error"] for entry in run.frontier())


def test_an_exporter_writes_the_trained_network_beside_its_result(
    run: Any, call: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    import onnxruntime

    point, recipe = points(run)[0], recipe_of(run, points(run)[0])
    exporter = made("exporter", "mine", {"formats": ["onnx"], "input": "normalised", "opset": 20})
    recipe.with_("export", exporter).save(tmp_path / "r.yaml")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "onnxscript", None)
        assert "needs onnxscript" in call("run", "r.yaml", "-o", "out", code=2).err, "before anything is trained"
    assert not (tmp_path / "out").exists()
    result = json.loads(call("run", "r.yaml", "-o", "out", "--json").out)
    same(result, point)
    file, data = tmp_path / "out" / "export" / "model.onnx", load(DataSection(**CONFIG["data"]))
    mean, deviation = normalise(data)
    images = ((data.x_val / 255 - mean) / deviation).transpose(0, 3, 1, 2).astype("float32")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    wrong = session.run(None, {"images": images})[0].argmax(1) != data.y_val
    assert wrong.mean() == pytest.approx(point.metrics["val_error"], abs=1e-9)
    assert [each.version for each in onnx.load(file).opset_import if not each.domain] == [20]
    assert result["export"]["checks"]["model.onnx"]["largest_difference"] < 1e-4
    written = file.stat().st_mtime_ns
    assert f"{file}, within" in call("run", "r.yaml", "-o", "out").out and file.stat().st_mtime_ns == written
    file.write_bytes(b"other")
    assert "is not what was written" in call("run", "r.yaml", "-o", "out", code=StoreDamaged.exit_code).err
    shutil.rmtree(file.parent)
    done = load_recipe_run(tmp_path / "out")
    strict = made("exporter", "mine", {"formats": ["torch"], "tolerance": 1e-300})
    monkeypatch.setattr("archsearch.train.export.largest_difference", lambda found, wanted: 1e-9)
    with pytest.raises(ExportFailed, match="1e-300 is allowed"):
        export_recipe(replace(done, recipe=done.recipe.with_("export", strict)))
    assert not file.parent.exists() and load_recipe_run(tmp_path / "out").result == done.result, "no training is lost"


def test_a_recipe_is_made_filled_checked_and_compared(call: Callable[..., Any], tmp_path: Path) -> None:
    call("pantry", "mine")
    call("new", "model=tiny_cells", "--pantry", "mine", "--seed", 7, "-o", "a.yaml")
    said = call("check", "a.yaml", "--pantry", "mine", code=2)
    assert "error: training: empty" in said.out and "cannot be run" in said.out
    assert "empty slots: data" in call("run", "a.yaml", "-o", "out", code=2).err and not (tmp_path / "out").exists()
    call("fill", "a.yaml", "training=short", "--pantry", "mine", "-o", "b.yaml")
    assert "good." in call("check", "b.yaml").out
    found = json.loads(call("diff", "a.yaml", "b.yaml", "--json").out)
    assert not found["same"] and {"path": "training", "a": None, "b": "training version 1"} in found["differences"]
    call("fill", "a.yaml", "training=short", "--pantry", "mine")
    assert "the same: recipe" in call("diff", "a.yaml", "b.yaml").out
    assert "there is no slot modle" in call("new", "modle=tiny_cells", "-o", "c.yaml", code=2).err
    assert "seed is -1" in call("new", "--seed", -1, "-o", "c.yaml", code=2).err and not (tmp_path / "c.yaml").exists()
    assert "--from and --seed" in call("new", "--from", "run", "--seed", 3, "-o", "c.yaml", code=2).err
    (tmp_path / "mine" / "recipes").mkdir()
    (tmp_path / "b.yaml").rename(tmp_path / "mine" / "recipes" / "b.yaml")
    id_ = json.loads(call("show", "a.yaml", "--json").out)["id"]
    assert json.loads(call("show", id_, "--pantry", "mine", "--json").out)["slots"]["training"]["name"] == "short"
    assert "archsearch recipe diff" in call("--help").out
