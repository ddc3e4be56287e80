"""Pictures of an estimation: the front of (time, memory) with its intervals, and regret by evaluations."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from archsearch.jobs import InputError
from archsearch.profile.assignment.driver import Estimation
from archsearch.profile.assignment.evaluation import Evaluation, front

#: Okabe and Ito's colours, as in the pictures of runs.
FOUND, MUTED, TRUE = "#D55E00", "#8A8A8A", "#0072B2"
#: Above so many points of a front their ids say less than they hide.
MOST_LABELS = 24


def check_picture(path: Path) -> None:
    """Raises InputError where no picture can be written to, before anything is measured."""
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"the picture {path} has no ending that tells its kind; expected .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise InputError(f"the picture's folder {path.parent} is not there")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"the picture {path} cannot be written; give another file")


def draw(
    path: Path, done: Estimation, *, title: str, everything: Sequence[Evaluation] = (), curve: Sequence[float] = ()
) -> None:
    """Write the picture.

    Args:
        everything: all assignments where a complete table has them; their true front is drawn beside the found one.
        curve: regret after each evaluation; drawn to the right where there is one.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12 if curve else 7, 4.8), dpi=130, layout="constrained")
    FigureCanvasAgg(figure)
    _front(figure.add_subplot(1, 2 if curve else 1, 1), done, title, everything)
    if curve:
        axes = figure.add_subplot(1, 2, 2)
        axes.step(range(1, len(curve) + 1), [100 * regret for regret in curve], where="post", color=FOUND)
        axes.set_xlabel("assignments evaluated")
        axes.set_ylabel("regret in hypervolume (%)")
        axes.set_title("Regret against brute force", loc="left", fontweight="bold")
        axes.set_ylim(bottom=0)
        axes.grid(color="#E4E4E4", linewidth=0.6)
    figure.savefig(path)


def _front(axes: Any, done: Estimation, title: str, everything: Sequence[Evaluation]) -> None:
    points = [each for each in done.evaluations if each.feasible]
    _scatter(axes, everything, color="#D9D9D9", s=8, label="not evaluated")
    _scatter(axes, points, color=MUTED, s=14, label="evaluated")
    best = done.front
    if everything:
        true = front(everything)
        axes.step(*_columns(true), where="post", color=TRUE, linewidth=1.2, label="front of all", zorder=3)
    if best:
        times, memories = _columns(best)
        axes.step(times, memories, where="post", color=FOUND, linewidth=1.2, zorder=4)
        low_high = [[abs(end - value) for end in ends] for each in best for ends, value in [(each.bounds[0], each.time)]]
        up_down = [
            [abs(end - value) / 1024 for end in ends] for each in best for ends, value in [(each.bounds[1], each.memory)]
        ]
        bars = {"xerr": list(zip(*low_high, strict=True)), "yerr": list(zip(*up_down, strict=True))}
        axes.errorbar(times, memories, **bars, fmt="o", color=FOUND, ecolor=MUTED, markersize=5, label="front found", zorder=5)
        for each, x, y in zip(best[:MOST_LABELS], times, memories, strict=False):
            axes.annotate(str(each.id), (x, y), (3, 4), textcoords="offset points", fontsize=8, zorder=6)
    axes.set_xlabel("time (ms)")
    axes.set_ylabel("memory (MiB)")
    axes.set_title(title, loc="left", fontweight="bold")
    axes.grid(color="#E4E4E4", linewidth=0.6)
    axes.legend(fontsize=8, frameon=False)


def _scatter(axes: Any, evaluations: Sequence[Evaluation], **style: Any) -> None:
    feasible = [each for each in evaluations if each.feasible]
    if feasible:
        axes.scatter(*_columns(feasible), linewidths=0, zorder=2, **style)


def _columns(evaluations: Sequence[Evaluation]) -> tuple[list[float], list[float]]:
    """Times in ms and memories in MiB."""
    return [each.time for each in evaluations], [each.memory / 1024 for each in evaluations]
