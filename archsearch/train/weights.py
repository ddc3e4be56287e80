"""Weights as safetensors files: tensors by name and nothing that could run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from archsearch.jobs import ArtifactRef, Context, StoreDamaged


def save_weights(state: Mapping[str, Tensor]) -> bytes:
    """The bytes of a safetensors file with these tensors."""
    return safetensors.torch.save({name: tensor.detach().cpu().contiguous() for name, tensor in state.items()})


def load_weights(payload: bytes) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU.

    Raises:
        StoreDamaged: the bytes are no safetensors file.
    """
    try:
        return safetensors.torch.load(payload)
    except SafetensorError as error:
        raise StoreDamaged(f"stored weights are no safetensors file ({error}); restore it or train the point again") from error


def fetch_weights(ref: Mapping[str, Any], context: Context) -> dict[str, Tensor]:
    """The tensors of an artifact, given as the JSON of its ArtifactRef."""
    return load_weights(context.load(ArtifactRef.from_json(ref)))
