"""Tables, pictures and gallery of a run, read back."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from archsearch.arch import Architecture, Edge, cost, grow_node, seed_architecture
from archsearch.jobs import Stage, StoreUnavailable
from archsearch.report import COLUMNS, FrontierView, frontier_table, quantity, summary, write_report
from archsearch.report.pictures import BAND, BEST, GROWN, HULL, SEED, TEST
from archsearch.store import Point

GALLERIES = [f"model_gallery_accuracy_{cost}.png" for cost in ("madds", "flops", "params")]
PICTURES = ["convex_hull.png", "seed_models_madds.png", *GALLERIES]
TENSORWATCH = {"MAdd": 72598, "Flops": 1234, "duration": 8.25, "mread": 56360, "mwrite": 47656, "inference_memory": 0.047}


def make_point(id: int, error: float, *, channels: int, grown: int = 0, parent: int | None = None, **more: Any) -> Point:
    arch = seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=channels)
    for _ in range(grown):
        arch = grow_node(arch, {name: [Edge("s0", "sep_conv_3x3")] for name in arch.cells})
    price = cost(arch)
    metrics = {
        "val_error": error,
        "val_standard_error": 0.01,
        "train_error": error / 2,
        "best_epoch": 7,
        "madds": price.madds,
        "flops": 2 * price.madds,
        "params": price.params,
        "tensorwatch": {**TENSORWATCH, "parameters": price.params} if id % 2 else None,
        **more,
    }
    stage = Stage.SEARCH_TRAINED if grown else Stage.SEED_TRAINED
    return Point(id, stage, arch.to_json(), parent, metrics, None, sampling_count=id % 3)


@pytest.fixture
def pool() -> list[Point]:
    """Costs rise with channels. On the hull: 1, 5 and 9; 7 lies just above it, 3 is not dominated either, 2 and 8 are."""
    return [
        make_point(1, 0.50, channels=2),
        make_point(2, 0.60, channels=4),
        make_point(3, 0.45, channels=4, grown=1, parent=1),
        make_point(5, 0.10, channels=8),
        make_point(7, 0.085, channels=12, grown=1, parent=5),
        make_point(8, 0.30, channels=16),
        make_point(9, 0.02, channels=16, grown=2, parent=7, test_error=0.03, test_standard_error=0.009),
    ]


def rows(path: Path) -> list[dict[str, str]]:
    text = path.read_text()
    assert text.endswith("\n") and "\r" not in text
    return list(csv.DictReader(io.StringIO(text), delimiter="\t"))


def ids(path: Path) -> list[int]:
    return [int(row["id"]) for row in rows(path)]


def pixels(payload: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return np.asarray(imread(io.BytesIO(payload), format="png"))[..., :3]


def has_colour(image: np.ndarray, colour: str) -> bool:
    """At least ten pixels of it."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return int((np.abs(image - wanted).max(axis=-1) < 0.02).sum()) >= 10


# ---------------------------------------------------------------------------------------------------------------- tables
def test_tables_have_the_columns_and_the_points(pool: list[Point], tmp_path: Path) -> None:
    written = write_report(tmp_path, pool, eps=0.2)
    assert all(path.is_file() for path in written)
    assert sorted(tmp_path.rglob("*.*")) == sorted(written), "nothing else is left behind"
    assert ids(tmp_path / "full_pool.tsv") == [1, 2, 3, 5, 7, 8, 9]
    assert ids(tmp_path / "pareto_front_summary.tsv") == [1, 3, 5, 7, 9]
    assert ids(tmp_path / "pareto_eps_summary.tsv") == [1, 5, 7, 9]
    assert ids(tmp_path / "pareto_xy.tsv") == [1, 5, 9]
    for name in ("full_pool", "pareto_front_summary", "pareto_eps_summary", "pareto_xy"):
        header = (tmp_path / f"{name}.tsv").read_text().splitlines()[0]
        assert header.split("\t") == list(COLUMNS)
    assert " ".join(COLUMNS) == (
        "id job_stage cells reductions nodes MAdd flops duration mread mwrite inference_memory parameters train_best_epoch "
        "train_best_top1 val_best_epoch val_best_top1 test_best_epoch test_best_top1 parent_id sampling_count"
    )


