"""Our training job against a bare PyTorch loop: same network, data, optimizer, schedule and layout, one thread.

    python experiments/trainer_overhead/run.py [--pairs 9]

The two run in turn (A B A B ...); the figure is the median of the pairs' ratios. Ours does more: it measures the training
split's error and the error before training, looks for losses that are not finite, reports at every step and could stop at any.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

import numpy as np
import torch
from torch.nn import functional

from archsearch.arch import Architecture, seed_architecture, summary
from archsearch.arch.build import build
from archsearch.data import DataSection, Dataset, GlyphsSection, load, normalise
from archsearch.jobs import ArtifactRef, Context, Job, Stage
from archsearch.train.section import TrainSection
from archsearch.train.work import train

HERE = Path(__file__).parent
LR, DECAY = 0.01, 0.01


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


def ours(arch: Architecture, dataset: Dataset, epochs: int, batch: int) -> float:
    section = TrainSection(
        epochs=epochs,
        batch_size=batch,
        optimizer="adamw",
        lr=LR,
        weight_decay=DECAY,
        schedule="one_cycle",
        grad_clip=0,
        eval_every=epochs,
        tensorwatch_stats=False,
    )
    spec = {"arch": arch.to_json(), "train": section.model_dump(mode="json"), "inherit": None}
    context = Nowhere(Job(1, Stage.SEED_TRAINED, "train", spec, seed=0), dataset)
    start = time.perf_counter()
    train(spec, context)
    return time.perf_counter() - start


def bare(arch: Architecture, dataset: Dataset, epochs: int, batch: int) -> float:
    mean, std = (torch.tensor(values).view(1, -1, 1, 1) for values in normalise(dataset))

    def images(x: np.ndarray[Any, Any]) -> torch.Tensor:
        return ((torch.from_numpy(x).permute(0, 3, 1, 2).float() / 255 - mean) / std).contiguous(
            memory_format=torch.channels_last
        )

    start = time.perf_counter()
    x, y = images(dataset.x_train), torch.from_numpy(dataset.y_train)
    model = build(arch, seed=0).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(model.parameters(), lr=LR, weight_decay=DECAY, fused=True)
    steps = len(x) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=LR, total_steps=epochs * steps)
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        model.train()
        order = torch.randperm(len(x), generator=generator)
        for step in range(steps):
            chosen = order[step * batch : (step + 1) * batch]
            loss = functional.cross_entropy(model(x[chosen]), y[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    model.eval()
    with torch.inference_mode():
        x, y = images(dataset.x_val), torch.from_numpy(dataset.y_val)
        sum(int((model(x[i : i + 256]).argmax(1) != y[i : i + 256]).sum()) for i in range(0, len(x), 256))
    return time.perf_counter() - start


def compare(dataset: Dataset, channels: int, epochs: int, batch: int, pairs: int) -> dict[str, Any]:
    arch = seed_architecture(dataset.shape, dataset.classes, cells=3, reductions=1, nodes=1, channels=channels)
    for function in (ours, bare):
        function(arch, dataset, 1, batch)  # warm
    times = [(ours(arch, dataset, epochs, batch), bare(arch, dataset, epochs, batch)) for _ in range(pairs)]
    ratios = [mine / theirs for mine, theirs in times]
    return {
        "network": summary(arch),
        "data": f"{dataset.name} {len(dataset.x_train)} x {dataset.shape}",
        "epochs": epochs,
        "batch": batch,
        "seconds_ours": round(statistics.median(mine for mine, _ in times), 3),
        "seconds_bare": round(statistics.median(theirs for _, theirs in times), 3),
        "ratio_median": round(statistics.median(ratios), 3),
        "ratio_min": round(min(ratios), 3),
        "ratio_max": round(max(ratios), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    pairs = parser.parse_args().pairs
    torch.set_num_threads(1)
    digits = load(DataSection(name="digits"))
    glyphs = load(DataSection(name="glyphs", glyphs=GlyphsSection(train=1000, val=250, test=100)))
    results = {
        "torch": torch.__version__,
        "pairs": pairs,
        "runs": [compare(digits, 8, 15, 64, pairs), compare(digits, 16, 15, 64, pairs), compare(glyphs, 16, 1, 64, pairs)],
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
