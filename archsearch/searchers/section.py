"""The ``search`` and ``budget`` sections of a configuration."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    Field,
    PositiveFloat,
    PositiveInt,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from archsearch.arch import PRIMITIVES, Architecture, cost
from archsearch.config import Duration, Section
from archsearch.measured import QUANTITIES, parse_objective
from archsearch.registry import OPERATIONS, SEARCHERS
from archsearch.searchers.constraints import COSTS, Constraint, ConstraintText, costs_by_name, parse_constraint


def _measured(text: str) -> str:
    return str(parse_objective(text))


def _cost(text: str) -> str:
    if "@" not in text and text not in COSTS:
        near = difflib.get_close_matches(text, COSTS, n=1)
        raise ValueError("no cost is called so" + (f" (did you mean {near[0]}?)" if near else ""))
    return _measured(text) if "@" in text else text


_OBJECTIVES = " or ".join(f"{name}@DEVICE" for name in QUANTITIES)
#: A quantity that is measured on a device, as the user wrote it, checked when the configuration is loaded.
ObjectiveText = Annotated[str, AfterValidator(_measured), WithJsonSchema({"type": "string", "x-expected": _OBJECTIVES})]
#: A cost that is known from a description alone, or an objective.
CostName = Annotated[
    str,
    AfterValidator(_cost),
    WithJsonSchema({"type": "string", "x-expected": f"one of {', '.join(COSTS)}, or {_OBJECTIVES}"}),
]
ErrorName = Literal["val_error", "val_balanced_error"]


class BudgetSection(Section):
    """When a search stops. The first limit reached ends it; ``resume --set budget.jobs=...`` extends it."""

    jobs: PositiveInt | None = Field(None, description="end after this many jobs were asked")
    wall_clock: Duration | None = Field(None, description="end after this much time with a driver running, e.g. 90s, 3h, 2d")
    device_hours: PositiveFloat | None = Field(
        None,
        description="end after this many hours of devices: hours of a slot, or of a GPU where a job holds one or a share of it",
    )
    compute: PositiveFloat | None = Field(
        None, description="end after this many multiply-adds of training and search tasks, e.g. 2e13: the same on every machine"
    )
    disk_gb: PositiveFloat | None = Field(
        None, description="end once the weights that are kept (run.keep) take so many 1e9 bytes"
    )
    when_reached: Literal["drain", "cancel"] = Field(
        "drain", description="running jobs are let finish, or cancelled; what has finished is kept either way"
    )


class CellSpace(Section):
    """The seeds of a cell search and what may be attached to them (keys as in Petridish)."""

    n_cells: PositiveInt = Field(3, description="cells of the smallest seed")
    max_cells: PositiveInt = Field(3, description="cells of the largest seed")
    n_reductions: int = Field(1, ge=0, description="reduction cells of the smallest seed")
    max_reductions: int = Field(1, ge=0, description="reduction cells of the largest seed")
    n_nodes: PositiveInt = Field(1, description="nodes a cell of the smallest seed")
    max_nodes: PositiveInt = Field(1, description="nodes a cell of the largest seed")
    init_node_ch: PositiveInt | list[PositiveInt] = Field(
        16, description="channels of the first cells, or a list of widths to seed"
    )
    stem: str = Field("conv3x3", description="the layers before the first cell")
    post_op: Literal["proj_channels"] = Field(
        "proj_channels", description="how a cell joins its nodes; growth needs the projection that keeps the channel count"
    )
    share_cells: bool = Field(True, description="cells of one type stay identical; false: each cell grows on its own")
    primitives: list[str] = Field(
        default_factory=lambda: [name for name in PRIMITIVES if name != "none"], description="operations that may be attached"
    )
    edges_per_node: PositiveInt = Field(3, description="(input, operation) pairs kept for a new node")

    @field_validator("primitives")
    @classmethod
    def _known_primitives(cls, names: list[str]) -> list[str]:
        for name in names:
            OPERATIONS.get(name)
        if not [name for name in names if name != "none"]:
            raise ValueError("at least one operation other than 'none' is needed")
        return names

    @model_validator(mode="after")
    def _ranges_fit(self) -> CellSpace:
        for low, high in (("n_cells", "max_cells"), ("n_reductions", "max_reductions"), ("n_nodes", "max_nodes")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} = {getattr(self, low)} is above {high} = {getattr(self, high)}")
        if self.max_cells < 2 * self.n_reductions + 1:
            raise ValueError(
                f"no seed fits: {self.n_reductions} reductions need at least {2 * self.n_reductions + 1} cells "
                f"(pattern N R N), max_cells is {self.max_cells}"
            )
        return self

    @property
    def widths(self) -> list[int]:
        return self.init_node_ch if isinstance(self.init_node_ch, list) else [self.init_node_ch]


class EarlyStoppingSection(Section):
    """Stop a training after one of these epochs if even an optimistic guess of its final error is no better than what there is.

    The guess is its error less what the error of others still fell from there to their ends, at most, times ``optimism``.
    """

    rungs: list[PositiveInt] = Field(
        default_factory=list, description="epochs after which a training is judged, e.g. [4, 6]; empty: none is stopped early"
    )
    eta: float = Field(4.0, gt=1, description="of networks about as cheap, the best 1/eta at a rung always go on")
    least: PositiveInt = Field(5, description="trainings that must have passed a rung and finished before it stops any")
    optimism: float = Field(1.25, ge=1, description="how much further a training may still fall than any that finished")

    @field_validator("rungs")
    @classmethod
    def _rising(cls, rungs: list[int]) -> list[int]:
        if any(low >= high for low, high in pairwise(rungs)):
            raise ValueError(f"each rung must be above the one before; {rungs} was given")
        return rungs


class GrowthConfig(CellSpace):
    """What every searcher that grows points of the frontier band shares."""

    cost: CostName = Field(
        "madds", description="the cost axis of the frontier: known from a description, or measured, such as latency_ms@DEVICE"
    )
    objectives: list[ObjectiveText] = Field(
        default_factory=list,
        description="what else is measured of every point, e.g. [latency_ms@pi4, energy_mj@pi4]; each has its own frontier",
    )
    error: ErrorName = Field("val_error", description="the error axis: over all images, or the mean over classes")
    convex_hull_eps: float = Field(0.025, ge=0, description="the band: errors up to (1 + eps) times the hull's")
    band_standard_errors: float = Field(
        0.0, ge=0, description="the band is at least this many standard errors wide; a small validation set needs 1"
    )
    max_hull_points: PositiveInt | None = Field(None, description="end when the pool has this many points")
    max_madd: PositiveFloat | None = Field(None, description="nothing above this many multiply-adds is proposed")
    constraints: list[ConstraintText] = Field(
        default_factory=list,
        description="nothing beyond these is proposed, e.g. [params < 1e6, madds <= 5e6]; what is measured to be beyond "
        "one, such as latency_ms@pi4 < 5, leaves the frontiers",
    )
    test_frontier: bool = Field(True, description="measure the band on the test split once the search has ended")
    confirm: int = Field(
        0,
        ge=0,
        description="train band and frontier again with so many other seeds once the search has ended; the final frontier is "
        "made of these errors, not of the lucky ones that were selected",
    )
    early_stopping: EarlyStoppingSection = Field(
        default_factory=EarlyStoppingSection, description="trainings that cannot reach the frontier any more are stopped"
    )

    @model_validator(mode="after")
    def _known_in_time(self) -> GrowthConfig:
        if self.early_stopping.rungs and "@" in self.cost:
            raise ValueError(
                f"early_stopping compares trainings by their cost before they end, and {self.cost} is measured after; leave "
                "early_stopping.rungs out, or name a cost that a description tells"
            )
        return self

    @property
    def measured(self) -> list[str]:
        """The objectives that are measured of every point: the cost, ``objectives`` and those of the constraints."""
        named = [self.cost, *self.objectives, *(limit.name for limit in self.measured_limits)]
        return list(dict.fromkeys(name for name in named if "@" in name))

    @property
    def measured_limits(self) -> list[Constraint]:
        """The constraints on what is measured."""
        return [limit for limit in map(parse_constraint, self.constraints) if limit.measured]

    def across(self, sections: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What does not fit other sections: path and problem."""
        known = list(sections["devices"].names())
        for path, name in self._named():
            device = parse_objective(name).device
            if device not in known:
                near = difflib.get_close_matches(device, known, n=1)
                hint = f" Did you mean {near[0]}?" if near else ""
                there = f"Known: {', '.join(known)}." if known else f"It has none; add devices: {{{device}: {{}}}}."
                yield ("search", *path), f"section devices has no device {device!r}.{hint} {there}"

    def _named(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """Every objective by its place."""
        if "@" in self.cost:
            yield ("cost",), self.cost
        yield from ((("objectives", place), name) for place, name in enumerate(self.objectives))
        for place, text in enumerate(self.constraints):
            if (limit := parse_constraint(text)).measured:
                yield ("constraints", place), limit.name

    def admits(self, arch: Architecture) -> bool:
        """Whether an architecture is within ``max_madd`` and the constraints on what its description tells."""
        if self.max_madd is None and not self.constraints:
            return True
        found = cost(arch)
        if self.max_madd is not None and found.madds > self.max_madd:
            return False
        figures = costs_by_name(found)
        limits = map(parse_constraint, self.constraints)
        return all(limit.measured or limit.holds(figures) for limit in limits)

    @property
    def limits(self) -> str:
        """``max_madd`` and the constraints in words, or nothing."""
        return ", ".join([*([f"max_madd = {self.max_madd:g}"] if self.max_madd else []), *self.constraints])


class SearchSection:
    """The ``search`` section: its model is the ``Config`` of the searcher that ``name`` names."""

    @classmethod
    def model_for(cls, raw: dict[str, Any]) -> type[BaseModel]:
        model: type[BaseModel] = SEARCHERS.get(raw.get("name", "petridish")).Config
        return model

    @classmethod
    def models(cls) -> dict[str, type[BaseModel]]:
        return {name: SEARCHERS.get(name).Config for name in SEARCHERS}
