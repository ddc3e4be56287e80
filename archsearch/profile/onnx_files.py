"""Checking an ONNX file before anything opens it: that it is one, and that the files it names lie in its own folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

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
        raise InputError(f"{path}: reading ONNX needs onnx, not installed here: pip install 'archsearch[onnx]'") from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors have no common class of their own
        raise InputError(f"{path}: this is not an ONNX model: {error}") from error
    if not model.graph.node:
        raise InputError(f"{path}: this ONNX model has no operations")
    folder = path.resolve().parent
    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
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


def _tensors(graph: Any) -> Iterator[Any]:
    """Every tensor that a graph holds, those of its nodes' attributes and inner graphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
