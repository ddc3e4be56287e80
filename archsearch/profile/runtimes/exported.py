"""Models in another library's form, kept on disk by their content's hash: exporting takes seconds, and is done once."""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx

from archsearch.jobs import InputError
from archsearch.places import cache_folder
from archsearch.profile.environment import installed
from archsearch.profile.runtimes.face import Arrays

#: Files that are kept; those that were used last.
MOST = 256


def content_hash(code: fx.GraphModule, inputs: Arrays, *about: str) -> str:
    """Stands for a module that ``torch.fx`` has followed: its code, its weights, the shapes and types of its inputs.

    Modules that were not followed are in it with their settings, those not of PyTorch with the file that defines them.
    ``about`` is what else decides what is exported.
    """
    digest = hashlib.sha256()

    def add(*values: Any) -> None:
        digest.update(repr(values).encode() + b"\n")

    add(*about, installed("torch"), code.code, [(each.shape, str(each.dtype)) for each in inputs])
    sources = set()
    for name, module in code.named_modules():
        kind = type(module)
        settings = sorted((key, value) for key, value in vars(module).items() if _plain(value))
        add(name, kind.__module__, kind.__qualname__, settings)
        sources.add(kind.__module__)
        for key, value in vars(module).items():
            if isinstance(value, Tensor):
                add(key)
                digest.update(_bytes(value))
    sources |= {str(getattr(node.target, "__module__", "")) for node in code.graph.nodes if node.op == "call_function"}
    for source in sorted(sources):
        if source.partition(".")[0] not in ("torch", "_operator", "builtins", ""):
            add(source)
            digest.update(_source(source))
    for name, tensor in chain(code.named_parameters(remove_duplicate=False), code.named_buffers(remove_duplicate=False)):
        add(name, str(tensor.dtype), tuple(tensor.shape))
        digest.update(_bytes(tensor))
    return digest.hexdigest()[:32]


def kept(key: str, suffix: str, make: Callable[[], bytes]) -> Path:
    """The file of this key, made if there is none or what is there was damaged.

    Raises:
        InputError: it cannot be written.
    """
    folder = cache_folder() / "exported"
    for path in sorted(folder.glob(f"{key}-*{suffix}")):
        with suppress(OSError):  # another process may be thinning the folder out
            if path.name == f"{key}-{_sum(path.read_bytes())}{suffix}":
                os.utime(path)
                return path
    data = make()
    path = folder / f"{key}-{_sum(data)}{suffix}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as part:
            part.write(data)
        os.replace(part.name, path)
    except OSError as error:
        raise InputError(
            f"exported models are kept in {folder}, which cannot be written ({error.strerror}): set ARCHSEARCH_CACHE to a "
            "folder that can"
        ) from error
    _thin_out(folder)
    return path


def _thin_out(folder: Path) -> None:
    found: list[tuple[float, Path]] = []
    for path in folder.iterdir():
        with suppress(OSError):
            found.append((path.stat().st_mtime, path))
    for _, path in sorted(found, reverse=True)[MOST:]:
        path.unlink(missing_ok=True)


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _source(module: str) -> bytes:
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).read_bytes() if file else b""
