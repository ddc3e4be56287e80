"""PyTorch modules as circle files, the form of Samsung ONE, made by its exporter TICO; and the operations of such a file."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from circle_schema.v0_10 import circle as schema
from torch import Tensor, fx, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from archsearch.jobs import InputError
from archsearch.profile.environment import installed
from archsearch.profile.graph import Graph, Operation
from archsearch.profile.models import Loaded
from archsearch.profile.runtimes.exported import content_hash, kept
from archsearch.profile.runtimes.torch_graph import trace

#: To be raised with whatever changes what is exported.
FORM = "circle 1"

#: onert's names of operations, those of its OP_BACKEND_<name>, and what circle calls them (its loader decides).
KINDS = {
    "AddN": "ADD_N",
    "ArgMinMax": "ARG_MAX ARG_MIN",
    "BatchMatMul": "BATCH_MATMUL",
    "BatchToSpaceND": "BATCH_TO_SPACE_ND",
    "BinaryArithmetic": "ADD SUB MUL DIV",
    "BroadcastTo": "BROADCAST_TO",
    "Comparison": "EQUAL NOT_EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL",
    "Concat": "CONCATENATION",
    "Conv2D": "CONV_2D",
    "DepthToSpace": "DEPTH_TO_SPACE",
    "DepthwiseConv2D": "DEPTHWISE_CONV_2D",
    "ElementwiseActivation": "ELU GELU LEAKY_RELU LOGISTIC RELU RELU6 RELU_N1_TO_1 TANH",
    "ElementwiseBinary": "FLOOR_DIV FLOOR_MOD LOGICAL_AND LOGICAL_OR MAXIMUM MINIMUM",
    "ElementwiseUnary": "ABS CAST COS EXP FLOOR LOG LOGICAL_NOT NEG ROUND RSQRT SIN SQRT SQUARE ZEROS_LIKE DEQUANTIZE QUANTIZE",
    "ExpandDims": "EXPAND_DIMS",
    "Fill": "FILL",
    "FullyConnected": "FULLY_CONNECTED",
    "Gather": "GATHER",
    "InstanceNorm": "INSTANCE_NORM",
    "L2Normalization": "L2_NORMALIZATION",
    "LogSoftmax": "LOG_SOFTMAX",
    "OneHot": "ONE_HOT",
    "PReLU": "PRELU",
    "Pack": "PACK",
    "Pad": "PAD PADV2",
    "Pool2D": "AVERAGE_POOL_2D MAX_POOL_2D",
    "Pow": "POW",
    "Range": "RANGE",
    "Rank": "RANK",
    "Reduce": "MEAN REDUCE_ANY REDUCE_MAX REDUCE_MIN REDUCE_PROD SUM",
    "Reshape": "RESHAPE",
    "ResizeBilinear": "RESIZE_BILINEAR",
    "ResizeNearestNeighbor": "RESIZE_NEAREST_NEIGHBOR",
    "Reverse": "REVERSE_V2",
    "RmsNorm": "RMS_NORM",
    "Select": "SELECT SELECT_V2",
    "Shape": "SHAPE",
    "Slice": "SLICE",
    "Softmax": "SOFTMAX",
    "SpaceToBatchND": "SPACE_TO_BATCH_ND",
    "SpaceToDepth": "SPACE_TO_DEPTH",
    "Split": "SPLIT",
    "SplitV": "SPLIT_V",
    "SquaredDifference": "SQUARED_DIFFERENCE",
    "Squeeze": "SQUEEZE",
    "StridedSlice": "STRIDED_SLICE",
    "Tile": "TILE",
    "TopKV2": "TOPK_V2",
    "Transpose": "TRANSPOSE",
    "TransposeConv": "TRANSPOSE_CONV",
    "Unpack": "UNPACK",
}
NAMES = {code: name for name, codes in KINDS.items() for code in codes.split()}
#: Bytes of one value, by circle's name of the type; one that is not listed has 4.
BYTES = {"FLOAT16": 2, "UINT8": 1, "INT64": 8, "BOOL": 1, "INT16": 2, "INT8": 1, "FLOAT64": 8}


def circle_file(model: Loaded) -> Path:
    """The circle file of a module, from those that are kept or made now.

    Raises:
        InputError: the module's code cannot be followed or exported; the text names what is in the way.
    """
    code = trace(model).code
    versions = [str(installed(name)) for name in ("tico", "circle-schema")]
    return kept(content_hash(code, model.inputs, FORM, *versions), ".circle", lambda: _exported(code, model))


def circle_graph(path: Path) -> Graph:
    """The operations of a circle file, by onert's names, in the file's order: their places are what OP_BACKEND_MAP takes.

    Raises:
        InputError: one that onert does not have, or that it would do wrong.
    """
    data = path.read_bytes()
    model = schema.Model.Model.GetRootAs(data, 0)
    if model.SubgraphsLength() != 1:
        raise InputError(f"the exported model has {model.SubgraphsLength()} graphs; only models of one can be taken apart")
    graph = model.Subgraphs(0)
    made_by: dict[int, int] = {}
    found = []
    for index in range(graph.OperatorsLength()):
        operator = graph.Operators(index)
        called = _CODES[model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()]
        if called not in NAMES:
            raise InputError(f"operation {index} of the exported model is {called}, which onert does not have")
        reads, writes = _indices(operator.InputsAsNumpy()), _indices(operator.OutputsAsNumpy())
        if called in ("PAD", "PADV2") and (_whole_numbers(model, graph.Tensors(reads[1])) < 0).any():
            raise InputError(
                f"operation {index} ({NAMES[called]}) pads by less than nothing: onert would write past its memory"
            )
        size = sum(_size(graph.Tensors(each)) for each in (*reads, *writes))
        sources = tuple(dict.fromkeys(made_by[each] for each in reads if each in made_by))
        made_by.update(dict.fromkeys(writes, index))
        found.append(Operation(NAMES[called], size, sources))
    return Graph(tuple(found))


# -------------------------------------------------------------------------------------------------------------- exporting
def _exported(code: fx.GraphModule, model: Loaded) -> bytes:
    import tico

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


# ---------------------------------------------------------------------------------------------------------------- reading
def _enumerated(kind: Any) -> dict[int, str]:
    return {value: name for name, value in vars(kind).items() if isinstance(value, int)}


_CODES = _enumerated(schema.BuiltinOperator.BuiltinOperator)
_TYPES = _enumerated(schema.TensorType.TensorType)


def _indices(found: Any) -> list[int]:
    """Tensors that an operator names; those that it does without are -1 there."""
    return [] if isinstance(found, int) else [int(each) for each in found if each >= 0]


def _size(tensor: Any) -> int:
    shape = tensor.ShapeAsNumpy() if tensor.ShapeLength() else ()
    return int(np.prod(shape, dtype=np.int64)) * BYTES.get(_TYPES[tensor.Type()], 4)


def _whole_numbers(model: Any, tensor: Any) -> Any:
    """A constant's values; none if it is worked out while the model runs."""
    data = model.Buffers(tensor.Buffer()).DataAsNumpy()
    if isinstance(data, int):
        return np.zeros(0, dtype=np.int64)
    return data.view(np.int64 if _TYPES[tensor.Type()] == "INT64" else np.int32)