def test_a_row_tells_what_is_known_and_leaves_the_rest_empty(pool: list[Point], tmp_path: Path) -> None:
    write_report(tmp_path, pool)
    table = {int(row["id"]): row for row in rows(tmp_path / "full_pool.tsv")}
    nine, two = table[9], table[2]
    assert (nine["job_stage"], nine["cells"], nine["reductions"], nine["nodes"]) == ("SEARCH_TRAINED", "3", "1", "3")
    assert (nine["MAdd"], nine["flops"], nine["duration"], nine["inference_memory"]) == ("72598", "1234", "8.25", "0.047")
    assert int(nine["parameters"]) == pool[-1].metrics["params"]
    tops = [float(nine[f"{split}_best_top1"]) for split in ("train", "val", "test")]
    assert tops == pytest.approx([0.99, 0.98, 0.97])
    assert [nine[f"{split}_best_epoch"] for split in ("train", "val", "test")] == ["7", "7", "7"]
    assert (nine["parent_id"], nine["sampling_count"]) == ("7", "0")
    assert two["job_stage"] == "SEED_TRAINED"
    unknown = ("MAdd", "flops", "mread", "parameters", "test_best_top1", "test_best_epoch", "parent_id")
    assert {two[name] for name in unknown} == {""}


def test_the_gallery_holds_the_frontiers_descriptions_and_forgets_others(pool: list[Point], tmp_path: Path) -> None:
    write_report(tmp_path, pool[:2] + pool[4:5])
    gallery = tmp_path / "model_desc_gallery"
    (gallery / "mine.yaml").write_text("a user's own file\n")
    assert sorted(path.name for path in gallery.iterdir()) == ["mine.yaml", "model_desc_1.yaml", "model_desc_7.yaml"]
    better = [make_point(20, 0.01, channels=2)]
    write_report(tmp_path, [*pool[:3], *better])
    assert sorted(path.name for path in gallery.iterdir()) == ["mine.yaml", "model_desc_20.yaml"]
    text = (gallery / "model_desc_20.yaml").read_text()
    assert Architecture.from_yaml(text).to_json() == better[0].arch
    assert "validation error 1.00%" in text.splitlines()[0]


def test_a_run_with_operations_that_are_not_registered_here_is_reported(pool: list[Point], tmp_path: Path) -> None:
    cells: Any = pool[0].arch["cells"]
    arch = {**pool[0].arch, "cells": {n: {**cell, "nodes": [[["s1", "my_operation"]]]} for n, cell in cells.items()}}
    strange = [replace(pool[0], arch=arch), replace(pool[3], arch={"family": "mine", "layers": 3})]
    write_report(tmp_path, strange)
    first, second = rows(tmp_path / "full_pool.tsv")
    assert (first["cells"], first["nodes"], second["cells"]) == ("3", "1", "")
    assert "my_operation" in (tmp_path / "model_desc_gallery" / "model_desc_1.yaml").read_text()
    assert frontier_table(strange).row_count == 2


def test_a_folder_that_cannot_be_written_is_named(pool: list[Point], tmp_path: Path) -> None:
    (tmp_path / "run").write_text("a file where the folder should be")
    with pytest.raises(StoreUnavailable, match="run"):
        write_report(tmp_path / "run", pool)


# -------------------------------------------------------------------------------------------------------------- pictures
def test_pictures_show_hull_band_seeds_grown_tests_and_best(pool: list[Point], tmp_path: Path) -> None:
    write_report(tmp_path, pool, eps=0.2)
    images = {name: pixels((tmp_path / name).read_bytes()) for name in PICTURES}
    for name, image in images.items():
        assert image.shape[0] > 600 and image.shape[1] > 900, name
        assert len(np.unique(image)) > 20, f"{name} is blank"
    assert all(has_colour(images["convex_hull.png"], colour) for colour in (SEED, GROWN, HULL, BAND, BEST, TEST))
    assert has_colour(images["seed_models_madds.png"], SEED) and not has_colour(images["seed_models_madds.png"], GROWN)
    for name in GALLERIES:
        assert all(has_colour(images[name], colour) for colour in (SEED, GROWN, TEST))
    assert not np.array_equal(images["model_gallery_accuracy_madds.png"], images["model_gallery_accuracy_params.png"])


@pytest.mark.parametrize("count", [0, 1])
def test_a_run_of_hardly_any_points_is_reported(pool: list[Point], count: int, tmp_path: Path) -> None:
    write_report(tmp_path, pool[:count])
    assert len(rows(tmp_path / "full_pool.tsv")) == count
    assert all(len(np.unique(pixels((tmp_path / name).read_bytes()))) > 5 for name in PICTURES)
    assert frontier_table(pool[:count]).row_count == count


