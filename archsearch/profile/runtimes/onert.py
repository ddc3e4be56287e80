"""Samsung ONE's runtime: circle files, a backend for each operation."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from overrides import overrides

from archsearch.jobs import InputError
from archsearch.profile.graph import Graph, Operation
from archsearch.profile.models import Loaded
from archsearch.profile.runtimes.face import Arrays, Compiled, Runtime, Unsupported

_CPU = """
AddN ArgMinMax BatchMatMul BatchToSpaceND BinaryArithmetic BroadcastTo Comparison Concat Conv2D DepthToSpace
DepthwiseConv2D ElementwiseActivation ElementwiseBinary ElementwiseUnary ExpandDims Fill FullyConnected Gather
L2Normalization LogSoftmax OneHot Pack Pad Pool2D Pow Range Rank Reduce Reshape ResizeBilinear Reverse RmsNorm Select
Shape Slice Softmax SpaceToBatchND SpaceToDepth Split SplitV SquaredDifference Squeeze StridedSlice Tile Transpose
Unpack
"""
#: Operations that each backend has a kernel for, as of onert 0.1.0; a backend without a line here is not offered. ``train``,
#: which comes in the same package, runs trainings alone.
KERNELS = {"cpu": frozenset(_CPU.split()), "ruy": frozenset({"Conv2D", "FullyConnected"})}
#: The user's variables that would choose in a runtime's place.
_CHOICE = re.compile(r"OP_BACKEND_|EXECUTOR$|USE_SCHEDULER$")


class Session(Compiled):
    """A circle file that onert has made ready.

    Raises:
        Unsupported: a backend has no kernel for an operation, as onert says.
        InputError: it cannot make it ready for another reason.
    """

    def __init__(self, path: Path, graph: Graph, assignment: Sequence[str] | None, threads: int) -> None:
        from onert import infer
        from onert.native.libnnfw_api_pybind import prepare_config

        self.file_size = path.stat().st_size
        self.bound: Any = None
        # When a session is made onert reads from the environment what runs where; in Python it is told the list of backends.
        pairs = (f"{index}={backend}" for index, backend in enumerate(assignment or ()))
        variables = {"NUM_THREADS": str(threads), "OP_BACKEND_MAP": ";".join(pairs)}
        backends = ";".join(dict.fromkeys(assignment or ("cpu",)))
        with _environment(variables), tempfile.TemporaryFile() as said:
            try:
                with _errors_to(said.fileno()):
                    self.session = infer.session(str(path), backends=backends)
                    self.session.set_prepare_config(prepare_config.ENABLE_INTERNAL_OUTPUT_ALLOC)
                    self.session.prepare()
            except Exception as error:  # NNFW_STATUS_ERROR: the reason is on stderr alone
                said.seek(0)
                text = said.read().decode(errors="replace").strip() or str(error)
                if assignment is not None and (named := re.search(r"operation '(\w+)'", text)):
                    # It names the kind alone: the first that is where none of its kind can be, if there is one.
                    places = [index for index, node in enumerate(graph.nodes) if node.name == named[1]]
                    for index in sorted(places, key=lambda index: named[1] in KERNELS[assignment[index]])[:1]:
                        raise Unsupported(index, graph.nodes[index], assignment[index], text) from error
                raise InputError(f"onert cannot make the model ready: {text[-300:]}") from error

    @overrides
    def load(self, inputs: Arrays) -> Any:
        return tuple(np.ascontiguousarray(each) for each in inputs)

    @overrides
    def run(self, inputs: Any) -> Any:
        if inputs is not self.bound:  # onert reads them where they are
            for place, each in enumerate(inputs):
                self.session.set_input(place, each)
            self.bound = inputs
        self.session.run()
        return self.session

    @overrides
    def fetch(self, outputs: Any) -> Arrays:
        return tuple(outputs.get_output(place) for place in range(outputs.output_size()))


class Onert(Runtime):
    """onert. Without an assignment its backend ``cpu`` runs all.

    ``cpu`` spreads convolutions over as many threads as the machine has cores, whatever it is asked for: the cores that this
    process may run on bound what it takes. Its other kernels, and ``ruy``, keep to ``threads``.
    """

    name: ClassVar[str] = "onert"
    packages: ClassVar[tuple[str, ...]] = ("onert", "tico", "circle-schema", "torch")
    extra: ClassVar[str] = "onert"
    form: ClassVar[Literal["", "onnx", "circle"]] = "circle"
    threads = 1
    _last: tuple[Loaded, Path, Graph] | None = None

    @overrides
    def settle(self, threads: int) -> None:
        import onert  # noqa: F401 - here, so that its size is no model's

        import archsearch.profile.runtimes.circle  # noqa: F401

        self.threads = threads

    @overrides
    def prepare(self, model: Loaded, folder: Path) -> Path:
        from archsearch.profile.runtimes.circle_export import circle

        path = folder / "model.circle"
        path.write_bytes(circle(model))
        return path

    @property
    @overrides
    def backends(self) -> tuple[str, ...]:
        found = find_spec("onert")
        roots = list(found.submodule_search_locations or ()) if found is not None else []
        return tuple(name for name in KERNELS if any(_library(Path(root), name).is_file() for root in roots))

    @overrides
    def graph(self, model: Loaded) -> Graph:
        return self._read(model)[1]

    @overrides
    def supports(self, operation: Operation, backend: str) -> bool:
        return backend in self.backends and operation.name in KERNELS[backend]

    @overrides
    def compile(self, model: Loaded, assignment: Sequence[str] | None) -> Compiled:
        path, graph = self._read(model)
        if assignment is not None:
            self.check(graph, assignment)
        return Session(path, graph, assignment, self.threads)

    def _read(self, model: Loaded) -> tuple[Path, Graph]:
        from archsearch.profile.runtimes.circle import circle_graph

        if self._last is None or self._last[0] is not model:
            path = self.file(model)
            self._last = model, path, circle_graph(path)
        return self._last[1:]


def _library(package: Path, backend: str) -> Path:
    return package / "native" / "nnfw" / "backend" / f"libbackend_{backend}.so"


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables for a while, and none of the user's that choose in their place."""
    before = {name: os.environ.pop(name, None) for name in {*values, *filter(_CHOICE.match, os.environ)}}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _errors_to(file: int) -> Iterator[None]:
    """What the process's libraries write to stderr goes into this file for a while."""
    kept = os.dup(2)
    os.dup2(file, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
