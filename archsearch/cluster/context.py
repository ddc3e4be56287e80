"""The context of one attempt, and how its end becomes a completion: the same inline and in a Ray worker."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from overrides import overrides

from archsearch.jobs import (
    JSON,
    ArtifactRef,
    Completion,
    Context,
    Failure,
    FailureKind,
    Interrupted,
    Job,
    NonFinite,
    Result,
    StoreDamaged,
    StoreUnavailable,
)
from archsearch.profile.process import DeviceGone
from archsearch.registry import WORKS
from archsearch.store import plain

if TYPE_CHECKING:
    from archsearch.store import Artifacts

T = TypeVar("T")

#: Seconds between two signs of life of one attempt.
BEAT = 0.5

#: Longest traceback kept in the store, in characters.
MOST_TRACEBACK = 8000


class AttemptContext(Context):
    """Gives a work its data, artifacts and checkpoint slot.

    ``post(progress) -> bool`` carries a sign of life to the driver; it returns whether the job is to stop.
    """

    def __init__(
        self,
        job: Job,
        data: Callable[[bool], Any],
        artifacts: Artifacts,
        post: Callable[[Mapping[str, JSON]], bool],
        device: str,
        threads: int,
    ) -> None:
        self.job = job
        self.device = device
        self.threads = threads
        self._data = data
        self._artifacts = artifacts
        self._post = post
        self._last_beat = 0.0
        self._rungs = 0  # sent so far

    @overrides
    def data(self, *, test: bool = False) -> Any:
        return self._data(test)

    @overrides
    def load(self, ref: ArtifactRef) -> bytes:
        return self._patiently(lambda: self._artifacts.load(ref))

    @overrides
    def save(self, name: str, payload: bytes) -> ArtifactRef:
        return self._patiently(lambda: self._artifacts.save(self.job.id, self.job.attempt, name, payload))

    @overrides
    def load_checkpoint(self) -> bytes | None:
        return self._patiently(lambda: self._artifacts.load_checkpoint(self.job.id, self.job.attempt))

    @overrides
    def save_checkpoint(self, payload: bytes) -> None:
        self._patiently(lambda: self._artifacts.save_checkpoint(self.job.id, self.job.attempt, payload))

    def _patiently(self, step: Callable[[], T]) -> T:
        """Do it, however long the artifact store is full or gone: what was trained is not thrown away for that."""
        pause = 0.2
        while True:
            try:
                return step()
            except StoreUnavailable as error:
                if self._post({"paused": f"{error} (trying again in {pause:.1f} s)"}):
                    raise Interrupted from error
            time.sleep(pause)
            pause = min(10.0, 2 * pause)

    @overrides
    def report(self, **progress: JSON) -> None:
        now, rungs = time.monotonic(), len(progress.get("rungs", ()))
        if now - self._last_beat < BEAT and rungs == self._rungs:
            return
        self._last_beat, self._rungs = now, rungs
        if self._post(progress):
            raise Interrupted


def perform(job: Job, context: Context, node: str) -> Completion:
    """Run a job's work to its end; whatever it raises becomes a failure of the right kind."""
    start = time.perf_counter()
    outcome: Result | Failure
    try:
        outcome = WORKS.get(job.work)(plain(job.spec), context)
    except Interrupted:
        outcome = Failure(FailureKind.INTERRUPTED, "asked to stop")
    except NonFinite as error:
        outcome = Failure(FailureKind.NON_FINITE, str(error))
    except StoreDamaged as error:
        outcome = Failure(FailureKind.DAMAGED, str(error))
    except DeviceGone as error:  # no process that measures can be started: no fault of what was to be measured
        outcome = Failure(FailureKind.LOST, str(error))
    except MemoryError as error:
        outcome = Failure(FailureKind.HOST_MEMORY, f"out of host memory: {error}", _trace())
    except Exception as error:
        # torch.cuda.OutOfMemoryError by name: torch need not be loaded here to know it
        kind = FailureKind.DEVICE_MEMORY if type(error).__name__ == "OutOfMemoryError" else FailureKind.EXCEPTION
        outcome = Failure(kind, f"{type(error).__name__}: {error}", _trace())
    return Completion(job.id, job.attempt, outcome, time.perf_counter() - start, node)


def _trace() -> str:
    return traceback.format_exc()[-MOST_TRACEBACK:]
