"""The configuration section ``evaluation``: how models of the frontier are trained in the end; loads no torch."""

from __future__ import annotations

from pydantic import Field, PositiveFloat, PositiveInt

from archsearch.config import Section
from archsearch.train.section import TrainSection


class FinalTrainSection(TrainSection):
    """As ``seed_train``, with defaults for a long training from scratch (those of cell searches on CIFAR-10, shortened)."""

    epochs: PositiveInt = Field(200, description="passes over the training split")
    lr: PositiveFloat = Field(0.05, description="learning rate at its peak")
    drop_path: float = Field(0.1, ge=0, lt=1, description="probability of dropping an edge at the end; rises linearly from 0")
    auxiliary: float = Field(0.4, ge=0, description="weight of the auxiliary tower's loss; 0: no tower")
    tensorwatch_stats: bool = Field(False, description="record TensorWatch's per-model figures")


class EvaluationSection(Section):
    """What ``archsearch evaluate`` does with each model: more cells, a long training, several seeds."""

    seeds: PositiveInt = Field(3, description="trainings of each model, each with a seed of its own; the interval is over them")
    cell_count_scale: PositiveFloat = Field(2.0, description="cells of the trained network, as a multiple of the model's")
    n_cells: PositiveInt = Field(20, description="no network gets more cells than this")
    train: FinalTrainSection = Field(FinalTrainSection(), description="the training: keys as in seed_train")
