"""Which trainings are not worth finishing: asynchronous successive halving that knows of the frontier.

Source: Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020 (arXiv 1810.05934): at fixed epochs,
the rungs, a training is compared with those that were there before it, at once and without waiting for others. There the best
share goes on. Here a network with a worse error may be worth more, if it is cheaper: so it is compared only with networks
that cost about as much or less, and it is stopped only if even an optimistic guess of its final error is neither in the band
nor on the front. Band and front only sink: what cannot join them now cannot join them later.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from archsearch.arch import Architecture, cost
from archsearch.frontier import Frontier
from archsearch.jobs import InputError, Job
from archsearch.searchers.constraints import costs_by_name
from archsearch.searchers.section import GrowthConfig

#: Networks up to this many times as dear count as about as cheap.
SIMILAR = 1.25

#: What trainings are compared: as long, and begun alike (from scratch, or from the parent's weights by the same move).
Kind = tuple[str | None, int]


@dataclass(slots=True)
class _Climb:
    """One training's way up. ``scores``: epoch -> (error, its standard error)."""

    kind: Kind
    cost: float
    scores: dict[int, tuple[float, float]] = field(default_factory=dict)


@dataclass(slots=True)
class _Rung:
    """What was seen of one kind of training at one epoch: (cost, error) of all; how far the error of those that ended still
    fell, at most; the largest standard error."""

    seen: list[tuple[float, float]] = field(default_factory=list)
    ended: int = 0
    fall: float = 0.0
    standard_error: float = 0.0


class EarlyStopping:
    """A fold over trainings that report their rungs."""

    def __init__(self, config: GrowthConfig, lengths: Collection[int]) -> None:
        """
        Args:
            lengths: the epochs of the run's kinds of trainings.

        Raises:
            InputError: no training is long enough to have a rung.
        """
        self.settings = config.early_stopping
        if self.settings.rungs and not any(map(self.rungs, lengths)):
            raise InputError(
                f"search.early_stopping.rungs = {self.settings.rungs}: trainings have {' and '.join(map(str, lengths))} "
                "epochs, so none of these comes before the end; give smaller ones, or none"
            )
        self._cost, self._error = config.cost, config.error
        self._climbs: dict[int, _Climb] = {}  # of running trainings
        self._rungs: dict[tuple[Kind, int], _Rung] = {}

    def rungs(self, epochs: int) -> list[int]:
        """The rungs of a training of so many epochs."""
        return [rung for rung in self.settings.rungs if rung < epochs]

    def reported(self, job: Job, data: Mapping[str, Any]) -> None:
        """Take what a running training found at a rung."""
        climb = self._climbs.get(job.id)
        if climb is None:
            found = costs_by_name(cost(Architecture.from_json(job.spec["arch"])))
            inherit = job.spec["inherit"]
            kind = (None if inherit is None else inherit["kind"], job.spec["train"]["epochs"])
            climb = self._climbs[job.id] = _Climb(kind, found[self._cost])
        score = (data[self._error], data[f"{self._error.removesuffix('_error')}_standard_error"])
        climb.scores[data["epoch"]] = score
        rung = self._rungs.setdefault((climb.kind, data["epoch"]), _Rung())
        rung.seen.append((climb.cost, score[0]))

    def ended(self, job: Job, metrics: Mapping[str, Any] | None = None) -> None:
        """Take the end of a training, with its metrics if it has come to a result."""
        climb = self._climbs.pop(job.id, None)
        if climb is None or metrics is None:
            return
        for epoch, (error, standard_error) in climb.scores.items():
            rung = self._rungs[climb.kind, epoch]
            rung.ended += 1
            rung.fall = max(rung.fall, error - metrics[self._error])
            rung.standard_error = max(rung.standard_error, standard_error)

    def verdict(self, job: Job, frontier: Frontier) -> str | None:
        """Why a training is not worth finishing after its latest rung, or None."""
        climb = self._climbs.get(job.id)
        if climb is None:
            return None
        epoch, (error, standard_error) = list(climb.scores.items())[-1]
        rung = self._rungs[climb.kind, epoch]
        if rung.ended < self.settings.least:
            return None
        rivals = [other for price, other in rung.seen if price <= SIMILAR * climb.cost]
        if sum(other < error for other in rivals) < len(rivals) / self.settings.eta:
            return None
        hope = max(0.0, error - self.settings.optimism * rung.fall)
        if frontier.would_join(climb.cost, hope, max(standard_error, rung.standard_error)):
            return None
        return (
            f"{self._error} {error:.4g} after {epoch} of {climb.kind[1]} epochs: even at {hope:.4g} at the end it would be "
            f"neither in the band nor on the front"
        )
