"""Our training job against a bare PyTorch loop: same network, data, optimizer, schedule and layout, one thread.

    python experiments/trainer_overhead/run.py [--pairs 5]

The two run in turn (A B A B ...); the figure is the median of the pairs' ratios, in processor time (on one thread that is the
wall clock's, less what other programs take from this one) and in wall clock. Ours does more: it measures the error before
training and that on a part of the training split, looks for losses that are not finite, reports at every step and could stop at
any. What the two more evaluations take is told apart.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch.nn import functional

from archsearch.arch import Architecture, seed_architecture, summary
from archsearch.arch.build import build
from archsearch.data import DataSection, Dataset, GlyphsSection, load, normalise
from archsearch.jobs import ArtifactRef, Context, Job, Stage
from archsearch.train import loop
from archsearch.train.evaluate import evaluate
from archsearch.train.section import TrainSection
from archsearch.train.work import train

HERE = Path(__file__).parent
LR, DECAY, BATCH = 0.01, 0.01, 64


class Nowhere(Context):
    """A context that keeps nothing: what is timed is the training."""

    def __init__(self, job: Job, dataset: Dataset) -> None:
        self.job, self.dataset, self.device, self.threads = job, dataset, "cpu", 1

    def data(self, *, test: bool = False) -> Dataset:
        return self.dataset

    def load(self, ref: ArtifactRef) -> bytes:
        raise KeyError(ref.key)

    def save(self, name: str, payload: bytes) -> ArtifactRef:
        return ArtifactRef(name, "", len(payload))

    def load_checkpoint(self) -> bytes | None:
        return None

    def save_checkpoint(self, payload: bytes) -> None:
        """Kept nowhere."""

    def report(self, **progress: Any) -> None:
        """Nobody listens."""


def ours(arch: Architecture, dataset: Dataset, epochs: int) -> None:
    section = TrainSection(
        epochs=epochs,
        batch_size=BATCH,
        optimizer="adamw",
        lr=LR,
        weight_decay=DECAY,
        schedule="one_cycle",
        grad_clip=0,
        eval_every=epochs,
        tensorwatch_stats=False,
    )
    spec = {"arch": arch.to_json(), "train": section.model_dump(mode="json"), "inherit": None}
    train(spec, Nowhere(Job(1, Stage.SEED_TRAINED, "train", spec, seed=0), dataset))


def bare(arch: Architecture, dataset: Dataset, epochs: int) -> None:
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in normalise(dataset))

    def images(x: np.ndarray[Any, Any]) -> torch.Tensor:
        return ((torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous(
            memory_format=torch.channels_last
        )

    x, y = images(dataset.x_train), torch.from_numpy(dataset.y_train)
    model = build(arch, seed=0).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY, fused=True)
    steps = len(x) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=epochs * steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(x), generator=generator)
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            loss = functional.cross_entropy(model(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.inference_mode():
        x, y = images(dataset.x_val), torch.from_numpy(dataset.y_val)
        sum(int((model(x[i : i + 256]).argmax(1) != y[i : i + 256]).sum()) for i in range(0, len(x), 256))


def timed(function: Callable[..., Any], *given: Any) -> tuple[float, float]:
    """Seconds by the wall clock, and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    function(*given)
    return time.perf_counter() - wall, time.process_time() - processor


def in_evaluations(arch: Architecture, dataset: Dataset, epochs: int) -> list[float]:
    """Our job's share of processor time in each of its evaluations: before training, of its end, of the training split."""
    spent: list[float] = []

    def spy(*args: Any) -> Any:
        start = time.process_time()
        score = evaluate(*args)
        spent.append(time.process_time() - start)
        return score

    with mock.patch.object(loop, "evaluate", spy):
        total = timed(ours, arch, dataset, epochs)[1]
    return [seconds / total for seconds in spent]


def spread(name: str, ratios: list[float]) -> dict[str, float]:
    found = {"median": statistics.median(ratios), "min": min(ratios), "max": max(ratios)}
    return {f"{name}_{key}": round(value, 3) for key, value in found.items()}


def compare(dataset: Dataset, channels: int, epochs: int, pairs: int) -> dict[str, Any]:
    arch = seed_architecture(dataset.shape, dataset.classes, cells=3, reductions=1, nodes=1, channels=channels)
    for function in (ours, bare):
        function(arch, dataset, 1)  # warm
    times = [(timed(ours, arch, dataset, epochs), timed(bare, arch, dataset, epochs)) for _ in range(pairs)]
    first, _, last = in_evaluations(arch, dataset, epochs)
    return {
        "network": summary(arch),
        "data": f"{dataset.name} {len(dataset.x_train)} + {len(dataset.x_val)} x {dataset.shape}",
        "epochs": epochs,
        "batch": BATCH,
        "cpu_seconds_ours": round(statistics.median(mine[1] for mine, _ in times), 3),
        "cpu_seconds_bare": round(statistics.median(theirs[1] for _, theirs in times), 3),
        **spread("ratio", [mine[1] / theirs[1] for mine, theirs in times]),
        **spread("wall_ratio", [mine[0] / theirs[0] for mine, theirs in times]),
        "share_of_two_more_evaluations": round(first + last, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    digits = load(DataSection(name="digits"))
    glyphs = load(DataSection(name="glyphs", glyphs=GlyphsSection(train=1000, val=300, test=100)))
    results: dict[str, Any] = {"torch": torch.__version__, "pairs": pairs, "runs": []}
    for dataset, channels, epochs in ((digits, 8, 15), (digits, 16, 15), (glyphs, 4, 12), (glyphs, 16, 12)):
        results["runs"].append(compare(dataset, channels, epochs, pairs))
        print(json.dumps(results["runs"][-1]), flush=True)
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
