"""A PyTorch module as an ONNX file to be measured. Takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from archsearch.jobs import InputError

#: Bytes of weights from which on they lie in a file beside: a message of protobuf ends at 2 GiB.
BESIDE = 1 << 30


def export(module: Any, inputs: tuple[NDArray[Any], ...], path: Path) -> None:
    """Write a module in evaluation mode for inputs of these shapes. The same content gives the same file.

    Raises:
        InputError: its code cannot be exported; the text has the reason.
    """
    import onnx
    import torch

    from archsearch.arch.export import ExportFailed, onnx_model

    try:
        model = onnx_model(module, tuple(torch.from_numpy(each) for each in inputs))
    except ExportFailed as error:
        raise InputError(str(error)) from error
    weights = sum(tensor.numel() * tensor.element_size() for tensor in module.state_dict().values())
    beside = {"save_as_external_data": True, "location": f"{path.name}.data"} if weights > BESIDE else {}
    onnx.save_model(model, path, **beside)