@pytest.mark.filterwarnings("error")
def test_errors_of_zero_and_costs_of_zero_can_be_drawn(pool: list[Point], tmp_path: Path) -> None:
    perfect = [replace(point, metrics={**point.metrics, "val_error": 0.0, "test_error": 0.0}) for point in pool]
    write_report(tmp_path / "a", [*pool[:4], perfect[-1]], band_standard_errors=1.0)
    write_report(tmp_path / "b", perfect)
    free = replace(pool[0], metrics={**pool[0].metrics, "joules": 0.0})
    dear = replace(pool[3], metrics={**pool[3].metrics, "joules": 2.5})
    write_report(tmp_path / "c", [free, dear], cost="joules")


def test_drawing_leaves_matplotlibs_global_state_alone(pool: list[Point], tmp_path: Path) -> None:
    script = (
        "import sys, archsearch.report\n"
        "assert not {'matplotlib', 'torch', 'ray', 'rich'} & set(sys.modules), 'loaded at import'\n"
        "from archsearch.report.pictures import pictures\n"
        "from archsearch.report import FrontierView\n"
        "pictures(FrontierView.of([]))\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# --------------------------------------------------------------------------------------------------- summary and terminal
def test_summary_lists_hull_band_frontier_and_best(pool: list[Point]) -> None:
    found = summary(pool, eps=0.2)
    assert found["points"] == 7 and found["cost"] == "madds"
    lists = {name: [entry["id"] for entry in found[name]] for name in ("hull", "band", "frontier")}
    assert lists == {"hull": [1, 5, 9], "band": [1, 5, 7, 9], "frontier": [1, 3, 5, 7, 9]}
    assert found["best"] == {"id": 9, "cost": pool[-1].metrics["madds"], "error": 0.02, "stage": "SEARCH_TRAINED"}
    empty = summary([])
    assert (empty["points"], empty["hull"], empty["best"]) == (0, [], None)


def test_standard_errors_widen_the_band(pool: list[Point]) -> None:
    strict = summary(pool, eps=0.0)
    wide = summary(pool, eps=0.0, band_standard_errors=3.0)
    assert [entry["id"] for entry in strict["band"]] == [1, 5, 9]
    assert [entry["id"] for entry in wide["band"]] == [1, 5, 7, 9]


def test_a_point_without_the_cost_stays_outside_until_it_has_it(pool: list[Point]) -> None:
    timed = [replace(p, metrics={**p.metrics, "latency": 5.0 - i}) if i in (1, 3) else p for i, p in enumerate(pool)]
    view = FrontierView.of(timed, cost="latency")
    assert (view.cost, [point.id for point in view.points]) == ("latency", [2, 5])
    assert summary(timed, cost="latency")["points"] == 7
    assert summary(pool, cost="latency")["cost"] == "madds", "while none has it, madds serve"
    broken = replace(pool[0], metrics={**pool[0].metrics, "val_error": float("nan")})
    assert [p.id for p in FrontierView.of([broken, *pool[1:]]).points] == [2, 3, 5, 7, 8, 9]


def test_the_table_fits_a_terminal_and_shows_the_frontier(pool: list[Point]) -> None:
    console = Console(width=80, file=io.StringIO(), record=True)
    console.print(frontier_table(pool, eps=0.2))
    lines = console.export_text().splitlines()
    assert not any("…" in line for line in lines), "something was cut"
    body = {line.split()[0]: line for line in lines[1:6]}
    assert list(body) == ["1", "3", "5", "7", "9"] and "7 points, 5 on the frontier: ● hull (3)" in lines[6]
    assert "3c 1r 3n 16ch" in body["9"] and "from 7" in body["9"] and "2.00 ± 1.00" in body["9"] and "3.00" in body["9"]
    assert body["9"].rstrip().endswith("● ★") and body["7"].rstrip().endswith("○") and "seed" in body["1"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (950, "950"), (999.6, "1 k"), (12_345, "12.3 k"), (999_600, "1 M"), (4.564e6, "4.56 M"), (3e9, "3 G")],
)
def test_quantities_for_people(value: float, text: str) -> None:
    assert quantity(value) == text
