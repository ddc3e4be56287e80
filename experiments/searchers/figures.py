"""Hypervolume against compute: curves of runs, their means and intervals, and the picture.

Hypervolume is the share of the box between the cost and error of ``LOW`` and ``HIGH`` that a frontier dominates; costs are
multiply-adds on a logarithmic axis, as in ``report.html``. Compute is counted twice: as processor seconds of all training
and all search tasks so far, and as their multiply-adds. The errors are those of the validation split, by which searchers
choose; ``test`` says what the final frontiers are worth on the test split.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from archsearch import Run, load_run
from archsearch.frontier import hypervolume, pareto_front

LOW, HIGH = (5e4, 0.0), (1e6, 1.0)
GRID = 61  # points of a curve in results.json

Steps = list[tuple[float, float, float]]  # compute, processor seconds, share


def share(points: list[tuple[float, float]]) -> float:
    """(cost, error) -> share of the box."""
    if not points:
        return 0.0
    scale = np.log(HIGH[0] / LOW[0])
    return hypervolume([(np.log(cost / LOW[0]) / scale, error) for cost, error in points], [1.0, 1.0])


def steps(run: Run) -> Steps:
    """What the run's frontier was worth after each job."""
    records = [record for record in run.state.jobs.values() if record.metrics and record.job.work != "test"]
    compute, seconds, points, found = 0.0, 0.0, [], [(0.0, 0.0, 0.0)]
    for record in sorted(records, key=lambda record: (record.finished, record.job.id)):
        compute += record.metrics["compute_madds"]
        seconds += record.metrics["cpu_seconds"]
        if "val_error" in record.metrics:
            points.append((record.metrics["madds"], record.metrics["val_error"]))
        found.append((compute, seconds, share(points)))
    return found


def test_share(run: Run) -> float:
    """The final frontier, as validation chose it, by its errors on the test split."""
    points = run.points()
    front = pareto_front([(point.metrics["madds"], point.metrics["val_error"]) for point in points])
    return share([(points[i].metrics["madds"], points[i].metrics["test_error"]) for i in front])


def at(curve: Steps, grid: np.ndarray, axis: int) -> np.ndarray:
    """A step function's values."""
    places = np.searchsorted([step[axis] for step in curve], grid, side="right") - 1
    return np.array([curve[i][2] for i in places])


def reaches(curve: Steps, target: float, axis: int) -> float | None:
    """Where a curve first is at the target."""
    return next((step[axis] for step in curve if step[2] >= target), None)


def interval(values: np.ndarray) -> np.ndarray:
    """Half the width of the 95 % interval of the mean over the first axis (Student's t)."""
    n = len(values)
    if n < 2:
        return np.full(values.shape[1:], np.nan)
    return np.asarray(stats.t.ppf(0.975, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n))


def figures(runs: Path, searchers: list[str], ablations: list[str]) -> dict[str, Any]:
    """All figures, from the finished runs ``NAME-SEED`` below a folder. Curves end where the shortest run of all ends."""
    found = {}
    for name in [*searchers, *ablations]:
        loaded = {int(path.name.removeprefix(f"{name}-")): load_run(path) for path in sorted(runs.glob(f"{name}-[0-9]*"))}
        done = {seed: run for seed, run in loaded.items() if run.summary()["state"] == "done"}
        if done:
            found[name] = done
    curves = {name: {seed: steps(run) for seed, run in loaded.items()} for name, loaded in found.items()}
    results: dict[str, Any] = {"box": {"low": LOW, "high": HIGH}, "axes": {}, "variants": {}}
    for axis, label in enumerate(("compute", "cpu_seconds")):
        end = min(curve[-1][axis] for seeds in curves.values() for curve in seeds.values())
        grid = np.linspace(0, end, GRID)
        axes: dict[str, Any] = {"end": end, "grid": [float(f"{x:.5g}") for x in grid], "curves": {}}
        for name, seeds in curves.items():
            values = np.array([at(curve, grid, axis) for curve in seeds.values()])
            axes["curves"][name] = {
                "mean": np.round(values.mean(axis=0), 5).tolist(),
                "half_interval": np.round(np.nan_to_num(interval(values)), 5).tolist(),
                "final": dict(zip(map(str, seeds), np.round(values[:, -1], 5).tolist(), strict=True)),
            }
        axes |= against_the_best(axes["curves"], grid, searchers)
        results["axes"][label] = axes
    for name, loaded in found.items():
        records = [record for run in loaded.values() for record in run.state.jobs.values() if record.metrics]
        tests = np.array([test_share(run) for run in loaded.values()])
        compute = [record.metrics.get("compute_madds", 0) for record in records if record.job.work != "test"]
        searching = [record.metrics.get("compute_madds", 0) for record in records if record.job.work == "petridish"]
        results["variants"][name] = {
            "seeds": sorted(loaded),
            "networks_trained": len([record for record in records if "val_error" in record.metrics]) / len(loaded),
            "search_tasks_share_of_compute": round(sum(searching) / sum(compute), 4),
            "children_by_move": dict(Counter(record.job.spec["move"] for record in records if "move" in record.job.spec)),
            "test": round(float(tests.mean()), 5),
            "test_half_interval": round(float(np.nan_to_num(interval(tests[:, None])[0])), 5),
        }
    return results


