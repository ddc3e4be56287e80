"""From single runs to a measurement: median, spread, and an interval that knows how the runs were taken.

Runs of one process resemble one another more than those of another process do (where memory came to lie stays for a process's
life), and runs of one block more than those of another block. Taken as independent they would give intervals far too narrow.
So processes are drawn again with replacement, and in each its blocks: a bootstrap in two stages (Davison and Hinkley,
"Bootstrap Methods and their Application", 1997, section 3.8).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from archsearch.jobs import derive_seed
from archsearch.profile.measurement import Measurement

#: Runs of one block, blocks of one process, processes.
Block = Sequence[float]
Launches = Sequence[Sequence[Block]]

RESAMPLES = 1000
#: Runs of samples that are in memory at a time.
CELLS = 1_000_000
LEVEL = 0.95


def summarise(launches: Launches, unit: str, seed: int) -> Measurement:
    """All runs of one quantity as one measurement; ``noisy`` is left to the caller.

    Args:
        launches: for each process its blocks, for each block its runs; empty blocks and processes are ignored.

    Raises:
        ValueError: there is no run at all.
    """
    kept = [[np.asarray(block, dtype=float) for block in blocks if len(block)] for blocks in launches]
    kept = [blocks for blocks in kept if blocks]
    runs = np.concatenate([block for blocks in kept for block in blocks])
    median = float(np.median(runs))
    low, high = interval(kept, seed)
    lower, upper, p90 = np.percentile(runs, [25, 75, 90])
    return Measurement(
        median=median,
        low=min(low, median),
        high=max(high, median),
        unit=unit,
        minimum=float(runs.min()),
        p90=float(p90),
        iqr=float(upper - lower),
        runs=len(runs),
    )


def interval(launches: Sequence[Sequence[NDArray[np.float64]]], seed: int) -> tuple[float, float]:
    """Bounds that hold, with 95 % confidence, the median that another such measurement would find.

    Three factors move a bootstrap's bounds away from the median. With few processes it is too sure of itself: the spread of n
    values is underestimated by sqrt((n - 1) / n), and normal quantiles stand where Student's belong. And another measurement's
    median has as much error as this one: sqrt(2). The true median is within these bounds all the more.
    """
    from scipy.special import stdtrit

    pooled = np.concatenate([block for blocks in launches for block in blocks])
    median = float(np.median(pooled))
    found = _resampled(launches, np.random.default_rng(derive_seed(seed, "bootstrap")))
    low, high = np.percentile(found, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    units = len(launches) if len(launches) > 1 else len(launches[0])
    if units > 1:
        wider = float(stdtrit(units - 1, (1 + LEVEL) / 2)) / 1.96 * (2 * units / (units - 1)) ** 0.5
        low, high = median - (median - low) * wider, median + (high - median) * wider
    return max(float(low), 0.0), float(high)


def _resampled(launches: Sequence[Sequence[NDArray[np.float64]]], random: np.random.Generator) -> NDArray[np.float64]:
    """Medians of ``RESAMPLES`` samples. All runs are sorted once: a sample is how often each block is in it, and its median
    is where half of these counts have been passed."""
    drawn = random.multinomial(len(launches), np.full(len(launches), 1 / len(launches)), size=RESAMPLES)
    by_launch = [
        random.multinomial(times * len(blocks), np.full(len(blocks), 1 / len(blocks)))
        for times, blocks in zip(drawn.T, launches, strict=True)
    ]
    counts = np.concatenate(by_launch, axis=1)
    each = [block for blocks in launches for block in blocks]
    runs = np.concatenate(each)
    order = np.argsort(runs, kind="stable")
    runs, block_of = runs[order], np.repeat(np.arange(len(each)), [len(block) for block in each])[order]
    found = np.empty(RESAMPLES)
    step = max(1, CELLS // len(runs))
    for begin in range(0, RESAMPLES, step):
        passed = counts[begin : begin + step, block_of].cumsum(axis=1)
        total = passed[:, -1:]
        lower, upper = (passed > (total - 1) // 2).argmax(axis=1), (passed > total // 2).argmax(axis=1)
        found[begin : begin + step] = (runs[lower] + runs[upper]) / 2
    return found


def width(found: Measurement) -> float:
    """The interval's width as a share of the median."""
    return (found.high - found.low) / found.median if found.median > 0 else float("inf")
