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
import os
import platform
import pstats
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from archsearch import api, session
from archsearch import config as configuration
from archsearch.cluster.loop import RunLoop
from archsearch.cluster.observer import Observer
from archsearch.cluster.outcomes import Law
from archsearch.cluster.simulated import SimulatedExecutor
from archsearch.jobs import Event, Job
from archsearch.simulation import outcomes
from archsearch.store import Artifacts, RunFolder, create_run, open_store

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
    """Ends a measured resume at its first job; says when that was, and the processor time until then."""


class FirstJob(SimulatedExecutor):
    def submit(self, job: Job) -> None:
        raise Submitted(time.perf_counter(), time.process_time())


def fast_law(made: api.Plan) -> Law:
    """Jobs of 10 ms however large their networks grow: 64 slots offer several times what the driver takes."""
    law = outcomes(made)
    assert isinstance(law, Law)
    return replace(law, seconds_per_gigamadd=1e-4, overhead=0.01, gain=0.05)


def grow(size: int, folder: RunFolder, profile: bool) -> dict[str, Any]:
    """A run of ``size`` completions from nothing."""
    config = configuration.load(CONF, overrides=[f"budget.jobs={size}"])
    made = api.plan(config)
    slots = config["cluster"].slots
    executor = SimulatedExecutor(fast_law(made), slots, charge=True)
    meta = {"dataset": {"hash": made.dataset.hash}, "versions": {}, "directory": "", "expanded": dict(config.expanded)}
    create_run(folder, config_text=config.source_text, meta=meta)
    start = time.perf_counter()
    watching = Clock(executor, max(0, size - WINDOW))
    store = open_store(folder, write=True)  # never closed, as if the driver had been killed
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
        "completions_a_commit": round(size / watching.commits, 1),
        "pool": len(loop.searcher.pool),  # type: ignore[attr-defined]
        "band": watching.band,
        "peak_memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "database_mb": round(folder.db.stat().st_size / 1e6),
    }


def resume(size: int, folder: RunFolder, profile: bool) -> dict[str, Any]:
    """``archsearch.resume`` itself up to its first submitted job, with a simulated executor in the place of Ray."""
    opened = 0.0

    @contextmanager
    def open_executor(made: api.Plan, *_rest: Any) -> Iterator[FirstJob]:
        nonlocal opened
        opened = time.perf_counter()
        yield FirstJob(fast_law(made), 2)

    session.open_executor = open_executor  # type: ignore[assignment]
    profiler = cProfile.Profile()
    more = [f"budget.jobs={size + 100}"]
    start, start_cpu = time.perf_counter(), time.process_time()
    try:
        profiler.runcall(api.resume, folder.path, overrides=more) if profile else api.resume(folder.path, overrides=more)
    except Submitted as submitted:
        end, cpu = submitted.args
    if profile:
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("cumulative").print_stats(50)
    return {
        "seconds": round(end - start, 2),
        "cpu_seconds": round(cpu - start_cpu, 2),
        "of_it_data_and_check": round(opened - start, 2),
        "of_it_fold_and_ask": round(end - opened, 2),
    }


def measured(size: int, profile: bool) -> dict[str, Any]:
    """One size, growth and resume each in a process of its own."""
    with tempfile.TemporaryDirectory() as place:

        def part(name: str) -> dict[str, Any]:
            command = [sys.executable, __file__, "--part", name, "--folder", f"{place}/run", "--sizes", str(size)]
            command += ["--profile"] if profile else []
            found: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
            return found

        figures = part("grow")
        figures["resume_after_a_kill"] = part("resume")
        figures["resume_after_a_close"] = part("resume")  # the first one closed the store in order
    figures["load"] = round(psutil.getloadavg()[0], 1)  # what others run on the cores makes the driver wait
    print(json.dumps(figures), file=sys.stderr)
    return figures


def table(sizes: list[dict[str, Any]]) -> str:
    """The README's table."""
    rows = [
        "| completions | a second, elapsed | a CPU second | CPU ms each, at the end | peak memory | resume: killed, closed |",
        "|---|---|---|---|---|---|",
    ]
    for size in sizes:
        killed, closed = (size[f"resume_after_a_{how}"]["seconds"] for how in ("kill", "close"))
        cells = [f"{size[key]:,}" for key in ("completions", "completions_per_second", "completions_per_cpu_second")]
        cells += [f"{size['cpu_ms_a_completion_at_the_end']:.2f}", f"{size['peak_memory_mb']:,} MB"]
        rows.append(f"| {' | '.join(cells)} | {killed:.1f} s, {closed:.1f} s |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--profile", action="store_true", help="print where the time goes; the figures are then slower")
    parser.add_argument("--part", choices=("grow", "resume"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        size, folder = options.sizes[0], RunFolder.at(options.folder)
        work = grow if options.part == "grow" else resume
        print(json.dumps(work(size, folder, options.profile)), flush=True)
        os._exit(0)  # the store of a grown run stays open
    file = HERE / "results.json"
    kept = json.loads(file.read_text())["sizes"] if file.exists() else []
    known = {figures["completions"]: figures for figures in kept if "resume_after_a_kill" in figures}
    known |= {size: measured(size, options.profile) for size in sorted(options.sizes)}
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
            "resume_within_10_s": max(last[name]["seconds"] for name in ("resume_after_a_kill", "resume_after_a_close")) <= 10,
        },
    }
    text = json.dumps(results, indent=2)
    file.write_text(text + "\n")
    print(text)
    print(table(sizes), file=sys.stderr)


if __name__ == "__main__":
    main()
