"""What TensorBoard's own reader finds after a search, and after one that was killed with SIGKILL and resumed."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from recording import Recording, config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import archsearch
from archsearch.jobs import InputError
from archsearch.tracking.picture import frontier_picture
from archsearch.tracking.tensorboard import TensorBoard, TensorBoardConfig

TRACKING = {"callbacks": ["tensorboard", "jsonl"], "tensorboard": {"picture_every": 0}}


def read(folder):
    accumulator = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def scalars(folder):
    """tag -> [(step, value, time), ...]"""
    found = read(folder)
    return {tag: [(e.step, e.value, e.wall_time) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def lines(run):
    return [json.loads(line) for line in (run.path / "points.jsonl").read_text().splitlines()]


def matches(run, trainings=500):
    """Whether both callbacks wrote exactly the run's points."""
    points, written = run.points(), lines(run)
    assert [line["id"] for line in written] == [point.id for point in points]
    assert [line["number"] for line in written] == list(range(1, len(points) + 1))
    found = scalars(run.path / "tensorboard")
    for tag, key in (("pool/hypervolume", "hypervolume"), ("pool/best_error", "best_error"), ("point/cost", "cost")):
        assert found[tag] == [(line["number"], pytest.approx(line[key]), pytest.approx(line["time"])) for line in written], tag
    assert [value for _, value, _ in found["point/id"]] == [point.id for point in points]
    assert [value for _, value, _ in found["point/error"]] == pytest.approx([point.metrics["val_error"] for point in points])
    assert [value for _, value, _ in found["pool/size"]] == list(range(1, len(points) + 1))
    for number, point in enumerate(points, 1):
        folder = run.path / "tensorboard" / "points" / str(point.id)
        assert folder.exists() == (number <= trainings)
        if folder.exists():
            curves = scalars(folder)
            epochs = [epoch for epoch, _, _ in point.metrics["curve"]]
            assert [step for step, _, _ in curves["training_loss"]] == epochs and len(epochs) >= 1
            assert [value for _, value, _ in curves["val_error"]] == pytest.approx([e for _, _, e in point.metrics["curve"]])
            test = [value for _, value, _ in curves.get("test_error", [])]
            known = [point.metrics["test_error"]] if "test_error" in point.metrics else []
            assert test == pytest.approx(known)
    return found


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    values = config(run={"artifacts": None}, search={"test_frontier": True}, tracking=TRACKING)
    return archsearch.search(values, run_dir=tmp_path_factory.mktemp("board") / "r")


def test_tensorboard_reads_every_point_and_curve(run):
    matches(run)
    assert any("test_error" in point.metrics for point in run.points())


def test_the_frontier_is_a_picture(run):
    images = read(run.path / "tensorboard").Images("frontier")
    drawn = [np.asarray(Image.open(io.BytesIO(image.encoded_image_string))) for image in images]
    assert {picture.shape for picture in drawn} == {(450, 700, 3)} and len(drawn) >= 2
    assert all(np.ptp(picture) > 200 for picture in drawn) and (drawn[0] != drawn[-1]).any()
    fronts = [line["on_frontier"] for line in lines(run)]
    assert [image.step for image in images] == [number for number, on in enumerate(fronts, 1) if on]


def test_the_configuration_is_text_and_secrets_are_not_in_it(tmp_path):
    values = config(
        run={"store": "postgresql://user:hunter2@host/runs"},
        search={"max_hull_points": 1},
        tracking=TRACKING,
    )
    callback = TensorBoard()
    callback.open()
    masked = archsearch.config.from_values(values).to_json()
    recording = Recording()
    plain = archsearch.search(config(search={"max_hull_points": 1}), run_dir=tmp_path / "r", callbacks=[recording])
    ((start,),) = recording.told("on_start")
    start.config.clear()
    start.config.update(masked)
    callback.on_start(start)
    callback.close()
    text = read(plain.path / "tensorboard").Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "max_hull_points: 1" in text and "user:***@" in text and "seed_train:" in text
    assert all(b"hunter2" not in file.read_bytes() for file in (plain.path / "tensorboard").rglob("*") if file.is_file())


KILLED = """
import json, os, signal, sys
import archsearch
values, folder, commits = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
def reached(name):
    global commits
    commits -= name == "commit.after"
    if not commits:
        os.kill(os.getpid(), signal.SIGKILL)
archsearch.search(values, run_dir=folder, reached=reached)
"""


def test_after_a_kill_nothing_is_missing_and_nothing_stands_there_twice(tmp_path):
    values = config(tracking={**TRACKING, "tensorboard": {"trainings": 3}})
    line = [sys.executable, "-c", KILLED, json.dumps(values), str(tmp_path / "r"), "9"]
    assert subprocess.run(line, timeout=280, env={**os.environ}).returncode == -signal.SIGKILL
    before = archsearch.load_run(tmp_path / "r")
    assert 2 <= len(before.points()) < 5
    with (tmp_path / "r" / "points.jsonl").open("a") as file:
        file.write('{"number": 99, "half a li')
    resumed = archsearch.resume(tmp_path / "r")
    assert len(resumed.points()) >= 5
    matches(resumed, trainings=3)
    again = archsearch.resume(tmp_path / "r", overrides=["search.max_hull_points=6"])
    assert len(again.points()) > len(resumed.points())
    matches(again, trainings=3)


def test_without_the_package_the_search_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("archsearch.tracking.tensorboard.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the package tensorboard.*pip install -e '\.\[tensorboard\]'"):
        archsearch.search(config(tracking=TRACKING), run_dir=tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_runs_rm_takes_what_callbacks_wrote_for_the_runs_own(run, tmp_path):
    from archsearch.cli.runs_removal import removal

    with removal(run.path, force=False) as found:
        assert found.files > len(list(Path(run.path / "tensorboard").rglob("events*")))
    (run.path / "tensorboard" / "mine.txt").write_text("notes")
    with pytest.raises(InputError, match=r"tensorboard/mine\.txt"), removal(run.path, force=False):
        pass
    (run.path / "tensorboard" / "mine.txt").unlink()


def test_a_pool_without_figures_is_drawn(run):
    recording = Recording()
    archsearch.resume(run.path, callbacks=[recording], overrides=["tracking={}"])
    points = [point for ((start,),) in [recording.told("on_start")] for point in start.points]
    assert frontier_picture(points, "madds", "val_error").shape == (450, 700, 3)
    assert TensorBoardConfig().trainings == 500
