"""search, resume, status, runs and report as a user calls them; exit codes; nothing written on bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from command_line import SMALL, archsearch, called

CONFS = Path(__file__).parents[2] / "confs"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a configuration and one finished run of it."""
    place = tmp_path_factory.mktemp("place")
    figures = {stage: {**SMALL[stage], "tensorwatch_stats": True} for stage in ("seed_train", "post_train")}
    (place / "tiny.yaml").write_text(yaml.safe_dump({**SMALL, **figures}))
    done = archsearch("search", "tiny.yaml", "--json", cwd=place)
    (place / "search.json").write_text(done.stdout)
    (place / "search.log").write_text(done.stderr)
    return place


def test_search_ends_with_what_status_says(place):
    ended = json.loads((place / "search.json").read_text())
    status = json.loads(archsearch("status", "runs/tiny", "--json", cwd=place).stdout)
    assert {key: ended[key] for key in status} == status
    assert status["state"] == "done" and status["points"] >= 4 and status["jobs"]["completed"] >= 6
    assert status["slots"] == {"total": 1, "busy": 0}
    for name in ("hull", "band", "frontier"):
        assert status[name] and all(set(point) == {"id", "cost", "error", "stage"} for point in status[name])
    assert status["best"]["error"] == min(point["error"] for point in status["frontier"])
    errors = [point["error"] for point in status["frontier"]]
    assert errors == sorted(errors, reverse=True) and len(set(errors)) == len(errors)


def test_progress_is_one_line_an_event_when_nobody_watches(place):
    lines = (place / "search.log").read_text().splitlines()
    assert sum("SEED_TRAINED done" in line for line in lines) == 2
    assert any("test error" in line for line in lines) and any("max_hull_points" in line for line in lines)


def test_the_files_of_a_run(place):
    names = {path.name for path in (place / "runs" / "tiny").iterdir()}
    assert {"full_pool.tsv", "pareto_front_summary.tsv", "pareto_eps_summary.tsv", "pareto_xy.tsv", "convex_hull.png"} <= names
    assert {"seed_models_madds.png", "model_gallery_accuracy_madds.png", "model_desc_gallery", "config.yaml"} <= names
    pool = (place / "runs" / "tiny" / "full_pool.tsv").read_text().splitlines()
    header, first = pool[0].split("\t"), pool[1].split("\t")
    row = dict(zip(header, first, strict=True))
    assert header[:5] == ["id", "job_stage", "cells", "reductions", "nodes"] and header[-1] == "sampling_count"
    assert float(row["MAdd"]) > 0 and float(row["flops"]) > 0 and float(row["inference_memory"]) > 0, "TensorWatch's figures"
    assert 0 < float(row["val_best_top1"]) < 1


def test_a_finished_run_is_resumed_with_a_larger_budget(place):
    done = archsearch("resume", "runs/tiny", "--set", "search.max_hull_points=6", "--json", cwd=place)
    assert json.loads(done.stdout)["points"] >= 6
    done = called("resume", "runs/tiny", "--set", "search.init_node_ch=9", cwd=place, code=2)
    assert "init_node_ch" in done.stderr and "cannot be changed" in done.stderr
    again = json.loads(called("status", "runs/tiny", "--json", cwd=place).stdout)
    assert again["points"] >= 6, "the budget of the resumed run is kept"


def test_runs_and_report(place):
    assert "tiny" in archsearch("runs", cwd=place).stdout
    rows = json.loads(called("runs", "--json", cwd=place).stdout)
    assert rows[0]["state"] == "done"
    (place / "runs" / "tiny" / "convex_hull.png").unlink()
    files = json.loads(archsearch("report", "runs/tiny", "--json", cwd=place).stdout)
    assert any(name.endswith("convex_hull.png") for name in files) and all(Path(name).exists() for name in files)
    page = (place / "runs" / "tiny" / "report.html").read_text()
    assert files[-1].endswith("tiny/report.html") and '"name":"tiny"' in page and "seed_train:" in page


