"""OpenVINO on a CPU: whole ONNX models, and segments of them for ``onnxruntime``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from numpy.typing import NDArray
from overrides import overrides

from archsearch.profile.runtimes.onnx_models import OnnxModels
from archsearch.profile.runtimes.segments import Call


class OpenVino(OnnxModels):
    """Intel's OpenVINO, in float32: it would compute in bfloat16 on a processor that has it, and be compared unfairly."""

    name: ClassVar[str] = "openvino"
    packages: ClassVar[tuple[str, ...]] = ("openvino", "onnx", "onnxscript", "torch", "onnxruntime")
    extra: ClassVar[str] = "openvino"
    own: ClassVar[str] = "openvino"

    @overrides
    def settle(self, threads: int) -> None:
        import onnx  # noqa: F401 - before memory is measured

        _core()
        self.threads = threads

    @property
    @overrides
    def backends(self) -> tuple[str, ...]:
        return ("openvino",)

    @overrides
    def ready(self, source: Path | bytes, backend: str, shapes: Sequence[Sequence[int]] = ()) -> Call:
        return request(source, self.threads, shapes)


def request(source: Path | bytes, threads: int, shapes: Sequence[Sequence[int]] = ()) -> Call:
    """A model with one request, which runs on so many threads. What it makes is overwritten by its next run.

    Its threads are not pinned: the process has its cores already, and several requests take turns on them. With one thread that
    is the caller's own: no other has to be woken for each segment.
    """
    model = _core().read_model(source if isinstance(source, bytes) else str(source))
    if model.is_dynamic():
        model.reshape({place: list(shape) for place, shape in enumerate(shapes)})
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 0 if threads == 1 else 1,
        "INFERENCE_NUM_THREADS": threads,
        "ENABLE_CPU_PINNING": False,
    }
    made = _core().compile_model(model, "CPU", settings)
    infer, count = made.create_infer_request().infer, len(made.outputs)

    def call(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
        found = infer(arrays, share_inputs=True, share_outputs=True)
        return [found[place] for place in range(count)]

    return call


@cache
def _core() -> Any:
    # When imported it tells its maker so over the network, in a thread of the process that is about to measure; without that
    # package it does not.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino.Core()
