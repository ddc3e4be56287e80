"""The configurations that users start from are good, and say what they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from archsearch.api import Run, search
from archsearch.config import load
from archsearch.simulation import simulate

CONFS = sorted((Path(__file__).parents[1] / "confs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFS, ids=lambda path: path.stem)
def test_it_is_good_and_commented(path):
    config = load(path)
    assert config["run"].name == path.stem
    assert path.read_text().startswith("# ")


def test_the_four_that_were_promised_are_there():
    assert {"petridish_digits", "petridish_glyphs", "petridish_cifar10", "petridish_imagenet"} <= {path.stem for path in CONFS}


def test_the_growth_baseline_differs_in_the_searcher_only():
    growth, petridish = (load(CONFS[0].parent / f"{name}_digits.yaml").to_json() for name in ("growth", "petridish"))
    assert {name for name in petridish if petridish[name] != growth[name]} == {"run", "search"}
    assert {key for key in petridish["search"] if petridish["search"][key] != growth["search"][key]} == {"name"}


@pytest.mark.parametrize("name", ["random", "evolution", "local"])
def test_a_baseline_from_scratch_differs_in_the_searcher_only(name):
    """Same data, widths, trainings, limits and budget; only what the searcher itself needs is its own."""
    baseline, petridish = (load(CONFS[0].parent / f"{which}_digits.yaml").to_json() for which in (name, "petridish"))
    assert {key for key in petridish if petridish[key] != baseline[key]} == {"run", "search"}
    shared = petridish["search"].keys() & baseline["search"].keys()
    assert {key for key in shared if petridish["search"][key] != baseline["search"][key]} == {"name", "max_nodes"}
    assert baseline["search"].keys() - shared == ({"population", "sample_size"} if name == "evolution" else set())


#: Small enough for seconds: one epoch on a few images, six points.
SMALL = ("cluster.executor=inline", "search.max_hull_points=6", "data.max_train=200", "seed_train.epochs=1")


@pytest.mark.parametrize(
    ("name", "more", "grown"),
    [
        ("random", (), 0),
        ("evolution", ("search.population=3", "search.sample_size=2"), 3),
        ("local", ("search.init_node_ch=[2,4]",), 4),
    ],
)
def test_a_baseline_really_runs(name, more, grown, tmp_path):
    run = search(CONFS[0].parent / f"{name}_digits.yaml", overrides=[*SMALL, *more], run_dir=tmp_path / "run")
    points = run.points()
    assert run.outcome is not None and run.outcome.state == "done" and len(points) == 6
    assert sum(point.parent is not None for point in points) == grown
    assert run.frontier() and all((tmp_path / "run" / file).exists() for file in ("full_pool.tsv", "convex_hull.png"))


# --------------------------------------------------------------------------------------------------------------- devices
DEVICES = CONFS[0].parent / "petridish_digits_devices.yaml"
WANTED = {"latency_ms@one", "latency_ms@two", "peak_memory_mb@one"}


def frontiers_of(run: Run) -> None:
    """All points are measured, each objective has its frontier, and the report shows them side by side."""
    found, points = run.summary()["measurements"], {point.id for point in run.points()}
    assert points and {name: set(about["measured"]) for name, about in found.items()} == dict.fromkeys(WANTED, points)
    assert all(about["frontier"] for about in found.values()) and (run.path / "device_frontiers.png").stat().st_size > 1000
    columns = (run.path / "full_pool.tsv").read_text().splitlines()[0].split("\t")
    assert set(columns) >= WANTED


def test_the_search_with_devices_keeps_a_frontier_for_each(tmp_path):
    few = ("data.max_train=200", "search.max_hull_points=6")
    run = simulate(DEVICES, slots=2, run_dir=tmp_path / "run", overrides=few).run
    assert len(run.points()) >= 6
    frontiers_of(run)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_search_with_devices_really_measures(tmp_path, monkeypatch):
    """As a user runs it but for the sizes, and where there is one core with one thread on both."""
    (tmp_path / "locks").mkdir()
    monkeypatch.setenv("ARCHSEARCH_DEVICE_LOCKS", str(tmp_path / "locks"))
    knobs = {"launches": 1, "rounds": 1, "runs": 3, "seconds": 0, "warmup": 0.1, "memory_runs": 1, "repeats": 0, "patience": 0}
    few = [f"profile.protocol={json.dumps(knobs)}", f"devices.two.threads={min(2, len(os.sched_getaffinity(0)))}"]
    few += ["search.init_node_ch=[2,3]", "search.max_hull_points=3", "profile.cache=false", *SMALL[2:]]
    few += ["search.constraints=[latency_ms@two < 5000]"]  # whatever else this machine does
    run = search(DEVICES, overrides=few, run_dir=tmp_path / "run")
    assert run.outcome is not None and run.outcome.state == "done"
    frontiers_of(run)
