"""An assignment of operations to backends as one integer.

A model's operations are mapped to *symbols*: in mode ``name`` one for each operation name, in mode ``index`` one for each
pair of name and data size. An assignment gives every symbol a backend; its id is the sum of ``d[i] * B**i``, where ``B`` is the
number of backends and ``d[i]`` the place of symbol i's backend among them. Symbols are in sorted order, so that ids depend on
what the model contains and on nothing else.

Source: the Pareto profiler of Samsung ONE (tools/pareto_profiler), whose environment strings ``environment`` writes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple, cast, get_args

from archsearch.jobs import InputError
from archsearch.profile.graph import Graph

Mode = Literal["name", "index"]

#: Names go into shell lines and environment variables of other programs: nothing in them may mean anything there.
PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:/+-]{1,128}")

#: More of them would make ids of thousands of digits.
MOST_SYMBOLS, MOST_BACKENDS = 1000, 64


class Symbol(NamedTuple):
    """What is assigned as one: all operations of a name, or of a name and a data size in bytes."""

    name: str
    size: int | None = None

    def __str__(self) -> str:
        return self.name if self.size is None else f"{self.name}/{self.size}"


@dataclass(frozen=True)
class Encoding:
    """What ids of one model mean.

    ``nodes`` holds the symbol of each operation in the order in which they run; ``graph`` says what feeds what, where it is
    known: a table of the reference's does not have it, and then ``nodes`` of mode ``name`` holds each symbol once.

    Raises:
        InputError: an unknown mode, names that repeat or mean something to a shell, too many of them, or ``nodes`` that do not
            name each symbol.
    """

    mode: Mode
    symbols: tuple[Symbol, ...]
    backends: tuple[str, ...]
    nodes: tuple[int, ...]
    graph: Graph | None = None

    def __post_init__(self) -> None:
        checked_mode(self.mode)
        if len(self.symbols) > MOST_SYMBOLS or len(self.backends) > MOST_BACKENDS:
            there = f"{len(self.symbols)} symbols on {len(self.backends)} backends"
            raise InputError(f"{there}; expected at most {MOST_SYMBOLS} on {MOST_BACKENDS}")
        _distinct([*map(str, self.symbols)], "oplist" if self.mode == "name" else "opmap")
        _distinct(self.backends, "backends")
        for name in (*(symbol.name for symbol in self.symbols), *self.backends):
            if not PLAIN_NAME.fullmatch(name):
                raise InputError(f"the name {name[:60]!r} has characters that are not letters, digits or one of _.:/+-")
        if set(self.nodes) != set(range(len(self.symbols))):
            raise InputError(
                f"operations name the symbols {sorted(set(self.nodes))[:8]}; expected 0 to {len(self.symbols) - 1}"
            )

    @property
    def base(self) -> int:
        """How many backends there are."""
        return len(self.backends)

    @property
    def size(self) -> int:
        """How many assignments there are: ids are 0 to this less one."""
        return int(self.base ** len(self.symbols))

    @property
    def size_text(self) -> str:
        """That number for people: 243, or 3^40."""
        return str(self.size) if self.size < 10**12 else f"{self.base}^{len(self.symbols)}"

    @cached_property
    def edges(self) -> tuple[tuple[int, int], ...]:
        """Pairs of symbols (lower first) whose operations feed one another, once for each such pair of operations."""
        found = []
        for node, operation in enumerate(self.graph.nodes if self.graph is not None else ()):
            for source in operation.inputs:
                pair = sorted((self.nodes[source], self.nodes[node]))
                if pair[0] != pair[1]:
                    found.append((pair[0], pair[1]))
        return tuple(found)

    def digits(self, id_: int) -> tuple[int, ...]:
        """The place of each symbol's backend.

        Raises:
            InputError: not an id of this encoding.
        """
        if not 0 <= id_ < self.size:
            raise InputError(
                f"there is no assignment {str(id_)[:40]}: {len(self.symbols)} symbols on {self.base} backends have ids from 0 "
                f"to {self.size_text} less one"
            )
        places = []
        for _ in self.symbols:
            id_, place = divmod(id_, self.base)
            places.append(place)
        return tuple(places)

    def id(self, digits: Iterable[int]) -> int:
        """The id with these places.

        Raises:
            InputError: another number of places than of symbols, or a place without a backend.
        """
        places = [int(place) for place in digits]
        if len(places) != len(self.symbols) or not all(0 <= place < self.base for place in places):
            raise InputError(f"{places} is no assignment of {len(self.symbols)} symbols to {self.base} backends")
        total = 0
        for place in reversed(places):
            total = total * self.base + place
        return total

    def backends_of(self, id_: int) -> tuple[str, ...]:
        """The backend of each operation, in the order in which they run."""
        places = self.digits(id_)
        return tuple(self.backends[places[symbol]] for symbol in self.nodes)

    def described(self, id_: int) -> dict[str, str]:
        """The backend of each symbol, for people."""
        return {str(symbol): self.backends[place] for symbol, place in zip(self.symbols, self.digits(id_), strict=True)}

    def environment(self, id_: int) -> str:
        """What ONE's runner reads: ``BACKENDS="acl_cl;cpu" OP_BACKEND_Conv2D=cpu ...``, or ``OP_BACKEND_MAP="0=cpu;..."``.

        The first backend comes last there: it is what the others fall back to.
        """
        known = ";".join((*self.backends[1:], self.backends[0]))
        if self.mode == "name":
            chosen = " ".join(f"OP_BACKEND_{name}={backend}" for name, backend in self.described(id_).items())
        else:
            pairs = (f"{node}={backend}" for node, backend in enumerate(self.backends_of(id_)))
            chosen = f'OP_BACKEND_MAP="{";".join(pairs)}"'
        return f'BACKENDS="{known}" {chosen}'

    @cached_property
    def by_name(self) -> Encoding:
        """The same model in mode ``name``."""
        names = sorted({symbol.name for symbol in self.symbols})
        nodes = tuple(names.index(self.symbols[symbol].name) for symbol in self.nodes)
        return Encoding("name", tuple(map(Symbol, names)), self.backends, nodes, self.graph)

    def lifted(self, id_: int) -> int:
        """The id here of what ``by_name`` calls ``id_``: all operations of a name on its backend."""
        places = dict(zip((symbol.name for symbol in self.by_name.symbols), self.by_name.digits(id_), strict=True))
        return self.id(places[symbol.name] for symbol in self.symbols)


def encode(graph: Graph, backends: Sequence[str], mode: Mode = "name") -> Encoding:
    """The encoding of a model's operations.

    Raises:
        InputError: no operations, no or repeated backends, an unknown mode.
    """
    if not graph.nodes:
        raise InputError("the model has no operations: there is nothing to assign")
    checked_mode(mode)
    each = [Symbol(node.name, node.size if mode == "index" else None) for node in graph.nodes]
    symbols = sorted(set(each), key=lambda symbol: (symbol.name, symbol.size or 0))
    place = {symbol: number for number, symbol in enumerate(symbols)}
    return Encoding(mode, tuple(symbols), tuple(backends), tuple(place[symbol] for symbol in each), graph)


def checked_mode(mode: str) -> Mode:
    """``mode``, if it is one."""
    if mode not in get_args(Mode):
        raise InputError(f"the mode {mode!r} is not known; expected one of {', '.join(get_args(Mode))}")
    return cast(Mode, mode)


def _distinct(names: Sequence[str], what: str) -> None:
    if not names:
        raise InputError(f"{what} is empty")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{what} holds {', '.join(twice)} more than once")
