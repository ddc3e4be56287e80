"""PyTorch modules as circle files, by Samsung ONE's exporter TICO."""

from __future__ import annotations

import logging
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from archsearch.jobs import InputError
from archsearch.profile.models import Loaded
from archsearch.profile.runtimes.torch_graph import trace


def circle(model: Loaded) -> bytes:
    """A module as a circle file.

    Raises:
        InputError: the module's code cannot be followed or exported; the text names what is in the way.
    """
    import tico

    code = trace(model).code
    _fold_norms(code)
    for node in code.graph.nodes:
        if node.op == "call_function" and node.target in (F.pad, torch._C._nn.pad):
            node.target = _pad
    code.recompile()
    heard = _Heard()
    log = logging.getLogger("tico")
    log.addHandler(heard)
    try:
        tensors = tuple(torch.from_numpy(each) for each in model.inputs)
        return bytes(tico.convert(code.eval(), tensors, strict=False).circle_binary)
    except Exception as error:  # whatever PyTorch's exporter and TICO raise
        text = [*heard.said, *(str(error).strip().splitlines() or [""])[:1]]
        raise InputError(f"the model cannot be exported for onert ({type(error).__name__}: {'; '.join(text)[:300]})") from error
    finally:
        log.removeHandler(heard)


def _fold_norms(code: fx.GraphModule) -> None:
    """Batch norms that follow a convolution, and nothing else does, become part of its weights.

    TICO would make a product and a sum of each, between two turns of the map's layout.
    """
    for node in list(code.graph.nodes):
        source = node.args[0] if node.op == "call_module" and node.args else None
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        norm, conv = code.get_submodule(str(node.target)), code.get_submodule(str(source.target))
        if isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and isinstance(conv, nn.Conv2d):
            name = f"folded_{node.name}"
            code.add_submodule(name, fuse_conv_bn_eval(conv, norm))
            node.target, node.args = name, source.args
            code.graph.erase_node(source)


def _pad(x: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """``F.pad``; what it takes away is cut off first, since onert only adds."""
    pad = [int(each) for each in pad]
    for place in range(0, len(pad), 2):
        axis = x.dim() - 1 - place // 2
        before, after = (max(0, -each) for each in pad[place : place + 2])
        if before or after:
            x = x.narrow(axis, before, x.shape[axis] - before - after)
    more = [max(0, each) for each in pad]
    return F.pad(x, more, mode, value) if any(more) else x


class _Heard(logging.Handler):
    """Keeps what TICO says of the operations that it cannot export."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(" ".join(record.getMessage().split("(trace)")[0].split()))
