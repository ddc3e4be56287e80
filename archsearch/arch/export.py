"""A trained network as the bytes of a file that other programs run: ONNX, or a package of ``torch.export``.

Imports torch. Both are made of one traced program, whose batch size is open. What a file says is the graph, the weights and
the names of the layers: the paths and lines of source code that the tracer notes are taken out, and nothing in it is pickled.
"""

from __future__ import annotations

import io
import json
import logging
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from archsearch.jobs import ArchsearchError

#: Operators of this version of ONNX: the oldest that the exporter writes without converting.
OPSET = 18
INPUT, OUTPUT = "images", "logits"

#: Images (N, ...) to logits (N, classes).
Runner = Callable[[Tensor], Tensor]

#: Largest difference from PyTorch's outputs that a file may show, as a share of the largest output of a batch.
TOLERANCE = 1e-4


class ExportFailed(ArchsearchError):
    """A network cannot be written in a format, or the file does not compute what the network computes."""

    exit_code = 3


class OnPixels(nn.Module):
    """A network with its preprocessing in front: takes images (N, H, W, C) uint8 as a decoder gives them.

    ``shift`` and ``scale``, both (1, C, 1, 1), take pixels 0..255 to mean 0 and deviation 1, as while training.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, network: nn.Module, shift: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shift", shift)
        self.register_buffer("scale", scale)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.network((images.permute(0, 3, 1, 2).to(torch.float32) - self.shift) * self.scale)
        return output


def program_of(network: nn.Module, images: Tensor) -> ExportedProgram:
    """The network traced, in evaluation mode, for any batch size; ``images`` are at least two such as it takes.

    Raises:
        ExportFailed: something in it cannot be traced.
    """
    dynamic = ({0: torch.export.Dim("batch")},)
    try:
        with _quiet(), torch.no_grad():
            program = torch.export.export(network.eval(), (images,), dynamic_shapes=dynamic, strict=False)
    except Exception as error:  # the tracer's errors have no common class
        raise ExportFailed(f"torch.export cannot trace this network: {_first_line(error)}") from error
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)
    program.example_inputs = None  # they would be the one thing in the file that is pickled
    return program


def torch_bytes(program: ExportedProgram) -> bytes:
    """The program as a ``.pt2`` file without anything pickled.

    Raises:
        ExportFailed: a part of it would have to be pickled, or cannot be written.
    """
    buffer = io.BytesIO()
    try:
        with _quiet():
            torch.export.save(program, buffer)
    except Exception as error:
        raise ExportFailed(f"torch.export cannot write this network: {_first_line(error)}") from error
    payload = buffer.getvalue()
    if pickled := list(pickled_parts(payload)):
        raise ExportFailed(f"this network has parts that only a pickle could hold, which could run code: {', '.join(pickled)}")
    return payload


def pickled_parts(payload: bytes) -> Iterator[str]:
    """Names of what is pickled in a ``.pt2`` file: ``torch.export.load`` would unpickle it, and that may run code."""
    with zipfile.ZipFile(io.BytesIO(payload)) as archive:
        for name in archive.namelist():
            part = archive.read(name)
            if "/sample_inputs/" in name and part:
                yield name
            elif name.endswith("_config.json") and ("/weights/" in name or "/constants/" in name):
                for key, entry in json.loads(part)["config"].items():
                    if entry["use_pickle"]:
                        yield f"{name}: {key}"


def onnx_bytes(program: ExportedProgram) -> bytes:
    """The program as one ONNX file, its weights inside, checked by ONNX's own checker.

    Raises:
        ExportFailed: an operation has no form in ONNX.
    """
    import onnx

    try:
        with _quiet():
            made = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT],
                output_names=[OUTPUT],
                opset_version=OPSET,
                verbose=False,
            )
        assert made is not None
        model = made.model_proto
        _tidy(model)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ExportFailed(f"this network cannot be written as ONNX: {_first_line(error)}") from error
    return bytes(model.SerializeToString(deterministic=True))


def torch_runner(payload: bytes) -> Runner:
    """Runs a ``.pt2`` file that this process made: a stranger's could run code while it is loaded."""
    with _quiet():
        module = torch.export.load(io.BytesIO(payload)).module()

    def run(images: Tensor) -> Tensor:
        with torch.no_grad():
            output: Tensor = module(images)
        return output

    return run


def onnx_runner(payload: bytes) -> Runner:
    """Runs an ONNX file in onnxruntime, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(payload, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: images.numpy()})[0])

    return run


def largest_difference(found: Sequence[Tensor], wanted: Sequence[Tensor]) -> float:
    """How far outputs are from those wanted: in the worst batch, as a share of the largest output (by amount) wanted there.

    Infinite where a shape differs or something is not a number.
    """
    worst = 0.0
    for output, expected in zip(found, wanted, strict=True):
        if output.shape != expected.shape:
            return math.inf
        share = float((output.double() - expected.double()).abs().max()) / (float(expected.abs().max()) or 1.0)
        worst = max(worst, share if math.isfinite(share) else math.inf)
    return worst


def _tidy(model: Any) -> None:
    """Take out of an ONNX model what only its exporter needs (names of source files among it), and name the open size."""
    graph = model.graph
    values = [*graph.input, *graph.output, *graph.value_info]
    for part in (model, graph, *graph.node, *graph.initializer, *values):
        del part.metadata_props[:]
        if part.HasField("doc_string"):
            part.ClearField("doc_string")
    size = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in values:
        for dim in value.type.tensor_type.shape.dim:
            if size and dim.dim_param == size:
                dim.dim_param = "batch"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}".rstrip(": ")


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks: they are about packages that are of no use here."""
    names = ("torch.onnx", "torch.onnx._internal.exporter._registration", "torch.export", "onnxscript", "onnx_ir")
    talkers = [logging.getLogger(name) for name in names]
    levels = [talker.level for talker in talkers]
    for talker in talkers:
        talker.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for talker, level in zip(talkers, levels, strict=True):
            talker.setLevel(level)
