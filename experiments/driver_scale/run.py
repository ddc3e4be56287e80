"""The driver at scale: how fast it asks, folds and commits as its pool grows to 1,000, 10,000 and 100,000 completions.

    python experiments/driver_scale/run.py [--sizes 1000 10000 100000] [--profile]

The run loop, the searcher and the store (SQLite, synchronous=FULL) are the real ones; jobs are simulated and take next to no
time, so that the driver is never waited for. Prints JSON and writes results.json beside this file; sizes that are not asked
for keep their figures there.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import platform
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from archsearch import api
from archsearch import config as configuration
from archsearch.cluster.loop import RunLoop
from archsearch.cluster.observer import Observer
from archsearch.cluster.outcomes import Law
from archsearch.cluster.simulated import SimulatedExecutor
from archsearch.jobs import Event, Job
from archsearch.simulation import outcomes
from archsearch.store import Artifacts, RunFolder, RunState, create_run, open_store, read_run

HERE = Path(__file__).parent
CONF = HERE / "pool.yaml"

#: Completions over which the cost of one is taken, up to each size.
WINDOW = 1000


class Clock(Observer):
    """Notes the driver's working time when ``told`` completions were first committed."""

    def __init__(self, executor: SimulatedExecutor, told: int) -> None:
        self.executor, self.told = executor, told
        self.commits, self.band = 0, 0
        self.mark = (0, 0.0, 0.0)

    def on_events(self, loop: RunLoop, events: list[Event]) -> None:
        self.commits += 1
        self.band = len(loop.searcher.pool.frontier.band())  # type: ignore[attr-defined]
        if loop.ledger.told <= self.told:
            self.mark = (loop.ledger.told, self.executor.driver_seconds, self.executor.driver_cpu_seconds)

    def on_tick(self, loop: RunLoop) -> None: ...

    def on_message(self, text: str) -> None: ...


class Submitted(Exception):
    """Ends a measured resume at its first job."""


class FirstJob(SimulatedExecutor):
    def submit(self, job: Job) -> None:
        raise Submitted


def fast_law(made: api.Plan) -> Law:
    """Jobs of about 10 ms: 64 slots offer several times what the driver takes."""
    law = outcomes(made)
    assert isinstance(law, Law)
    return replace(law, seconds_per_gigamadd=0.01, overhead=0.01, gain=0.05)


def grow(size: int, folder: RunFolder, profile: bool) -> dict[str, Any]:
    """A run of ``size`` completions from nothing."""
    config = configuration.load(CONF, overrides=[f"budget.jobs={size}"])
    made = api.plan(config)
    slots = config["cluster"].slots
    executor = SimulatedExecutor(fast_law(made), slots, charge=True)
    create_run(folder, config_text=config.source_text, meta={"expanded": dict(config.expanded)})
    start = time.perf_counter()
    with open_store(folder, write=True) as store:
        watching = Clock(executor, max(0, size - WINDOW))
        loop = RunLoop(store, Artifacts(folder.url), made.searcher, config["cluster"], observer=watching)
        profiler = cProfile.Profile()
        outcome = profiler.runcall(loop.run, executor, {}) if profile else loop.run(executor, {})
    assert outcome.state == "done" and loop.ledger.told == size, outcome
    if profile:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(50)
    driver, cpu = executor.driver_seconds, executor.driver_cpu_seconds
    told, before, before_cpu = watching.mark
    return {
        "completions": size,
        "completions_per_second": round(size / driver),
        "completions_per_cpu_second": round(size / cpu),
        "driver_seconds": round(driver, 2),
        "driver_cpu_seconds": round(cpu, 2),
        "wall_seconds": round(time.perf_counter() - start, 1),
        "ms_a_completion": round(1000 * driver / size, 3),
        "ms_a_completion_at_the_end": round(1000 * (driver - before) / (size - told), 3),
        "cpu_ms_a_completion_at_the_end": round(1000 * (cpu - before_cpu) / (size - told), 3),
        "commits": watching.commits,
        "pool": len(loop.searcher.pool),  # type: ignore[attr-defined]
        "band": watching.band,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "database_mb": round(folder.db.stat().st_size / 1e6),
    }


def resume(size: int, folder: RunFolder) -> dict[str, Any]:
    """All that ``archsearch resume`` does up to its first submitted job, but for starting Ray."""
    start = time.perf_counter()
    stored = read_run(folder)
    RunState(stored.events)
    config = configuration.from_snapshot(stored.meta["config"], expanded=stored.meta["expanded"], overrides=[])
    made = api.plan(config)
    read = time.perf_counter()
    with open_store(folder, write=True) as store:
        opened = time.perf_counter()
        artifacts = Artifacts(folder.url)
        loop = RunLoop(store, artifacts, made.searcher, config["cluster"])
        artifacts.collect({ref.key for record in loop.state.jobs.values() for ref in record.artifacts.values()})
        folded = time.perf_counter()
        try:
            loop.run(FirstJob(fast_law(made), 1), {}, {"budget.jobs": size + 100})
        except Submitted:
            end = time.perf_counter()
    return {
        "resume_seconds": round(end - start, 2),
        "resume_parts": {
            "read": round(read - start, 2),
            "open": round(opened - read, 2),
            "fold": round(folded - opened, 2),
            "ask": round(end - folded, 3),
        },
    }


def measured(size: int, profile: bool) -> dict[str, Any]:
    """One size, growth and resume each in a process of its own."""
    with tempfile.TemporaryDirectory() as place:
        figures: dict[str, Any] = {}
        for part in ("grow", "resume"):
            command = [sys.executable, __file__, "--part", part, "--folder", f"{place}/run", "--sizes", str(size)]
            command += ["--profile"] if profile else []
            figures |= json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    figures["load"] = round(psutil.getloadavg()[0], 1)  # what others run on the cores makes the driver wait
    print(json.dumps(figures), file=sys.stderr)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--profile", action="store_true", help="print where the time goes; the figures are then slower")
    parser.add_argument("--part", choices=("grow", "resume"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        size, folder = options.sizes[0], RunFolder.at(options.folder)
        print(json.dumps(grow(size, folder, options.profile) if options.part == "grow" else resume(size, folder)))
        return
    file = HERE / "results.json"
    before = json.loads(file.read_text())["sizes"] if file.exists() else []
    known = {
        figures["completions"]: figures for figures in [*before, *(measured(size, options.profile) for size in options.sizes)]
    }
    sizes = [known[size] for size in sorted(known)]
    first, last = sizes[0], sizes[-1]
    ratio = last["ms_a_completion_at_the_end"] / first["ms_a_completion_at_the_end"]
    name = "cpu_ms_a_completion_at_the_end"
    results = {
        "machine": {"cores": psutil.cpu_count(), "python": platform.python_version(), "machine": platform.machine()},
        "sizes": sizes,
        "cost_of_a_completion_last_to_first": round(ratio, 2),
        "cpu_of_a_completion_last_to_first": round(last[name] / first[name], 2),
        "wanted": {
            "1000_a_second_at_every_size": all(size["completions_per_second"] >= 1000 for size in sizes),
            "at_most_twice_the_cost": ratio <= 2,
            "resume_within_10_s": last["resume_seconds"] <= 10,
        },
    }
    text = json.dumps(results, indent=2)
    file.write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
