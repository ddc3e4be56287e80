"""Recorded tables: every assignment of a model with its time and memory, in JSON that tools for the reference read too.

A table is ``{"oplist": [...], "solutions": [{"id", "time", "memory"}, ...]}`` in ms and KiB, with ours beside it: ``backends``
in the order of the digits (where it is absent there are two, cpu and acl_cl), ``mode``, ``graph``, ``infeasible`` (id and
error of what could not run), intervals, and ``about`` (what it was recorded on). In mode ``index`` ``oplist`` holds the symbol
of each operation, as the reference writes it, and ``opmap`` the symbols' names and data sizes.

``assign --json`` prints the other of the reference's shapes: ``solutions`` is the front as ``{"id", "exec_time", "max_rss"}``
and ``configs`` the environment of each. Both can be read.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from archsearch.jobs import JSON, InputError
from archsearch.profile.assignment.encoding import MOST_SYMBOLS, Encoding, Symbol, checked_mode
from archsearch.profile.assignment.evaluation import Evaluation
from archsearch.profile.graph import Graph

#: What a table without ``backends`` is about.
REFERENCE_BACKENDS = ("cpu", "acl_cl")
#: A file above this is no table: 4 million solutions take about as much.
MOST_BYTES = 256 * 2**20
#: Spaces above this are not listed, so there is no complete table of them.
MOST_IDS = 4_000_000

_KEYS = {"oplist", "opmap", "backends", "mode", "graph", "solutions", "infeasible", "about"}
#: What estimators print beside these, ours and the reference's; of no use for a table.
_REPORT_KEYS = {"configs", "evaluated", "estimator", "seed", "space", "regret", "regret_curve"}
_REPORT_KEYS |= {"measured_again", "survived", "sample_cnt", "profiling time"}
_INTERVALS = ("time_interval", "memory_interval")


@dataclass(frozen=True)
class Table:
    """What was recorded of one model: evaluations by id, failures among them."""

    encoding: Encoding
    evaluations: Mapping[int, Evaluation]
    about: Mapping[str, JSON] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        return len(self.evaluations) == self.encoding.size


def read_table(path: Path, *, partial: bool = False) -> Table:
    """A table, checked.

    Args:
        partial: ids may be missing.

    Raises:
        InputError: with the file and what is wrong in it.
    """

    def wrong(what: str) -> NoReturn:
        raise InputError(f"{path}: {what}")

    data = _load(path, wrong)
    try:
        encoding = _encoding(data)
        evaluations = _evaluations(data, encoding)
    except InputError as error:
        wrong(str(error))
    if not partial and len(evaluations) < encoding.size:
        if encoding.size > MOST_IDS:
            wrong(f"{len(evaluations)} of {encoding.size_text} ids; a table of so many cannot be complete: give --partial")
        missing = [id_ for id_ in range(encoding.size) if id_ not in evaluations]
        some = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
        wrong(f"{len(missing)} of {encoding.size} ids are missing ({some}): record them, or give --partial to do without")
    about = data.get("about", {})
    if not isinstance(about, dict):
        wrong("about is not an object")
    return Table(encoding, evaluations, about)


def source_of(path: Path) -> str:
    """What a log says of the table that it is about: its name and its content's hash."""
    return f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def table_json(table: Table) -> dict[str, JSON]:
    """The table as ``read_table`` reads it, by id."""
    solutions: list[JSON] = []
    failed: list[JSON] = []
    for id_ in sorted(table.evaluations):
        data = table.evaluations[id_].to_json()
        (failed if "error" in data else solutions).append(data)
    about = {"about": dict(table.about)} if table.about else {}
    infeasible = {"infeasible": failed} if failed else {}
    return {**encoding_json(table.encoding), **about, "solutions": solutions, **infeasible}


def encoding_json(encoding: Encoding) -> dict[str, JSON]:
    """``oplist``, ``backends`` and ``mode``, and what else it takes to read ids."""
    data: dict[str, JSON] = {"oplist": [symbol.name for symbol in encoding.symbols]}
    if encoding.mode == "index":
        data = {"oplist": list(encoding.nodes), "opmap": [list(symbol) for symbol in encoding.symbols]}
    graph = {} if encoding.graph is None else {"graph": encoding.graph.to_json()}
    return {**data, "backends": list(encoding.backends), "mode": encoding.mode, **graph}


def solutions_json(encoding: Encoding, chosen: Iterable[Evaluation]) -> dict[str, JSON]:
    """``configs`` and ``solutions`` as the reference's estimators dump them, with intervals where there are any."""
    configs, solutions = {}, []
    for each in chosen:
        configs[str(each.id)] = encoding.environment(each.id)
        intervals = {name: getattr(each, name) for name in _INTERVALS if getattr(each, name) is not None}
        solutions.append({"id": each.id, "exec_time": each.time, "max_rss": each.memory, **intervals})
    return {"configs": configs, "solutions": solutions}


# --------------------------------------------------------------------------------------------------------------- reading
def _load(path: Path, wrong: Callable[[str], NoReturn]) -> dict[str, Any]:
    def constant(name: str) -> NoReturn:
        wrong(f"holds {name}; expected finite numbers")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
            wrong(f"the key {name[:60]!r} stands twice in one object")
        return found

    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            wrong(f"has {size} bytes; tables have at most {MOST_BYTES}")
        data = json.loads(path.read_bytes().decode(), parse_constant=constant, object_pairs_hook=unique)
    except OSError as error:
        raise InputError(f"the table {path} cannot be read: {error.strerror}") from error
    except InputError:
        raise
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(data, dict):
        wrong(f"holds {_kind(data)}; expected an object with oplist and solutions")
    if lacking := sorted({"oplist", "solutions"} - set(data)):
        wrong(f"has no {' and no '.join(lacking)}")
    if unknown := sorted(set(data) - _KEYS - _REPORT_KEYS):
        wrong(f"has the unknown keys {', '.join(unknown)[:200]}; known are {', '.join(sorted(_KEYS))}")
    return data


