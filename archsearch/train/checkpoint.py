"""Mid-job checkpoints: tensors as safetensors, everything else as JSON in their header. Nothing that is loaded can run code."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from archsearch.jobs import JSON

#: Changes when a checkpoint of before can no longer be continued.
FORMAT = 3


def fingerprint(work: str, spec: JSON, seed: int, data_hash: str) -> str:
    """What a checkpoint must have been made of to be continued: same work, specification, seed, data and format."""
    text = json.dumps([FORMAT, torch.__version__.split("+")[0], work, spec, seed, data_hash], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def pack(tensors: Mapping[str, Tensor], meta: Mapping[str, JSON], owner: str) -> bytes:
    """The bytes of a checkpoint; ``owner`` is its fingerprint."""
    plain = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    text = json.dumps(meta)
    return safetensors.torch.save(plain, {"meta": text, "sha256": _digest(plain, owner, text)})


def unpack(payload: bytes | None, owner: str) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Tensors and meta of a checkpoint, or None if there is none, it is damaged, or it belongs to something else.

    The job then starts over: a checkpoint saves time and is never needed.
    """
    if payload is None:
        return None
    try:
        (size,) = struct.unpack_from("<Q", payload)
        header = json.loads(payload[8 : 8 + size])["__metadata__"]
        tensors = safetensors.torch.load(payload)
        if header["sha256"] != _digest(tensors, owner, header["meta"]):
            return None
        meta: dict[str, Any] = json.loads(header["meta"])
        return tensors, meta
    except (SafetensorError, ValueError, KeyError, TypeError, struct.error):
        return None


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """An optimizer's state, flattened: ``prefix + "3.momentum_buffer"`` belongs to the fourth parameter."""
    state = optimizer.state_dict()["state"]
    return {f"{prefix}{i}.{key}": value for i, slots in state.items() for key, value in slots.items() if value is not None}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """Put ``optimizer_tensors`` back into an optimizer made with the same parameters and settings."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(prefix):
            index, _, key = name.removeprefix(prefix).partition(".")
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start with ``prefix``, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _digest(tensors: Mapping[str, Tensor], owner: str, text: str) -> str:
    digest = hashlib.sha256(f"{owner}\n{text}\n".encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
