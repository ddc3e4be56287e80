"""A frontier that was trained again with other seeds: only these errors count, in everything that a run leaves."""

from __future__ import annotations

import io
import json
import re

import pytest
from report_history import History, grown, seed

from archsearch.jobs import EventKind, FailureKind, Stage
from archsearch.report import FrontierView, frontier_table, summary, write_html, write_report

#: Half of the 95 % interval of two values by Student's t is this times half of their distance.
T2 = 12.706


def confirm(history, point, *errors):
    """Trainings of a point with other seeds; None: abandoned."""
    for error in errors:
        at = float(1000 + history.jobs)
        job = history.start(Stage.EVAL_TRAINED, at, spec={"arch": {}}, parent=point)
        if error is None:
            failure = {"kind": str(FailureKind.NON_FINITE), "message": "", "traceback": "", "final": True}
            history.add(EventKind.FAILED, at, job, attempt=1, seconds=1.0, **failure)
        else:
            history.end(job, at, {"val_error": error, "val_standard_error": 0.02, "val_balanced_error": error / 2})


def history_of(*confirmations):
    """Four points: 1 (cheapest), 2, 3 and 4, of which 3 is dominated; each of ``confirmations`` is (point, errors...)."""
    history = History()
    first = seed(2)
    history.train(first, 0.40, 0.0, 1.0, val_balanced_error=0.2)
    history.train(grown(first), 0.20, 1.0, 2.0, parent=1, val_balanced_error=0.1)  # the lucky one
    history.train(seed(4), 0.60, 2.0, 3.0, val_balanced_error=0.3)
    history.train(seed(8), 0.15, 3.0, 4.0, test_error=0.18, val_balanced_error=0.07)
    for point, *errors in confirmations:
        confirm(history, point, *errors)
    return history.state


ALL = [(1, 0.38, 0.42), (2, 0.45, 0.47), (4, 0.18, 0.20)]


def ids(entries):
    return [entry["id"] for entry in entries]


def test_the_final_frontier_is_made_of_the_new_errors_alone():
    state = history_of(*ALL)
    found = summary(state.points())
    assert found["confirmed"] is True and ids(found["frontier"]) == [1, 4], "2 was only lucky"
    entry = found["frontier"][1]
    assert entry["error"] == pytest.approx(0.19) and entry["selected_error"] == 0.15, "its first score counts no more"
    assert entry["confirmations"] == [0.18, 0.20]
    assert entry["interval"] == pytest.approx([max(0.0, 0.19 - 0.01 * T2), 0.19 + 0.01 * T2], rel=1e-3)
    assert found["best"] == entry and ids(found["hull"]) == [1, 4]


def test_before_all_were_tried_again_the_frontier_is_that_of_the_search():
    for part in (ALL[:0], ALL[:2]):
        found = summary(history_of(*part).points())
        assert found["confirmed"] is False and ids(found["frontier"]) == [1, 2, 4]
        assert found["frontier"][1] == {"id": 2, "cost": found["frontier"][1]["cost"], "error": 0.2, "stage": "SEARCH_TRAINED"}


def test_a_point_that_could_not_be_trained_again_is_on_no_final_frontier():
    found = summary(history_of((1, 0.39), (2, None), (4, None, 0.2)).points())
    assert found["confirmed"] is True and ids(found["frontier"]) == [1, 4]
    assert found["best"]["confirmations"] == [0.2] and found["best"]["interval"] is None


def test_by_balanced_errors():
    found = summary(history_of(*ALL).points(), error="val_balanced_error")
    assert [entry["error"] for entry in found["frontier"]] == pytest.approx([0.2, 0.095])


def test_the_view_keeps_what_the_search_saw():
    view = FrontierView.of(history_of(*ALL).points())
    assert view.scores.tolist() == [0.40, 0.20, 0.60, 0.15]
    assert view.errors.tolist() == pytest.approx([0.40, 0.46, 0.60, 0.19])
    assert view.standard_errors.tolist() == pytest.approx([0.02, 0.02, 0.01, 0.02])
    assert view.confirmed == {0: (0.38, 0.42), 1: (0.45, 0.47), 3: (0.18, 0.20)}


def test_the_band_is_drawn_around_the_confirmed_hull():
    near = [(1, 0.38, 0.42), (2, 0.30, 0.32), (4, 0.28, 0.30)]
    view = FrontierView.of(history_of(*near).points(), eps=0.0, band_standard_errors=3.0)
    assert {view.points[i].id for i in view.band} == {1, 2, 4} and 3 not in {view.points[i].id for i in view.band}


def test_tables_pictures_and_gallery(tmp_path):
    from rich.console import Console

    state = history_of(*ALL)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(frontier_table(state.points()))
    text = console.export_text()
    assert "19.00 ± 12.71" in text and "15.00" in text and "was %" in text and "Student's t" in text
    assert not re.search(r"^ +2 ", text, re.MULTILINE) and "…" not in text, "fits 80 columns"
    write_report(tmp_path, state.points())
    assert {path.name for path in (tmp_path / "model_desc_gallery").iterdir()} == {"model_desc_1.yaml", "model_desc_4.yaml"}
    assert "validation error 19.00%" in (tmp_path / "model_desc_gallery" / "model_desc_4.yaml").read_text()
    front = (tmp_path / "pareto_front_summary.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in front[1:]] == ["1", "4"]
    own = [line for line in (tmp_path / "full_pool.tsv").read_text().splitlines() if line.startswith("4\t")]
    assert "0.85" in own[0].split("\t"), "the pool keeps each point's own training"


def page_of(state, folder):
    page = write_html(folder, state, name="x", config="", environment={}).read_text()
    return json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])


def test_the_course_of_the_search_is_drawn_by_what_it_saw(tmp_path):
    before, after = (page_of(history_of(*part), tmp_path)["hypervolume"] for part in ([], ALL))
    assert before[:-1] == after[:-1] and after[-1][1] == before[-1][1] and len(before) >= 4


def test_the_page_has_points_before_and_after(tmp_path):
    data = page_of(history_of(*ALL), tmp_path)
    points = {point["id"]: point for point in data["points"]}
    assert {id_: point["selected"] for id_, point in points.items()} == {1: 0.40, 2: 0.20, 3: None, 4: 0.15}
    assert points[4]["error"] == pytest.approx(0.19) and points[4]["curveError"] == 0.15
    rows = dict(points[4]["rows"])
    assert rows["confirmed error"].startswith("19.00 ± 12.71 % (mean of 2") and rows["score that selected it"] == "15.00 %"
    assert "validation error" not in rows and rows["test error"].startswith("18.00")
    assert data["best"] == 4
