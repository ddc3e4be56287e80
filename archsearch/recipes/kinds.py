"""The kinds of ingredients that archsearch has. No schema is written twice: each is that of the code that uses it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any, Literal

from pydantic import ConfigDict, Field, create_model

from archsearch.arch import Architecture, seed_architecture
from archsearch.config import Section
from archsearch.data.section import AugmentSection, DataSection
from archsearch.jobs import JSON, InputError
from archsearch.recipes.ingredient import Kind, Slot
from archsearch.train.export_section import ExportSection
from archsearch.train.section import TrainSection

#: Keys of a training that are about its course and not about what comes out of it: a recipe has none of them.
COURSE = frozenset({"checkpoint_every", "tensorwatch_stats"})

#: Keys of a training that are its optimizer's.
OPTIMIZER_KEYS = ("optimizer", "lr", "momentum", "weight_decay", "grad_clip", "schedule", "warmup_epochs")

#: Cells, and nodes of a cell, that a family may have: a stranger's file is not to fill the memory.
MOST = 1000

TRAINING_KEYS = tuple(key for key in TrainSection.model_fields if key not in {*OPTIMIZER_KEYS, *COURSE, "augment"})


class _Made(Section):
    """Base of sections that are made from others."""

    model_config = ConfigDict(use_attribute_docstrings=False)  # there is no source text to look for them


def some_of(section: type[Section], keys: Collection[str]) -> type[Section]:
    """The part of a section that has these keys, with their types, bounds, defaults and descriptions."""
    fields: Any = {key: (section.model_fields[key].annotation, section.model_fields[key]) for key in keys}
    return create_model(section.__name__, __base__=_Made, **fields)


def arguments_of(function: Callable[..., Any]) -> type[Section]:
    """The keyword arguments of a function as a section."""
    types = inspect.get_annotations(function, eval_str=True)
    named = [each for each in inspect.signature(function).parameters.values() if each.kind is each.KEYWORD_ONLY]
    fields: Any = {each.name: (types[each.name], ... if each.default is each.empty else each.default) for each in named}
    return create_model(function.__name__, __base__=_Made, **fields)


class Content(Section):
    """An artifact by what is in it, wherever it lies."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of its bytes")
    size: int = Field(ge=0, description="bytes")


class ParentWeights(Section):
    """What ``train.inheritance.warm_start`` takes, with artifacts named by their content."""

    kind: Literal["node", "widen", "deepen", "same"] = Field(description="how the network grew out of its parent")
    parent: dict[str, Any] = Field(description="the parent's architecture")
    weights: Content = Field(description="the parent's weights")
    edges: dict[str, list[tuple[str, str, float]]] | None = Field(
        None, description="node: for each cell the chosen [source, operation, alpha]"
    )
    candidates: Content | None = Field(None, description="node: what the search task learned of them")


def _family(parameters: dict[str, JSON]) -> dict[str, JSON]:
    if parameters["cells"] > MOST or parameters["nodes"] > MOST:
        raise InputError(f"cells and nodes: {MOST} at most; a network of more is nothing that anybody trains")
    seed_architecture((3, 1024, 1024), 2, **parameters)  # refuses what cannot be built, whatever the images
    return parameters


def _inherited(parameters: dict[str, JSON]) -> dict[str, JSON]:
    parameters["parent"] = Architecture.from_json(parameters["parent"]).to_json()
    return parameters


ARCHITECTURE = Kind(
    "architecture",
    "one network, described in full",
    settle=lambda parameters: Architecture.from_json(parameters).to_json(),
)
CELL_FAMILY = Kind(
    "cell_family",
    "a family of networks of cells: its numbers make one network for the images and classes of a data set",
    model=arguments_of(seed_architecture),
    settle=_family,
)
DATA = Kind("data", "a data set, loaded or generated", model=DataSection, content=True)
OPTIMIZER = Kind("optimizer", "optimizer and course of the learning rate", model=some_of(TrainSection, OPTIMIZER_KEYS))
AUGMENTATION = Kind("augmentation", "what training images go through", model=AugmentSection)
TRAINING = Kind(
    "training",
    "how long and in what batches a network is trained",
    model=some_of(TrainSection, TRAINING_KEYS),
    slots={"optimizer": Slot(("optimizer",)), "augmentation": Slot(("augmentation",))},
)
EXPORTER = Kind("exporter", "files of the trained network for other programs", model=ExportSection)
PARENT_WEIGHTS = Kind(
    "parent_weights", "the weights of a parent that a grown network starts from", model=ParentWeights, settle=_inherited
)
