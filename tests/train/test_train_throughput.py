"""The parts of experiments/train_throughput that a CPU can try, and that training waits for its device once an epoch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from train_context import SEED_ARCH, MemoryContext

from archsearch.train.work import train

SCRIPT = Path(__file__).parents[2] / "experiments" / "train_throughput" / "run.py"


def test_every_way_of_training_runs_and_packed_networks_end_where_single_ones_do():
    command = [sys.executable, str(SCRIPT), "--smoke"]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert found["device"] == "CPU" and found["packed_differs"] < 1e-5
    (network,) = found["networks"].values()
    assert network["trainings"].keys() == {"plain", "alone", "processes_2", "one_batch_2"}
    for row in network["trainings"].values():
        assert row["images_per_second"] > 0 and 0 <= row["val_error"] <= 1 and row["seconds"] > 0
    assert not (SCRIPT.parent / "results.json").exists() or "CPU" not in (SCRIPT.parent / "results.json").read_text()


def test_figures_are_asked_of_no_cpu():
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode != 0 and "no CUDA device" in done.stderr and not done.stdout


class Waits(TorchDispatchMode):
    """Counts the operations that would wait for a device: they bring a number to Python, or make as much as they find."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func._schema.name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::is_nonzero")
        return func(*args, **(kwargs or {}))


def test_the_device_is_waited_for_as_often_whatever_the_number_of_steps():
    def waits(batch_size: int, epochs: int) -> int:
        settings = {"epochs": epochs, "batch_size": batch_size, "augment": {"flip": True, "shift": 0.1, "cutout": 0.2}}
        spec = {"arch": SEED_ARCH.to_json(), "train": {**settings, "tensorwatch_stats": False}, "inherit": None}
        with Waits() as counted:
            train(spec, MemoryContext())
        return counted.count

    assert torch.get_num_threads() == 1
    few, many, longer = waits(60, 2), waits(15, 2), waits(60, 3)
    assert few == many > 0, "not once a step"
    assert longer - few <= 8, "the look at the losses, their mean, and a score of each epoch"
