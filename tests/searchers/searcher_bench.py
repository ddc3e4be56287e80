"""A bench that drives a searcher with made-up results, and one maker for each searcher."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from archsearch.arch import Architecture, cost
from archsearch.jobs import Event, EventKind, Job, derive_seed
from archsearch.searchers.evolution import Evolution, EvolutionConfig
from archsearch.searchers.growth import Growth, GrowthSearchConfig
from archsearch.searchers.local import LocalConfig, LocalSearch
from archsearch.searchers.petridish import Petridish, PetridishConfig
from archsearch.searchers.random_search import RandomConfig, RandomSearch
from archsearch.searchers.section import BudgetSection
from archsearch.searchers.surroundings import Surroundings

SPACE = {"n_cells": 3, "max_cells": 3, "n_reductions": 1, "max_reductions": 1, "init_node_ch": [2, 4, 8]}
SETTINGS = {"seed_train": {"epochs": 2}, "post_train": {"epochs": 1, "warm_start": "parent"}, "weak_learner": {"steps": 4}}


def around(**budget: Any) -> Surroundings:
    return Surroundings(seed=7, input=(1, 8, 8), classes=10, budget=BudgetSection(**budget), settings=SETTINGS)


def petridish(budget=None, **keys: Any) -> Petridish:
    return Petridish(PetridishConfig(**{**SPACE, **keys}), around(**(budget or {})))


def growth(budget=None, **keys: Any) -> Growth:
    return Growth(GrowthSearchConfig(**{**SPACE, **keys}), around(**(budget or {})))


def random(budget=None, **keys: Any) -> RandomSearch:
    return RandomSearch(RandomConfig(**{**SPACE, **keys}), around(**(budget or {})))


def evolution(budget=None, **keys: Any) -> Evolution:
    keys = {**SPACE, "population": 6, "sample_size": 3, **keys}
    return Evolution(EvolutionConfig(**keys), around(**(budget or {})))


def local(budget=None, **keys: Any) -> LocalSearch:
    return LocalSearch(LocalConfig(**{**SPACE, **keys}), around(**(budget or {})))


#: Every searcher that stands on FrontierSearcher.
ALL = [petridish, growth, random, evolution, local]


def outcome(job: Job) -> dict[str, Any]:
    """A made-up result that is a pure function of the job: larger networks err less."""
    ref = {"key": f"artifacts/{job.id}", "sha256": "0" * 64, "size": 1}
    if job.work == "petridish":
        arch = Architecture.from_json(job.spec["arch"])
        rng = np.random.default_rng(derive_seed(job.seed, "alphas"))
        ops = job.spec["learner"]["primitives"]
        ranked = {}
        for name in arch.cells:
            pairs = [
                [s, op, float(a)]
                for (s, op), a in zip(itertools.product(["s0", "s1"], ops), rng.uniform(-1, 1, 99), strict=False)
            ]
            ranked[name] = sorted(pairs, key=lambda pair: -abs(pair[2]))
        return {"metrics": {"ranked": ranked}, "artifacts": {"candidates": ref}, "seconds": 1.0}
    if job.work == "test":
        return {"metrics": {"test_error": 0.1}, "artifacts": {}, "seconds": 0.1}
    found = cost(Architecture.from_json(job.spec["arch"]))
    noise = np.random.default_rng(job.seed).uniform(0.9, 1.1)
    error = min(0.9, float(noise * 40 / found.madds**0.5))
    metrics = {"madds": found.madds, "params": found.params, "val_error": error, "val_standard_error": 0.01}
    return {"metrics": metrics, "artifacts": {"weights": ref}, "seconds": 2.0}


class Bench:
    """Drives a searcher with a given number of slots and keeps the history."""

    def __init__(self, searcher, slots=1):
        self.searcher = searcher
        self.slots = slots
        self.events: list[Event] = []
        self.open: list[Job] = []

    def emit(self, kind, job, data):
        event = Event(len(self.events) + 1, float(len(self.events)), kind, job, data)
        self.events.append(event)
        self.searcher.apply(event)

    def fill(self):
        while len(self.open) < self.slots:
            free = self.slots - len(self.open)
            jobs = self.searcher.ask({"train": free, "search": free})
            if not jobs:
                return
            self.emit(EventKind.ASKED, jobs[0].id, jobs[0].to_json())
            self.open.append(jobs[0])

    def step(self, fail=None):
        self.fill()
        if not self.open:
            return False
        job = self.open.pop(0)
        if fail and fail(job):
            self.emit(EventKind.FAILED, job.id, {"seconds": 1.0, "final": True, "kind": "exception"})
        else:
            self.emit(EventKind.TOLD, job.id, outcome(job))
        return True

    def run(self, most=500, fail=None):
        for _ in range(most):
            if not self.step(fail):
                return self
        raise AssertionError("the search does not end")

    @property
    def asked(self) -> list[Job]:
        return [Job.from_json(event.data) for event in self.events if event.kind is EventKind.ASKED]
