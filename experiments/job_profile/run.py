"""Where the processor time of a training job and of a search job goes, on one thread.

    python experiments/job_profile/run.py [--train 1000] [--epochs 4]

Parts of a job are timed by wrapping what does them; time in an inner part is not counted for the outer one. What the operators
take comes from torch.profiler over a few steps. JSON is printed and kept in results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from jobs import LEARN, TRAIN, FolderContext, glyphs, network, search_job, train_job
from torch.profiler import ProfilerActivity, profile

from archsearch.arch import PRIMITIVES, summary
from archsearch.arch.build import Network, build
from archsearch.data import Dataset
from archsearch.train import TrainSection, WeakLearnerSection, loop, weak_learner, work
from archsearch.train.batches import Batches, resident
from archsearch.train.candidates import Candidates

HERE = Path(__file__).parent
#: Operators of the profiler -> what they belong to; the first whose words occur in the name.
KINDS = {
    "convolutions, backward": ("convolution_backward", "_DepthwiseBackward"),
    "convolutions, forward": ("convolution", "conv2d"),
    "batch norms": ("batch_norm", "_Norm"),
    "activations": ("clamp_min", "threshold_backward", "relu"),
    "pools": ("pool",),
    "optimizer": ("adam", "Optimizer", "foreach"),
}


class Clock:
    """Processor seconds of each part, without those of parts inside it."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.parts = ["the rest"]
        self.since = time.process_time()

    def _switch(self) -> None:
        now = time.process_time()
        self.seconds[self.parts[-1]] += now - self.since
        self.since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._switch()
        self.parts.append(name)
        try:
            yield
        finally:
            self._switch()
            self.parts.pop()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **options: Any) -> Any:
            # The forward pass of an evaluation belongs to it.
            with self.part("evaluation" if name == "forward" and "evaluation" in self.parts else name):
                return function(*args, **options)

        return timed


def parts_of(task: Callable[..., Any], spec: Any, context: FolderContext) -> dict[str, Any]:
    """Run a job with every part timed."""
    clock = Clock()
    wrapped: list[tuple[Any, str, str]] = [
        (work, "build", "building the network"),
        (work, "fetch_weights", "weights and files"),
        (work, "save_weights", "weights and files"),
        (FolderContext, "save", "weights and files"),
        (FolderContext, "save_checkpoint", "checkpoint"),
        (Batches, "at", "data and augmentation"),
        (loop, "evaluate", "evaluation"),
        (weak_learner, "contain", "gradient clipping"),
        (torch.nn.utils, "clip_grad_norm_", "gradient clipping"),
        (Candidates, "__init__", "building the network"),
        (Candidates, "forward", "forward"),
        (Network, "forward", "forward"),
        (torch.Tensor, "backward", "backward"),
        (torch.optim.AdamW, "step", "optimizer"),
    ]
    with ExitStack() as stack:
        for owner, name, part in wrapped:
            stack.enter_context(mock.patch.object(owner, name, _method(clock.wrap(part, getattr(owner, name)))))
        with clock.part("the rest"):
            result = task(spec, context)
    total = sum(clock.seconds.values())
    shares = {name: round(seconds / total, 4) for name, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1])}
    return {"seconds": round(total, 2), "steps": _steps(result.metrics), "shares": shares}


def _method(function: Callable[..., Any]) -> Any:
    return lambda *args, **options: function(*args, **options)


def _steps(metrics: Any) -> Any:
    return metrics.get("steps") or {"epochs": metrics["epochs"]}


def operators_of(step: Callable[[], None], count: int) -> dict[str, float]:
    """The share of each kind of operator in the processor time of ``count`` steps."""
    for _ in range(3):
        step()
    with profile(activities=[ProfilerActivity.CPU]) as found:
        for _ in range(count):
            step()
    kinds: Counter[str] = Counter()
    for event in found.key_averages():
        kind = next((kind for kind, words in KINDS.items() if any(word in event.key for word in words)), "other operators")
        kinds[kind] += event.self_cpu_time_total
    total = sum(kinds.values())
    return {kind: round(value / total, 4) for kind, value in kinds.most_common()}


def train_step(arch: Any, dataset: Dataset, folder: Path, **changes: Any) -> Callable[[], None]:
    """One step of a training, to be called again and again."""
    section = TrainSection.model_validate({**TRAIN, "epochs": 1000, **changes})
    context = FolderContext(folder, dataset, train_job(arch, 1)[1])
    training = loop._Training(build(arch, seed=1), resident(dataset, "cpu"), section, context, "", loop.Rungs())
    training.model.train()

    def step() -> None:
        training._train_step()
        training.step += 1

    return step


def search_step(arch: Any, dataset: Dataset, folder: Path) -> Callable[[], None]:
    section = WeakLearnerSection.model_validate({**LEARN, "primitives": PRIMITIVES})
    context = FolderContext(folder, dataset, search_job(arch, folder)[1])
    learning = weak_learner._Learning(build(arch, seed=1), resident(dataset, "cpu"), section, context, "")

    def step() -> None:
        learning._learn_step()
        learning.step += 1

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=1000, help="training images")
    parser.add_argument("--epochs", type=int, default=4)
    args = parser.parse_args()
    torch.set_num_threads(1)
    work._keep_freed_memory()
    dataset = glyphs(args.train)
    results: dict[str, Any] = {"torch": torch.__version__, "data": f"glyphs {args.train} x {dataset.shape}", "jobs": []}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for task, (spec, job) in (
            (work.train, train_job(network(dataset, 2, 0), 1)),
            (work.petridish, search_job(network(dataset, 2, 0), folder)),
        ):
            task(spec, FolderContext(folder, dataset, job))  # what torch imports at a first step is no part of a job
        for channels, grown in ((4, 0), (4, 2), (16, 0), (16, 2)):
            arch = network(dataset, channels, grown)
            for name, task, (spec, job), step in (
                ("train", work.train, train_job(arch, args.epochs), train_step),
                ("petridish", work.petridish, search_job(arch, folder), search_step),
            ):
                context = FolderContext(folder, dataset, job)
                found = {"job": name, "network": summary(arch), **parts_of(task, spec, context)}
                found["operators"] = operators_of(step(arch, dataset, folder), 3)
                results["jobs"].append(found)
                print(json.dumps(found), flush=True)
    (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
