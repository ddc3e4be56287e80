"""Petridish, whose works note every step in a file of the attempt: how much is trained twice can then be counted exactly."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, ClassVar, Literal

from archsearch.jobs import JSON, Context, Job, Result, Stage
from archsearch.registry import WORKS
from archsearch.searchers.petridish import Petridish, PetridishConfig
from archsearch.searchers.section import GrowthConfig


class NotedConfig(PetridishConfig):
    name: Literal["noted_petridish"] = "noted_petridish"  # type: ignore[assignment]


class NotedPetridish(Petridish):
    Config: ClassVar[type[GrowthConfig]] = NotedConfig

    def _job(self, stage: Stage, work: str, spec: JSON, parent: int | None, queue: str = "train") -> Job:
        return super()._job(stage, f"noted_{work}", spec, parent, queue)


class Noted:
    """A context that writes down each step that is reported, before it passes it on."""

    def __init__(self, context: Context) -> None:
        self._context = context
        folder = Path(os.environ["CHAOS_NOTES"])
        self._file = open(folder / f"{context.job.id}-{context.job.attempt}", "a", buffering=1)  # noqa: SIM115 - with the work

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def report(self, **progress: JSON) -> None:
        self._file.write(f"{progress['step']}\n")
        self._context.report(**progress)


def noted_train(spec: JSON, context: Context) -> Result:
    noted: Any = Noted(context)
    result: Result = WORKS.get("train")(spec, noted)
    return result


def noted_petridish(spec: JSON, context: Context) -> Result:
    noted: Any = Noted(context)
    result: Result = WORKS.get("petridish")(spec, noted)
    return result
