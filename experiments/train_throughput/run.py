"""Training throughput on a GPU: images a second of cell networks at 32x32, alone and packed, against a plain loop.

    python experiments/train_throughput/run.py                  # needs a CUDA device; about a quarter of an hour
    python experiments/train_throughput/run.py --smoke          # tiny, on any device: that it runs, not how fast

For networks of about 0.3, 1 and 3 million parameters, in one run on one device:

  plain        float32, a DataLoader with worker processes that normalise and augment, the loss read at every step
  alone        archsearch's own training: bf16, channels-last, data and augmentation on the device; without and with cuda_graph
  processes    several such trainings at once, each in a process of its own
  one_batch    several networks of the same shape as one batch (packed.py); without and with a recorded step

Images a second are those between the end of the first epoch and the last but one: start-up and evaluations are not in them;
``seconds`` is the whole job. ``val_error`` is where each ended: the mean over its networks. ``share_of_matrix_rate`` holds the
multiply-adds of the steps against those of a large bf16 product of matrices on the same device. Prints JSON, and writes
results.json where the device is CUDA.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from overrides import overrides
from packed import Packed
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from archsearch.arch import Architecture, cost, seed_architecture
from archsearch.arch.build import build
from archsearch.data import DataSection, load
from archsearch.data import Dataset as Images
from archsearch.jobs import JSON, ArtifactRef, Context, Job, Stage, derive_seed
from archsearch.train.batches import Batches, resident
from archsearch.train.evaluate import evaluate
from archsearch.train.loop import fit
from archsearch.train.recorded import RECORDERS, RecordedStep
from archsearch.train.schedule import learning_rate
from archsearch.train.section import TrainSection

HERE = Path(__file__).parent
SIZES = {"0.3M": (8, 2, 24, 2), "1M": (11, 2, 32, 3), "3M": (14, 2, 48, 3)}  # cells, reductions, channels, nodes
SMOKE = {"tiny": (3, 1, 8, 1)}


@dataclass(frozen=True)
class Setting:
    """What all ways of training have in common."""

    device: str
    size: int
    images: int
    epochs: int
    batch: int
    workers: int
    packs: tuple[int, ...]

    @property
    def data(self) -> Images:
        glyphs = {"classes": 10, "size": self.size, "train": self.images, "val": max(100, self.images // 10), "test": 100}
        return load(DataSection.model_validate({"name": "glyphs", "glyphs": {**glyphs, "difficulty": 0.2}}))

    def section(self, **more: Any) -> TrainSection:
        values = {
            "epochs": self.epochs,
            "batch_size": self.batch,
            "eval_every": 10_000,
            "augment": {"flip": True, "shift": 0.125},
        }
        return TrainSection.model_validate({**values, "tensorwatch_stats": False, **more})


@dataclass
class Timed(Context):
    """A context in memory that notes when each epoch ended; the training has read a loss then, so the device was waited for."""

    job: Job
    device: str
    dataset: Images | None = None
    threads: int = 1
    ends: dict[int, float] = field(default_factory=dict)

    @overrides
    def data(self, *, test: bool = False) -> Any:
        return self.dataset

    @overrides
    def load(self, ref: ArtifactRef) -> bytes:
        raise NotImplementedError("this training inherits nothing")

    @overrides
    def save(self, name: str, payload: bytes) -> ArtifactRef:
        raise NotImplementedError("this training keeps nothing")

    @overrides
    def load_checkpoint(self) -> bytes | None:
        return None

    @overrides
    def save_checkpoint(self, payload: bytes) -> None: ...

    @overrides
    def report(self, **progress: JSON) -> None:
        self.ends.setdefault(progress["epoch"], time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="tiny networks and data: only whether everything runs")
    parser.add_argument("--packs", nargs="+", type=int, help="networks trained at once (default: 2 4 8)")
    arguments = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cpu" and not arguments.smoke:
        raise SystemExit("no CUDA device is here, and figures of a CPU would say nothing; --smoke tries the code")
    if arguments.smoke:
        setting = Setting(device, 12, 60, 3, 20, 0, tuple(arguments.packs or [2]))
        torch.set_num_threads(1)
    else:
        setting = Setting(device, 32, 10_000, 12, 128, min(8, os.cpu_count() or 1), tuple(arguments.packs or [2, 4, 8]))
    torch.backends.cudnn.benchmark = True
    results = measured(setting, SMOKE if arguments.smoke else SIZES)
    print(json.dumps(results, indent=2))
    if device == "cuda" and not arguments.smoke:
        (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")


def measured(setting: Setting, sizes: dict[str, tuple[int, int, int, int]]) -> dict[str, Any]:
    name = torch.cuda.get_device_name() if setting.device == "cuda" else "CPU"
    results: dict[str, Any] = {
        "device": name,
        "torch": torch.__version__,
        "matrix_rate_tflops": {kind: matrix_rate(setting, kind) for kind in ("bfloat16", "float32")},
        "settings": {"size": setting.size, "images": setting.images, "epochs": setting.epochs, "batch": setting.batch},
        "packed_differs": packed_differs(setting, (3, 1, 8, 1)),
        "networks": {},
    }
    dataset = setting.data
    for size, (cells, reductions, channels, nodes) in sizes.items():
        arch = seed_architecture(
            dataset.shape, dataset.classes, cells=cells, reductions=reductions, nodes=nodes, channels=channels
        )
        found = cost(arch)
        rows = {"plain": plain(setting, arch, dataset), "alone": own(setting, arch, dataset)}
        graphed = setting.device in RECORDERS
        if graphed:
            rows["alone_recorded"] = own(setting, arch, dataset, cuda_graph=True)
        for count in setting.packs:
            rows[f"processes_{count}"] = processes(setting, arch, count, graphed)
            rows[f"one_batch_{count}"] = one_batch(setting, arch, dataset, count, recorded=False)
            if graphed:
                rows[f"one_batch_{count}_recorded"] = one_batch(setting, arch, dataset, count, recorded=True)
        peak = results["matrix_rate_tflops"]["bfloat16"] * 1e12
        for row in rows.values():
            row["times_plain"] = round(row["images_per_second"] / rows["plain"]["images_per_second"], 3)
            # forward, and backward by weights and by inputs; two operations a multiply-add
            row["share_of_matrix_rate"] = round(6 * found.madds * row["images_per_second"] / peak, 5)
        results["networks"][size] = {"params": found.params, "madds": found.madds, "trainings": rows}
    return results


def matrix_rate(setting: Setting, kind: str) -> float:
    """Operations a second of a product of two large square matrices, in 1e12."""
    side, repeats = (8192, 20) if setting.device == "cuda" else (512, 3)
    left, right = (torch.randn(side, side, device=setting.device, dtype=getattr(torch, kind)) for _ in range(2))
    for _ in range(3):
        left @ right
    wait(setting.device)
    start = time.perf_counter()
    for _ in range(repeats):
        left @ right
    wait(setting.device)
    return round(2 * side**3 * repeats / (time.perf_counter() - start) / 1e12, 4)


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def row(setting: Setting, ends: dict[int, float], began: float, steps: int, errors: list[float]) -> dict[str, Any]:
    """Figures of trainings that ran together, from the ends of one's epochs; ``steps`` are all networks' in one epoch."""
    seconds = ends[setting.epochs - 1] - ends[1]
    rate = steps * setting.batch * (setting.epochs - 2) / seconds
    return {
        "images_per_second": round(rate, 1),
        "seconds": round(max(ends.values()) - began, 2),
        "val_error": round(statistics.mean(errors), 4),
    }


# ------------------------------------------------------------------------------------------------------------- ways to train
class Augmented(Dataset[tuple[Tensor, int]]):
    """One image at a time, as a plain PyTorch program does it: normalised, flipped and shifted by a worker process."""

    def __init__(self, data: Images) -> None:
        flat = data.x_train.reshape(-1, data.x_train.shape[-1]) / 255.0
        self.x, self.y = data.x_train, data.y_train
        self.mean, self.std = flat.mean(0).astype(np.float32), flat.std(0).astype(np.float32)

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = torch.from_numpy((self.x[index].astype(np.float32) / 255 - self.mean) / self.std).permute(2, 0, 1)
        if torch.rand(()) < 0.5:
            image = image.flip(2)
        by = round(0.125 * image.shape[1])
        down, right = (int(torch.randint(0, 2 * by + 1, ())) for _ in range(2))
        height, width = image.shape[1:]
        return F.pad(image, (by, by, by, by))[:, down : down + height, right : right + width], int(self.y[index])


def plain(setting: Setting, arch: Architecture, dataset: Images) -> dict[str, Any]:
    """A plain float32 loop with a DataLoader; TF32 stays off, as it is by default."""
    section, began = setting.section(), time.perf_counter()
    model = build(arch, seed=derive_seed(1, "init")).to(setting.device)
    loader = DataLoader(
        Augmented(dataset),
        setting.batch,
        shuffle=True,
        drop_last=True,
        num_workers=setting.workers,
        pin_memory=setting.device == "cuda",
        persistent_workers=setting.workers > 0,
    )
    optimizer = torch.optim.SGD(
        model.parameters(), section.lr, section.momentum, weight_decay=section.weight_decay, nesterov=True
    )
    ends: dict[int, float] = {}
    for epoch in range(section.epochs):
        for index, (x, y) in enumerate(loader):
            optimizer.param_groups[0]["lr"] = learning_rate(section, epoch * len(loader) + index, len(loader))
            loss = F.cross_entropy(model(x.to(setting.device, non_blocking=True)), y.to(setting.device, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), section.grad_clip)
            optimizer.step()
            loss.item()
        wait(setting.device)
        ends[epoch + 1] = time.perf_counter()
    data = resident(dataset, setting.device)
    return row(setting, ends, began, len(loader), [evaluate(model, data.val, data.images).error])


def own(setting: Setting, arch: Architecture, dataset: Images, seed: int = 1, **more: Any) -> dict[str, Any]:
    """One training as archsearch runs it."""
    began = time.perf_counter()
    context = Timed(Job(seed, Stage.SEED_TRAINED, "train", None, seed), setting.device)
    model = build(arch, seed=derive_seed(seed, "init")).to(setting.device)
    data = resident(dataset, setting.device)
    done = fit(model, data, setting.section(**more), context, "throughput")
    return row(setting, context.ends, began, len(dataset.y_train) // setting.batch, [done.val.error])


def processes(setting: Setting, arch: Architecture, count: int, recorded: bool) -> dict[str, Any]:
    """Several trainings at once, each in a process of its own that has started up before."""
    spawn = multiprocessing.get_context("spawn")
    barrier, answers = spawn.Barrier(count), spawn.Queue()
    given = (setting, arch.to_json(), recorded, barrier, answers)
    children = [spawn.Process(target=one_process, args=(*given, seed)) for seed in range(1, count + 1)]
    for child in children:
        child.start()
    rows = [answers.get(timeout=1200) for _ in children]
    for child in children:
        child.join()
    return {
        "images_per_second": round(sum(each["images_per_second"] for each in rows), 1),
        "seconds": max(each["seconds"] for each in rows),
        "val_error": round(statistics.mean(each["val_error"] for each in rows), 4),
    }


def one_process(setting: Setting, arch: JSON, recorded: bool, barrier: Any, answers: Any, seed: int) -> None:
    torch.set_num_threads(1)
    torch.backends.cudnn.benchmark = True
    dataset = setting.data
    resident(dataset, setting.device)
    barrier.wait()
    answers.put(own(setting, Architecture.from_json(arch), dataset, seed, cuda_graph=recorded))


def one_batch(setting: Setting, arch: Architecture, dataset: Images, count: int, *, recorded: bool) -> dict[str, Any]:
    """Several networks of one shape as one batch."""
    began, section = time.perf_counter(), setting.section()
    data = resident(dataset, setting.device)
    models = [build(arch, seed=derive_seed(seed, "init")).to(setting.device) for seed in range(1, count + 1)]
    batches = [Batches(data, setting.batch, section.augment, seed) for seed in range(1, count + 1)]
    bf16 = setting.device == "cuda"
    packed = Packed(
        models, momentum=section.momentum, weight_decay=section.weight_decay, grad_clip=section.grad_clip, bf16=bf16
    )
    step: Callable[[Tensor, Tensor], Tensor] = RecordedStep(packed.step, setting.device) if recorded else packed.step
    ends: dict[int, float] = {}
    per_epoch = batches[0].per_epoch
    for number in range(section.epochs * per_epoch):
        packed.rate.fill_(learning_rate(section, number, per_epoch))
        x, y = zip(*(each.at(number) for each in batches), strict=True)
        losses = step(torch.stack(x), torch.stack(y))
        if (number + 1) % per_epoch == 0:
            losses.tolist()  # waits for the device
            ends[(number + 1) // per_epoch] = time.perf_counter()
    packed.write_back(models)
    errors = [evaluate(model, data.val, data.images).error for model in models]
    return row(setting, ends, began, count * per_epoch, errors)


# ------------------------------------------------------------------------------------------------------------- that it is right
def packed_differs(setting: Setting, size: tuple[int, int, int, int], steps: int = 4) -> float:
    """The largest difference between the weights of networks trained as one batch and one by one, in float32."""
    cells, reductions, channels, nodes = size
    arch = seed_architecture((1, 12, 12), 10, cells=cells, reductions=reductions, nodes=nodes, channels=channels)
    generator = torch.Generator().manual_seed(1)
    count, settings = 3, {"momentum": 0.9, "weight_decay": 1e-3, "grad_clip": 1.0}
    x = torch.rand((steps, count, 16, 1, 12, 12), generator=generator).to(setting.device)
    y = torch.randint(0, 10, (steps, count, 16), generator=generator).to(setting.device)
    together = [build(arch, seed=seed).to(setting.device).train() for seed in range(count)]
    packed = Packed(together, **settings)
    for step in range(steps):
        packed.rate.fill_(0.05 / (1 + step))
        packed.step(x[step], y[step])
    packed.write_back(together)
    worst = 0.0
    for index, other in enumerate(together):
        model = build(arch, seed=index).to(setting.device).train()
        optimizer = torch.optim.SGD(model.parameters(), 0.05, 0.9, weight_decay=1e-3, nesterov=True)
        for step in range(steps):
            optimizer.param_groups[0]["lr"] = 0.05 / (1 + step)
            optimizer.zero_grad()
            F.cross_entropy(model(x[step, index]), y[step, index]).backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        pairs = zip(model.state_dict().values(), other.state_dict().values(), strict=True)
        worst = max(worst, *(float((one.float() - two.float()).abs().max()) for one, two in pairs))
    return worst


if __name__ == "__main__":
    main()
