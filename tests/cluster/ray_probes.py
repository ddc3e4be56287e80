"""Works of the tests on real Ray; workers import them like any plug-in (see conftest.py)."""

from __future__ import annotations

import os
import subprocess
import time
from typing import Any

from archsearch.jobs import Context, NonFinite, Result
from archsearch.registry import WORKS


@WORKS.register("probe")
def probe(spec: Any, context: Context) -> Result:
    """What a job sees of its data and its place."""
    data = context.data(test=spec.get("test", False))
    found = {"train": len(data.x_train), "test": len(data.x_test), "hash": data.hash}
    return Result({**found, "threads": context.threads, "device": context.device})


@WORKS.register("wait_for_it")
def wait_for_it(spec: Any, context: Context) -> Result:
    """Notes that it began, then takes its time, until there is a file ``until``."""
    _note(spec["log"], context.job.id, context.job.attempt, os.getpid())
    for step in range(int(spec["seconds"] * 10)):
        if os.path.exists(spec.get("until", "")):
            break
        time.sleep(0.1)
        context.report(step=step)
    return Result({"slept": spec["seconds"]})


@WORKS.register("wait_for_a_child")
def wait_for_a_child(spec: Any, context: Context) -> Result:
    """Waits for a process of its own: a forced cancel ends that first, and then the work returns as if all was well."""
    _note(spec["log"], context.job.id, context.job.attempt, os.getpid())
    subprocess.run(["sleep", str(spec["seconds"])], check=False)
    return Result({"returned": True})


@WORKS.register("count")
def count(spec: Any, context: Context) -> Result:
    """Counts ``steps`` with a pause after each, a checkpoint at each and a line in ``log``; ``faults``: what happens at which
    attempt, as ``{"1": {"at": 3, "does": "raise"}}``, or at every attempt under the key "*"."""
    import ray

    job, log = context.job, spec["log"]
    fault = spec.get("faults", {}).get(str(job.attempt)) or spec.get("faults", {}).get("*") or {}
    done = int(context.load_checkpoint() or b"0")
    gpus = ",".join(ray.get_runtime_context().get_accelerator_ids()["GPU"]) or "-"
    while done < spec["steps"]:
        _note(log, job.id, job.attempt, os.getpid(), done, f"{time.time():.3f}", job.resources.gpu, gpus)
        if done == fault.get("at"):
            _FAULTS[fault["does"]](job)
        time.sleep(spec.get("pause", 0.1))
        done += 1
        context.save_checkpoint(str(done).encode())
        context.report(step=done)
    ref = context.save("weights.bin", b"%d by %d" % (job.id, job.attempt))
    return Result({"steps": done, "madds": 1, "val_error": 0.5}, {"weights": ref})


def _note(log: str, *words: object) -> None:
    with open(log, "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def _raise(job: Any) -> None:
    raise ValueError("the shapes differ")


def _diverge(job: Any) -> None:
    raise NonFinite("loss is nan at step 3")


def _hang(job: Any) -> None:
    time.sleep(3600)


def _fill_the_device(job: Any) -> None:
    import torch

    if job.resources.gpu < 1:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


def _overfill_the_device(job: Any) -> None:
    import torch

    raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 200.00 GiB")


def _eat(job: Any) -> None:
    """Takes memory without an end, 64 MB at a time."""
    eaten = []
    while True:
        eaten.append(bytearray(os.urandom(1 << 20) * 64))
        time.sleep(0.02)


_FAULTS = {
    "raise": _raise,
    "diverge": _diverge,
    "hang": _hang,
    "fill the device": _fill_the_device,
    "overfill the device": _overfill_the_device,
    "eat": _eat,
}
