"""Plug-ins by kind and name: a decorator for code at hand, entry points for installed packages, lazy built-ins.

Built-ins are named as ``"module:attribute"`` and imported when first asked for, so that ``archsearch --help`` loads
neither ray nor torch. An entry point in the group ``archsearch.KIND`` adds a name from outside; a name that is taken is
an error, never an override.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from archsearch.jobs import InputError, Work

T = TypeVar("T")


class Registry(Generic[T]):
    """Names of one kind (``"work"``, ``"searcher"``, ``"section"``...), each standing for one object."""

    def __init__(self, kind: str, builtin: dict[str, str] | None = None) -> None:
        self.kind = kind
        self._lazy: dict[str, str | EntryPoint] = dict(builtin or {})
        self._loaded: dict[str, T] = {}
        self._scanned = False

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: ``@SEARCHERS.register("mine")``.

        Raises:
            ValueError: the name is taken by another object.
        """

        def add(thing: T) -> T:
            self._scan()
            lazy = self._lazy.get(name)
            promised = lazy.value if isinstance(lazy, EntryPoint) else lazy
            source = f"{getattr(thing, '__module__', '')}:{getattr(thing, '__qualname__', '')}"
            if name in self._loaded or promised not in (None, source):
                raise ValueError(f"the {self.kind} name {name!r} is already taken by {self._loaded.get(name, lazy)!r}")
            self._loaded[name] = thing
            return thing

        return add

    def get(self, name: str) -> T:
        """The object of that name.

        Raises:
            InputError: no such name; the text lists the nearest and the known ones.
        """
        self._scan()
        if name not in self._loaded:
            lazy = self._lazy.get(name)
            if lazy is None:
                near = difflib.get_close_matches(name, self, n=1)
                hint = f" Did you mean {near[0]!r}?" if near else ""
                raise InputError(f"no {self.kind} is called {name!r}.{hint} Known: {', '.join(self)}.")
            if isinstance(lazy, EntryPoint):
                thing = lazy.load()
            else:
                module, _, attribute = lazy.partition(":")
                thing = getattr(import_module(module), attribute)
            self._loaded.setdefault(name, thing)
        return self._loaded[name]

    def loaded_from(self) -> set[str]:
        """The installed packages whose plug-ins of this kind have been asked for so far."""
        points = [lazy for name, lazy in self._lazy.items() if isinstance(lazy, EntryPoint) and name in self._loaded]
        return {point.dist.name for point in points if point.dist is not None}

    def __iter__(self) -> Iterator[str]:
        self._scan()
        return iter(sorted({*self._lazy, *self._loaded}))

    def __contains__(self, name: object) -> bool:
        return name in set(self)

    def _scan(self) -> None:
        if self._scanned:
            return
        self._scanned = True
        for point in entry_points(group=f"archsearch.{self.kind}"):
            if point.name in self._lazy or point.name in self._loaded:
                raise ValueError(
                    f"the {self.kind} name {point.name!r} of entry point {point.value!r} is already taken by "
                    f"{self._lazy.get(point.name, self._loaded.get(point.name))!r}"
                )
            self._lazy[point.name] = point


#: Configuration sections by their key in the YAML file: pydantic models, owned by the rooms.
SECTIONS: Registry[Any] = Registry(
    "section",
    {
        "run": "archsearch.store.section:RunSection",
        "data": "archsearch.data.section:DataSection",
        "search": "archsearch.searchers.section:SearchSection",
        "budget": "archsearch.searchers.section:BudgetSection",
        "seed_train": "archsearch.train.section:TrainSection",
        "post_train": "archsearch.train.section:TrainSection",
        "weak_learner": "archsearch.train.section:WeakLearnerSection",
        "evaluation": "archsearch.train.evaluation_section:EvaluationSection",
        "resources": "archsearch.cluster.section:ResourcesSection",
        "cluster": "archsearch.cluster.section:ClusterSection",
        "devices": "archsearch.cluster.devices_section:DevicesSection",
        "profile": "archsearch.profile.section:ProfileSection",
        "tracking": "archsearch.tracking.section:TrackingSection",
    },
)

#: Ask/tell searchers: ``class MySearcher(Searcher)`` with a pydantic ``Config``.
SEARCHERS: Registry[Any] = Registry(
    "searcher",
    {
        "petridish": "archsearch.searchers.petridish:Petridish",
        "growth": "archsearch.searchers.growth:Growth",
        "random": "archsearch.searchers.random_search:RandomSearch",
        "evolution": "archsearch.searchers.evolution:Evolution",
        "local": "archsearch.searchers.local:LocalSearch",
    },
)

