"""Pickles read as data: their instructions are listed by ``pickletools``, which runs none, and nothing here can call anything.

A pickle is a program for a small stack machine, and unpickling runs it: it imports what it names and calls it. The CIFAR
batches that most people have are pickles of a dict with one NumPy array. This module knows only the instructions that build
plain values; where the program would call something, a ``Call`` says so, and no module is ever looked up.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MARK = object()
_VALUES = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "SHORT_BINUNICODE", "BINBYTES", "SHORT_BINBYTES"})
_TEXTS = frozenset({"BINSTRING", "SHORT_BINSTRING"})  # Python 2: bytes, which pickletools shows as Latin-1
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclass(eq=False, slots=True)
class Call:
    """What the pickle would have called, with which arguments, and the state it would have set."""

    name: str  # module and attribute, with a space between
    arguments: Any
    state: Any = None


def read_pickle(payload: bytes) -> Any:
    """The value that a pickle of plain values describes. Calls stand in it as ``Call``.

    Raises:
        ValueError: not a pickle, a damaged one, or one with instructions that plain values do not need.
    """
    try:
        return _value(payload)
    except (IndexError, KeyError, TypeError, AttributeError, UnicodeError) as error:
        raise ValueError(f"not a whole pickle: {type(error).__name__}: {error}") from error


def _value(payload: bytes) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    argument: Any
    for opcode, argument, _ in pickletools.genops(payload):
        name = opcode.name
        if name in _VALUES:
            stack.append(argument)
        elif name in _TEXTS:
            stack.append(argument.encode("latin-1"))
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name == "MARK":
            stack.append(_MARK)
        elif name in _TUPLES:
            stack.append(tuple(_taken(stack, _TUPLES[name])))
        elif name == "TUPLE":
            stack.append(tuple(_since_mark(stack)))
        elif name == "EMPTY_LIST":
            stack.append([])
        elif name == "EMPTY_DICT":
            stack.append({})
        elif name in ("APPEND", "APPENDS"):
            items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
            stack[-1].extend(items)
        elif name in ("SETITEM", "SETITEMS"):
            items = _taken(stack, 2) if name == "SETITEM" else _since_mark(stack)
            stack[-1].update(zip(items[::2], items[1::2], strict=True))
        elif name == "GLOBAL":
            stack.append(Call(argument, None))
        elif name == "STACK_GLOBAL":
            stack.append(Call(" ".join(_taken(stack, 2)), None))
        elif name == "REDUCE":
            function, arguments = _taken(stack, 2)
            stack.append(Call(function.name, arguments))
        elif name == "BUILD":
            state = stack.pop()
            stack[-1].state = state
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise ValueError(f"it holds the instruction {name}, which plain values and arrays do not need")
    (value,) = stack
    return value


def _taken(stack: list[Any], count: int) -> list[Any]:
    if count > len(stack):
        raise IndexError("a value is missing")
    items = stack[len(stack) - count :]
    del stack[len(stack) - count :]
    return items


def _since_mark(stack: list[Any]) -> list[Any]:
    mark = max(i for i, item in enumerate(stack) if item is _MARK)
    items = stack[mark + 1 :]
    del stack[mark:]
    return items


def as_bytes_array(value: Any) -> NDArray[np.uint8]:
    """A NumPy array of bytes, as NumPy pickles one: ``_reconstruct`` and then (version, shape, type, Fortran order, bytes).

    Raises:
        ValueError: something else, or an array of another type.
    """
    if not (isinstance(value, Call) and value.name.endswith("multiarray _reconstruct") and isinstance(value.state, tuple)):
        raise ValueError("expected a NumPy array")
    _, shape, dtype, fortran, content = value.state
    if not (isinstance(dtype, Call) and dtype.name == "numpy dtype" and dtype.arguments[0] in ("u1", b"u1")):
        raise ValueError("expected a NumPy array of uint8")
    array: NDArray[np.uint8] = np.frombuffer(content, np.uint8).reshape(shape, order="F" if fortran else "C")
    return array
