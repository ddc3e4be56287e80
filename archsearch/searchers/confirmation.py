"""Training the frontier again with other seeds, once the search has ended.

Hundreds of points compete for the frontier, each with one noisy score: those that win are better than the rest, and luckier
than their own mean. Scores that selected nothing have no such luck, so the final frontier is made of new ones.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from archsearch.jobs import JSON, Job, Stage
from archsearch.searchers.pool import PoolPoint


class Confirmations:
    """How often each point was asked to be trained again: a fold over jobs."""

    def __init__(self) -> None:
        self._asked: Counter[int] = Counter()

    def __len__(self) -> int:
        """Confirmations asked so far."""
        return self._asked.total()

    def asked(self, job: Job) -> None:
        """Take a job that was asked for."""
        if job.stage is Stage.EVAL_TRAINED and job.parent is not None:
            self._asked[job.parent] += 1

    def next(self, points: Collection[int], wanted: int) -> int | None:
        """The point whose turn it is: of those trained again fewer than ``wanted`` times the one with the fewest; or None."""
        open_ = [id_ for id_ in points if self._asked[id_] < wanted]
        return min(open_, key=lambda id_: (self._asked[id_], id_), default=None)


def again(point: PoolPoint, settings: Mapping[str, JSON]) -> dict[str, Any]:
    """The ``spec`` of a training as the point's own was; only the job's seed makes another of it.

    A point that was taken from an earlier run has none here: it is trained on, from its own weights, as ``post_train`` says, or
    from scratch as ``seed_train`` does where children do not inherit.
    """
    if "train" in point.spec:
        return {key: point.spec[key] for key in ("arch", "hash", "train", "inherit")}
    spec = {"arch": point.arch, "hash": point.spec["hash"]}
    if settings["post_train"].get("warm_start", "parent") == "parent":
        inherit = {"kind": "same", "parent": point.arch, "weights": point.weights}
        return {**spec, "train": settings["post_train"], "inherit": inherit}
    return {**spec, "train": settings["seed_train"], "inherit": None}
