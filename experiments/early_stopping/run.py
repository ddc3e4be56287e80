"""Early stopping of trainings: compute saved, hypervolume lost.

    python experiments/early_stopping/run.py                 # every run, one after another: some minutes on one core
    python experiments/early_stopping/run.py --figures       # from the runs that there are

Random search on digits with and without early stopping, seed by seed: until as many networks were begun, and then, those with
early stopping, until they have used the compute of those without. "Without" means that trainings are measured at the rungs as
well, but none is ever stopped; these measurements are not counted as its compute. What other settings of the rule would have
done is replayed on the full trainings: networks of random search do not depend on each other.

Runs lie in experiments/early_stopping/runs; one that was finished is not made again, and one that was killed goes on. Prints
JSON, and writes results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import archsearch
from archsearch.frontier import Frontier, convex_hull, hypervolume, pareto_front
from archsearch.jobs import EventKind, Job
from archsearch.searchers.early_stopping import EarlyStopping
from archsearch.searchers.random_search import RandomConfig
from archsearch.store import read_run

HERE = Path(__file__).parent
LOW, HIGH = (1e4, 0.0), (5e5, 1.0)  # the box in which hypervolume is measured: multiply-adds (logarithmic) and error
VAL, EPOCHS, NETWORKS = 270, 8, 16  # of base.yaml: validation images, epochs, trainings begun
NEVER = "search.early_stopping.least=1000000"
REPLAYED: list[dict[str, Any]] = [
    *({"rungs": [2, 4, 6], "optimism": optimism} for optimism in (1.0, 1.25, 1.5)),
    *({"rungs": [rung]} for rung in (2, 4, 6)),
    {"rungs": [2, 4, 6], "eta": 2.0},
    {"rungs": [2, 4, 6], "eta": 1000.0},  # without the comparison at equal epochs
]


@dataclass(frozen=True)
class Trained:
    """One training of a run: what it has cost, the rungs that it passed, and its end, unless it was stopped."""

    job: Job
    compute: float
    rungs: list[Mapping[str, Any]]
    metrics: Mapping[str, Any] | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="where runs lie")
    parser.add_argument("--figures", action="store_true", help="make no runs")
    arguments = parser.parse_args()
    if not arguments.figures:
        os.environ["OMP_NUM_THREADS"] = "1"
        for seed in arguments.seeds:
            make(arguments.runs, seed)
    results = figures(arguments.runs)
    text = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(results, indent=2))  # lists on one line
    print(text)
    (HERE / "results.json").write_text(text + "\n")


def make(runs: Path, seed: int) -> None:
    """Both runs of one seed, each begun, gone on with, or left as it is."""
    without, stopping = runs / f"without-{seed}", runs / f"with-{seed}"
    drive(without, [f"run.seed={seed}", NEVER])
    drive(stopping, [f"run.seed={seed}"])
    target = sum(each.compute for each in trainings(without, rungs_counted=False))
    if sum(each.compute for each in trainings(stopping)) < target:
        archsearch.resume(stopping, overrides=["budget.jobs=1000000", f"budget.compute={target:.6g}"])
    print(f"seed {seed}: done", file=sys.stderr, flush=True)


def drive(folder: Path, overrides: list[str]) -> None:
    if not (folder / "run.db").exists():
        archsearch.search(HERE / "base.yaml", overrides=overrides, run_dir=folder)
    elif not ended(folder):
        archsearch.resume(folder)
    if not ended(folder):
        raise SystemExit(f"{folder} was interrupted; the same command goes on")


def ended(folder: Path) -> bool:
    return bool(archsearch.load_run(folder).summary()["state"] == "done")


def trainings(folder: Path, *, rungs_counted: bool = True) -> list[Trained]:
    """Every training of a run, in the order in which they ended: with one slot that in which they began."""
    jobs: dict[int, Job] = {}
    rungs: dict[int, list[Mapping[str, Any]]] = {}
    found = []
    for event in read_run(folder).events:
        if event.kind is EventKind.ASKED:
            job = Job.from_json(event.data)
            jobs[job.id] = job
        elif event.kind is EventKind.REPORTED and event.job is not None:
            rungs.setdefault(event.job, []).append(event.data)
        elif event.kind in (EventKind.TOLD, EventKind.PRUNED) and event.job is not None:
            metrics = event.data["metrics"] if event.kind is EventKind.TOLD else None
            passed = rungs.get(event.job, [])
            compute = event.data["compute_madds"] if metrics is None else metrics["compute_madds"]
            if metrics is not None and not rungs_counted:
                compute -= len(passed) * metrics["madds"] * VAL
            found.append(Trained(jobs[event.job], compute, passed, metrics))
    return found


def share(points: Iterable[Trained]) -> float:
    """Share of the box that the finished trainings' frontier dominates."""
    done = [each.metrics for each in points if each.metrics is not None]
    scale = np.log(HIGH[0] / LOW[0])
    return float(hypervolume([(np.log(each["madds"] / LOW[0]) / scale, each["val_error"]) for each in done], [1.0, 1.0]))


