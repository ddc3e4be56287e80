"""A PyTorch module taken apart into its operations, and put together again with a backend chosen for each.

``torch.fx`` follows the module's code. A module without modules inside is one operation, as is each function of tensors between
them. Putting together changes the graph only where the choice asks for it: a map is laid out anew where two neighbours want it
differently, and an operation is replaced where its backend has a kernel of its own; everything else is the module's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from archsearch.arch.modules.depthwise import DepthwiseConv2d
from archsearch.jobs import InputError
from archsearch.profile.graph import Graph, Operation
from archsearch.profile.models import Loaded
from archsearch.profile.runtimes.face import Unsupported

#: Functions and methods of tensors -> symbolic names; one that is not listed has its own name, a module its class's.
NAMES = {
    "add": "Add",
    "iadd": "Add",
    "add_": "Add",
    "sub": "Sub",
    "mul": "Mul",
    "imul": "Mul",
    "cat": "Concat",
    "concat": "Concat",
    "pad": "Pad",
    "relu": "ReLU",
    "relu_": "ReLU",
    "linear": "Linear",
    "matmul": "MatMul",
    "softmax": "Softmax",
    "mean": "Mean",
    "max_pool2d": "Pool2D",
    "avg_pool2d": "Pool2D",
    "adaptive_avg_pool2d": "Pool2D",
    **dict.fromkeys(("flatten", "view", "reshape", "getitem", "permute", "transpose", "contiguous", "squeeze"), "Reshape"),
}
MODULES = {
    **dict.fromkeys(("MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d", "AdaptiveMaxPool2d", "GlobalPool"), "Pool2D"),
    **dict.fromkeys(("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"), "BatchNorm"),
    "Flatten": "Reshape",
}

#: Names of operations whose code does not ask whether oneDNN is on: native means nothing for them but contiguous maps.
INDIFFERENT = frozenset({"Add", "Sub", "Mul", "Concat", "Pad", "ReLU", "Reshape", "Pool2D", "BatchNorm"})

#: Modules that do nothing to their input once a model is trained.
NOTHING = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)


@dataclass(frozen=True)
class Traced:
    """A module followed by ``torch.fx``: ``places`` are the nodes of its code that are the graph's operations, in order."""

    code: fx.GraphModule
    places: tuple[fx.Node, ...]
    graph: Graph


def trace(model: Loaded) -> Traced:
    """Follow a module's code.

    Raises:
        InputError: its code decides by the values of tensors, which cannot be followed, or it fails.
    """
    module = model.module
    if next(module.children(), None) is None:
        module = nn.Sequential(module)  # an operation by itself; its inside is not followed
    try:
        tracer = _Tracer()
        code = fx.GraphModule(module, tracer.trace(module))
        outputs = _Recorder(code)
        with torch.inference_mode():
            outputs.run(*(torch.from_numpy(each) for each in model.inputs))
    except Exception as error:  # whatever a user's code raises
        text = str(error).strip().splitlines() or [""]
        raise InputError(
            f"the model's operations cannot be listed, since its code cannot be followed ({type(error).__name__}: "
            f"{text[0]}); it can be measured as a whole, without an assignment"
        ) from error
    return _operations(code, outputs.seen)


def assign(traced: Traced, assignment: Sequence[str]) -> fx.GraphModule:
    """The module with these backends for its operations, one for each.

    Raises:
        Unsupported: a backend has no kernel for an operation of this kind.
    """
    backends = dict(zip(traced.places, assignment, strict=True))
    index = {place: i for i, place in enumerate(traced.places)}
    root: dict[str, Any] = {}
    new = fx.Graph()
    copied: dict[fx.Node, fx.Node] = {}
    layouts: dict[fx.Node, bool] = {}  # whether a node's output is channels-last
    converted: dict[tuple[fx.Node, bool], fx.Node] = {}
    for node in traced.code.graph.nodes:
        backend = backends.get(node)
        wanted = backend == "channels_last"

        def given(source: fx.Node, plain: bool = backend is None or node.op == "output", wanted: bool = wanted) -> fx.Node:
            if plain or source.op == "get_attr" or layouts[source] == wanted:
                return copied[source]
            if (source, wanted) not in converted:
                function = _channels_last if wanted else _contiguous
                converted[source, wanted] = new.call_function(function, (copied[source],))
            return converted[source, wanted]

        if node.op in ("call_module", "get_attr"):
            root[node.target] = _part(traced.code, node.target)
        layouts[node] = wanted if backend is not None else any(layouts[each] for each in node.all_input_nodes)
        made = new.node_copy(node, given)
        copied[node] = made
        if backend is not None:
            operation = traced.graph.nodes[index[node]]
            if why := _place(made, operation, backend, root):
                raise Unsupported(index[node], operation, backend, why)
    return fx.GraphModule(root, new).eval()


# ---------------------------------------------------------------------------------------------------------------- following
class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return next(m.children(), None) is None or super().is_leaf_module(m, module_qualified_name)


class _Recorder(fx.Interpreter):
    """Runs the code once and notes, for each node, the bytes of its tensors (None: it is none)."""

    def __init__(self, code: fx.GraphModule) -> None:
        super().__init__(code)
        self.seen: dict[fx.Node, int | None] = {}

    def run_node(self, n: fx.Node) -> Any:
        found = super().run_node(n)
        tensors = list(_tensors(found))
        self.seen[n] = sum(each.numel() * each.element_size() for each in tensors) if tensors else None
        return found


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for each in value:
            yield from _tensors(each)


