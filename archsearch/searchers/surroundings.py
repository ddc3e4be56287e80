"""What a searcher is told about the run besides its own section, and the seeds that fit it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from archsearch.arch import Architecture, cost, seed_architecture, seed_combinations
from archsearch.jobs import JSON, InputError, Resources, Stage
from archsearch.searchers.section import BudgetSection, GrowthConfig


@dataclass(frozen=True)
class Measuring:
    """How devices measure: the ``work`` that does it, and what its spec says for each device besides the architecture."""

    work: str = "profile"
    specs: Mapping[str, JSON] = field(default_factory=dict)


@dataclass(frozen=True)
class Surroundings:
    """What a searcher is told about the run besides its own section; all of it plain data."""

    seed: int
    input: tuple[int, int, int]  # C, H, W
    classes: int
    budget: BudgetSection = field(default_factory=BudgetSection)
    settings: Mapping[str, JSON] = field(default_factory=dict)  # seed_train, post_train, weak_learner
    resources: Mapping[Stage, Resources] = field(default_factory=dict)  # what a job of a stage holds
    measuring: Measuring = field(default_factory=Measuring)


def seed_list(config: GrowthConfig, around: Surroundings) -> list[Architecture]:
    """The seeds in order of cost: every macro combination that fits, no architecture twice.

    Raises:
        InputError: none fits the input, or ``max_madd`` and the constraints.
    """
    combinations = seed_combinations(
        config.n_cells,
        config.max_cells,
        config.n_reductions,
        config.max_reductions,
        config.n_nodes,
        config.max_nodes,
        config.widths,
    )
    seeds = {}
    for choice in combinations:
        arch = seed_architecture(
            around.input,
            around.classes,
            post_op=config.post_op,
            share_cells=config.share_cells,
            stem=config.stem,
            **choice,
        )
        if config.admits(arch):
            seeds[arch.hash] = arch
    if not seeds:
        raise InputError(
            f"search: none of the {len(combinations)} seeds is within {config.limits}; "
            "raise the limit, or lower init_node_ch, n_cells or n_nodes"
        )
    return sorted(seeds.values(), key=lambda arch: cost(arch).madds)
