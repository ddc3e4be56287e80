"""The configurations that users start from are good, and say what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsearch.api import search
from archsearch.config import load

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
