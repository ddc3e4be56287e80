"""What a runtime offers: a model's operations, the backends that can run each, and the model made ready to run."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from archsearch.jobs import JSON, InputError
from archsearch.profile.environment import installed
from archsearch.profile.graph import Graph, Operation
from archsearch.profile.models import Loaded
from archsearch.registry import RUNTIMES

#: What goes into a model and comes out of it.
Arrays = tuple[NDArray[Any], ...]


class Unsupported(InputError):
    """A backend cannot run an operation of this model; the text names both. The assignment is infeasible, nothing else."""

    def __init__(self, index: int, operation: Operation, backend: str, why: str = "") -> None:
        self.index, self.operation, self.backend = index, operation, backend
        super().__init__(f"the backend {backend!r} cannot run operation {index} ({operation.name}){why and ': '}{why}")


class Compiled(ABC):
    """A model made ready. Only ``run`` is timed."""

    file_size: int  # bytes of the model as this runtime would keep it in a file

    @abstractmethod
    def load(self, inputs: Arrays) -> Any:
        """The inputs in the runtime's own form, where it wants them (on the GPU, say)."""

    @abstractmethod
    def run(self, inputs: Any) -> Any:
        """The outputs in the runtime's own form. Returns when they are there, not when they have been asked for."""

    @abstractmethod
    def fetch(self, outputs: Any) -> Arrays:
        """The outputs as arrays."""


class Runtime(ABC):
    """A library that runs models. An instance belongs to one process, which has been set up by ``settle``."""

    name: ClassVar[str]
    packages: ClassVar[tuple[str, ...]]  # distributions that it uses; their versions are part of the fingerprint
    optional: ClassVar[tuple[str, ...]] = ()  # those of them that it can do without
    extra: ClassVar[str] = ""  # the extra of archsearch that installs them
    on_processor: ClassVar[bool] = True  # whether all is computed there: else its energy counter tells little of the model's
    form: ClassVar[Literal["", "onnx", "circle"]] = ""  # of the files that it runs; without one it runs PyTorch's modules
    _written: tuple[Loaded, tempfile.TemporaryDirectory[str], Path] | None = None

    def require(self) -> None:
        """See that this runtime can work here; called before anything starts.

        Raises:
            InputError: something is missing; the text says how to get it.
        """
        if lacking := [each for each in self.packages if each not in self.optional and installed(each) is None]:
            how = f"pip install 'archsearch[{self.extra}]'" if self.extra else f"pip install {' '.join(lacking)}"
            raise InputError(f"the runtime {self.name!r} needs {', '.join(lacking)}, not installed here: {how}")

    def hardware(self) -> dict[str, JSON]:
        """What it runs on besides the processor: part of the fingerprint. Starts nothing."""
        return {}

    @abstractmethod
    def settle(self, threads: int) -> None:
        """Import the library and set this process up for so many threads."""

    def prepare(self, model: Loaded, folder: Path) -> Path:
        """Where it runs files: write the module's into this folder; its path. Called once for a model, long before any clock
        starts, in a process that measures nothing; the processes that measure are given the file.

        Raises:
            InputError: the module cannot be written in this form.
        """
        raise NotImplementedError(f"the runtime {self.name!r} has no files")

    def file(self, model: Loaded) -> Path:
        """The model's file. The protocol gives it; for a module at hand it is written now."""
        if model.file is not None:
            return model.file
        if self._written is None or self._written[0] is not model:
            folder = tempfile.TemporaryDirectory(prefix="archsearch-model-")
            self._written = model, folder, self.prepare(model, Path(folder.name))
        return self._written[2]

    @property
    @abstractmethod
    def backends(self) -> tuple[str, ...]:
        """The code paths that it can choose among on this machine, in a fixed order."""

    @abstractmethod
    def graph(self, model: Loaded) -> Graph:
        """The model's operations, in an order that follows from its content.

        Raises:
            InputError: they cannot be found out.
        """

    @abstractmethod
    def supports(self, operation: Operation, backend: str) -> bool:
        """Whether this backend can run such an operation, as far as its name tells."""

    @abstractmethod
    def compile(self, model: Loaded, assignment: Sequence[str] | None) -> Compiled:
        """The model made ready. ``assignment`` has a backend for each operation of `graph`; None is the library's own choice.

        Neighbours on one backend become one segment where the library gains by it.

        Raises:
            Unsupported: a backend cannot run its operation.
            InputError: the assignment does not fit the model.
        """

    def check(self, graph: Graph, assignment: Sequence[str]) -> None:
        """Raises what ``compile`` raises for an assignment that cannot fit."""
        if len(assignment) != len(graph.nodes):
            raise InputError(f"the assignment has {len(assignment)} backends, the model {len(graph.nodes)} operations")
        for index, (operation, backend) in enumerate(zip(graph.nodes, assignment, strict=True)):
            if backend not in self.backends:
                known = ", ".join(self.backends)
                raise InputError(
                    f"operation {index}: the runtime {self.name!r} has no backend {backend!r} here; it has {known}"
                )
            if not self.supports(operation, backend):
                raise Unsupported(index, operation, backend)


def runtime(name: str) -> Runtime:
    """The runtime of that name, ready to be used.

    Raises:
        InputError: no such runtime, or something that it needs is missing.
    """
    found: Runtime = RUNTIMES.get(name)()
    found.require()
    return found


def deviation(outputs: Arrays, reference: Arrays) -> float:
    """The largest difference between two models' outputs, as a share of the reference's largest value; infinite if the shapes
    differ or a value is not finite."""
    if [a.shape for a in outputs] != [b.shape for b in reference]:
        return float("inf")
    pairs = [(_exact(a), _exact(b)) for a, b in zip(outputs, reference, strict=True) if b.size]
    scale = max((float(np.abs(b).max()) for _, b in pairs), default=0.0) or 1.0
    with np.errstate(invalid="ignore"):  # infinite less infinite
        worst = float(np.max([np.abs(a - b).max() for a, b in pairs], initial=0.0))  # NaN, if one is: max would lose it
    return worst / scale if np.isfinite(worst) else float("inf")


def _exact(values: NDArray[Any]) -> NDArray[Any]:
    """In a type whose differences are what they seem: those of unsigned numbers turn over, truth values have none."""
    return values.astype(np.result_type(values.dtype, np.float64))
