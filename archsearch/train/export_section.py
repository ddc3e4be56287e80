"""What a trained network is written as for other programs; loads no torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from archsearch.config import Section


class ExportSection(Section):
    """Files of a trained network, each of which is run and compared with PyTorch before it is handed over."""

    formats: tuple[Literal["onnx", "torch"], ...] = Field(
        ("onnx", "torch"), min_length=1, description="files to write: onnx, torch (a package of torch.export)"
    )
    input: Literal["pixels", "normalised"] = Field(
        "pixels",
        description="what files take: pixels, images (N, H, W, C) uint8, with the normalisation inside; or normalised, images "
        "(N, C, H, W) float32, normalised as archsearch.data.normalise says",
    )
    opset: int = Field(
        18, ge=18, le=23, description="onnx: version of its operators; the exporter writes 18, others are converted from it"
    )
    tolerance: float = Field(
        1e-4, gt=0, le=0.01, description="largest difference from PyTorch's outputs, as a share of the largest one of a batch"
    )
