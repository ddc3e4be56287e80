"""The results of a final evaluation: a table for the terminal, a TSV and a JSON file, a picture."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from archsearch.frontier import pareto_front
from archsearch.jobs import JSON, StoreUnavailable
from archsearch.report.intervals import CONFIDENCE, student
from archsearch.report.tables import describe
from archsearch.report.view import cost_label, error_label, quantity, tested
from archsearch.store import JobRecord, RunState
from archsearch.store.durable import write_durably

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from rich.table import Table

COLUMNS = (
    "point",
    "architecture",
    "madds",
    "params",
    "trainings",
    "val_error",
    "test_error",
    "test_error_low",
    "test_error_high",
    "test_errors",
    "frontier",
    "best",
)


def evaluation_summary(
    state: RunState, points: Iterable[int], *, seeds: int, cost: str = "madds", error: str = "val_error"
) -> dict[str, JSON]:
    """What an evaluation has found so far, as JSON.

    ``models``: one entry for each of ``points``, by cost: ``point``, ``architecture``, its costs as trained, ``trainings``
    (those measured on the test split, of ``seeds``), ``val_error`` and ``test_error`` (means over seeds, shares),
    ``test_errors``, ``interval`` of the mean (by `student`; None of fewer than two). ``frontier``: the points that no other
    dominates in cost and mean test error. ``best``: the point with the lowest mean *validation* error, then cost: chosen
    without a look at the test, so that its test error is no lucky one. With ``error`` a balanced one, all errors are balanced.
    """
    trainings: dict[int, list[tuple[JobRecord, JobRecord | None]]] = {point: [] for point in points}
    tests = {record.job.parent: record for record in state.jobs.values() if record.job.work == "test"}
    for record in state.jobs.values():
        if record.job.work == "train":
            trainings[record.job.spec["point"]].append((record, tests.get(record.job.id)))
    models = [_model(point, seeds, records, error) for point, records in trainings.items()]
    models.sort(key=lambda model: (model[cost] is None, model[cost], model["point"]))
    measured = [model for model in models if model["test_error"] is not None]
    front = pareto_front(np.array([[model[cost], model["test_error"]] for model in measured], dtype=float).reshape(-1, 2))
    best = min(measured, key=lambda model: (model["val_error"], model[cost]), default=None)
    return {
        "models": models,
        "frontier": [measured[i]["point"] for i in front],
        "best": None if best is None else best["point"],
        "cost": cost,
        "error": tested(error),
        "seeds": seeds,
        "confidence": CONFIDENCE,
        "interval": "of the mean over seeds, by Student's t",
    }


def _model(point: int, seeds: int, records: list[tuple[JobRecord, JobRecord | None]], error: str) -> dict[str, JSON]:
    done = [(training, test) for training, test in records if test is not None and tested(error) in test.metrics]
    done.sort(key=lambda pair: pair[0].job.spec["repeat"])
    errors = [float(test.metrics[tested(error)]) for _, test in done]
    mean, half = student(errors) if errors else (None, None)
    first = records[0][0] if records else None
    trained = next((training.metrics for training, _ in records if training.metrics), {})
    return {
        "point": point,
        "architecture": "" if first is None else describe(first.job.spec["arch"]),
        **{name: trained.get(name) for name in ("madds", "flops", "params", "activation_bytes")},
        "trainings": len(done),
        "seeds": seeds,
        "val_error": float(np.mean([training.metrics[error] for training, _ in done])) if done else None,
        "test_error": mean,
        "interval": None if half is None or mean is None else [max(0.0, mean - half), min(1.0, mean + half)],
        "test_errors": errors,
        "failures": [r.failure.message for r, _ in records if r.failure is not None and r.ended],
    }


def write_evaluation(folder: Path, summary: Mapping[str, JSON], about: Mapping[str, JSON]) -> list[Path]:
    """Write ``evaluation.tsv``, ``evaluation.json`` (``about``, then the summary) and ``evaluation.png``, each replaced whole.

    Raises:
        StoreUnavailable: a file cannot be written.
    """
    from archsearch.report.pictures import drawn

    files = {
        "evaluation.tsv": evaluation_tsv(summary).encode(),
        "evaluation.json": (json.dumps({**about, **summary}, indent=2) + "\n").encode(),
        "evaluation.png": drawn(lambda axes: _draw(axes, summary)),
    }
    written = [Path(folder) / name for name in files]
    try:
        for path, payload in zip(written, files.values(), strict=True):
            write_durably(path, payload)
    except OSError as error:
        raise StoreUnavailable(
            f"the evaluation's files in {folder} cannot be written: {error}; free the disk or check rights"
        ) from error
    return written


def evaluation_tsv(summary: Mapping[str, JSON]) -> str:
    """One line a model, by cost; errors are shares, ``test_errors`` by seed, separated by blanks; unknown is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, delimiter="\t", lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for model in summary["models"]:
        low, high = model["interval"] or (None, None)
        row = {**model, "test_error_low": low, "test_error_high": high}
        row["frontier"], row["best"] = (int(model["point"] in points) for points in (summary["frontier"], [summary["best"]]))
        row["test_errors"] = " ".join(f"{error:.6g}" for error in model["test_errors"])
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in row.items()})
    return out.getvalue()


