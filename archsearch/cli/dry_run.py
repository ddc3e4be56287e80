"""``archsearch search --dry-run``: which jobs there would be, and about how long they would take."""

from __future__ import annotations

import json as json_module
import os
import time
from pathlib import Path
from typing import Any

from archsearch.arch import Architecture, cost, summary
from archsearch.config import Config

#: Training steps timed a network, after one that is not counted.
TIMED_STEPS = 3


def estimate(config: Config, warm_from: Path | None = None) -> dict[str, Any]:
    """Seeds, jobs and time of a search. Nothing is written.

    A few steps of the smallest and the largest seed are timed here, on one thread; other networks are placed on the line
    between them by their multiply-adds. Grown networks are taken as half as large again as the mean seed.
    """
    from archsearch.api import plan, start_from

    made = plan(config)
    seeds: list[Architecture] = sorted(made.searcher.seeds, key=lambda arch: cost(arch).madds)  # type: ignore[attr-defined]
    warm = None if warm_from is None else start_from(warm_from, made)
    there = {event.data["job"]["spec"]["hash"] for event in warm.events} if warm else set()
    section, budget = config["search"], config["budget"]
    images = len(made.dataset.x_train)
    madds = [cost(arch).madds for arch in seeds]
    small, large = (_seconds_a_step(arch, config["seed_train"].batch_size) for arch in (seeds[0], seeds[-1]))
    slope = (large - small) / (madds[-1] - madds[0]) if madds[-1] > madds[0] else 0.0

    def seconds(cost_: float, steps: float) -> float:
        return max(1e-4, small + slope * (cost_ - madds[0])) * steps

    def steps(train: Any) -> float:
        return float(train.epochs * max(1, images // train.batch_size))

    seed_seconds = [
        0.0 if arch.hash in there else seconds(value, steps(config["seed_train"]))
        for arch, value in zip(seeds, madds, strict=True)
    ]
    taken = len(warm.events) if warm else 0
    wanted = sum(arch.hash not in there for arch in seeds)
    grown_cost = min(1.5 * sum(madds) / len(madds), section.max_madd or float("inf"))
    # A step of the weak learner holds every candidate: about four steps of its parent.
    pair_seconds = seconds(grown_cost, steps(config["post_train"])) + 4 * seconds(grown_cost, config["weak_learner"].steps)
    pairs = None if section.max_hull_points is None else max(0, section.max_hull_points - wanted - taken)
    slots = (os.cpu_count() or 1) if config["cluster"].slots == "auto" else config["cluster"].slots
    slots = 1 if config["cluster"].executor == "inline" else slots
    total = None if pairs is None else sum(seed_seconds) + pairs * pair_seconds
    wall = None if total is None else total / slots
    if budget.wall_clock is not None:
        wall = budget.wall_clock if wall is None else min(wall, budget.wall_clock)
    return {
        "dataset": {
            "name": made.dataset.name,
            "train": images,
            "val": len(made.dataset.x_val),
            "test": len(made.dataset.x_test),
        },
        "seeds": [
            {"arch": summary(arch), "madds": m, "seconds": s} for arch, m, s in zip(seeds, madds, seed_seconds, strict=True)
        ],
        "warm_from": {**warm.describe(), "text": str(warm)} if warm else None,
        "jobs": {"SEED_TRAINED": wanted, "SEARCH": pairs, "SEARCH_TRAINED": pairs},
        "seconds_a_grown_point": pair_seconds,
        "slots": slots,
        "slot_seconds": total,
        "wall_clock_seconds": wall,
        "frontier": {"cost": section.cost, "error": section.error},
        "budget": budget.model_dump(mode="json"),
    }


def _seconds_a_step(arch: Architecture, batch: int) -> float:
    import torch
    from torch.nn import functional

    from archsearch.arch.build import build

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = build(arch, seed=0)
        x, y = torch.zeros(batch, *arch.input), torch.zeros(batch, dtype=torch.int64)
        for step in range(TIMED_STEPS + 1):
            if step == 1:
                start = time.perf_counter()
            torch.autograd.backward(functional.cross_entropy(model(x), y))
        return (time.perf_counter() - start) / TIMED_STEPS
    finally:
        torch.set_num_threads(threads)


def show(config: Config, *, json: bool, warm_from: Path | None = None) -> None:
    """Print the estimate."""
    found = estimate(config, warm_from)
    if json:
        print(json_module.dumps(found, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    from archsearch.cli.display import clock
    from archsearch.report import error_label, quantity

    console = Console(highlight=False)
    data = found["dataset"]
    console.print(f"{data['name']}: {data['train']} training, {data['val']} validation, {data['test']} test images")
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("seed", "multiply-adds", "training"):
        table.add_column(name, justify="left" if name == "seed" else "right")
    for seed in found["seeds"]:
        table.add_row(seed["arch"], quantity(seed["madds"]), clock(seed["seconds"]) if seed["seconds"] else "is there")
    console.print(table)
    console.print(f"frontier: {error_label(found['frontier']['error'])} against {found['frontier']['cost']}")
    if found["warm_from"]:
        console.print(found["warm_from"]["text"])
    pairs = found["jobs"]["SEARCH"]
    grown = "grown points until a budget is used up" if pairs is None else f"{pairs} grown points"
    console.print(f"then {grown}, about {clock(found['seconds_a_grown_point'])} of one slot each (search task and training)")
    if found["slot_seconds"] is not None:
        console.print(f"in all about {clock(found['slot_seconds'])} of slot time, {found['slots']} slots")
    if found["wall_clock_seconds"] is not None:
        console.print(
            f"wall clock: about {clock(found['wall_clock_seconds'])} (estimated from a few steps timed here; no work was done)"
        )