def against_the_best(curves: dict[str, Any], grid: np.ndarray, searchers: list[str]) -> dict[str, Any]:
    """The best other searcher at the end, and the share of the compute after which petridish, and each variant, is there."""
    others = [name for name in searchers if name in curves and name != "petridish"]
    if not others:
        return {}
    best = max(others, key=lambda name: curves[name]["mean"][-1])
    target = curves[best]["mean"][-1]
    shares = {}
    for name, curve in curves.items():
        there = np.flatnonzero(np.array(curve["mean"]) >= target)
        shares[name] = round(float(grid[there[0]] / grid[-1]), 3) if len(there) else None
    return {"best_other": best, "best_other_final": target, "share_of_compute_to_get_there": shares}


def against_petridish(finals: dict[str, dict[str, float]], name: str) -> tuple[float, float]:
    """A variant's final value less petridish's on the same seeds: mean and half of its 95 % interval."""
    own = finals["petridish"]
    pairs = np.array([[value - own[seed]] for seed, value in finals[name].items() if seed in own])
    return float(pairs.mean()), float(interval(pairs)[0])


def table(results: dict[str, Any]) -> str:
    """The README's table."""
    axes = results["axes"]["cpu_seconds"]
    finals = {name: curve["final"] for name, curve in axes["curves"].items()}
    rows = [
        f"| | seeds | after {axes['end']:.0f} s of compute | less petridish | test split | networks | children by move |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, variant in results["variants"].items():
        curve = axes["curves"][name]
        mean, half = against_petridish(finals, name)
        moves = ", ".join(f"{move} {count}" for move, count in sorted(variant["children_by_move"].items())) or "-"
        cells = [name, str(len(variant["seeds"])), f"{curve['mean'][-1]:.3f} ± {curve['half_interval'][-1]:.3f}"]
        cells += ["" if name == "petridish" else f"{mean:+.3f} ± {half:.3f}"]
        cells += [f"{variant['test']:.3f} ± {variant['test_half_interval']:.3f}", f"{variant['networks_trained']:.1f}", moves]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def picture(results: dict[str, Any], path: Path) -> None:
    """Means as lines and 95 % intervals as bands: the searchers left, petridish's ablations right."""
    from matplotlib.figure import Figure

    axes = results["axes"]["cpu_seconds"]
    ablations = [name for name in axes["curves"] if name.startswith("petridish-")]
    groups = [[name for name in axes["curves"] if name not in ablations]]
    if ablations:
        groups.append(["petridish", *ablations])
    figure = Figure(figsize=(6.4 * len(groups), 4.4), layout="constrained")
    grid = np.array(axes["grid"])
    for place, names in enumerate(groups, 1):
        plot = figure.add_subplot(1, len(groups), place)
        for name in names:
            curve = axes["curves"][name]
            mean, half = np.array(curve["mean"]), np.array(curve["half_interval"])
            (line,) = plot.plot(grid, mean, label=f"{name}: {mean[-1]:.3f}", linewidth=2.5 if name == "petridish" else 1.4)
            plot.fill_between(grid, mean - half, mean + half, color=line.get_color(), alpha=0.15, linewidth=0)
        if "best_other_final" in axes and place == 1:
            plot.axhline(axes["best_other_final"], color="gray", linewidth=0.8, linestyle=":")
        plot.set_xlabel("processor seconds of training and search tasks")
        plot.set_ylabel("hypervolume, share of the box")
        plot.set_title("searchers" if place == 1 else "petridish with one thing changed")
        plot.legend(loc="lower right", fontsize=8)
        plot.grid(alpha=0.25)
    figure.savefig(path, dpi=110)
