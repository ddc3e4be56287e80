"""A PyTorch module written as an ONNX file, by the exporter that is built on ``torch.export``. Takes seconds."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from archsearch.jobs import InputError

#: Bytes of weights from which on they lie in a file beside: a message of protobuf ends at 2 GiB.
BESIDE = 1 << 30


def export(module: Any, inputs: tuple[NDArray[Any], ...], path: Path) -> None:
    """Write a module in evaluation mode for inputs of these shapes. The same content gives the same file.

    Batch norm is folded into the convolution before it where the exporter's optimiser does so.

    Raises:
        InputError: its code cannot be exported; the text has the reason.
    """
    import onnx
    import torch

    tensors = tuple(torch.from_numpy(each) for each in inputs)
    log, level = logging.getLogger("torch.onnx"), logging.getLogger("torch.onnx").level
    log.setLevel(logging.ERROR)  # it names every operation of torchvision that is not there
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            made = torch.onnx.export(module, tensors, dynamo=True, optimize=True, verbose=False)
        assert made is not None
        model = made.model_proto
    except Exception as error:  # whatever a user's code and the exporter raise
        text = str(error).strip().splitlines() or [""]
        raise InputError(f"it cannot be written as ONNX: {type(error).__name__}: {text[0][:300]}") from error
    finally:
        log.setLevel(level)
    _strip(model)
    weights = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    beside = {"save_as_external_data": True, "location": f"{path.name}.data"} if weights > BESIDE else {}
    onnx.save_model(model, path, **beside)


def _strip(model: Any) -> None:
    """Take out where in the code an operation came from: no part of a model, and different on every machine."""
    for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
