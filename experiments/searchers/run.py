"""Petridish, growth, random search, evolution and local search for the same training compute: hypervolume against compute.

    python experiments/searchers/run.py                           # every run of study.yaml, two at a time, then the figures
    python experiments/searchers/run.py --only petridish growth --seeds 0 1
    python experiments/searchers/run.py --figures                 # from the runs that there are

Each run takes one thread of its own process, and ends when its jobs (training and search tasks) have used their processor
seconds. Runs lie in experiments/searchers/runs; one that was finished is not made again, and one that was killed goes on.
Prints JSON and the README's table, and writes results.json and searchers.png.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import re
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import yaml
from figures import figures, picture, table

from archsearch import Run

HERE = Path(__file__).parent
SEEDS = range(5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", help="names in the study; default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--seconds", type=float, default=150, help="processor seconds of each run's jobs")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time")
    parser.add_argument("--study", type=Path, default=HERE / "study.yaml", help="what is compared")
    parser.add_argument("--runs", type=Path, default=HERE / "runs", help="where runs lie")
    parser.add_argument("--figures", action="store_true", help="make no runs")
    arguments = parser.parse_args()
    study = yaml.safe_load(arguments.study.read_text())
    variants = {name: list(parts(overrides)) for name, overrides in {**study["searchers"], **study["ablations"]}.items()}
    if not arguments.figures:
        os.environ["OMP_NUM_THREADS"] = "1"  # before the workers import torch
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(arguments.workers, mp_context=context, max_tasks_per_child=1) as workers:
            wanted = itertools.product(arguments.seeds, arguments.only or variants)  # an early end still compares fairly
            made = [
                workers.submit(one, arguments.runs / f"{name}-{seed}", seed, arguments.seconds, variants[name])
                for seed, name in wanted
            ]
            for future in as_completed(made):
                print(future.result(), file=sys.stderr, flush=True)
    results = figures(arguments.runs, list(study["searchers"]), list(study["ablations"]))
    text = re.sub(r"\[[^][{}]*\]", lambda found: " ".join(found[0].split()), json.dumps(results, indent=2))  # lists on one line
    print(text)
    (HERE / "results.json").write_text(text + "\n")
    picture(results, HERE / "searchers.png")
    print(table(results), file=sys.stderr)


def parts(overrides: list[Any]) -> Iterator[str]:
    """Overrides, those of a variant that is referred to included."""
    for each in overrides:
        yield from parts(each) if isinstance(each, list) else [each]


def one(folder: Path, seed: int, seconds: float, overrides: list[str]) -> str:
    """Start or go on with one run until its jobs have used their processor seconds; what came of it."""
    import archsearch

    if (folder / "config.yaml").exists():
        run = archsearch.load_run(folder)
        if run.summary()["state"] != "done":
            run = archsearch.resume(folder)
    else:
        run = archsearch.search(HERE / "base.yaml", overrides=[f"run.seed={seed}", *overrides], run_dir=folder)
    while (used := spent(run, "cpu_seconds")) < seconds:
        more = spent(run, "compute_madds") * min(max(seconds / used, 1.02), 1.7)
        run = archsearch.resume(folder, overrides=[f"budget.compute={more:.6g}"])
        if "budget.compute" not in run.summary()["reason"]:
            break  # nothing is left to try
    return f"{folder.name}: {len(run.points())} networks, {used:.0f} s, {run.summary()['reason']}"


def spent(run: Run, metric: str) -> float:
    return float(sum(record.metrics.get(metric, 0) for record in run.state.jobs.values() if record.metrics))


if __name__ == "__main__":
    main()