def figures(runs: Path) -> dict[str, Any]:
    """All figures, from the pairs of finished runs below a folder."""
    rows = []
    folders = [runs / f"without-{path.name.rpartition('-')[2]}" for path in sorted(runs.glob("with-*")) if ended(path)]
    for folder in folders:
        seed = int(folder.name.rpartition("-")[2])
        without, stopping = trainings(folder, rungs_counted=False), trainings(runs / f"with-{seed}")
        equal = [each for each in stopping if each.job.id <= NETWORKS]  # as many networks as without
        full = sum(each.compute for each in without)
        rows.append(
            {
                "seed": seed,
                "stopped": sum(each.metrics is None for each in equal),
                "compute_saved": 1 - sum(each.compute for each in equal) / full,
                "hypervolume_without": share(without),
                "hypervolume_lost": share(without) - share(equal),
                "networks_for_the_same_compute": len(within(stopping, full)),
                "hypervolume_gained_for_the_same_compute": share(within(stopping, full)) - share(without),
            }
        )
    keys = [key for key in rows[0] if key != "seed"]
    return {
        "box": {"low": LOW, "high": HIGH},
        "networks": NETWORKS,
        "runs": [{key: round(value, 5) for key, value in row.items()} for row in rows],
        "mean": {key: round(float(np.mean([row[key] for row in rows])), 5) for key in keys},
        "half_interval_95": {key: round(interval([row[key] for row in rows]), 5) for key in keys},
        "replayed": [{**settings, **replayed(folders, settings)} for settings in REPLAYED],
    }


def within(done: list[Trained], compute: float) -> list[Trained]:
    """Those that had ended when so much compute was used up."""
    total = np.cumsum([each.compute for each in done])
    return [each for each, spent in zip(done, total, strict=True) if spent <= compute]


def interval(values: list[float]) -> float:
    """Half the width of the 95 % interval of the mean (Student's t)."""
    n = len(values)
    return float(stats.t.ppf(0.975, n - 1) * np.std(values, ddof=1) / np.sqrt(n)) if n > 1 else float("nan")


def replayed(folders: list[Path], settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the rule would have done to full trainings: compute saved, networks stopped, and how many of these wrongly."""
    saved, lost, stopped, wrong, networks = [], [], 0, 0, 0
    for folder in folders:
        full = trainings(folder)
        early = EarlyStopping(RandomConfig(early_stopping=settings), [EPOCHS])
        frontier, kept, spent = Frontier(0.025), [], 0.0
        for each in full:
            assert each.metrics is not None
            cut = judge(early, frontier, each, settings["rungs"])
            if cut is None:
                kept.append(each)
                frontier.add(each.job.id, each.metrics["madds"], each.metrics["val_error"])
            unread = sum(
                row["epoch"] not in settings["rungs"] for row in each.rungs if cut is None or row["epoch"] < cut["epoch"]
            )
            spent += (each.compute if cut is None else cut["compute_madds"]) - unread * each.metrics["madds"] * VAL
        points = [(each.metrics["madds"], each.metrics["val_error"]) for each in full if each.metrics]
        costs, errors = zip(*points, strict=True)
        _, band = convex_hull(costs, errors, eps=0.025)
        worth = {full[i].job.id for i in {*band.tolist(), *pareto_front(points).tolist()}}
        gone = {each.job.id for each in full} - {each.job.id for each in kept}
        networks, stopped, wrong = networks + len(full), stopped + len(gone), wrong + len(gone & worth)
        saved.append(1 - spent / sum(each.compute for each in trainings(folder, rungs_counted=False)))
        lost.append(share(full) - share(kept))
    return {
        "networks": networks,
        "stopped": stopped,
        "stopped_wrongly": wrong,
        "compute_saved": round(float(np.mean(saved)), 4),
        "hypervolume_lost": round(float(np.mean(lost)), 5),
    }


def judge(early: EarlyStopping, frontier: Frontier, each: Trained, rungs: list[int]) -> Mapping[str, Any] | None:
    """The rung at which a training would have been stopped, or None."""
    for row in each.rungs:
        if row["epoch"] in rungs:
            early.reported(each.job, row)
            if early.verdict(each.job, frontier) is not None:
                early.ended(each.job)
                return row
    early.ended(each.job, each.metrics)
    return None


if __name__ == "__main__":
    main()
