"""Results of a final evaluation: means, intervals by Student's t, frontier and best, files."""

from __future__ import annotations

import csv
import io
import json

import pytest

from archsearch.arch import seed_architecture
from archsearch.jobs import Event, EventKind, Job, Stage
from archsearch.report.evaluation import error_text, evaluation_summary, evaluation_table, write_evaluation
from archsearch.report.intervals import student
from archsearch.store import RunState

#: Two-sided 95 % points of Student's t with n - 1 degrees of freedom (Student's own table).
T95 = {2: 12.706, 3: 4.3027, 4: 3.1824, 6: 2.5706}


@pytest.mark.parametrize("count", T95)
def test_the_interval_is_students(count):
    values = [0.1 + 0.01 * i for i in range(count)]
    mean, half = student(values)
    variance = sum((value - sum(values) / count) ** 2 for value in values) / (count - 1)
    assert mean == pytest.approx(sum(values) / count)
    assert half == pytest.approx(T95[count] * (variance / count) ** 0.5, rel=1e-4)


def test_one_value_has_no_interval():
    assert student([0.25]) == (0.25, None)


def state_of(*models):
    """An evaluation's state from (point, channels, validation errors, test errors); an error of None: abandoned."""
    events, number = [], 0

    def emit(event, job, **data):
        events.append(Event(len(events) + 1, 0.0, event, job, data))

    for point, channels, val, test in models:
        arch = seed_architecture((1, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=channels).to_json()
        for repeat, (val_error, test_error) in enumerate(zip(val, test, strict=True)):
            number += 1
            training = Job(number, Stage.EVAL_TRAINED, "train", {"arch": arch, "point": point, "repeat": repeat}, number)
            emit(EventKind.ASKED, number, **training.to_json())
            if test_error is None:
                emit(EventKind.FAILED, number, attempt=1, kind="non_finite", message="diverged", seconds=1.0, final=True)
                continue
            metrics = {"val_error": val_error, "madds": 1000 * channels, "params": 10 * channels}
            metrics["val_balanced_error"] = val_error / 2
            emit(EventKind.TOLD, number, attempt=1, metrics=metrics, seconds=1.0)
            number += 1
            job = Job(number, Stage.EVAL, "test", {"arch": arch}, number, parent=training.id)
            emit(EventKind.ASKED, number, **job.to_json())
            found = {"test_error": test_error, "test_balanced_error": test_error / 2}
            emit(EventKind.TOLD, number, attempt=1, metrics=found, seconds=0.1)
    return RunState(events)


STATE = state_of(
    (5, 2, [0.30, 0.32], [0.28, 0.30]),
    (9, 8, [0.10, 0.12], [0.20, 0.24]),  # best on the validation split, not on the test split
    (7, 4, [0.20, 0.22], [0.12, 0.16]),
)


def test_means_frontier_and_best():
    found = evaluation_summary(STATE, [5, 7, 9], seeds=2)
    assert [model["point"] for model in found["models"]] == [5, 7, 9], "by cost"
    assert [model["test_error"] for model in found["models"]] == pytest.approx([0.29, 0.14, 0.22])
    assert found["models"][1]["interval"] == pytest.approx([max(0, 0.14 - T95[2] * 0.02), 0.14 + T95[2] * 0.02], rel=1e-3)
    assert found["frontier"] == [5, 7], "9 is dominated on the test split"
    assert found["best"] == 9, "chosen by validation error, so that its test error is no lucky one"


def test_balanced_errors_where_the_search_used_them():
    found = evaluation_summary(STATE, [5, 7, 9], seeds=2, error="val_balanced_error")
    assert [model["test_error"] for model in found["models"]] == pytest.approx([0.145, 0.07, 0.11])
    assert found["error"] == "test_balanced_error"


def test_an_abandoned_training_counts_as_none_and_is_said():
    found = evaluation_summary(state_of((1, 2, [0.3, 0.4], [0.3, None]), (2, 4, [0.2], [None])), [2, 1], seeds=2)
    one, two = found["models"]  # of unknown cost: last
    assert (one["trainings"], one["interval"], one["failures"]) == (1, None, ["diverged"])
    assert error_text(one) == "30.00"
    assert (two["trainings"], two["test_error"], error_text(two)) == (0, None, "")
    assert (found["frontier"], found["best"]) == ([1], 1)


def test_nothing_is_measured_yet(tmp_path):
    found = evaluation_summary(RunState(), [3], seeds=2)
    assert (found["frontier"], found["best"], found["models"][0]["trainings"]) == ([], None, 0)
    evaluation_table(found)
    assert all(path.stat().st_size for path in write_evaluation(tmp_path, found, {}))


def test_the_files(tmp_path):
    found = evaluation_summary(STATE, [5, 7, 9], seeds=2)
    files = write_evaluation(tmp_path, found, {"name": "final"})
    assert [path.name for path in files] == ["evaluation.tsv", "evaluation.json", "evaluation.png"]
    assert json.loads(files[1].read_text()) == {"name": "final", **json.loads(json.dumps(found))}
    rows = list(csv.DictReader(io.StringIO(files[0].read_text()), delimiter="\t"))
    assert [(row["point"], row["frontier"], row["best"]) for row in rows] == [("5", "1", "0"), ("7", "1", "0"), ("9", "0", "1")]
    assert float(rows[2]["test_error"]) == pytest.approx(0.22) and rows[2]["test_errors"] == "0.2 0.24"
    assert float(rows[2]["test_error_high"]) == pytest.approx(0.22 + T95[2] * 0.02, rel=1e-3)
    assert files[2].read_bytes().startswith(b"\x89PNG")


def test_the_table_names_the_interval():
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    console.print(evaluation_table(evaluation_summary(STATE, [5, 7, 9], seeds=2)))
    text = console.export_text()
    assert "95 % interval by Student's t" in text and "22.00 ± 25.41" in text and "★" in text
