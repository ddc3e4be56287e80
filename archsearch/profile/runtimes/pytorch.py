"""PyTorch on a CPU: a backend for each operation, or the whole model compiled."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from overrides import overrides

from archsearch.jobs import InputError
from archsearch.profile.graph import Graph, Operation
from archsearch.profile.models import Loaded
from archsearch.profile.runtimes.face import Arrays, Compiled, Runtime

if TYPE_CHECKING:
    from archsearch.profile.runtimes.torch_graph import Traced

#: The backends in their order, and what each means for an operation. Left to itself PyTorch chooses by size.
BACKENDS = (
    "onednn",  # convolutions by oneDNN; everything on contiguous maps (N, C, H, W)
    "channels_last",  # convolutions by oneDNN; everything on maps that lie in memory as (N, H, W, C)
    "native",  # oneDNN and NNPACK switched off: convolutions through im2col and a matrix product; contiguous maps
    "nnpack",  # convolutions by NNPACK; contiguous maps
)

#: Operations that NNPACK has a kernel for.
NNPACK = frozenset({"Conv2D"})


class Eager(Compiled):
    """A module run as it is."""

    def __init__(self, module: Any) -> None:
        self.module = module
        # As a file of safetensors without its header.
        self.file_size = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())

    @overrides
    def load(self, inputs: Arrays) -> Any:
        import torch

        return tuple(torch.from_numpy(each) for each in inputs)

    @overrides
    def run(self, inputs: Any) -> Any:
        import torch

        with torch.inference_mode():
            return self.module(*inputs)

    @overrides
    def fetch(self, outputs: Any) -> Arrays:
        many = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
        return tuple(np.asarray(each.detach().cpu().contiguous().numpy()) for each in many)


class PyTorch(Runtime):
    """PyTorch's eager mode. Without an assignment the module runs as it is."""

    name: ClassVar[str] = "pytorch"
    packages: ClassVar[tuple[str, ...]] = ("torch",)
    _last: tuple[Loaded, Traced] | None = None  # following a model's code takes longer than placing its operations

    @overrides
    def settle(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        torch._nnpack_available()  # NNPACK must be asked before its kernel is first called

    @property
    @overrides
    def backends(self) -> tuple[str, ...]:
        import torch

        there = {
            "onednn": torch.backends.mkldnn.is_available(),  # type: ignore[no-untyped-call]
            "nnpack": torch._nnpack_available(),
        }
        return tuple(name for name in BACKENDS if there.get(name, True))

    @overrides
    def graph(self, model: Loaded) -> Graph:
        return self._traced(model).graph

    @overrides
    def supports(self, operation: Operation, backend: str) -> bool:
        return backend in self.backends and (backend != "nnpack" or operation.name in NNPACK)

    @overrides
    def compile(self, model: Loaded, assignment: Sequence[str] | None) -> Compiled:
        if assignment is None:
            return Eager(model.module)
        from archsearch.profile.runtimes.torch_graph import assign

        traced = self._traced(model)
        self.check(traced.graph, assignment)
        return Eager(assign(traced, assignment))

    def _traced(self, model: Loaded) -> Traced:
        from archsearch.profile.runtimes.torch_graph import trace

        if self._last is None or self._last[0] is not model:
            self._last = model, trace(model)
        return self._last[1]


class PyTorchCompile(Runtime):
    """A whole model through ``torch.compile``: its one backend fuses operations across the graph."""

    name: ClassVar[str] = "pytorch-compile"
    packages: ClassVar[tuple[str, ...]] = ("torch",)

    @overrides
    def require(self) -> None:
        super().require()
        if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
            raise InputError(
                "the runtime 'pytorch-compile' needs a C++ compiler (g++ or clang++), and there is none on the path"
            )

    @overrides
    def settle(self, threads: int) -> None:
        PyTorch().settle(threads)

    @property
    @overrides
    def backends(self) -> tuple[str, ...]:
        return ("inductor",)

    @overrides
    def graph(self, model: Loaded) -> Graph:
        return PyTorch().graph(model)

    @overrides
    def supports(self, operation: Operation, backend: str) -> bool:
        return backend in self.backends

    @overrides
    def compile(self, model: Loaded, assignment: Sequence[str] | None) -> Compiled:
        import torch

        if assignment is not None:
            self.check(self.graph(model), assignment)
        # The run that makes the code is part of the building.
        compiled = Eager(model.module)
        compiled.module = torch.compile(model.module)
        compiled.run(compiled.load(model.inputs))
        return compiled
