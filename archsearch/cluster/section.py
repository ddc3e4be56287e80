"""The ``cluster`` and ``resources`` sections of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from archsearch.config import Duration, Section
from archsearch.jobs import Resources


class StageResources(Section):
    """What one job of a kind holds while it runs."""

    cpu: PositiveFloat = Field(1.0, description="CPU cores; training uses this many threads")
    gpu: NonNegativeFloat = Field(
        0.0, description="GPUs, fractions allowed; on a cluster without GPUs jobs run on CPUs and say so"
    )
    memory_gb: NonNegativeFloat = Field(0.0, description="host memory reserved, 0: not stated")

    def resources(self) -> Resources:
        return Resources(cpu=self.cpu, gpu=self.gpu, memory=int(self.memory_gb * 2**30))


class ResourcesSection(Section):
    """Resources by kind of job."""

    train: StageResources = Field(default_factory=StageResources, description="trainings and tests")
    search: StageResources = Field(default_factory=StageResources, description="the search tasks of petridish")

    def by_work(self) -> dict[str, Resources]:
        return {"train": self.train.resources(), "petridish": self.search.resources()}


class ClusterSection(Section):
    """Where jobs run and what happens when they do not come back."""

    executor: Literal["ray", "inline"] = Field("ray", description="ray, or one job after another in this process")
    address: str = Field("local", description="local (start Ray here), auto (the cluster of this machine) or host:port")
    slots: PositiveInt | None = Field(None, description="CPU slots of a local cluster; default: the cores of this machine")
    max_attempts: PositiveInt = Field(3, description="tries of a job whose worker was lost, ran out of memory or stalled")
    backoff: Duration = Field(1.0, description="wait before the second try; doubles with each further one")
    stall_timeout: Duration = Field(600.0, description="a job without a sign of life for this long is tried elsewhere")
    max_failure_share: float = Field(0.5, gt=0, le=1, description="stop when more than this share of ten or more jobs failed")
    first_failures: PositiveInt = Field(3, description="stop when the first so many jobs all fail with one error")
    grace: Duration = Field(15.0, description="after Ctrl-C: how long running jobs may take to write their checkpoints")
