"""onnxruntime on a CPU: a whole model in one session, or in segments with OpenVINO beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from overrides import overrides

from archsearch.profile.environment import installed
from archsearch.profile.runtimes.onnx_models import OnnxModels
from archsearch.profile.runtimes.segments import Call


class OnnxRuntime(OnnxModels):
    """Microsoft's onnxruntime, with all of its optimisations. Its backends: itself, and OpenVINO where that is installed.

    OpenVINO is imported when a segment first wants it: what it takes in memory is part of what such an assignment costs.
    """

    name: ClassVar[str] = "onnxruntime"
    packages: ClassVar[tuple[str, ...]] = ("onnxruntime", "onnx", "onnxscript", "torch", "openvino")
    optional: ClassVar[tuple[str, ...]] = ("openvino",)
    extra: ClassVar[str] = "ort"
    own: ClassVar[str] = "onnxruntime"

    @overrides
    def settle(self, threads: int) -> None:
        import onnx  # noqa: F401 - before memory is measured
        import onnxruntime  # noqa: F401

        self.threads = threads

    @property
    @overrides
    def backends(self) -> tuple[str, ...]:
        return ("onnxruntime", "openvino") if installed("openvino") else ("onnxruntime",)

    @overrides
    def ready(self, source: Path | bytes, backend: str, shapes: Sequence[Sequence[int]] = ()) -> Call:
        if backend == "openvino":
            from archsearch.profile.runtimes.openvino import request

            return request(source, self.threads, shapes)
        return session(source, self.threads)


def session(source: Path | bytes, threads: int) -> Call:
    """A model in a session of so many threads, which sleep when they have nothing to do: several sessions take turns, and one's
    spinning threads would hold the cores of the next."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors: they are raised
    model = source if isinstance(source, bytes) else str(source)
    made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    reads = [each.name for each in made.get_inputs()]
    makes = [each.name for each in made.get_outputs()]
    return lambda arrays: made.run(makes, dict(zip(reads, arrays, strict=True)))
