"""A work for tests on devices: what it sees, and faults of every kind. Devices import it like any plug-in (see conftest.py)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from archsearch.jobs import ArtifactRef, Context, Result
from archsearch.registry import WORKS


@WORKS.register("on_device")
def on_device(spec: Any, context: Context) -> Result:
    """Notes that it began and ended, takes its time, until there is a file ``until``, and ``does`` something on the attempts in
    ``on``."""
    _note(spec, context, "begin", os.getpid())
    for step in range(int(spec.get("seconds", 0) * 10)):
        if os.path.exists(spec.get("until", "")):
            break
        time.sleep(0.1)
        context.report(step=step)
    if context.job.attempt in spec.get("on", [1]):
        found = _DOES[spec.get("does", "nothing")](spec, context)
        if found is not None:
            return found
    _note(spec, context, "end", os.getpid())
    return Result({"latency_ms": 1.5, "threads": context.threads, "omp": os.environ["OMP_NUM_THREADS"], "pid": os.getpid()})


@WORKS.register("takes_its_time")
def takes_its_time(spec: Any, context: Context) -> Result:
    """What the work ``profile`` gives, made up from the architecture; notes where and when it began and ended."""
    device = context.job.queue.removeprefix("device:")
    log = {"log": os.environ["ARCHSEARCH_TEST_LOG"]}
    _note(log, context, "begin", os.getpid(), device)
    for step in range(8):
        time.sleep(0.1)
        context.report(step=step)
    median = len(str(spec["arch"])) / (1000.0 if device == "one" else 700.0)
    _note(log, context, "end", os.getpid(), device)
    latency = {"median": median, "low": 0.99 * median, "high": 1.01 * median, "unit": "ms", "noisy": False}
    about = {"runtime": spec["runtime"], "fingerprint": device, "protocol": 1}
    return Result({"latency": latency, "load_memory": None, "run_memory": None, "energy": None, **about})


def _note(spec: Any, context: Context, *words: object) -> None:
    if "log" in spec:
        with open(spec["log"], "a") as file:
            file.write(" ".join(map(str, (context.job.id, context.job.attempt, *words, f"{time.time():.3f}"))) + "\n")


def _artifacts(spec: Any, context: Context) -> Result:
    """Reads an artifact, writes one, and a checkpoint; prints, which is no answer."""
    print("printed by a library" * 1000, flush=True)
    os.system("echo printed by another process")
    payload = context.load(ArtifactRef.from_json(spec["ref"]))
    before = context.load_checkpoint()
    context.save_checkpoint(b"half way")
    ref = context.save("again.bin", payload[::-1])
    seen = {"bytes": len(payload), "before": before, "after": (context.load_checkpoint() or b"").decode()}
    try:
        context.data()
    except ValueError as error:
        seen["data"] = str(error)
    return Result(seen, {"again": ref})


def _with_a_child(spec: Any, context: Context) -> None:
    """Starts a process that would outlive it, says which, and hangs."""
    child = subprocess.Popen(["sleep", "3600"])
    Path(spec["child"]).write_text(f"{child.pid}\n")
    time.sleep(3600)


def _raise(spec: Any, context: Context) -> None:
    raise ValueError("this runtime knows no such operation")


_DOES = {
    "nothing": lambda spec, context: None,
    "artifacts": _artifacts,
    "raise": _raise,
    "crash": lambda spec, context: os.kill(os.getpid(), signal.SIGSEGV),
    "die": lambda spec, context: os.kill(os.getpid(), signal.SIGKILL),
    "leave": lambda spec, context: os._exit(7),
    "hang": _with_a_child,
    "no json": lambda spec, context: Result({"latency_ms": object()}),
}
