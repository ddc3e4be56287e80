"""PyTorch on a GPU: eager, and as one captured graph. The whole model has one backend."""

from __future__ import annotations

import copy
import os
import subprocess
from typing import Any, ClassVar

from overrides import overrides

from archsearch.jobs import JSON, InputError
from archsearch.profile.models import Loaded
from archsearch.profile.runtimes.face import Arrays, Compiled
from archsearch.profile.runtimes.pytorch import Eager, WholeModel


class OnGpu(Eager):
    """A copy of the module on the GPU. The inputs are there before the clock starts; a run ends when the GPU has ended."""

    @overrides
    def load(self, inputs: Arrays) -> Any:
        return tuple(each.to("cuda") for each in super().load(inputs))

    @overrides
    def run(self, inputs: Any) -> Any:
        import torch

        outputs = super().run(inputs)
        torch.cuda.synchronize()
        return outputs


class Captured(OnGpu):
    """The module's kernels recorded once and replayed as one CUDA graph, on the inputs it was recorded with."""

    def __init__(self, module: Any, inputs: Arrays) -> None:
        import torch

        super().__init__(module)
        self.inputs = super().load(inputs)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.inference_mode(), torch.cuda.stream(side):
            for _ in range(3):  # libraries choose their kernels and set up their workspaces outside the recording
                module(*self.inputs)
        torch.cuda.current_stream().wait_stream(side)
        self.recorded = torch.cuda.CUDAGraph()
        with torch.inference_mode(), torch.cuda.graph(self.recorded):
            self.outputs = module(*self.inputs)

    @overrides
    def load(self, inputs: Arrays) -> Any:
        for place, each in zip(self.inputs, super().load(inputs), strict=True):
            place.copy_(each)
        return self.inputs

    @overrides
    def run(self, inputs: Any) -> Any:
        import torch

        self.recorded.replay()
        torch.cuda.synchronize()
        return self.outputs


class PyTorchCuda(WholeModel):
    """PyTorch's eager mode on a GPU."""

    name: ClassVar[str] = "pytorch-cuda"
    on_processor: ClassVar[bool] = False

    @overrides
    def require(self) -> None:
        super().require()
        import torch

        if not torch.cuda.is_available():
            raise InputError(f"the runtime {self.name!r} needs a GPU that PyTorch can use, and it sees none here")

    @overrides
    def hardware(self) -> dict[str, JSON]:
        command = ["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
        try:
            answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
        except (OSError, subprocess.SubprocessError):
            return {}
        return {"gpus": answer.strip().splitlines(), "gpus_visible": os.environ.get("CUDA_VISIBLE_DEVICES")}

    @property
    @overrides
    def backends(self) -> tuple[str, ...]:
        return ("cuda",)

    @overrides
    def _made(self, model: Loaded) -> Compiled:
        return OnGpu(copy.deepcopy(model.module).to("cuda"))


class PyTorchCudaGraph(PyTorchCuda):
    """The whole model as one CUDA graph: no time goes into launching kernels one by one."""

    name: ClassVar[str] = "pytorch-cuda-graph"

    @overrides
    def _made(self, model: Loaded) -> Compiled:
        return Captured(copy.deepcopy(model.module).to("cuda"), model.inputs)
