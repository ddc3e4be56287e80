"""Assignments as integers: any number of backends, the same ids on every machine, the reference's strings."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from generated_tables import generated_encoding
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.jobs import InputError
from archsearch.profile.assignment.encoding import Encoding, Symbol, encode
from archsearch.profile.graph import Graph, Operation

MOBILENET = ("Pool2D", "DepthwiseConv2D", "Reshape", "Conv2D", "BinaryArithmetic")


def encoding(symbols: int, base: int) -> Encoding:
    names = tuple(Symbol(f"op{number}") for number in range(symbols))
    return Encoding("name", names, tuple(f"b{number}" for number in range(base)), tuple(range(symbols)))


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 9))
def test_ids_and_digits_are_one_another(data: st.DataObject, symbols: int, base: int) -> None:
    """With any base: the reference could do two backends only."""
    one = encoding(symbols, base)
    id_ = data.draw(st.integers(0, one.size - 1))
    digits = one.digits(id_)
    assert id_ == sum(digit * base**place for place, digit in enumerate(digits))
    assert one.id(digits) == id_
    assert len(digits) == symbols and all(0 <= digit < base for digit in digits)


def test_every_symbol_has_its_digit_the_last_one_too() -> None:
    three = encoding(4, 3)
    assert three.size == 81
    assert [len({three.digits(id_)[place] for id_ in range(three.size)}) for place in range(4)] == [3, 3, 3, 3]
    for bad in (-1, 81):
        with pytest.raises(InputError, match="ids from 0 to 81 less one"):
            three.digits(bad)
    for digits in ((0, 0, 0), (0, 0, 0, 3), (0, 0, 0, -1)):
        with pytest.raises(InputError, match="no assignment"):
            three.id(digits)


def test_the_example_of_the_reference() -> None:
    reference = Encoding("name", tuple(map(Symbol, MOBILENET)), ("cpu", "acl_cl"), tuple(range(5)))
    assert reference.size == 32
    assert reference.environment(4) == (
        'BACKENDS="acl_cl;cpu" OP_BACKEND_Pool2D=cpu OP_BACKEND_DepthwiseConv2D=cpu OP_BACKEND_Reshape=acl_cl '
        "OP_BACKEND_Conv2D=cpu OP_BACKEND_BinaryArithmetic=cpu"
    )
    chosen = reference.described(10)
    assert [name for name, backend in chosen.items() if backend == "acl_cl"] == ["DepthwiseConv2D", "Conv2D"]
    assert set(reference.described(31).values()) == {"acl_cl"}


GRAPH = Graph(
    (
        Operation("Conv2D", 4096),
        Operation("Relu", 2048, (0,)),
        Operation("Conv2D", 1024, (1,)),
        Operation("Relu", 2048, (2,)),
        Operation("Add", 512, (1, 3)),
    )
)


def test_the_two_modes_of_a_graph() -> None:
    by_name = encode(GRAPH, ("cpu", "acl_cl", "acl_neon"))
    assert [str(symbol) for symbol in by_name.symbols] == ["Add", "Conv2D", "Relu"]
    assert by_name.backends_of(1 * 3 + 2 * 9) == ("acl_cl", "acl_neon", "acl_cl", "acl_neon", "cpu")
    assert sorted(by_name.edges) == [(0, 2), (0, 2), (1, 2), (1, 2), (1, 2)]
    by_index = encode(GRAPH, ("cpu", "acl_cl", "acl_neon"), "index")
    assert by_index.symbols == (("Add", 512), ("Conv2D", 1024), ("Conv2D", 4096), ("Relu", 2048))
    assert by_index.nodes == (2, 3, 1, 3, 0)
    assert by_index.environment(by_index.id((0, 1, 2, 0))) == (
        'BACKENDS="acl_cl;acl_neon;cpu" OP_BACKEND_MAP="0=acl_neon;1=cpu;2=acl_cl;3=cpu;4=cpu"'
    )
    assert by_index.by_name == by_name
    for id_ in range(by_name.size):
        assert by_index.backends_of(by_index.lifted(id_)) == by_name.backends_of(id_)


def test_ids_are_the_same_in_every_process() -> None:
    """The reference took the order of a set, which another process may have otherwise."""
    code = (
        "import sys; sys.path.insert(0, 'tests/profile'); from generated_tables import generated_encoding;"
        "one = generated_encoding(5, backends=3, names=8, nodes=40, mode='index');"
        "print([str(symbol) for symbol in one.symbols], one.environment(123456789))"
    )
    said = set()
    for seed in ("0", "1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        said.add(done.stdout)
    assert len(said) == 1
    one = generated_encoding(5, backends=3, names=8, nodes=40, mode="index")
    assert one.environment(123456789) in said.pop()
    assert list(one.symbols) == sorted(one.symbols), "the order follows from the content, not from the order of operations"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"backends": ("cpu", "cpu")}, "backends holds cpu more than once"),
        ({"backends": ()}, "backends is empty"),
        ({"backends": ("cpu", "a;b")}, "characters"),
        ({"symbols": (Symbol("x"), Symbol('a" rm')), "nodes": (0, 1)}, "characters"),
        ({"nodes": (0, 2)}, "expected 0 to 1"),
        ({"mode": "both"}, "expected one of name, index"),
    ],
)
def test_what_is_refused(changes: dict, text: str) -> None:
    good = {"mode": "name", "symbols": (Symbol("x"), Symbol("y")), "backends": ("cpu", "gpu"), "nodes": (0, 1)}
    Encoding(**good)
    with pytest.raises(InputError, match=text):
        Encoding(**{**good, **changes})
    with pytest.raises(InputError, match="no operations"):
        encode(Graph(()), ("cpu",))
