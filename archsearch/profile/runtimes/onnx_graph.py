"""An ONNX model taken apart into its operations, and cut into models of some of them.

A node is an operation, unless it makes a constant (``Constant``, or one that reads nothing but constants): that is copied into
every cut that reads it. The order is that of the file, which ONNX wants sorted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import onnx.external_data_helper
import onnx.helper
import onnx.inliner
import onnx.shape_inference
from numpy.typing import NDArray

from archsearch.jobs import InputError
from archsearch.profile.graph import Graph, Operation

#: Kinds of nodes -> symbolic names, the same as PyTorch's operations have; one that is not listed has its own name.
NAMES = {
    "Gemm": "Linear",
    "Relu": "ReLU",
    "Sum": "Add",
    "BatchNormalization": "BatchNorm",
    "ReduceMean": "Mean",
    **dict.fromkeys(("MaxPool", "AveragePool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"), "Pool2D"),
    **dict.fromkeys(("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze"), "Reshape"),
}

#: Nodes that read constants and make something else each time.
RANDOM = ("Random", "Bernoulli", "Multinomial")


@dataclass(frozen=True)
class Parts:
    """A model taken apart. ``operations`` are the graph's nodes in order; the others map the names of values: ``weights`` to
    tensors (external data is not read yet), ``constants`` to the nodes that make them, ``types`` to what is known of them."""

    model: Any
    folder: Path
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operations: tuple[Any, ...]
    weights: dict[str, Any]
    constants: dict[str, Any]
    types: dict[str, Any]
    graph: Graph


@dataclass(frozen=True)
class Cut:
    """Some operations as a model of their own, which holds its weights."""

    model: bytes
    reads: tuple[str, ...]
    makes: tuple[str, ...]


def take_apart(path: Path, inputs: Sequence[NDArray[Any]]) -> Parts:
    """The operations of an ONNX file for inputs of these shapes.

    Raises:
        InputError: the size of a value does not follow from those of the inputs, or a value is no tensor.
    """
    try:
        model = onnx.load(path, load_external_data=False)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        weights = {each.name: each for each in model.graph.initializer}
        given = [value for value in model.graph.input if value.name not in weights]
        for value, array in zip(given, inputs, strict=True):
            shape = value.type.tensor_type.shape
            del shape.dim[:]
            for size in array.shape:
                shape.dim.add(dim_value=size)
        model = onnx.shape_inference.infer_shapes(model, data_prop=True)
    except Exception as error:  # onnx's own errors have no common class
        raise _whole(f"{type(error).__name__}: {str(error).splitlines()[0][:200]}") from error
    graph = model.graph
    if graph.sparse_initializer:
        raise _whole("it has sparse weights")
    weights = {each.name: each for each in graph.initializer}
    types = {each.name: each for each in (*graph.value_info, *graph.output, *graph.input)}
    constants: dict[str, Any] = {}
    makers: dict[str, int] = {}
    operations: list[Any] = []
    found: list[Operation] = []
    for node in graph.node:
        reads = list(reads_of(node))
        if _constant(node, reads, weights, constants):
            constants |= dict.fromkeys(filter(None, node.output), node)
            continue
        sources = tuple(dict.fromkeys(makers[name] for name in reads if name in makers))
        size = sum(_bytes(name, weights, constants, types) for name in (*reads, *filter(None, node.output)))
        makers |= dict.fromkeys(filter(None, node.output), len(found))
        operations.append(node)
        found.append(Operation(_name(node, weights, types), size, sources))
    inputs_ = tuple(each.name for each in graph.input if each.name not in weights)
    outputs = tuple(each.name for each in graph.output)
    if fixed := [name for name in outputs if name not in makers and name not in inputs_]:
        raise _whole(f"no operation makes its output {fixed[0]!r}")
    if not found:
        raise _whole("all that it has are constants")
    folder = path.resolve().parent
    return Parts(model, folder, inputs_, outputs, tuple(operations), weights, constants, types, Graph(tuple(found)))


def cut(parts: Parts, nodes: Sequence[int]) -> Cut:
    """Some operations of a model, in this order, as a model by itself.

    Raises:
        InputError: it is larger than a message of protobuf may be.
    """
    inside = set(nodes)
    chosen = [parts.operations[index] for index in nodes]
    made = list(dict.fromkeys(name for node in chosen for name in node.output if name))
    wanted = {name for node in chosen for name in reads_of(node)}
    fixed = list(_constants_of(wanted, parts.constants))
    wanted |= {name for node in fixed for name in reads_of(node)}
    read_elsewhere = {
        name for i, node in enumerate(parts.operations) if i not in inside for name in reads_of(node)
    } | set(parts.outputs)  # fmt: skip
    makes = tuple(name for name in made if name in read_elsewhere)
    reads = tuple(sorted(wanted - set(made) - set(parts.weights) - set(parts.constants)))
    graph = onnx.helper.make_graph(
        [*fixed, *chosen],
        "segment",
        [parts.types[name] for name in reads],
        [parts.types[name] for name in makes],
        [_with_data(parts.weights[name], parts.folder) for name in sorted(wanted & set(parts.weights))],
    )
    whole = parts.model
    model = onnx.helper.make_model(graph, opset_imports=whole.opset_import, ir_version=whole.ir_version)
    try:
        return Cut(model.SerializeToString(), reads, makes)
    except Exception as error:  # of protobuf, whose classes differ by version
        raise InputError(f"{len(nodes)} operations as a model by themselves: {type(error).__name__}: {error}") from error


def reads_of(node: Any) -> Iterator[str]:
    """The names of what a node reads, by the graphs inside it too, each once."""
    yield from dict.fromkeys((*filter(None, node.input), *(name for graph in _inner(node) for name in _captured(graph))))


# ---------------------------------------------------------------------------------------------------------------- taking apart
def _inner(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _captured(graph: Any) -> Iterator[str]:
    """What a graph inside a node reads of the graph around it."""
    own = {each.name for each in (*graph.input, *graph.initializer)}
    for node in graph.node:
        yield from (name for name in reads_of(node) if name not in own)
        own.update(node.output)
    yield from (each.name for each in graph.output if each.name not in own)


def _constant(node: Any, reads: list[str], weights: dict[str, Any], constants: dict[str, Any]) -> bool:
    if node.op_type == "Constant":
        return True
    steady = bool(reads) and not node.op_type.startswith(RANDOM)
    return steady and all(name in weights or name in constants for name in reads)


def _bytes(name: str, weights: dict[str, Any], constants: dict[str, Any], types: dict[str, Any]) -> int:
    if name in weights:
        return math.prod(map(int, weights[name].dims)) * _width(weights[name].data_type)
    kind = types[name].type.tensor_type if name in types and types[name].type.HasField("tensor_type") else None
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim] if kind is not None else [None]
    if kind is None or not kind.HasField("shape") or None in sizes:
        if name in constants:
            return 0  # what a constant takes is no reason to refuse a model
        raise _whole(f"the size of its value {name!r} does not follow from those of its inputs, or it is no tensor")
    count: int = math.prod(size or 0 for size in sizes)
    return count * _width(kind.elem_type)


def _width(kind: int) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize)


def _name(node: Any, weights: dict[str, Any], types: dict[str, Any]) -> str:
    if node.op_type != "Conv":
        return NAMES.get(node.op_type, str(node.op_type))
    kernel = node.input[1]
    shape = list(weights[kernel].dims) if kernel in weights else _shape(types[kernel])
    attributes = {each.name: each for each in node.attribute}
    groups = attributes["group"].i if "group" in attributes else 1
    kind = "" if groups == 1 else "Depthwise" if shape[1] == 1 else "Grouped"
    dilated = "Dilated" if not kind and "dilations" in attributes and max(attributes["dilations"].ints) > 1 else ""
    return f"{kind or dilated}Conv{len(shape) - 2}D"


def _shape(value: Any) -> list[int]:
    return [dim.dim_value for dim in value.type.tensor_type.shape.dim]


def _whole(why: str) -> InputError:
    return InputError(f"the model's operations cannot be listed: {why}; it can be measured as a whole, without an assignment")


# -------------------------------------------------------------------------------------------------------------------- cutting
def _constants_of(names: Iterable[str], constants: dict[str, Any]) -> Iterator[Any]:
    """The nodes that make these constants, and those that these read, in an order in which they can run; each once."""
    done: set[str] = set()

    def of(name: str) -> Iterator[Any]:
        node = constants.get(name)
        if node is None or name in done:
            return
        done.update(node.output)
        for read in reads_of(node):
            yield from of(read)
        yield node

    for name in sorted(names):
        yield from of(name)


def _with_data(tensor: Any, folder: Path) -> Any:
    """A weight with its data in it. The folder was checked to hold them (see ``check_onnx``), and onnx checks it once more."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return tensor
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    onnx.external_data_helper.load_external_data_for_tensor(copy, str(folder))
    copy.data_location = onnx.TensorProto.DEFAULT
    del copy.external_data[:]
    return copy
