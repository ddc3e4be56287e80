"""Where a point comes from: its forebears back to the seed, and what grew from each to the next."""

from __future__ import annotations

from collections.abc import Iterator

from archsearch.arch import Architecture, Node
from archsearch.jobs import JSON, InputError
from archsearch.report.tables import describe
from archsearch.report.view import number
from archsearch.store import Point, RunState


def lineage(state: RunState, point: int, error: str = "val_error") -> list[dict[str, JSON]]:
    """The points from the seed to ``point``, each with what it has that the one before it had not.

    An entry: ``point``, ``stage``, ``architecture``, ``madds``, ``error`` (that of its own training), ``move`` (of searchers
    that name theirs), ``grew`` (lines for people; none for the first) and ``origin``, where it was taken from an earlier run.
    """
    chain: list[Point] = []
    at = state.point(point)
    while at is not None and at not in chain:
        chain.append(at)
        at = None if at.parent is None else state.point(at.parent)
    chain.reverse()
    return [_entry(state, each, chain[i - 1] if i else None, error) for i, each in enumerate(chain)]


def _entry(state: RunState, point: Point, parent: Point | None, error: str) -> dict[str, JSON]:
    return {
        "point": point.id,
        "stage": str(point.stage),
        "architecture": describe(point.arch),
        "madds": number(point, "madds"),
        "error": number(point, error),
        "move": state.jobs[point.id].job.spec.get("move"),
        "grew": [] if parent is None else grew(parent.arch, point.arch),
        "origin": point.origin,
    }


def grew(parent: JSON, child: JSON) -> list[str]:
    """What a child's description has that its parent's has not, a line each."""
    try:
        lines = list(_differences(Architecture.from_json(parent), Architecture.from_json(child)))
    except InputError:  # operations of a plug-in that is not installed here
        return ["not known here: it has operations of a plug-in"]
    return lines or (["nothing: it was trained on"] if parent == child else ["cells stand or are joined otherwise"])


def _differences(old: Architecture, new: Architecture) -> Iterator[str]:
    if old.stem != new.stem:
        yield f"stem {new.stem} instead of {old.stem}"
    if old.channels != new.channels:
        yield f"{new.channels} channels instead of {old.channels}"
    if len(old.layout) != len(new.layout):
        yield f"{len(new.layout)} cells instead of {len(old.layout)}"
    for name, cell in new.cells.items():
        if name not in old.cells:
            yield f"{name}: a new cell"
            continue
        before = old.cells[name]
        for index, node in enumerate(cell.nodes):
            if index >= len(before.nodes):
                yield f"{name}: new node n{index} = {_text(node)}"
            elif node != before.nodes[index]:
                yield f"{name}: n{index} = {_text(node)} instead of {_text(before.nodes[index])}"
        if len(cell.nodes) < len(before.nodes):
            yield f"{name}: {len(before.nodes) - len(cell.nodes)} nodes less"
        if cell.post_op != before.post_op:
            yield f"{name}: {cell.post_op} instead of {before.post_op}"


def _text(node: Node) -> str:
    return " + ".join(f"{edge.op}({edge.source})" for edge in node.edges)
