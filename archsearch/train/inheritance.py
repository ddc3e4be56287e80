"""How a child starts from its parent's weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from archsearch.arch import Architecture, Edge, deepen
from archsearch.arch.build import Network, deepened_state, grown_weights, inherit, widened_state
from archsearch.jobs import Context, InputError, derive_seed
from archsearch.train.weights import fetch_weights


def warm_start(model: Network, given: Mapping[str, Any], projection_scale: float, context: Context) -> None:
    """Put a parent's weights, and the weak learner's, into a freshly built child.

    ``given``: ``kind`` ("node", "widen", "deepen", or "same" for the parent's own architecture), ``parent`` (its architecture),
    ``weights`` (ArtifactRef), and for a node ``edges`` (``{cell: [[source, operation, alpha], ...]}``) and ``candidates``
    (ArtifactRef or None). A grown operation's last batch norm is scaled by its alpha relative to the strongest chosen one,
    sign included.

    Raises:
        InputError: an unknown kind, or the weights do not fit.
    """
    parent = Architecture.from_json(given["parent"])
    state = fetch_weights(given["weights"], context)
    kind = given["kind"]
    if kind == "widen":
        factor = model.arch.channels // parent.channels
        state = widened_state(parent, state, factor, seed=derive_seed(context.job.seed, "widen"))
    elif kind == "deepen":
        state = deepened_state(parent, state, _inserted(parent, model.arch))
    elif kind not in ("node", "same"):
        raise InputError(f"inherit.kind: {kind!r} was given; expected node, widen, deepen or same")
    left = inherit(model, state)
    if len(left) == len(model.state_dict()):
        key = given["weights"]["key"]
        raise InputError(f"none of the inherited weights {key!r} fits the architecture {model.arch.hash[:12]}")
    if kind == "node":
        candidates = given.get("candidates")
        grown_weights(
            model,
            list(given["edges"]),
            candidates=None if candidates is None else fetch_weights(candidates, context),
            gammas={cell: _relative(chosen) for cell, chosen in given["edges"].items()},
            projection_scale=projection_scale,
        )


def _relative(chosen: list[tuple[str, str, float]]) -> dict[Edge, float]:
    """Each alpha relative to the largest magnitude; all 1 if every alpha is 0."""
    largest = max((abs(alpha) for _, _, alpha in chosen), default=0.0)
    return {Edge(source, op): alpha / largest if largest else 1.0 for source, op, alpha in chosen}


def _inserted(parent: Architecture, child: Architecture) -> int:
    """After which of the parent's cells the child has its new one."""
    for position in range(len(parent.layout)):
        if deepen(parent, position) == child:
            return position
    raise InputError("inherit.kind is deepen, but the architecture is not its parent with one cell more")
