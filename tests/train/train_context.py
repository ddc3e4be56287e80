"""A context in memory, and small networks and data, for the tests of the train room."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from overrides import overrides

from archsearch.arch import seed_architecture
from archsearch.data import DataSection, Dataset, load
from archsearch.jobs import ArtifactRef, Context, Interrupted, Job, Stage

WHOLE = load(DataSection(name="digits"))
DIGITS = load(DataSection(name="digits", max_train=240))
SEED_ARCH = seed_architecture(DIGITS.shape, DIGITS.classes, cells=3, reductions=1, nodes=1, channels=4, stem="conv3x3")


class MemoryContext(Context):
    """Artifacts and the checkpoint live in dictionaries; ``stop_at`` names calls of ``report`` that raise Interrupted."""

    def __init__(
        self,
        *,
        seed: int = 1,
        spec: Any = None,
        dataset: Dataset = DIGITS,
        stop_at: Callable[[int], bool] | None = None,
    ) -> None:
        self.job = Job(1, Stage.SEED_TRAINED, "train", spec, seed)
        self.device = "cpu"
        self.threads = 1
        self.dataset = dataset
        self.artifacts: dict[str, bytes] = {}
        self.checkpoint: bytes | None = None
        self.checkpoints = 0
        self.reports = 0
        self.stop_at = stop_at or (lambda call: False)

    @overrides
    def data(self, *, test: bool = False) -> Dataset:
        return self.dataset if test else self.dataset.without_test()

    @overrides
    def load(self, ref: ArtifactRef) -> bytes:
        return self.artifacts[ref.key]

    @overrides
    def save(self, name: str, payload: bytes) -> ArtifactRef:
        digest = hashlib.sha256(payload).hexdigest()
        self.artifacts[f"{name}-{digest[:8]}"] = payload
        return ArtifactRef(f"{name}-{digest[:8]}", digest, len(payload))

    @overrides
    def load_checkpoint(self) -> bytes | None:
        return self.checkpoint

    @overrides
    def save_checkpoint(self, payload: bytes) -> None:
        self.checkpoint = payload
        self.checkpoints += 1

    @overrides
    def report(self, **progress: Any) -> None:
        self.reports += 1
        if self.stop_at(self.reports):
            raise Interrupted
