"""``search.error: val_balanced_error``: every table and picture is about the error that the search was after."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from report_history import History, seed
from rich.console import Console

from archsearch.report import FrontierView, frontier_table, summary, write_html, write_report
from archsearch.report.compare import compare
from archsearch.report.pictures import _convex_hull, _gallery, _seeds
from archsearch.store import Point, RunState

BALANCED = {"error": "val_balanced_error"}


@pytest.fixture
def state() -> RunState:
    """By the plain error point 2 is the best; by the balanced one it is worse than point 1, and 3 is the best."""
    history = History()
    for channels, error, balanced, spread in ((2, 0.20, 0.40, 0.04), (4, 0.05, 0.50, 0.05), (8, 0.10, 0.30, 0.06)):
        extra = {"val_balanced_error": balanced, "val_balanced_standard_error": spread}
        tested = {"test_error": error + 0.01, "test_balanced_error": balanced + 0.02, "test_balanced_standard_error": 0.07}
        history.train(seed(channels), error, 100.0, 110.0, **extra, **(tested if channels == 8 else {}))
    return history.state


def ids(view: FrontierView) -> list[int]:
    return [point.id for point in view.pick(view.front)]


def text(points: list[Point], **settings: Any) -> str:
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(frontier_table(points, **settings))
    return console.export_text()


def test_frontier_and_summary(state: RunState) -> None:
    points = state.points()
    plain, balanced = FrontierView.of(points), FrontierView.of(points, **BALANCED)
    assert ids(plain) == [1, 2] and ids(balanced) == [1, 3]
    assert balanced.errors.tolist() == [0.40, 0.50, 0.30] and balanced.standard_errors.tolist() == [0.04, 0.05, 0.06]
    found = summary(points, **BALANCED)
    assert (found["error"], found["best"]["id"], found["best"]["error"]) == ("val_balanced_error", 3, 0.30)
    assert summary(points)["error"] == "val_error" and summary(points)["best"]["id"] == 2
    wide = FrontierView.of(points, **BALANCED, eps=0.0, band_standard_errors=4.0)
    assert len(wide.band) == 3 and len(FrontierView.of(points, **BALANCED, eps=0.0).band) == 2, "by its own standard errors"


def test_points_without_it_are_left_out(state: RunState) -> None:
    history = History()
    history.train(seed(2), 0.2, 0.0, 1.0)
    assert not FrontierView.of(history.state.points(), **BALANCED).points


def test_the_table(state: RunState) -> None:
    shown = text(state.points(), **BALANCED)
    assert re.search(r"balanced error %", shown) and re.search(r"40\.00 ± 4\.00", shown)
    assert re.search(r"30\.00 ± 6\.00\s+32\.00", shown), "the test error is the balanced one as well"
    assert "balanced" not in text(state.points())


def test_the_pictures_say_which_error_it_is(state: RunState) -> None:
    for settings, error, accuracy in (
        ({}, "validation error (%)", "accuracy (%)"),
        (BALANCED, "balanced validation error (%)", "balanced accuracy (%)"),
    ):
        view = FrontierView.of(state.points(), **settings)
        hull, seeds, gallery = Figure().add_subplot(), Figure().add_subplot(), Figure().add_subplot()
        _convex_hull(hull, view)
        _seeds(seeds, view)
        _gallery(gallery, view, "params")
        assert (hull.get_ylabel(), seeds.get_ylabel(), gallery.get_ylabel()) == (error, error, accuracy)
        heights = [tuple(line.get_ydata()) for line in hull.lines]
        assert ((100 * view.errors[view.best],) in heights) and any("best" in str(line.get_label()) for line in hull.lines)
        assert ((32.0,) in heights) == bool(settings), "the test error of point 3"


def test_files_and_page(state: RunState, tmp_path: Path) -> None:
    write_report(tmp_path, state.points(), **BALANCED)
    assert sorted(path.name for path in (tmp_path / "model_desc_gallery").iterdir()) == [
        "model_desc_1.yaml",
        "model_desc_3.yaml",
    ]
    assert ", balanced validation error 30.00%" in (tmp_path / "model_desc_gallery" / "model_desc_3.yaml").read_text()
    page = write_html(tmp_path, state, name="run", config="", environment={}, **BALANCED).read_text()
    data = json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.DOTALL)[1])
    assert data["errorLabel"] == "balanced validation error" and data["best"] == 3
    third = data["points"][2]
    assert (third["error"], third["se"], third["test"], third["testSe"], third["curveError"]) == (0.30, 0.06, 0.32, 0.07, 0.10)
    assert ["balanced validation error", "30.00 % ± 6.00"] in third["rows"] and ["validation error", "10.00 % ± 1.00"] in third[
        "rows"
    ]
    assert not any("balanced" in name for name, _ in third["more"])
    plain = json.loads(
        re.search(
            r'<script type="application/json"[^>]*>(.*?)</script>',
            write_html(tmp_path, state, name="run", config="", environment={}).read_text(),
            re.DOTALL,
        )[1]
    )
    assert not any("balanced" in label for label, _ in plain["points"][2]["rows"])
    assert ["val balanced error", "0.3"] in plain["points"][2]["more"], "known, though not asked for"


def test_compare(state: RunState) -> None:
    points = state.points()
    found = compare({"a": points[:2], "b": points[2:]}, **BALANCED)
    assert found.error == "val_balanced_error" and found.reference[1] == pytest.approx(1.1 * 0.40)
    assert found.entry("b")["best"]["error"] == 0.30
