"""How busy one driver keeps 10 to 1,000 slots when jobs are heavy-tailed and one in a hundred fails.

    python experiments/scale_simulation/run.py [--completions-per-slot 6]

The run loop, the searcher and the store (SQLite, synchronous=FULL) are the real ones; jobs are simulated, and every real second
that the driver spends between two waits, asking and committing, also passes on the virtual clock, on which slots stay idle
meanwhile. Prints JSON and writes results.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from overrides import overrides

from archsearch import api
from archsearch import config as configuration
from archsearch.cluster.loop import RunLoop
from archsearch.cluster.outcomes import Forecast, Outcomes
from archsearch.cluster.simulated import SimulatedExecutor
from archsearch.jobs import Failure, FailureKind, Job, derive_seed
from archsearch.simulation import outcomes
from archsearch.store import Artifacts, RunFolder, create_run, open_store

HERE = Path(__file__).parent

#: (slots, median seconds of a job): more slots at one length, then shorter jobs at 1,000 slots.
CASES = [(10, 60.0), (30, 60.0), (100, 60.0), (300, 60.0), (1000, 60.0), (1000, 10.0), (1000, 3.0), (1000, 1.0), (1000, 0.3)]

#: Shape of the log-normal durations: one job in a hundred takes ten times the median.
SIGMA = 1.0
FAILURES = 0.01


@dataclass(frozen=True)
class HeavyTailed(Outcomes):
    """Results of another law, with durations of their own: log-normal, the same for every job."""

    results: Outcomes
    median: float

    @overrides
    def forecast(self, job: Job) -> Forecast:
        luck = np.random.default_rng(derive_seed(job.seed, "duration", job.attempt))
        seconds = self.median * math.exp(SIGMA * luck.standard_normal())
        if luck.random() < FAILURES:
            return Forecast(seconds * luck.random(), Failure(FailureKind.LOST, "the simulated worker was lost"))
        return Forecast(seconds, self.results.forecast(job).outcome)


class Watched(SimulatedExecutor):
    """Notes when all slots were first held, and when a new job was last submitted."""

    full: float | None = None
    last: float = 0.0

    @overrides
    def submit(self, job: Job) -> None:
        super().submit(job)
        if job.attempt == 1:  # second tries go on while the run drains
            self.last = self.now()
        if self.full is None and not any(self.capacity().values()):
            self.full = self.now()


def measured(slots: int, median: float, completions: int) -> dict[str, Any]:
    """One run of so many completions, from the first seed to the last job's end."""
    config = configuration.load(HERE / "config.yaml", overrides=[f"budget.jobs={completions}"])
    made = api.plan(config)
    executor = Watched(HeavyTailed(outcomes(made), median), slots, charge=True)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder.at(f"{place}/run")
        create_run(folder, config_text=config.source_text, meta={})
        with open_store(folder, write=True) as store:
            loop = RunLoop(store, Artifacts(folder.url), made.searcher, config["cluster"])
            outcome = loop.run(executor, {})
    end, full = executor.now(), executor.full
    assert outcome.state == "done" and full is not None, outcome
    mean = executor.busy_seconds / loop.ledger.told

    def idle_jobs(start: float, stop: float) -> float:
        """Slot time that was not used between two moments, in jobs of mean length."""
        return round((1 - executor.busy_between(start, stop)) * (stop - start) * slots / mean, 1)

    steady = executor.busy_between(full, executor.last)
    figures = {
        "slots": slots,
        "median_seconds": median,
        "completions": loop.ledger.told,
        "failures": sum(loop.ledger.losses.values()),
        "completions_a_second": round(loop.ledger.told / (executor.last - executor.start), 1),
        "busy_in_steady_state": round(steady, 5),
        "busy_in_all": round(executor.busy_share, 4),
        "start": {"seconds": round(full, 1), "jobs_lost": idle_jobs(executor.start, full)},
        "steady": {"seconds": round(executor.last - full, 1), "jobs_lost": idle_jobs(full, executor.last)},
        "drain": {"seconds": round(end - executor.last, 1), "jobs_lost": idle_jobs(executor.last, end)},
        "driver_busy": round(executor.driver_seconds / (end - executor.start), 4),
        "driver_ms_a_completion": round(1000 * executor.driver_seconds / loop.ledger.told, 2),
        "load": round(psutil.getloadavg()[0], 1),
    }
    print(json.dumps(figures), file=sys.stderr, flush=True)
    return figures


def table(cases: list[dict[str, Any]]) -> str:
    """The README's table."""
    rows = [
        "| slots | median job | completions a second | busy in steady state | start: time, jobs lost | drain: time, jobs lost "
        "| driver ms each |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in cases:
        ends = [f"{case[part]['seconds']:,.0f} s, {case[part]['jobs_lost']:,.0f}" for part in ("start", "drain")]
        cells = [f"{case['slots']:,}", f"{case['median_seconds']:g} s", f"{case['completions_a_second']:g}"]
        cells += [f"{100 * case['busy_in_steady_state']:.2f} %", *ends, f"{case['driver_ms_a_completion']:g}"]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--completions-per-slot", type=int, default=6, help="but 2,000 at least (default: 6)")
    options = parser.parse_args()
    cases = [measured(slots, median, max(2000, options.completions_per_slot * slots)) for slots, median in CASES]
    most = max(slots for slots, _ in CASES)
    kept = [case["median_seconds"] for case in cases if case["slots"] == most and case["busy_in_steady_state"] >= 0.98]
    at_most = next(case for case in cases if case["slots"] == most)
    results = {
        "machine": {"cores": psutil.cpu_count(), "python": platform.python_version(), "machine": platform.machine()},
        "durations": {"law": "log-normal", "sigma": SIGMA, "failures": FAILURES},
        "cases": cases,
        "shortest_median_with_98_percent_at_1000_slots": min(kept, default=None),
        "wanted": {"98_percent_at_1000_slots": at_most["busy_in_steady_state"] >= 0.98},
    }
    text = json.dumps(results, indent=2)
    (HERE / "results.json").write_text(text + "\n")
    print(text)
    print(table(cases), file=sys.stderr)


if __name__ == "__main__":
    main()
