"""The configuration sections ``seed_train``, ``post_train`` and ``weak_learner``; loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from archsearch.config import Duration, Section
from archsearch.data.section import AugmentSection
from archsearch.registry import OPERATIONS


class CheckpointEvery(Section):
    """When a training writes a mid-job checkpoint, besides when it is interrupted. Both may be set; whichever is due first."""

    epochs: PositiveInt | None = Field(default=None, description="after this many epochs")
    seconds: Duration | None = Field(default=60.0, description="after this much time, at the end of a step, e.g. 90s, 10m")


class TrainSection(Section):
    """How a network is trained. Rates and decays are those of the optimizer's textbook form."""

    epochs: PositiveInt = Field(10, description="passes over the training split")
    batch_size: PositiveInt = Field(64, description="images in a step; the last, smaller batch of an epoch is left out")
    eval_every: PositiveInt = Field(1, description="epochs between two evaluations; the last epoch always has one")
    keep: Literal["last", "best"] = Field("last", description="which epoch's weights are the result")
    warm_start: Literal["parent", "none"] = Field("parent", description="a grown network starts from its parent's weights")
    projection_scale: float = Field(
        0.03, ge=0, le=1, description="size of a grown node's projection at the start, as a share of the usual initialisation"
    )

    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="sgd (Nesterov momentum) or adamw")
    lr: PositiveFloat = Field(0.1, description="learning rate at its peak")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov momentum of sgd; the first beta of adamw")
    weight_decay: float = Field(3e-4, ge=0, description="weight decay (coupled in sgd, decoupled in adamw)")
    grad_clip: float = Field(5.0, ge=0, description="largest norm of the whole gradient; 0: not clipped")
    schedule: Literal["cosine", "one_cycle", "constant"] = Field("cosine", description="course of the learning rate")
    warmup_epochs: float = Field(0.0, ge=0, description="epochs of linear rise at the start (one_cycle has its own)")

    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each label spread over all classes")
    drop_path: float = Field(0.0, ge=0, lt=1, description="probability of dropping an edge at the end; rises linearly from 0")
    auxiliary: float = Field(0.0, ge=0, description="weight of the auxiliary tower's loss; 0: no tower")
    augment: AugmentSection = Field(AugmentSection(), description="changes to the training images")

    bf16: bool = Field(True, description="bfloat16 autocast on CUDA; a CPU always computes in float32")
    channels_last: bool = Field(True, description="channels-last memory layout: faster on CUDA and on CPUs")
    cuda_graph: bool = Field(
        False, description="on CUDA: record a training step once and replay it; for small networks; not with drop_path"
    )
    eval_batch_size: PositiveInt | None = Field(None, description="images in a batch of an evaluation; null: by their size")
    checkpoint_every: CheckpointEvery = Field(CheckpointEvery(), description="mid-job checkpoints")
    tensorwatch_stats: bool = Field(True, description="record TensorWatch's per-model figures (the TSV columns of a run)")


#: The strongest pairs of a cell that a search task reports and keeps the weights of: far more than its children take, and the
#: same few KB however many nodes there are to read.
MOST_RANKED = 64


class WeakLearnerSection(Section):
    """How long and how candidates are learned on a parent before the strongest are chosen."""

    method: Literal["alphas", "gradient"] = Field(
        "alphas", description="rank by the learned |alpha|, or by the mean |gradient of the loss by alpha| with nothing learned"
    )
    steps: PositiveInt = Field(32, description="batches seen; the search task's length")
    batch_size: PositiveInt = Field(64, description="images in a step")
    l1_alphas: float = Field(1e-3, ge=0, description="weight of sum |alpha| in the loss")
    alpha_lr: PositiveFloat = Field(0.01, description="learning rate of the alphas (Adam)")
    lr: PositiveFloat = Field(0.005, description="learning rate of the candidates' weights (Adam)")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay of the candidates' weights")
    grad_clip: float = Field(5.0, ge=0, description="largest norm of one candidate's gradient; 0: not clipped")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of each label spread over all classes")
    train_parent: bool = Field(
        False, description="the parent learns on beside its candidates (same settings as they); its new weights are not kept"
    )
    augment: AugmentSection = Field(AugmentSection(), description="changes to the training images")
    checkpoint_every: Duration | None = Field(60.0, description="mid-job checkpoints, e.g. 10m; null: when interrupted")
    primitives: tuple[str, ...] | None = Field(None, description="candidate operations; by default those of the search section")

    @field_validator("primitives")
    @classmethod
    def _known(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        import archsearch.arch.operations  # noqa: F401  (registers the built-in operations)

        for name in names or ():
            OPERATIONS.get(name)
        if names is not None and not set(names) - {"none"}:
            raise ValueError("expected at least one operation other than 'none'")
        return names
