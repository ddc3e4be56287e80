"""What was made faster because of the profile: processor time of a step, plain over ours, in the same process, one thread.

    python experiments/job_profile/faster.py [--rounds 5] [--steps 4]

Each line compares a training step or a search step of one network with one thing put back to PyTorch's plain form: the
depthwise convolutions' backward pass, the batch norm for few channels, or (training only) the memory layout, and with it both.
The two forms run in turn, some steps each; the figure is the median of the rounds' ratios of their fastest steps. JSON is
printed and kept in faster.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from jobs import glyphs, network
from run import search_step, train_step
from torch import nn

from archsearch.arch import Architecture, cost, summary
from archsearch.arch.modules.depthwise import DepthwiseConv2d
from archsearch.arch.modules.norm import BatchNorm2d
from archsearch.data import Dataset
from archsearch.train import work

HERE = Path(__file__).parent
PLAIN: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "depthwise": lambda: mock.patch.object(DepthwiseConv2d, "forward", nn.Conv2d.forward),
    "batch_norm": lambda: mock.patch.object(BatchNorm2d, "forward", nn.BatchNorm2d.forward),
}


def fastest(step: Callable[[], None], count: int) -> float:
    """Milliseconds of processor time of the fastest of some steps: what disturbs a step only ever adds to it."""
    times = []
    for _ in range(count):
        start = time.thread_time()
        step()
        times.append(time.thread_time() - start)
    return 1000 * min(times)


def compare(ours: Callable[[], None], theirs: Callable[[], None], plain: Any, rounds: int, steps: int) -> dict[str, float]:
    fastest(ours, 2)
    with plain():
        fastest(theirs, 2)
    pairs = []
    for _ in range(rounds):
        mine = fastest(ours, steps)
        with plain():
            pairs.append((mine, fastest(theirs, steps)))
    return {
        "ms_ours": round(min(mine for mine, _ in pairs), 1),
        "ms_plain": round(min(other for _, other in pairs), 1),
        "ratio_median": round(statistics.median(other / mine for mine, other in pairs), 2),
        "ratio_min": round(min(other / mine for mine, other in pairs), 2),
        "ratio_max": round(max(other / mine for mine, other in pairs), 2),
    }


def comparisons(arch: Architecture, dataset: Dataset, folder: Path) -> list[tuple[str, str, Any, Any, Any]]:
    """(step, what is put back, our step, theirs, context for theirs) for one network."""
    found = []
    for name, make in (("train", train_step), ("search", search_step)):
        for what, plain in PLAIN.items():
            if what == "depthwise" or arch.channels < 8:  # with more channels the batch norm is PyTorch's anyhow
                found.append((name, what, make(arch, dataset, folder), make(arch, dataset, folder), plain))
    contiguous = train_step(arch, dataset, folder, channels_last=False)
    return [*found, ("train", "layout and both", train_step(arch, dataset, folder), contiguous, nullcontext)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="steps of each form in a round")
    args = parser.parse_args()
    torch.set_num_threads(1)
    work._keep_freed_memory()
    dataset = glyphs(500)
    results: dict[str, Any] = {"torch": torch.__version__, "batch": 64, "size": dataset.shape, "runs": []}
    with tempfile.TemporaryDirectory() as place:
        for channels, grown in ((4, 0), (4, 2), (8, 1), (16, 0), (16, 2)):
            arch = network(dataset, channels, grown)
            for name, what, ours, theirs, plain in comparisons(arch, dataset, Path(place)):
                found = {"step": name, "plain": what, "network": summary(arch), "madds": cost(arch).madds}
                found |= compare(ours, theirs, plain, args.rounds, args.steps)
                results["runs"].append(found)
                print(json.dumps(found), flush=True)
    (HERE / "faster.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
