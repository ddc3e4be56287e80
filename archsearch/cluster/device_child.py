"""What runs on a device: one job in a process of its own, ``python -m archsearch.cluster.device_child``.

Lines of JSON: a job comes on stdin, ``report``, ``ask`` and at last ``result`` or ``failure`` go to stdout. Artifacts travel
the same way, so that a board needs neither the store nor its credentials. When stdin ends nobody waits for the result any
more, and the process ends itself with all that it has started.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Mapping
from importlib.metadata import version
from queue import SimpleQueue
from typing import Any, BinaryIO

from overrides import overrides

from archsearch.jobs import (
    JSON,
    ArtifactRef,
    Context,
    Failure,
    FailureKind,
    InputError,
    Interrupted,
    Job,
    Result,
    StoreDamaged,
)
from archsearch.profile.environment import machine

#: Seconds between two signs of life, and after the time limit at which the process ends itself: the other side should have.
BEAT, LATE = 0.5, 15.0


def main() -> None:
    """Say what this device is, take a job, do it, say how it ended."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    with contextlib.suppress(OSError):
        os.setsid()  # a group of its own, if it is not in one already
    wire = Wire(sys.stdin.buffer, out)
    wire.send({"ready": facts()})
    line = sys.stdin.buffer.readline()
    if not line:
        return
    request = json.loads(line)
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ[name] = str(request["threads"])
    threading.Thread(target=wire.listen, daemon=True).start()
    watch = threading.Timer(request["timeout"] + LATE, _end_all)
    watch.daemon = True
    watch.start()
    job = Job.from_json(request["job"])
    wire.send(_ended(job, PipeContext(job, request["torch_device"], request["threads"], wire)))


def _ended(job: Job, context: Context) -> dict[str, JSON]:
    """Do the job; its end as a message."""
    from archsearch.cluster.context import perform

    outcome = perform(job, context, platform.node()).outcome
    if isinstance(outcome, Result):
        artifacts = {name: ref.to_json() for name, ref in outcome.artifacts.items()}
        answer: dict[str, JSON] = {"result": {"metrics": dict(outcome.metrics), "artifacts": artifacts}}
        try:
            json.dumps(answer)
            return answer
        except (TypeError, ValueError) as error:
            outcome = Failure(FailureKind.EXCEPTION, f"the work {job.work!r} returned what is not JSON: {error}")
    return {"failure": {"kind": str(outcome.kind), "message": outcome.message, "traceback": outcome.traceback}}


def _end_all() -> None:
    """End this process and all that it has started."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


class Wire:
    """Messages to and from the other side."""

    def __init__(self, source: BinaryIO, sink: BinaryIO) -> None:
        self._source, self._sink = source, sink
        self._sending = threading.Lock()
        self._answers: SimpleQueue[dict[str, Any]] = SimpleQueue()
        self.stop = False  # the other side wants the job to leave

    def send(self, message: Mapping[str, JSON]) -> None:
        with self._sending:
            self._sink.write(json.dumps(message).encode() + b"\n")
            self._sink.flush()

    def ask(self, what: str, **about: JSON) -> Any:
        """Have the other side do something with the artifact store.

        Raises:
            Interrupted, StoreDamaged, InputError: as it was there.
        """
        self.send({"ask": what, **about})
        answer = self._answers.get()
        if "failed" in answer:
            raise _ERRORS.get(answer["failed"], RuntimeError)(answer["text"])
        return answer["answer"]

    def listen(self) -> None:
        """Body of a thread: take what comes, until the end."""
        for line in self._source:
            message = json.loads(line)
            if "stop" in message:
                self.stop = True
            else:
                self._answers.put(message)
        _end_all()


_ERRORS: dict[str, type[Exception]] = {each.__name__: each for each in (Interrupted, StoreDamaged, InputError)}


class PipeContext(Context):
    """A work's context whose store is at the other end of a pipe. A device has no data set."""

    def __init__(self, job: Job, device: str, threads: int, wire: Wire) -> None:
        self.job = job
        self.device = device
        self.threads = threads
        self._wire = wire
        self._last_beat = 0.0

    @overrides
    def data(self, *, test: bool = False) -> Any:
        raise InputError(f"the work {self.job.work!r} asks for the data set, and data sets do not travel to devices")

    @overrides
    def load(self, ref: ArtifactRef) -> bytes:
        return base64.b64decode(self._wire.ask("load", ref=ref.to_json()))

    @overrides
    def save(self, name: str, payload: bytes) -> ArtifactRef:
        return ArtifactRef.from_json(self._wire.ask("save", name=name, payload=_text(payload)))

    @overrides
    def load_checkpoint(self) -> bytes | None:
        found = self._wire.ask("load_checkpoint")
        return None if found is None else base64.b64decode(found)

    @overrides
    def save_checkpoint(self, payload: bytes) -> None:
        self._wire.ask("save_checkpoint", payload=_text(payload))

    @overrides
    def report(self, **progress: JSON) -> None:
        now = time.monotonic()
        if now - self._last_beat >= BEAT:
            self._last_beat = now
            self._wire.send({"report": progress})
        if self._wire.stop:
            raise Interrupted


def _text(payload: bytes) -> str:
    return base64.b64encode(payload).decode()


# -------------------------------------------------------------------------------------------------------------------- facts
def facts() -> dict[str, JSON]:
    """What this device is, as far as it can be told without loading a runtime: some of what a `Profile`'s fingerprint is of."""
    return {"host": platform.node(), **machine(), "archsearch": version("archsearch")}


if __name__ == "__main__":
    main()