def _encoding(data: Mapping[str, Any]) -> Encoding:
    mode = checked_mode(_text(data.get("mode", "name"), "mode"))
    backends = tuple(_text(each, "backends") for each in _list(data.get("backends", list(REFERENCE_BACKENDS)), "backends"))
    graph = Graph.from_json(data["graph"]) if "graph" in data else None
    oplist = _list(data["oplist"], "oplist")
    symbols, nodes = _symbols_by_name(oplist, graph) if mode == "name" else _symbols_by_index(oplist, data.get("opmap"))
    if graph is not None:
        expected = tuple(symbols[symbol].name for symbol in nodes)
        if tuple(node.name for node in graph.nodes) != expected:
            raise InputError("the operations of graph are not those of oplist")
    return Encoding(mode, symbols, backends, nodes, graph)


def _symbols_by_name(oplist: list[Any], graph: Graph | None) -> tuple[tuple[Symbol, ...], tuple[int, ...]]:
    names = [_text(each, "oplist") for each in oplist]
    if graph is None:
        return tuple(map(Symbol, names)), tuple(range(len(names)))
    if unknown := sorted({node.name for node in graph.nodes} - set(names)):
        raise InputError(f"graph has the operations {', '.join(unknown)[:200]}, which are not in oplist")
    return tuple(map(Symbol, names)), tuple(names.index(node.name) for node in graph.nodes)


def _symbols_by_index(oplist: list[Any], opmap: Any) -> tuple[tuple[Symbol, ...], tuple[int, ...]]:
    nodes = tuple(_whole(each, "oplist") for each in oplist)
    if max(nodes, default=0) >= MOST_SYMBOLS:
        raise InputError(f"oplist names the symbol {str(max(nodes))[:40]}; expected at most {MOST_SYMBOLS - 1}")
    if opmap is None:  # the reference's: only how many symbols there are is known
        return tuple(Symbol(f"op{number}") for number in range(max(nodes, default=-1) + 1)), nodes
    symbols = []
    for each in _list(opmap, "opmap"):
        if not isinstance(each, list) or len(each) != 2:
            raise InputError(f"opmap holds {str(each)[:60]}; expected pairs of name and data size")
        symbols.append(Symbol(_text(each[0], "opmap"), None if each[1] is None else _whole(each[1], "opmap")))
    if max(nodes, default=0) >= len(symbols):
        raise InputError(f"oplist names the symbol {max(nodes)}, and opmap has {len(symbols)}")
    return tuple(symbols), nodes


def _evaluations(data: Mapping[str, Any], encoding: Encoding) -> dict[int, Evaluation]:
    found: dict[int, Evaluation] = {}
    for place, each in enumerate(_list(data["solutions"], "solutions")):
        where = f"solutions[{place}]"
        if not isinstance(each, dict):
            raise InputError(f"{where} is {_kind(each)}; expected an object with id, time and memory")
        names = {"exec_time": "time", "max_rss": "memory"}
        values = {names.get(key, key): value for key, value in each.items()}
        if not {"id", "time", "memory"} <= set(values) <= {"id", "time", "memory", *_INTERVALS} or len(values) < len(each):
            raise InputError(f"{where} has the keys {', '.join(each)[:200]}; expected id, time and memory")
        time, memory = (_number(values[name], f"{where}.{name}") for name in ("time", "memory"))
        of_time, of_memory = (_interval(values.get(name), f"{where}.{name}") for name in _INTERVALS)
        _add(found, Evaluation(_whole(values["id"], f"{where}.id"), time, memory, of_time, of_memory), encoding, where)
    for place, each in enumerate(_list(data.get("infeasible", []), "infeasible")):
        where = f"infeasible[{place}]"
        if not isinstance(each, dict) or set(each) != {"id", "error"}:
            raise InputError(f"{where} is not an object with id and error alone")
        error = _text(each["error"], f"{where}.error") or "no reason given"
        _add(found, Evaluation(_whole(each["id"], f"{where}.id"), error=error), encoding, where)
    return found


def _add(found: dict[int, Evaluation], evaluation: Evaluation, encoding: Encoding, where: str) -> None:
    if evaluation.id in found:
        raise InputError(f"{where}: the id {evaluation.id} stands there twice")
    try:
        encoding.digits(evaluation.id)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    found[evaluation.id] = evaluation


def _list(value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{where} is {_kind(value)}; expected a list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"{where} holds {_kind(value)}; expected text")
    return value


def _whole(value: Any, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError(f"{where} holds {str(value)[:60]}; expected a whole number of at least 0")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where} is {_kind(value)}; expected a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not 0 <= number < math.inf:
        raise InputError(f"{where} is {number}; expected a finite number of at least 0")
    return number


def _interval(value: Any, where: str) -> tuple[float, float] | None:
    if value is None:
        return None
    ends = [_number(each, where) for each in _list(value, where)]
    if len(ends) != 2:
        raise InputError(f"{where} has {len(ends)} ends; expected two")
    return ends[0], ends[1]


def _kind(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
