"""What searchers that grow trained parents have in common: which parent is grown next, and by which move."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
from overrides import overrides
from pydantic import Field, field_validator

from archsearch.arch import Architecture, Cost, cost
from archsearch.jobs import JSON, Job, Stage
from archsearch.searchers.base import FrontierSearcher
from archsearch.searchers.constraints import costs_by_name
from archsearch.searchers.experience import Experience, Trial
from archsearch.searchers.moves import INHERIT, MoveName, children
from archsearch.searchers.pool import PoolPoint
from archsearch.searchers.section import GrowthConfig
from archsearch.searchers.surroundings import Surroundings


class GrowingConfig(GrowthConfig):
    """What ``petridish`` and ``growth`` share beyond other searchers."""

    sampling: Literal["inverse_cost", "hypervolume"] = Field(
        "inverse_cost",
        description="the next parent: cheap and seldom sampled ones first (Petridish), or by expected gain of hypervolume",
    )
    moves: list[MoveName] = Field(
        ["node"],
        description="how parents are grown: node (shortcuts), width (twice the channels), depth (one more cell), train (go on)",
    )

    @field_validator("moves")
    @classmethod
    def _some_once(cls, moves: list[str]) -> list[str]:
        if not moves or len(set(moves)) < len(moves):
            raise ValueError(f"at least one move is needed, and each once; {moves} was given")
        return moves


#: A parent, the move, and the child where the move alone decides it.
Option = tuple[PoolPoint, str, Architecture | None]


class Grower(FrontierSearcher):
    """Picks (parent, move); a searcher only has to choose the shortcuts of the move ``node``."""

    Config: ClassVar[type[GrowthConfig]] = GrowingConfig
    config: GrowingConfig

    def __init__(self, config: GrowingConfig, around: Surroundings) -> None:
        super().__init__(config, around)
        self.experience = Experience()
        self._trained_on: set[int] = set()  # points that the move "train" was made from
        self._grown: dict[
            int, tuple[str, int]
        ] = {}  # children whose cost is not known: their move and the point they grew from
        self._relatives: dict[tuple[int, str], list[tuple[Architecture, Cost]]] = {}  # by point and move: children, costs
        self._efforts: dict[int, float] = {}  # by point, as they are asked for

    # ------------------------------------------------------------------------------------------------------------ choice
    def _pick(self) -> Option | None:
        """The parent to grow next and how, or None if nothing in the band can be grown."""
        if self.config.moves == ["node"] and self.config.sampling == "inverse_cost":
            parent = self._sample()
            return None if parent is None else (parent, "node", None)
        options = self._options()
        busy = {job.parent for job in self.running.values() if job.parent is not None}
        options = [option for option in options if option[0].id not in busy] or options
        if not options:
            return None
        if self.config.sampling == "hypervolume":
            return self._most_promising(options)
        parent = self.pool.draw(list({point.id: point for point, _, _ in options}.values()), self.rng("parent"))
        own = [option for option in options if option[0] is parent]
        return own[self.rng("move").integers(len(own))]

    def _options(self) -> list[Option]:
        """Every (parent of the band, move) that leads to a child which was not tried, in a fixed order."""
        found: list[Option] = []
        for id_ in self.pool.frontier.band():
            point = self.pool.points[id_]
            for move in self.config.moves:
                if move == "node":
                    if not point.exhausted:
                        found.append((point, move, None))
                else:
                    fitting = [arch for arch, _ in self._children(point, move) if self._open(point, move, arch)]
                    if fitting:  # depth: one of the places, drawn evenly
                        found.append((point, move, fitting[self.rng(f"place {id_}").integers(len(fitting))]))
        return found

    def _children(self, point: PoolPoint, move: str) -> list[tuple[Architecture, Cost]]:
        """The children of a point by a move, with their costs, as far as the limits admit them."""
        key = (point.id, move)
        if key not in self._relatives:
            made = children(point.architecture, move)
            self._relatives[key] = [(arch, cost(arch)) for arch in made if self.config.admits(arch)]
        return self._relatives[key]

    def _open(self, point: PoolPoint, move: str, arch: Architecture) -> bool:
        if move == "train":
            return self._inherits and point.id not in self._trained_on
        return arch.hash not in self.tried

    @property
    def _inherits(self) -> bool:
        """Whether children start from their parents' weights."""
        return bool(self.around.settings["post_train"].get("warm_start", "parent") == "parent")

    def _most_promising(self, options: list[Option]) -> Option:
        moves = [(move, point.error, *self._prospect(point, move, arch)) for point, move, arch in options]
        front = [self.pool.points[id_] for id_ in self.pool.frontier.front()]
        most = 2 * max(point.cost for point in self.pool.points.values())
        if self.config.max_madd is not None and self.config.cost == "madds":
            most = min(most, self.config.max_madd)
        known = [(point.cost, point.error) for point in front]
        return options[int(np.argmax(self.experience.rate(moves, known, (most, 1.0), self.rng("promise"))))]

    def _prospect(self, point: PoolPoint, move: str, arch: Architecture | None) -> tuple[float, float]:
        """The child's cost and effort: its own if it is known, else as other children of the move had them."""
        if arch is None:
            more_cost, more_effort = self.experience.ratios(move)
            return point.cost * more_cost, self._effort(point) * more_effort
        found = next(found for child, found in self._children(point, move) if child is arch)
        own = costs_by_name(found).get(self.config.cost)  # None: it is measured once the child is trained
        return point.cost * self.experience.ratios(move)[0] if own is None else own, float(found.activation_bytes)

    def _effort(self, point: PoolPoint) -> float:
        """What training a point takes, up to a factor: its activations. Small networks are bound by memory and by the number of
        operations: an epoch lasts as activations say more closely than as multiply-adds do (experiments/searchers/effort.py).
        """
        if point.id not in self._efforts:
            self._efforts[point.id] = float(cost(point.architecture).activation_bytes)
        return self._efforts[point.id]

    @overrides
    def _growable(self) -> bool:
        return bool(self._options())

    # -------------------------------------------------------------------------------------------------------------- jobs
    def _moved(self, point: PoolPoint, move: str, arch: Architecture) -> Job:
        """The training of a child that the move alone decides."""
        return self._child_training(arch, point, move, point.id, {})

    def _child_training(self, arch: Architecture, point: PoolPoint, move: str, parent: int, more: Mapping[str, JSON]) -> Job:
        """A child's training, warm-started unless ``post_train.warm_start`` is none. ``more`` goes to ``inherit``."""
        inherit = {"kind": INHERIT[move], "parent": point.arch, "weights": point.weights, **more} if self._inherits else None
        job = self._training(arch, Stage.SEARCH_TRAINED, "post_train", parent, inherit)
        job.spec.update(move=move, grown_from=point.id)
        return job

    # -------------------------------------------------------------------------------------------------------------- fold
    @overrides
    def _asked(self, job: Job) -> None:
        super()._asked(job)
        if job.stage is Stage.SEARCH_TRAINED and "grown_from" in job.spec:
            move, point = job.spec["move"], job.spec["grown_from"]
            self._grown[job.id] = (move, point)
            if move == "train":
                self._trained_on.add(point)

    @overrides
    def _joined(self, point: PoolPoint) -> None:
        super()._joined(point)
        if point.id in self._grown:
            move, parent_id = self._grown.pop(point.id)
            if (parent := self.pool.points.get(parent_id)) is not None and self.config.sampling == "hypervolume":
                self.experience.add(move, self._trial(parent), self._trial(point))

    def _trial(self, point: PoolPoint) -> Trial:
        return Trial(point.cost, self._effort(point), point.error)

    @overrides
    def _ended(self, job: Job, data: Mapping[str, JSON]) -> None:
        super()._ended(job, data)
        self._grown.pop(job.id, None)
