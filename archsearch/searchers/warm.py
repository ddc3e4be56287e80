"""Which points of an earlier run a search may start from: those that it could have come to by itself."""

from __future__ import annotations

from archsearch.arch import Architecture, cost
from archsearch.searchers.constraints import costs_by_name, parse_constraint
from archsearch.searchers.moves import WIDTH_FACTOR
from archsearch.searchers.section import GrowthConfig

#: Operations that every seed has, whatever may be attached to it.
SEED_OPERATIONS = frozenset({"sep_conv_3x3", "skip_connect"})


def objection(config: GrowthConfig, arch: Architecture) -> str | None:
    """Why an architecture is none that the search section would propose, in a few words, or None.

    Searchers that grow may have more nodes than ``max_nodes`` (which is of the seeds), and with the moves ``width`` and
    ``depth`` also more channels and cells.
    """
    found = cost(arch)
    if config.max_madd is not None and found.madds > config.max_madd:
        return f"beyond max_madd = {config.max_madd:g}"
    for text in config.constraints:
        limit = parse_constraint(text)
        if not limit.measured and not limit.holds(costs_by_name(found)):
            return f"beyond {text}"
    if arch.stem != config.stem:
        return f"stem {arch.stem}, not {config.stem}"
    if any(cell.post_op != config.post_op for cell in arch.cells.values()):
        return f"post_op other than {config.post_op}"
    if config.share_cells != (set(arch.cells) <= {"normal", "reduction"}):
        return f"share_cells is not {str(config.share_cells).lower()}"
    operations = {edge.op for cell in arch.cells.values() for node in cell.nodes for edge in node.edges}
    if foreign := sorted(operations - {*config.primitives} - SEED_OPERATIONS):
        return f"operation {foreign[0]} is not among the primitives"
    return _size(config, arch)


def _size(config: GrowthConfig, arch: Architecture) -> str | None:
    moves: list[str] | None = getattr(config, "moves", None)  # None: a searcher that does not grow
    wider, deeper = ("width" in (moves or ()), "depth" in (moves or ()))
    if not any(arch.channels == width or (wider and _widened(width, arch.channels)) for width in config.widths):
        return f"{arch.channels} channels, not {' or '.join(map(str, config.widths))}"
    reductions = sum(placed.reduction for placed in arch.layout)
    if not config.n_reductions <= reductions <= config.max_reductions:
        return f"{reductions} reductions, not {config.n_reductions} to {config.max_reductions}"
    if len(arch.layout) < config.n_cells or (len(arch.layout) > config.max_cells and not deeper):
        return f"{len(arch.layout)} cells, not {config.n_cells} to {config.max_cells}"
    if any(placed.residual for placed in arch.layout) and not deeper:
        return "residual cells, which only the move depth makes"
    sizes = [len(cell.nodes) for cell in arch.cells.values()]
    if min(sizes) < config.n_nodes:
        return f"{min(sizes)} nodes in a cell, fewer than {config.n_nodes}"
    if max(sizes) > config.max_nodes and moves is None:
        return f"{max(sizes)} nodes in a cell, more than {config.max_nodes}"
    return None


def _widened(width: int, channels: int) -> bool:
    """Whether ``channels`` is ``width`` times a power of the factor of the move ``width``."""
    while width < channels:
        width *= WIDTH_FACTOR
    return width == channels