#: Pure functions that executors run.
WORKS: Registry[Work] = Registry(
    "work",
    {
        "train": "archsearch.train.work:train",
        "petridish": "archsearch.train.work:petridish",
        "test": "archsearch.train.work:test",
        "profile": "archsearch.profile.work:profile",
        "profile_side_by_side": "archsearch.profile.device_work:profile_side_by_side",
        "describe": "archsearch.profile.device_work:describe",
    },
)

#: Libraries that run models to be measured: ``class MyRuntime(Runtime)``, see ``archsearch.profile.runtimes``.
RUNTIMES: Registry[Any] = Registry(
    "runtime",
    {
        "onert": "archsearch.profile.runtimes.onert:Onert",
        "pytorch": "archsearch.profile.runtimes.pytorch:PyTorch",
        "pytorch-compile": "archsearch.profile.runtimes.pytorch:PyTorchCompile",
        "pytorch-cuda": "archsearch.profile.runtimes.pytorch_cuda:PyTorchCuda",
        "pytorch-cuda-graph": "archsearch.profile.runtimes.pytorch_cuda:PyTorchCudaGraph",
        "onnxruntime": "archsearch.profile.runtimes.onnxruntime:OnnxRuntime",
        "openvino": "archsearch.profile.runtimes.openvino:OpenVino",
    },
)

#: Data sets: ``load(section) -> Dataset``.
DATASETS: Registry[Any] = Registry(
    "dataset",
    {
        "digits": "archsearch.data.digits:load",
        "glyphs": "archsearch.data.glyphs:load",
        "npz": "archsearch.data.npz:load",
        "folder": "archsearch.data.folder:load",
        "cifar10": "archsearch.data.torchvision_sets:load",
        "cifar100": "archsearch.data.torchvision_sets:load",
        "fashion_mnist": "archsearch.data.torchvision_sets:load",
        "kmnist": "archsearch.data.torchvision_sets:load",
        "mnist": "archsearch.data.torchvision_sets:load",
        "stl10": "archsearch.data.torchvision_sets:load",
        "svhn": "archsearch.data.torchvision_sets:load",
    },
)

#: Those who follow a run: ``class MyCallback(archsearch.Callback)`` with a pydantic ``Config``.
CALLBACKS: Registry[Any] = Registry(
    "callback",
    {
        "jsonl": "archsearch.tracking.jsonl:JsonLines",
        "tensorboard": "archsearch.tracking.tensorboard:TensorBoard",
        "tensorwatch": "archsearch.tracking.tensorwatch:TensorWatch",
    },
)

#: Estimators of operator-to-backend assignments: ``class MyEstimator(Estimator)``, made with an encoding and a seed.
ESTIMATORS: Registry[Any] = Registry(
    "estimator",
    {
        "brute": "archsearch.profile.assignment.estimator:BruteForce",
        "random": "archsearch.profile.assignment.estimator:RandomSampling",
        "hlps": "archsearch.profile.assignment.hlps:Hlps",
        "nsga2": "archsearch.profile.assignment.nsga2:Nsga2",
        "structured": "archsearch.profile.assignment.structured:Structured",
    },
)

#: Kinds of what recipes are made of (see ``archsearch.recipes.ingredient``).
INGREDIENTS: Registry[Any] = Registry(
    "ingredient",
    {
        "architecture": "archsearch.recipes.kinds:ARCHITECTURE",
        "cell_family": "archsearch.recipes.kinds:CELL_FAMILY",
        "data": "archsearch.recipes.kinds:DATA",
        "training": "archsearch.recipes.kinds:TRAINING",
        "optimizer": "archsearch.recipes.kinds:OPTIMIZER",
        "augmentation": "archsearch.recipes.kinds:AUGMENTATION",
        "exporter": "archsearch.recipes.kinds:EXPORTER",
        "parent_weights": "archsearch.recipes.kinds:PARENT_WEIGHTS",
    },
)

#: What recipes are for: a ``Task`` each (see ``archsearch.recipes.task``).
TASKS: Registry[Any] = Registry("task", {"classification": "archsearch.recipes.classification:CLASSIFICATION"})

#: Operations of the cell space (see ``archsearch.arch.operations``).
OPERATIONS: Registry[Any] = Registry("operation")
