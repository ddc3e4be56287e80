"""The run's tables: TSV files for programs and spreadsheets, and the frontier for a terminal."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from archsearch.jobs import JSON, InputError
from archsearch.report.confirmed import confirmed_text
from archsearch.report.view import FrontierView, deviation_of, interval, is_seed, number, quantity, tested
from archsearch.store import Point

if TYPE_CHECKING:
    from rich.table import Table

#: Columns of TensorWatch's own counts, which differ from ``madds`` and ``flops``; empty where it was not asked.
TENSORWATCH = ("MAdd", "flops", "duration", "mread", "mwrite", "inference_memory", "parameters")
COLUMNS = (
    "id",
    "job_stage",
    "cells",
    "reductions",
    "nodes",
    *TENSORWATCH,
    "train_best_epoch",
    "train_best_top1",
    "val_best_epoch",
    "val_best_top1",
    "test_best_epoch",
    "test_best_top1",
    "parent_id",
    "sampling_count",
)


def tsv(points: Iterable[Point]) -> str:
    """The points as tab-separated text with a header, one line each; what is not known is empty. top1 is a share.

    What devices have measured comes last: ``latency_ms@pi4``, the ends of its 95 % interval and whether it is noisy (1 or 0);
    ``backends@pi4`` says in words what ran the operations, where that was chosen.
    """
    out = io.StringIO()
    rows = [_row(point) for point in points]
    measured = sorted({column for row in rows for column in row} - {*COLUMNS})
    writer = csv.DictWriter(out, (*COLUMNS, *measured), delimiter="\t", lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({column: _text(value) for column, value in row.items()})
    return out.getvalue()


def _row(point: Point) -> dict[str, JSON]:
    metrics = point.metrics
    counted = {str(key).lower(): value for key, value in (metrics.get("tensorwatch") or {}).items()}
    row: dict[str, JSON] = {"id": point.id, "job_stage": str(point.stage), **macro(point.arch)}
    row |= {name: counted.get(name.lower()) for name in TENSORWATCH}
    for split in ("train", "val", "test"):
        error = number(point, f"{split}_error")
        row[f"{split}_best_epoch"] = None if error is None else metrics.get("best_epoch")
        row[f"{split}_best_top1"] = None if error is None else 1.0 - error
    row |= {"parent_id": point.parent, "sampling_count": point.sampling_count}
    for name, figure in (metrics.get("measured") or {}).items():
        row |= {name: figure["value"], f"{name}_low": figure["low"], f"{name}_high": figure["high"]}
        row[f"{name}_noisy"] = int(figure["noisy"])
    row |= {f"backends@{device}": chosen["words"] for device, chosen in (metrics.get("assignments") or {}).items()}
    return row


def macro(arch: JSON) -> dict[str, int | None]:
    """Cells, reductions and nodes (of the largest cell) of a description; None in a family that has no cells.

    Read from the plain data, so that a run with a user's own operations can be reported without them.
    """
    if not isinstance(arch, Mapping) or arch.get("family", "cell") != "cell":
        return {"cells": None, "reductions": None, "nodes": None}
    layout = arch["layout"]
    return {
        "cells": len(layout),
        "reductions": sum(bool(placed["reduction"]) for placed in layout),
        "nodes": max(len(cell["nodes"]) for cell in arch["cells"].values()),
    }


def _text(value: JSON) -> str:
    if value is None:
        return ""
    return f"{value:.10g}" if isinstance(value, float) else str(value)


def describe(arch: JSON) -> str:
    """A few letters such as "3c 1r 2n 8ch", or the family's name."""
    from archsearch.arch import Architecture, summary

    try:
        return summary(Architecture.from_json(arch))
    except InputError:
        return str(arch.get("family", "?")) if isinstance(arch, Mapping) else "?"


def frontier_table(
    points: Sequence[Point],
    *,
    cost: str = "madds",
    error: str = "val_error",
    eps: float = 0.025,
    band_standard_errors: float = 0.0,
    admits: Callable[[Point], bool] = lambda point: True,
) -> Table:
    """The non-dominated points, cheapest first, for a terminal: errors in percent ± one standard error, the parent's id."""
    from rich.table import Table

    view = FrontierView.of(points, cost=cost, error=error, eps=eps, band_standard_errors=band_standard_errors, admits=admits)
    shown = view.pick(view.front)
    costs = {"madds": "mult-adds", "params": "params"}
    if "@" in view.cost:
        costs = {view.cost: view.cost}  # measured: there is little room beside it
    elif view.cost not in costs:
        costs[view.cost] = view.cost
    test = tested(error)
    has_test = any(number(point, test) is not None for point in shown)
    kind = "balanced " if error == "val_balanced_error" else ""
    caption = f"{len(view.points)} points, {len(view.front)} on the frontier: ● hull ({len(view.hull)}), ○ band, ★ best"
    if view.confirmed:
        caption += "\nerror: mean of trainings with other seeds ± 95 % interval by Student's t; was: the score that selected it"
    padding = (0, 1 if view.confirmed else 2, 0, 0)
    table = Table(box=None, pad_edge=False, padding=padding, caption=caption, caption_justify="left")
    table.add_column("point", justify="right", no_wrap=True)
    table.add_column("origin", no_wrap=True)
    table.add_column("architecture", no_wrap=True)
    names = [*costs.values(), f"{kind}error %", *(["was %"] if view.confirmed else []), *(["test %"] if has_test else [])]
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for index in view.front:
        point = view.points[index]
        origin = origin_of(point) or ("seed" if is_seed(point) else "grown" if point.parent is None else f"from {point.parent}")
        row = [str(point.id), origin, describe(point.arch), *(_quantity(point, key) for key in costs)]
        row += [confirmed_text(view.confirmed[index])] if index in view.confirmed else [_percent(point, error)]
        row += [f"{100 * view.scores[index]:.2f}"] if view.confirmed else []
        row += [_percent(point, test, plain=True)] if has_test else []
        table.add_row(*row, marks(view, index), style="bold" if index == view.best else "")
    return table


def origin_of(point: Point) -> str:
    """The earlier run that a point was taken from, and its id there; nothing for this run's own points."""
    return "" if point.origin is None else f"{point.origin['run']} {point.origin['point']}"


def marks(view: FrontierView, index: int) -> str:
    """● on the hull, ○ in the band only, ★ the best."""
    mark = "●" if index in view.hull else "○" if index in view.band else ""
    return f"{mark} ★" if index == view.best else mark


def _quantity(point: Point, key: str) -> str:
    value, ends = number(point, key), interval(point, key)
    if value is None:
        return ""
    if ends is None:
        return quantity(value)
    return f"{quantity(value)} ({quantity(ends[0])} to {quantity(ends[1])}){' noisy' if ends[2] else ''}"


def _percent(point: Point, error: str, *, plain: bool = False) -> str:
    share, deviation = number(point, error), number(point, deviation_of(error))
    if share is None:
        return ""
    return f"{100 * share:.2f}" + ("" if deviation is None or plain else f" ± {100 * deviation:.2f}")
