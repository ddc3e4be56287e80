"""A trial of a recipe: the work that trains it, for two steps, so that all that it will need is asked for once.

It is interrupted after its first step and goes on from its checkpoint, so that what writes and reads checkpoints and artifacts
has run as well. What comes of it is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from tempfile import TemporaryDirectory
from typing import Any

from overrides import overrides

from archsearch.jobs import JSON, ArtifactRef, Context, Interrupted, Job, NonFinite, Resources, Stage
from archsearch.recipes.recipe import Recipe
from archsearch.recipes.weights import start_ref
from archsearch.registry import TASKS, WORKS
from archsearch.store import Artifacts


def rehearse(recipe: Recipe, data: Any, fetch: Callable[[str, int], bytes], device: str = "cpu") -> None:
    """Try a pinned recipe out on its data, in a folder that is removed. A diverging trial is a trial, too.

    Args:
        fetch: gives the weights that it starts from by SHA-256 and size.

    Raises:
        InputError: the recipe's task cannot be tried out, or what it needs is not there; else what the work raises.
    """
    task = TASKS.get(recipe.task)
    short, few = task.shortest(recipe, data)
    with TemporaryDirectory(prefix="archsearch-rehearsal-") as place:
        artifacts = Artifacts(place)

        def refer(sha256: str, size: int) -> ArtifactRef:
            ref = start_ref(sha256, size)
            artifacts.put(ref, fetch(sha256, size))
            return ref

        job = Job(1, Stage.SEED_TRAINED, task.work, task.spec(short, refer), short.seed, Resources(cpu=1))
        context, work = _Trial(job, few, artifacts, device), WORKS.get(task.work)
        with suppress(NonFinite):
            with suppress(Interrupted):
                work(job.spec, context)
            for ref in work(job.spec, context).artifacts.values():
                artifacts.load(ref)


class _Trial(Context):
    """Interrupts its work once, as soon as that reports a step."""

    def __init__(self, job: Job, data: Any, artifacts: Artifacts, device: str) -> None:
        self.job, self.device, self.threads = job, device, 1
        self._data, self._artifacts = data, artifacts
        self._interrupted = False

    @overrides
    def data(self, *, test: bool = False) -> Any:
        return self._data

    @overrides
    def load(self, ref: ArtifactRef) -> bytes:
        return self._artifacts.load(ref)

    @overrides
    def save(self, name: str, payload: bytes) -> ArtifactRef:
        return self._artifacts.save(self.job.id, self.job.attempt, name, payload)

    @overrides
    def load_checkpoint(self) -> bytes | None:
        return self._artifacts.load_checkpoint(self.job.id, self.job.attempt)

    @overrides
    def save_checkpoint(self, payload: bytes) -> None:
        self._artifacts.save_checkpoint(self.job.id, self.job.attempt, payload)

    @overrides
    def report(self, **progress: JSON) -> None:
        if not self._interrupted:
            self._interrupted = True
            raise Interrupted
