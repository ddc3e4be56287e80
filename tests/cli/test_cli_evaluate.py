"""``archsearch evaluate`` as a user runs it, and what other verbs make of a run that was evaluated."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_line import called

import archsearch
from archsearch import api
from archsearch.store import RunFolder, open_store

CONFIG = {
    "run": {"name": "small"},
    "data": {"name": "digits", "max_train": 200},
    "search": {"init_node_ch": [2, 8], "max_hull_points": 2, "test_frontier": False},
    "seed_train": {"epochs": 5, "batch_size": 50, "optimizer": "adamw", "lr": 0.02, "tensorwatch_stats": False},
    "weak_learner": {"steps": 2},
    "evaluation": {"seeds": 2, "n_cells": 4, "train": {"epochs": 1, "batch_size": 50}},
    "cluster": {"executor": "inline"},
}


def archsearch_command(*words, code=0):
    """In a process of its own."""
    command = [sys.executable, "-c", "from archsearch.cli import main; main()", *map(str, words)]
    environment = {**os.environ, "COLUMNS": "160"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return archsearch.search(CONFIG, run_dir=tmp_path_factory.mktemp("cli_evaluate") / "small")


@pytest.fixture(scope="module")
def evaluated(run):
    return archsearch_command("evaluate", run.path, "--top", 1)


def test_a_table_on_stdout_progress_on_stderr(run, evaluated):
    best = min(run.frontier(), key=lambda entry: entry["error"])["id"]
    row = next(line for line in evaluated.stdout.splitlines() if line.split()[:1] == [str(best)])
    assert "2/2" in row and "±" in row and "★" in row
    assert "95 % interval by Student's t" in evaluated.stdout and "evaluation.png" in evaluated.stdout
    assert f"job 1 EVAL_TRAINED of point {best} done" in evaluated.stderr and "all 2 trainings have ended" in evaluated.stderr
    assert "EVAL_TRAINED" not in evaluated.stdout


def test_json_and_the_same_command_again(run, evaluated):
    again = archsearch_command("evaluate", run.path, "--json")
    assert "EVAL" not in again.stderr, "nothing is trained again"
    found = json.loads(again.stdout)
    assert found["state"] == "done" and found["models"][0]["trainings"] == 2 and found["confidence"] == 0.95
    assert found == json.loads(json.dumps(archsearch.load_evaluation(run.path).summary()))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--points", "1,x"], "--points 1,x: expected numbers of points, such as --points 4,17"),
        (["--points", "99"], "has no point 99"),
        (["--points", "1", "--top", "1"], "the one or the other"),
        (["--set", "evaluation.seed=3"], "seeds"),
        (["--seeds", "0"], "seeds"),
    ],
)
def test_bad_input_leaves_with_2(run, words, said):
    done = called("evaluate", run.path, "--name", "new", *words, cwd=run.path.parent, code=2)
    assert said in done.stderr and not done.stdout
    assert not (run.path / "evaluations" / "new").exists()


def test_help_teaches():
    done = called("evaluate", "--help", cwd=Path.cwd())
    assert "--points 4,17 --name wide" in done.stdout and "same command again" in done.stdout


def test_export_holds_the_evaluation(run, evaluated, tmp_path):
    called("runs", "export", run.path, "-o", tmp_path / "run.zip", cwd=tmp_path)
    with zipfile.ZipFile(tmp_path / "run.zip") as archive:
        names = set(archive.namelist())
        kept = {f"evaluations/final/evaluation.{kind}" for kind in ("tsv", "json", "png")}
        assert {name for name in names if name.startswith("evaluations/")} == kept
        for name in kept:
            assert archive.read(name) == (run.path / name).read_bytes()
        assert b"Student" in archive.read("report.html")


def test_remove_takes_the_evaluation_along_but_not_while_it_is_driven(evaluated, run, tmp_path):
    import shutil

    path = tmp_path / "gone"
    shutil.copytree(run.path, path)
    with open_store(RunFolder.at(path / "evaluations" / "final"), write=True):
        archsearch_command("runs", "rm", path, "--yes", code=2)
    assert path.exists()
    (path / "evaluations" / "final" / "mine.txt").write_text("x")
    foreign = called("runs", "rm", path, "--yes", cwd=tmp_path, code=2)
    assert "evaluations/final/mine.txt" in foreign.stderr and path.exists()
    (path / "evaluations" / "final" / "mine.txt").unlink()
    called("runs", "rm", path, "--yes", cwd=tmp_path)
    assert not path.exists()


def test_status_of_an_evaluation_reads_it(run, evaluated):
    done = called("status", api.load_evaluation(run.path).path, cwd=run.path)
    assert "completed 4" in done.stdout
