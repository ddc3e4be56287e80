"""Circle files, the form of Samsung ONE: the operations of one. What measures them needs no PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from circle_schema.v0_10 import circle as schema

from archsearch.jobs import InputError
from archsearch.profile.graph import Graph, Operation

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