def test_a_dry_run_does_nothing(place, tmp_path):
    found = json.loads(archsearch("search", place / "tiny.yaml", "--dry-run", "--json", cwd=tmp_path).stdout)
    assert found["jobs"] == {"SEED_TRAINED": 2, "SEARCH": 2, "SEARCH_TRAINED": 2} and found["slot_seconds"] > 0
    assert len(found["seeds"]) == 2 and found["seeds"][0]["madds"] < found["seeds"][1]["madds"]
    text = called("search", place / "tiny.yaml", "--dry-run", cwd=tmp_path).stdout
    assert "no work was done" in text and list(tmp_path.iterdir()) == []


def test_a_users_npz_with_two_sets(tmp_path):
    rng = np.random.default_rng(0)
    y = np.tile(np.arange(3), 40)
    x = (rng.integers(0, 80, (120, 9, 9, 3)) + 60 * y[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "mine.npz", x_train=x, y_train=y, x_test=x[:30], y_test=y[:30])
    small = ["--set=search.max_hull_points=3", "--set=search.init_node_ch=2"]
    for stage in ("seed_train", "post_train"):
        small += [f"--set={stage}.epochs=1", f"--set={stage}.tensorwatch_stats=false"]
    sets = ["--set", "data.name=npz", "--set", "data.path=mine.npz"]
    done = called("search", CONFS / "petridish_digits.yaml", *sets, *small, "--executor", "inline", "--json", cwd=tmp_path)
    summary = json.loads(done.stdout)
    assert summary["state"] == "done" and summary["points"] >= 3
    # resumed from another folder, the file is still found; changed, it is refused
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    called("resume", summary["run"], "--set", "search.max_hull_points=4", cwd=elsewhere)
    np.savez(tmp_path / "mine.npz", x_train=255 - x, y_train=y, x_test=x[:30], y_test=y[:30])
    refused = called("resume", summary["run"], "--set", "search.max_hull_points=9", cwd=elsewhere, code=2)
    assert "data set has changed" in refused.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search", "absent.yaml"], "absent.yaml"),
        (["search", "tiny.yaml", "--set", "search.max_hul_points=3"], "max_hull_points"),
        (["search", "tiny.yaml", "--set", "search.max_hull_points=-3"], "max_hull_points"),
        (["search", "tiny.yaml", "--set", "search.name=petridsh"], "petridish"),
        (["search", "tiny.yaml", "--set", "search.max_madd=5"], "max_madd"),
        (["search", "tiny.yaml", "--set", "data.name=npz"], "data.path"),
        (["search", "tiny.yaml", "--set", "data.name=npz", "--set", "data.path=none.npz"], "none.npz"),
        (["search", "tiny.yaml", "--executor", "slurm"], "inline"),
        (["search", "tiny.yaml", "--executor", "ray", "--address", "127.0.0.1:1"], "127.0.0.1:1"),
        (["search", "tiny.yaml", "--run-dir", "runs/tiny"], "holds a run"),
        (["search", "tiny.yaml", "--set", "search.n_reductions=3", "--set", "search.max_reductions=3"], "no seed fits"),
        (["status", "runs/none"], "runs/none"),
        (["resume", "tiny.yaml"], "no run"),
        (["report", "runs/none"], "no run"),
    ],
)
def test_bad_input_is_refused_before_anything_starts(place, words, said):
    before = sorted(place.rglob("*"))
    command = archsearch if "ray" in words else called  # what is set for Ray would stay in this process
    done = command(*words, cwd=place, code=2)
    assert said in done.stderr and len(done.stderr.splitlines()) < 15
    assert sorted(place.rglob("*")) == before, "something was written"


def test_a_run_whose_jobs_all_fail_stops_with_code_3_and_can_be_resumed(place, tmp_path):
    conf = {**SMALL, "search": {**SMALL["search"], "init_node_ch": [2, 3, 4]}, "seed_train": {"epochs": 2, "lr": 1e30}}
    (tmp_path / "conf.yaml").write_text(yaml.safe_dump(conf))
    done = archsearch("search", "conf.yaml", "--json", cwd=tmp_path, code=3)
    assert json.loads(done.stdout)["state"] == "failed" and "first 3 jobs" in done.stderr and "resume" in done.stderr
