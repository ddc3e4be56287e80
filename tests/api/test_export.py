"""A trained network as files for others: what is written is what was trained, and a file that is not is never written."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from scipy.stats import binomtest

import archsearch
from archsearch import api, exporting
from archsearch.arch.export import ExportFailed, OnPixels, largest_difference, pickled_parts
from archsearch.cli import main
from archsearch.data import DataSection, load
from archsearch.jobs import InputError
from archsearch.recipes.points import recipe_of
from archsearch.report.model_card import card_markdown
from archsearch.train import export as formats

CONFIG = {
    "run": {"name": "small", "keep": "frontier"},
    "data": {"name": "digits", "max_train": 300},
    "search": {"init_node_ch": [2, 8], "max_hull_points": 4, "band_standard_errors": 2, "test_frontier": True},
    "seed_train": {"epochs": 5, "batch_size": 50, "optimizer": "adamw", "lr": 0.02, "tensorwatch_stats": False},
    "post_train": {"epochs": 2, "batch_size": 50, "optimizer": "adamw", "lr": 0.01, "tensorwatch_stats": False},
    "weak_learner": {"steps": 2},
    "evaluation": {"seeds": 2, "n_cells": 4, "train": {"epochs": 1, "batch_size": 50}},
    "cluster": {"executor": "inline"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return archsearch.search(CONFIG, run_dir=tmp_path_factory.mktemp("export") / "small")


@pytest.fixture(scope="module")
def grown(run):
    """A point of the frontier that has forebears, and its weights."""
    return max((run.state.point(each["id"]) for each in run.frontier()), key=lambda point: (point.parent is not None, point.id))


@pytest.fixture(scope="module")
def exported(run, grown, tmp_path_factory):
    return api.export(run.path, tmp_path_factory.mktemp("exported") / "new" / "model", point=grown.id)


@pytest.fixture(scope="module")
def data():
    return load(DataSection(**CONFIG["data"]))


def blocks(folder: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (folder / "MODEL_CARD.md").read_text(), re.DOTALL)


def run_blocks(folder: Path) -> list[str]:
    """Run the card's snippets, as one who has only its folder does: without archsearch until the one that needs it."""
    code = "import sys; sys.modules['archsearch'] = None\n"
    for block in blocks(folder):
        code += "sys.modules.pop('archsearch', None)\n" * ("import archsearch" in block or "from archsearch" in block)
        code += f"exec({block!r}, {{}})\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("classes:")]


def test_files_compute_what_was_trained_from_raw_pixels(run, grown, exported, data):
    import onnxruntime

    session = onnxruntime.InferenceSession(exported.path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [(each.name, each.type, each.shape) for each in session.get_inputs()] == [
        ("images", "tensor(uint8)", ["batch", 8, 8, 1])
    ]
    for images, labels, name in ((data.x_val, data.y_val, "val_error"), (data.x_test, data.y_test, "test_error")):
        (logits,) = session.run(None, {"images": images})
        assert (logits.argmax(1) != labels).mean() == pytest.approx(grown.metrics[name], abs=1e-9)
    for name, check in exported.card["checks"].items():
        assert check["images"] == check["same_class"] == len(data.y_val), name
        assert {1, 2, 3, 7, 32, 64} <= set(check["batch_sizes"]) and check["largest_difference"] < check["tolerance"] == 1e-4


def test_the_cards_snippets_run(exported):
    found = run_blocks(exported.path)
    assert len(found) == 3
    classes = [[int(each) for each in re.findall(r"\d+", line)] for line in found]
    assert classes[0] == classes[1] == classes[2] and len(classes[0]) == 6


def test_nothing_in_it_runs_code_or_tells_of_this_machine(run, grown, exported):
    card = json.loads((exported.path / "model_card.json").read_text())
    assert card == json.loads(json.dumps(exported.card))
    names = {"model.onnx", "model.pt2", "weights.safetensors", "architecture.yaml", "example.safetensors"}
    assert set(card["files"]) == names and {path.name for path in exported.path.iterdir()} == names | exporting.OURS
    here = [str(Path(archsearch.__file__).parents[1]), str(run.path), str(Path.home()), "/site-packages"]
    for path in exported.path.iterdir():
        payload = path.read_bytes()
        assert not [place for place in here if len(place) > 5 and place.encode() in payload], path
        if path.name in names:
            assert card["files"][path.name] == {"sha256": hashlib.sha256(payload).hexdigest(), "size": len(payload)}
    assert not list(pickled_parts((exported.path / "model.pt2").read_bytes()))
    assert card["files"]["weights.safetensors"]["sha256"] == grown.weights.sha256
    with safe_open(exported.path / "example.safetensors", "pt") as example:
        assert example.get_slice("images").get_dtype() == "U8"


def test_what_would_be_pickled_is_found(tmp_path):
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.ones(1, 2),))
    torch.export.save(program, tmp_path / "a.pt2")  # with the inputs that it was traced with
    assert any("sample_inputs" in name for name in pickled_parts((tmp_path / "a.pt2").read_bytes()))