def evaluation_table(summary: Mapping[str, JSON]) -> Table:
    """The models, cheapest first, for a terminal: errors in percent, the test's with its interval."""
    from rich.table import Table

    level = f"{100 * summary['confidence']:g} % interval by Student's t over seeds"
    caption = f"± {level}; ● not dominated in {summary['cost']} and test error, ★ best by validation error"
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), caption=caption, caption_justify="left")
    names = ("point", "trained as", "mult-adds", "params", "seeds", "val %", "test %", "")
    for name in names:
        table.add_column(name, justify="left" if name in ("trained as", "") else "right", no_wrap=True)
    for model in summary["models"]:
        marks = ["●"] * (model["point"] in summary["frontier"]) + ["★"] * (model["point"] == summary["best"])
        table.add_row(
            str(model["point"]),
            model["architecture"],
            *("" if model[name] is None else quantity(model[name]) for name in ("madds", "params")),
            f"{model['trainings']}/{model['seeds']}",
            "" if model["val_error"] is None else f"{100 * model['val_error']:.2f}",
            error_text(model),
            " ".join(marks),
            style="bold" if model["point"] == summary["best"] else "",
        )
    return table


def error_text(model: Mapping[str, JSON]) -> str:
    """The mean test error in percent and half the width of its interval: "1.23 ± 0.40"."""
    if model["test_error"] is None:
        return ""
    _, half = student(model["test_errors"])
    return f"{100 * model['test_error']:.2f}" + ("" if half is None else f" ± {100 * half:.2f}")


def _draw(axes: Axes, summary: Mapping[str, JSON]) -> None:
    """Cost against mean test error with its interval; each training pale; Pareto steps; the best ringed."""
    from archsearch.report.axes import cost_axis, error_axis
    from archsearch.report.labels import place_labels
    from archsearch.report.pictures import BEST, GROWN, MUTED, TEST

    cost, models = summary["cost"], [model for model in summary["models"] if model["test_error"] is not None]
    axes.set_title(f"{len(models)} model{'s' * (len(models) != 1)} trained from scratch, {summary['seeds']} seeds each")
    axes.set_xlabel(f"{cost_label(cost)}, as trained")
    axes.set_ylabel(f"{error_label(summary['error'])} (%)")
    if not models:
        axes.text(0.5, 0.5, "nothing is measured yet", transform=axes.transAxes, ha="center", color=MUTED)
        return
    costs, means = (np.array([model[key] for model in models], dtype=float) for key in (cost, "test_error"))
    halves = np.array([student(model["test_errors"])[1] or 0.0 for model in models])
    single = [(float(x), 100 * error) for x, model in zip(costs, models, strict=True) for error in model["test_errors"]]
    lows, highs = 100 * np.maximum(means - halves, 0), 100 * np.minimum(means + halves, 1)
    cost_axis(axes, costs)
    error_axis(axes, np.array([*(error for _, error in single), *np.maximum(lows, min(100 * means) / 3), *highs]))
    axes.plot(*np.array(single).T, "o", color=TEST, markersize=4, alpha=0.35, markeredgewidth=0, label="each seed")
    bars: dict[str, Any] = {"fmt": "D", "color": GROWN, "ecolor": MUTED, "elinewidth": 1.2, "capsize": 3, "markersize": 6}
    label = f"mean and {100 * summary['confidence']:g} % interval (Student's t)"
    axes.errorbar(costs, 100 * means, [100 * means - lows, highs - 100 * means], label=label, zorder=4, **bars)
    front = [i for i, model in enumerate(models) if model["point"] in summary["frontier"]]
    steps = np.append(costs[front], axes.get_xlim()[1]), 100 * np.append(means[front], means[front[-1]])
    axes.step(*steps, where="post", color=MUTED, linewidth=1, linestyle=(0, (4, 2)), zorder=2, label="Pareto front")
    best = next(i for i, model in enumerate(models) if model["point"] == summary["best"])
    ring: dict[str, Any] = {"markersize": 15, "markerfacecolor": "none", "markeredgecolor": BEST, "markeredgewidth": 2}
    axes.plot([costs[best]], [100 * means[best]], "o", label="best by validation error", **ring)
    axes.legend(loc="best")
    place_labels(axes, [(costs[i], 100 * means[i], str(model["point"])) for i, model in enumerate(models)], avoid=single)
