"""The ``cluster`` and ``resources`` sections of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, field_validator

from archsearch.config import Duration, Section, Size
from archsearch.jobs import Resources, Stage


class StageResources(Section):
    """What one job of a kind holds while it runs. A job that asks for what no node has waits, and ``status`` says so."""

    cpu: PositiveFloat = Field(1.0, description="CPU cores; training uses this many threads")
    gpu: Literal["auto"] | NonNegativeFloat = Field(
        0.0,
        description="GPUs: a number, or a share such as 0.25; auto: the share that the network is estimated to need, and a CPU "
        "where the cluster has no GPU",
    )
    memory: Size = Field(0, description="host memory reserved, e.g. 4GB; 0: not stated")
    labels: dict[str, str] = Field(
        default_factory=dict, description="labels that the node must have, as in Ray: {kind: h100}, {kind: '!edge'}"
    )

    @field_validator("gpu")
    @classmethod
    def _whole(cls, gpu: float | Literal["auto"]) -> float | Literal["auto"]:
        if gpu != "auto" and gpu > 1 and gpu != int(gpu):
            raise ValueError("above 1 only whole GPUs can be had")
        return gpu

    def resources(self) -> Resources:
        return Resources(self.cpu, self.gpu, self.memory, self.labels)


class ResourcesSection(Section):
    """Resources by kind of job. Kinds of trainings that are not given hold what ``train`` says."""

    train: StageResources = Field(default_factory=StageResources, description="trainings, and tests")
    search: StageResources = Field(default_factory=StageResources, description="the search tasks of petridish")
    seed: StageResources | None = Field(None, description="trainings of seeds; default: as train")
    child: StageResources | None = Field(None, description="trainings of grown or proposed networks; default: as train")
    evaluation: StageResources | None = Field(None, description="trainings with other seeds or settings; default: as train")
    test: StageResources | None = Field(None, description="measuring on the test split; default: as train")

    def by_stage(self) -> dict[Stage, Resources]:
        kinds = {
            Stage.SEED_TRAINED: self.seed,
            Stage.SEARCH: self.search,
            Stage.SEARCH_TRAINED: self.child,
            Stage.EVAL: self.test,
            Stage.EVAL_TRAINED: self.evaluation,
        }
        return {stage: (kind or self.train).resources() for stage, kind in kinds.items()}


class ClusterSection(Section):
    """Where jobs run and what happens when they do not come back."""

    executor: Literal["ray", "inline"] = Field("ray", description="ray, or one job after another in this process")
    address: str = Field("local", description="local (start Ray here), auto (the cluster of this machine) or host:port")
    slots: Literal["auto"] | PositiveInt = Field(
        "auto",
        description="auto: all that the cluster has, as it grows and shrinks; a number: cores of a local cluster, or jobs "
        "at once on another one",
    )
    ahead: NonNegativeInt = Field(
        0, description="jobs submitted beyond the present slots: what an autoscaling cluster grows by, at a time"
    )
    gpu_memory: Size | None = Field(None, description="memory of a GPU, for gpu: auto; by default each node is asked")
    max_attempts: PositiveInt = Field(3, description="tries of a job whose worker was lost, ran out of memory or stalled")
    backoff: Duration = Field(1.0, description="wait before the second try; doubles with each further one")
    stall_timeout: Duration = Field(600.0, description="a job without a sign of life for this long is tried elsewhere")
    max_failure_share: float = Field(0.5, gt=0, le=1, description="stop when more than this share of ten or more jobs failed")
    first_failures: PositiveInt = Field(3, description="stop when the first so many jobs all fail with one error")
    grace: Duration = Field(15.0, description="after Ctrl-C: how long running jobs may take to write their checkpoints")