def test_the_card_says_what_the_run_knows(run, grown, exported, data):
    card = exported.card
    assert card["recipe"] == recipe_of(run, grown.id).id
    assert (card["data"]["hash"], card["data"]["images"]["val"]) == (data.hash, len(data.y_val))
    rows = {row["name"]: row for row in card["metrics"]}
    for name, count in (("val_error", len(data.y_val)), ("test_error", len(data.y_test))):
        interval = binomtest(round(grown.metrics[name] * count), count).proportion_ci(0.95, method="wilson")
        assert rows[name]["interval"] == pytest.approx(list(interval), abs=1e-9) and rows[name]["images"] == count
        assert rows[name]["value"] == grown.metrics[name]
    ids, at = [], grown
    while at is not None:
        ids, at = [at.id, *ids], None if at.parent is None else run.state.point(at.parent)
    assert [row["point"] for row in card["lineage"]] == ids and len(ids) > 1
    assert not card["lineage"][0]["grew"] and any("new node" in line for line in card["lineage"][-1]["grew"])
    text = (exported.path / "MODEL_CARD.md").read_text()
    for said in (card["recipe"], data.hash, f"{card['costs']['madds']:,} multiply-adds", "by Wilson", "unpickles"):
        assert said in text


def test_a_strangers_names_stay_text(exported):
    card = copy.deepcopy(dict(exported.card))
    bad = "<script>x</script>|[a](b)\n# c"
    card["output"]["class_names"][0] = card["source"]["run"] = card["name"] = card["recipe"] = bad
    card["lineage"][0]["origin"] = {"run": bad, "point": 1}
    figure = {"name": "latency_ms@pi4", "value": 4.125, "low": 4.0, "high": 4.25, "unit": "ms", "noisy": True}
    card["devices"] = {"measured": [figure], "by": [{"runtime": bad, "fingerprint": "ab12", "protocol": 1}]}
    text = card_markdown(card)
    assert "<script>" not in text and "[a](b)" not in text and "\n# c" not in text
    assert "latency on pi4: 4.12 ms (95 % interval 4 to 4.25, noisy)" in text and "`ab12`" in text


def spoiled(model: Path) -> bytes:
    """An ONNX file one weight of which is a little off."""
    import onnx

    found = onnx.load(model)
    tensor = next(each for each in found.graph.initializer if len(each.dims) == 4)
    values = onnx.numpy_helper.to_array(tensor).copy()
    values[0, 0, 0, 0] += 0.01
    tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return found.SerializeToString()


def traced_for_two(network, images):
    program = torch.export.export(network, (images,))
    program.example_inputs = None
    return program


@pytest.mark.parametrize("fault", ["a weight", "the mean", "the batch size"])
def test_a_file_that_computes_something_else_is_not_written(run, grown, exported, tmp_path, monkeypatch, fault):
    if fault == "a weight":
        monkeypatch.setattr(formats, "program_of", lambda network, images: None)  # the file is there already
        monkeypatch.setattr(formats, "WRITERS", {"onnx": lambda *given: spoiled(exported.path / "model.onnx")})
    elif fault == "the mean":
        monkeypatch.setattr(formats, "OnPixels", lambda network, shift, scale: OnPixels(network, 0.99 * shift, scale))
    else:  # traced for two images, and no other number
        monkeypatch.setattr(formats, "program_of", traced_for_two)
    wanted = "does not run on 1 images" if fault == "the batch size" else "are not PyTorch's"
    with pytest.raises(ExportFailed, match=wanted):
        api.export(run, tmp_path / "out", point=grown.id, formats=["onnx" if fault == "a weight" else "torch"])
    assert not list(tmp_path.iterdir())


