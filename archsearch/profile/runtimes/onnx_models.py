"""What runtimes of ONNX models have in common: a module is exported once, a model is run as a whole or in segments."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from overrides import overrides

from archsearch.jobs import InputError
from archsearch.profile.graph import Graph, Operation
from archsearch.profile.models import Loaded
from archsearch.profile.onnx_export import export
from archsearch.profile.onnx_files import files_of
from archsearch.profile.runtimes.face import Compiled, Runtime, Unsupported
from archsearch.profile.runtimes.segments import Call, Pipeline, Step, Whole, segments

if TYPE_CHECKING:
    from archsearch.profile.runtimes.onnx_graph import Parts


class OnnxModels(Runtime):
    """A runtime that runs ONNX files. Without an assignment, or with one backend for all, the whole file as it is."""

    form: ClassVar[Literal["", "onnx", "circle"]] = "onnx"
    own: ClassVar[str]  # the backend of a whole model without an assignment
    threads = 1
    _apart: tuple[Loaded, Parts] | None = None

    @overrides
    def prepare(self, model: Loaded, folder: Path) -> Path:
        if model.file is not None:
            return model.file
        export(model.module, model.inputs, folder / "model.onnx")
        return folder / "model.onnx"

    @overrides
    def graph(self, model: Loaded) -> Graph:
        return self._parts(model).graph

    @overrides
    def supports(self, operation: Operation, backend: str) -> bool:
        return backend in self.backends

    @overrides
    def compile(self, model: Loaded, assignment: Sequence[str] | None) -> Compiled:
        if assignment is None:
            return self._whole(model, self.own)
        parts = self._parts(model)
        self.check(parts.graph, assignment)
        if len(set(assignment)) == 1:
            return self._whole(model, assignment[0])
        return self._cut(model, [(each.backend, each.nodes) for each in segments(parts.graph, assignment)])

    @abstractmethod
    def ready(self, source: Path | bytes, backend: str, shapes: Sequence[Sequence[int]] = ()) -> Call:
        """A file, or a model in memory, made ready by a backend. ``shapes`` are its inputs', where the model leaves them open.

        Raises:
            Exception: of the library's own: it cannot run the model.
        """

    def _whole(self, model: Loaded, backend: str) -> Compiled:
        file = self.file(model)
        try:
            call = self.ready(file, backend, [each.shape for each in model.inputs])
        except Exception:  # perhaps of the file's own functions, which taking apart writes out; if not, this says what it is
            return self._cut(model, [(backend, range(len(self.graph(model).nodes)))])
        return Whole(call, sum(each.stat().st_size for each in files_of(file)))

    def _cut(self, model: Loaded, pieces: Sequence[tuple[str, Sequence[int]]]) -> Compiled:
        """The model as pieces of some operations on one backend each."""
        from archsearch.profile.runtimes.onnx_graph import cut

        parts = self._parts(model)
        steps: list[Step] = []
        size = 0
        for backend, nodes in pieces:
            piece = cut(parts, nodes)
            try:
                steps.append(Step(self.ready(piece.model, backend), piece.reads, piece.makes))
            except Exception as error:  # the libraries' own, without a common class
                raise self._culprit(parts, nodes, backend, error) from error
            size += len(piece.model)
        return Pipeline(steps, parts.inputs, parts.outputs, size)

    def _culprit(self, parts: Parts, nodes: Sequence[int], backend: str, error: Exception) -> InputError:
        """Says which of some operations a backend refuses, found by trying each by itself."""
        from archsearch.profile.runtimes.onnx_graph import cut

        for index in nodes:
            try:
                self.ready(cut(parts, [index]).model, backend)
            except Exception as own:
                return Unsupported(index, parts.graph.nodes[index], backend, reason(own))
        names = ", ".join(dict.fromkeys(parts.graph.nodes[index].name for index in nodes))
        return InputError(f"the backend {backend!r} cannot run these together: {names}: {reason(error)}")

    def _parts(self, model: Loaded) -> Parts:
        from archsearch.profile.runtimes.onnx_graph import take_apart

        if self._apart is None or self._apart[0] is not model:
            self._apart = model, take_apart(self.file(model), model.inputs)
        return self._apart[1]


def reason(error: Exception) -> str:
    """The line of a library's error that says what is wrong."""
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    return next((line for line in lines if "operations:" in line), lines[0])[:300]