def _operations(code: fx.GraphModule, seen: dict[fx.Node, int | None]) -> Traced:
    places: list[fx.Node] = []
    found: list[Operation] = []
    sources: dict[fx.Node, tuple[int, ...]] = {}  # operations whose output a node hands on
    for node in code.graph.nodes:
        reads = tuple(dict.fromkeys(index for each in node.all_input_nodes for index in sources[each]))
        size = seen[node]
        if size is None or node.op in ("placeholder", "get_attr", "output"):
            sources[node] = ()
            continue
        part = _part(code, node.target) if node.op == "call_module" else None
        if isinstance(part, NOTHING):
            sources[node] = reads
            continue
        weights = sum(each.numel() * each.element_size() for each in part.parameters()) if part is not None else 0
        inputs = sum(seen[each] or 0 for each in node.all_input_nodes)
        sources[node] = (len(found),)
        places.append(node)
        found.append(Operation(_name(node, part), size + inputs + weights, reads))
    return Traced(code, tuple(places), Graph(tuple(found)))


def _name(node: fx.Node, part: nn.Module | None) -> str:
    if part is None:
        called = node.target if isinstance(node.target, str) else node.target.__name__
        if called in ("conv1d", "conv2d", "conv3d"):
            return f"{called[:4].title()}{called[4:].upper()}"
        return NAMES.get(called, called)
    if isinstance(part, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        kind = "" if part.groups == 1 else "Depthwise" if part.groups == part.in_channels else "Grouped"
        dilated = "Dilated" if not kind and max(part.dilation) > 1 else ""
        return f"{kind or dilated}Conv{len(part.kernel_size)}D"
    called = next((each.__name__ for each in type(part).__mro__ if each.__name__ in MODULES), type(part).__name__)
    return MODULES.get(called, called)


def _part(code: nn.Module, target: Any) -> Any:
    found: Any = code
    for name in str(target).split("."):
        found = getattr(found, name)
    return found


# ---------------------------------------------------------------------------------------------------------- putting together
def _channels_last(value: Any) -> Any:
    return value.contiguous(memory_format=torch.channels_last) if isinstance(value, Tensor) and value.dim() == 4 else value


def _contiguous(value: Any) -> Any:
    return value.contiguous() if isinstance(value, Tensor) and value.dim() == 4 else value


def _place(node: fx.Node, operation: Operation, backend: str, root: dict[str, Any]) -> str:
    """Give one operation of the new graph its backend's kernel, where that has one of its own; or say why that cannot be."""
    part = root[str(node.target)] if node.op == "call_module" else None
    if backend in ("onednn", "channels_last"):
        if part is not None and _plain(part):
            _put(node, root, _OneDnn(part, torch.channels_last if backend == "channels_last" else torch.contiguous_format))
    elif backend == "native" and operation.name not in INDIFFERENT:
        called: Any = node.target
        _put(node, root, _Native(part or (getattr(Tensor, called) if node.op == "call_method" else called)))
    elif backend == "nnpack":
        if part is None or not _plain(part):
            return "it is not a plain Conv2d module with zeros as padding"
        if any(pad >= side for pad, side in zip(part.padding, part.kernel_size, strict=True)):
            return f"NNPACK pads by less than the kernel's size, not {part.padding} for {part.kernel_size}"
        _put(node, root, _Nnpack(part))
    return ""


def _put(node: fx.Node, root: dict[str, Any], module: nn.Module) -> None:
    """Let a node call this module. Places that share one of the model's have each their own name."""
    old = str(node.target)
    node.op, node.target = "call_module", f"placed_{len(root)}_{node.name}"
    root[node.target] = module
    if not any(each.op == "call_module" and each.target == old for each in node.graph.nodes):
        root.pop(old, None)


def _plain(part: nn.Module) -> bool:
    """Whether a module is a convolution that does no more than its kernel."""
    own = isinstance(part, nn.Conv2d) and type(part).forward in (nn.Conv2d.forward, DepthwiseConv2d.forward)
    return own and part.padding_mode == "zeros" and not isinstance(part.padding, str)


class _OneDnn(nn.Module):
    """A convolution by oneDNN whatever its size, with its weights in the layout of its maps."""

    def __init__(self, inner: nn.Conv2d, layout: torch.memory_format) -> None:
        super().__init__()
        self.weight = nn.Parameter(inner.weight.detach().contiguous(memory_format=layout), requires_grad=False)
        self.bias = inner.bias
        self.shape: tuple[Any, ...] = (inner.padding, inner.stride, inner.dilation, inner.groups)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.mkldnn_convolution(x, self.weight, self.bias, *self.shape)
        return found


class _Native(nn.Module):
    """An operation (a module, a function or a tensor's method) with oneDNN and NNPACK switched off."""

    def __init__(self, inner: Callable[..., Any]) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, *args: Any, **options: Any) -> Any:
        onednn, nnpack = torch._C._get_mkldnn_enabled(), torch._C._get_nnpack_enabled()
        torch._C._set_mkldnn_enabled(False)
        torch._C._set_nnpack_enabled(False)
        try:
            return self.inner(*args, **options)
        finally:
            torch._C._set_mkldnn_enabled(onednn)
            torch._C._set_nnpack_enabled(nnpack)


class _Nnpack(nn.Module):
    def __init__(self, inner: nn.Conv2d) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        inner = self.inner
        padding, stride = list(inner.padding), list(inner.stride)
        return torch._nnpack_spatial_convolution(x, inner.weight, inner.bias, padding, stride)  # type: ignore[arg-type]