def test_a_nan_is_no_agreement():
    good, bad = torch.ones(2, 3), torch.tensor([[1.0, float("nan"), 1.0], [1.0, 1.0, 1.0]])
    assert largest_difference([good], [good]) == 0 and largest_difference([bad], [good]) == float("inf")
    assert largest_difference([good[:1]], [good]) == float("inf")


def test_weights_that_do_not_make_the_recorded_error_are_refused(run, grown, tmp_path, monkeypatch):
    record = run.state.jobs[grown.id]
    monkeypatch.setitem(run.state.jobs, grown.id, replace(record, metrics={**record.metrics, "val_error": 0.01}))
    with pytest.raises(ExportFailed, match=r"training recorded 1.0%"):
        api.export(run, tmp_path / "out", point=grown.id, formats=["torch"])
    assert not list(tmp_path.iterdir())


def test_an_evaluations_network_with_force_and_normalised_input(run, exported, tmp_path, monkeypatch):
    evaluation = archsearch.evaluate(run, top=1)
    shutil.copytree(exported.path, tmp_path / "out")
    with pytest.raises(InputError, match="--force"):
        api.export(run, tmp_path / "out", formats=["torch"], evaluation="final")
    done = api.export(run, tmp_path / "out", formats=["torch"], evaluation="final", repeat=1, input="normalised", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    summary = evaluation.summary()["models"][0]
    rows = [row for row in done.card["metrics"] if row["name"] == "test_error"]
    assert rows[0]["value"] == summary["test_errors"][1] and rows[1]["interval"] == summary["interval"]
    assert rows[1]["seeds"] == summary["test_errors"] and "Student" in rows[1]["method"]
    assert done.card["costs"]["madds"] == summary["madds"] and done.card["source"]["repeat"] == 1
    assert done.card["recipe"] not in (None, recipe_of(run, summary["point"]).id)
    assert done.card["input"]["type"] == "float32" and not (tmp_path / "out" / "model.onnx").exists()
    monkeypatch.chdir(tmp_path / "out")
    assert len(blocks(tmp_path / "out")) == 2
    for block in blocks(tmp_path / "out"):  # each compares its answer with PyTorch's
        exec(block, {})
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"'notes.txt', which no export wrote"):
        api.export(run, tmp_path / "out", formats=["torch"], evaluation="final", force=True)


def test_the_command_writes_the_same_bytes(run, grown, exported, tmp_path, capsys):
    (tmp_path / "out").mkdir()  # an empty folder is free
    with pytest.raises(SystemExit) as left:
        main(["export", str(run.path), "--point", str(grown.id), "-o", str(tmp_path / "out"), "--format", "torch", "--json"])
    assert left.value.code == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["files"]["model.pt2"] == exported.card["files"]["model.pt2"]
    assert "validation images" in told.err and not (tmp_path / "out" / "model.onnx").exists()


def test_what_is_refused_leaves_nothing(run, tmp_path, monkeypatch):
    def refused(text, *, output="out", **more):
        with pytest.raises(InputError, match=text):
            api.export(run, tmp_path / output, **{"formats": ["torch"], **more})
        assert not (tmp_path / "out").exists()

    lost = next(point for point in run.points() if point.weights is None)
    refused(rf"archsearch evaluate .* --points {lost.id} .*run.keep: all", point=lost.id)
    refused("has no point 99", point=99)
    refused("a point's number, or best", point="first")
    refused("no format 'tflite'.*onnx, torch", formats=["tflite"])
    refused("pixels or normalised", input="bytes")
    refused("evaluation", evaluation="none such")
    (tmp_path / "file").write_text("x")
    refused("is no folder", output="file", force=True)
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    refused(r"needs onnxscript.*archsearch\[onnx\]", formats=["onnx"])
    other = replace(exporting.load_data(run.config, os.getcwd()), hash="0" * 64)
    monkeypatch.setattr(exporting, "load_data", lambda config, directory: other)
    refused("hash 000000000000")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert not np.any([path.name.startswith(".") for path in run.path.parent.iterdir()])
