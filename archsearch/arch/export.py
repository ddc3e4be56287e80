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

INPUT, OUTPUT = "images", "logits"

#: Images (N, ...) to logits (N, classes).
Runner = Callable[[Tensor], Tensor]


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


def onnx_bytes(program: ExportedProgram, opset: int) -> bytes:
    """The program as one ONNX file, its weights inside, checked by ONNX's own checker. ``opset``: the version of its operators.

    Raises:
        ExportFailed: an operation has no form in ONNX, or not in that version.
    """
    import onnx

    model = onnx_model(program, input_names=[INPUT], output_names=[OUTPUT], opset_version=opset)
    written = next(each.version for each in model.opset_import if not each.domain)
    if written != opset:  # the exporter only warns of what it could not convert
        raise ExportFailed(f"this network cannot be written with version {opset} of ONNX's operators, only with {written}")
    _name_batch(model.graph)
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ExportFailed(f"this network cannot be written as ONNX: {_first_line(error)}") from error
    return bytes(model.SerializeToString(deterministic=True))


def onnx_model(module: nn.Module | ExportedProgram, inputs: tuple[Tensor, ...] = (), **how: Any) -> Any:
    """A module in evaluation mode, for inputs of these shapes, or a traced program as a message of ONNX (``ModelProto``). The
    same content makes the same message. Batch norm is folded into the convolution before it where the exporter does so.

    Args:
        how: further arguments of ``torch.onnx.export``.

    Raises:
        ExportFailed: something in it cannot be traced, or has no form in ONNX.
    """
    try:
        with _quiet(), torch.no_grad():
            made = torch.onnx.export(module, inputs, dynamo=True, verbose=False, **how)
        assert made is not None
        model = made.model_proto
    except Exception as error:  # whatever the module's code and the exporter raise
        raise ExportFailed(f"this network cannot be written as ONNX: {_first_line(error)}") from error
    _tidy(model)
    return model


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
    """Take out of an ONNX model what only its exporter needs: names of source files, different on every machine, among it."""
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output, *graph.value_info):
        del part.metadata_props[:]
        if part.HasField("doc_string"):
            part.ClearField("doc_string")


def _name_batch(graph: Any) -> None:
    """Name the open size."""
    size = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if size and dim.dim_param == size:
                dim.dim_param = "batch"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}".rstrip(": ")


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
