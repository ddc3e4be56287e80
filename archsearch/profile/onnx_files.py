"""ONNX files as models: checked before anything opens them, given inputs of the shapes they declare, run as a reference."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsearch.jobs import InputError


def check_onnx(path: Path) -> None:
    """See that a file is an ONNX model whose external data stays inside its folder.

    Raises:
        InputError: there is no such file, it is not a model, it names a file elsewhere, or ``onnx`` is not installed.
    """
    if not path.is_file():
        raise InputError(f"{path}: there is no such file")
    try:
        import onnx
    except ImportError as error:
        raise InputError(f"{path}: reading ONNX needs onnx, not installed here: pip install 'archsearch[ort]'") from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors have no common class of their own
        raise InputError(f"{path}: this is not an ONNX model: {error}") from error
    if not model.graph.node:
        raise InputError(f"{path}: this ONNX model has no operations")
    folder = path.resolve().parent
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location = _location(tensor)
            place = (folder / location).resolve()  # follows links
            if not location or PurePosixPath(location).is_absolute() or folder not in place.parents:
                raise InputError(
                    f"{path}: the tensor {tensor.name!r} lies in {location!r}, outside the model's folder; refused"
                )
            if not place.is_file():
                raise InputError(f"{path}: the tensor {tensor.name!r} lies in {location!r}, which is missing")
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:
        raise InputError(f"{path}: this is not a valid ONNX model: {error}") from error


def files_of(path: Path) -> list[Path]:
    """The files that an ONNX model lies in: itself, and those with its external data, each once and in a fixed order."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    external = {_location(each) for each in _tensors(model) if each.data_location == onnx.TensorProto.EXTERNAL}
    return [path, *(path.resolve().parent / location for location in sorted(external))]


def inputs_of(path: Path, batch: int) -> tuple[NDArray[Any], ...]:
    """Inputs of the shapes and types that an ONNX model declares, the same at every call: normally distributed numbers, whole
    numbers 0 and 1, truth values. The first axis, where it has no fixed size, gets ``batch``, and so do others of its name.

    Raises:
        InputError: another size is open, or an input is no tensor of numbers.
    """
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    weights = {each.name for each in graph.initializer}
    draw = np.random.default_rng(0)
    found: list[NDArray[Any]] = []
    for value in graph.input:
        if value.name in weights:
            continue  # a default that may be overridden, and is not
        kind = value.type.tensor_type
        if not kind.HasField("shape"):
            raise InputError(f"{path}: the input {value.name!r} is no tensor of a known shape: its inputs cannot be made")
        try:
            dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type))
        except KeyError:
            dtype = np.dtype(object)
        shape = _sizes(path, value.name, kind.shape.dim, batch)
        if dtype.kind == "f":
            found.append(draw.standard_normal(shape).astype(dtype))
        elif dtype.kind in "iub":
            found.append(draw.integers(0, 2, shape).astype(dtype))
        else:
            raise InputError(f"{path}: the input {value.name!r} holds no numbers: its inputs cannot be made")
    return tuple(found)


def reference_outputs(path: Path, inputs: tuple[NDArray[Any], ...]) -> tuple[NDArray[Any], ...]:
    """What an ONNX model makes of these inputs: by onnxruntime as a whole, with none of its optimisations.

    Raises:
        InputError: onnxruntime cannot run it.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors: they are raised
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        return tuple(map(np.asarray, session.run(None, dict(zip(names, inputs, strict=True)))))
    except Exception as error:  # its errors have no common class of their own
        raise InputError(f"{path}: onnxruntime cannot run this model: {str(error).splitlines()[0][:300]}") from error


def _sizes(path: Path, name: str, dims: Any, batch: int) -> list[int]:
    """An input's shape as numbers."""
    first = dims[0].dim_param if dims and not dims[0].dim_value else ""
    found: list[int] = []
    for axis, dim in enumerate(dims):
        if dim.dim_value > 0:
            found.append(dim.dim_value)
        elif axis == 0 or (first and dim.dim_param == first):
            found.append(batch)
        else:
            said = ", ".join(str(each.dim_value or each.dim_param or "?") for each in dims)
            raise InputError(
                f"{path}: the input {name!r} has the shape ({said}): only its first size may be open, and the one at {axis} is "
                f"too; fix it: python -m onnxruntime.tools.make_dynamic_shape_fixed --dim_param {dim.dim_param or 'NAME'} "
                f"--dim_value SIZE {path.name} fixed.onnx"
            )
    return found


def _location(tensor: Any) -> str:
    return next((str(entry.value) for entry in tensor.external_data if entry.key == "location"), "")


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor that a model holds, those of its nodes' attributes, inner graphs and functions too."""
    yield from _of_graph(model.graph)
    for function in model.functions:
        yield from _of_nodes(function.node)


def _of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _of_nodes(graph.node)


def _of_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for inner in (attribute.g, *attribute.graphs):
                yield from _of_graph(inner)
