"""The queries for recipes beside other libraries: how long exact and fuzzy take, and how near the binned paretoness is.

    python experiments/pareto_queries/run.py [--sizes 10000 100000 1000000] [--rounds 5]

Each round times everything that is compared once, one after the other, in an order that turns by one each round; a figure is
the median over the rounds, a ratio the median of the rounds' own ratios. All of it is one thread, so the processor's time is
compared: it tells the same as the clock where nothing else runs, and much the same where something does. Prints JSON and
writes results.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from moocore import is_nondominated  # type: ignore[import-untyped]
from pymoo.util.dominator import Dominator
from pymoo.util.nds.non_dominated_sorting import find_non_dominated

from archsearch.frontier import nondominated, paretoness
from archsearch.recipes import query_pareto_optimal_recipes

HERE = Path(__file__).parent

#: What a query's fuzzy ranking is asked for.
TOP = 100
#: Rows for which pymoo's own matrix of dominations is made: its memory is quadratic, too.
MATRICES = (1000, 2000, 4000)
#: Rows for which the exact sum of paretoness is worked out.
COMPARED = 10_000

Cloud = Callable[[int, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def recipes(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """As databases have them: slower recipes are mostly better, up to a limit, and accuracies are multiples of 1/10,000."""
    latency = np.exp(rng.normal(1.0, 0.8, n))
    return latency, np.round(0.97 - 0.3 / (1 + latency) - 0.05 * rng.exponential(size=n), 4).clip(0)


def independent(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    return rng.uniform(0.1, 1, n), rng.random(n)


def all_on_the_front(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    accuracy = rng.random(n)
    return 0.1 + accuracy, accuracy


def outliers(n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """One crowd on the same latency, one in a hundred anywhere over fifteen decades."""
    return np.exp(np.where(rng.random(n) < 0.01, rng.uniform(-17, 17, n), 0.0)), rng.beta(20, 2, n)


CLOUDS: dict[str, Cloud] = {"recipes": recipes, "independent": independent, "all_on_the_front": all_on_the_front}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    load = os.getloadavg()
    results: dict[str, Any] = {
        "machine": machine(),
        "rounds": arguments.rounds,
        "speed": [],
        "error": errors(),
        "pymoo_matrix": matrix(),
    }
    for size in arguments.sizes:
        for name, cloud in CLOUDS.items():
            say(f"{size} rows, {name}")
            results["speed"].append(speed(name, cloud, size, arguments.rounds))
    results["machine"]["load_before_and_after"] = [round(load[0], 2), round(os.getloadavg()[0], 2)]
    text = json.dumps(results, indent=2)
    (HERE / "results.json").write_text(text + "\n")
    print(text)


def speed(name: str, cloud: Cloud, size: int, rounds: int) -> dict[str, Any]:
    """One cloud at one size."""
    cost, accuracy = cloud(size, np.random.default_rng(size))
    points = np.column_stack((cost, -accuracy))
    frame = pd.DataFrame({"recipe_id": np.arange(size), "od_inf_rate_ms": cost, "relative_task_metric": accuracy})
    contenders: dict[str, Callable[[], Any]] = {
        "front_ours": lambda: nondominated(points),
        "front_moocore": lambda: is_nondominated(points, keep_weakly=True),
        "front_pymoo": lambda: find_non_dominated(points),
        "query_exact": lambda: query_pareto_optimal_recipes(frame),
        "query_fuzzy": lambda: query_pareto_optimal_recipes(frame, "fuzzy", sort_by="paretoness", top_N_fuzzy=TOP),
        "paretoness_binned": lambda: paretoness(points, ratios=(True, False), binned=True),
    }
    times = interleaved(contenders, rounds)
    front = nondominated(points)
    assert (front == is_nondominated(points, keep_weakly=True)).all()
    return {
        "cloud": name,
        "rows": size,
        "on_the_front": int(front.sum()),
        "cpu_seconds": {each: significant(statistics.median(cpu for cpu, _ in taken)) for each, taken in times.items()},
        "seconds": {each: significant(statistics.median(wall for _, wall in taken)) for each, taken in times.items()},
        "ratio_to_the_fastest_library": {
            ours: significant(ratio_to_fastest(times, ours)) for ours in ("front_ours", "query_exact", "query_fuzzy")
        },
    }


def interleaved(contenders: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Processor and elapsed seconds of each contender in each round."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(-1, rounds):  # the first round warms up and does not count
        for name in names[number % len(names) :] + names[: number % len(names)]:
            cpu, wall = time.process_time(), time.perf_counter()
            contenders[name]()
            if number >= 0:
                times[name].append((time.process_time() - cpu, time.perf_counter() - wall))
    return times


def ratio_to_fastest(times: dict[str, list[tuple[float, float]]], ours: str) -> float:
    """Median over the rounds of our processor seconds by those of the faster library in that round."""
    rounds = zip(times[ours], times["front_moocore"], times["front_pymoo"], strict=True)
    return statistics.median(mine[0] / min(others)[0] for mine, *others in rounds)


def errors() -> list[dict[str, Any]]:
    """The binned paretoness against the exact sum."""
    found = []
    for name, cloud in {**CLOUDS, "outliers": outliers}.items():
        say(f"exact sums of {COMPARED} rows, {name}")
        cost, accuracy = cloud(COMPARED, np.random.default_rng(1))
        points = np.column_stack((cost, -accuracy))
        start = time.process_time()
        exact = paretoness(points, ratios=(True, False), binned=False)
        seconds = time.process_time() - start
        binned = paretoness(points, ratios=(True, False), binned=True)
        gap = np.abs(exact - binned)
        first, other = (set(np.argsort(share, kind="stable")[:TOP].tolist()) for share in (exact, binned))
        found.append(
            {
                "cloud": name,
                "rows": COMPARED,
                "largest_error": float(f"{gap.max():.3g}"),
                "mean_error": float(f"{gap.mean():.3g}"),
                f"of_the_first_{TOP}_the_same": len(first & other),
                "cpu_seconds_exact": significant(seconds),
            }
        )
    return found


def matrix() -> list[dict[str, Any]]:
    """What pymoo's own quadratic comparison takes (``find_non_dominated`` of pymoo 0.6.2 calls moocore instead)."""
    found = []
    for size in MATRICES:
        cost, accuracy = independent(size, np.random.default_rng(size))
        points = np.column_stack((cost, -accuracy))
        start = time.process_time()
        relation = Dominator.calc_domination_matrix(points)
        seconds = time.process_time() - start
        assert ((relation >= 0).all(axis=1) == nondominated(points)).all()
        tracemalloc.start()
        Dominator.calc_domination_matrix(points)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        found.append({"rows": size, "cpu_seconds": significant(seconds), "peak_mb": significant(peak / 1e6)})
    return found


def machine() -> dict[str, Any]:
    packages = {name: version(name) for name in ("numpy", "pandas", "moocore", "pymoo")}
    return {
        "cores": os.cpu_count(),
        "cores_used": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS", "all"),
        "python": platform.python_version(),
        **packages,
    }


def significant(value: float) -> float:
    return float(f"{value:.3g}")


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
