"""Random architectures: any cells, nodes, edges, operations, inputs, reductions, stems; then grown, widened, deepened."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from archsearch.arch import PRIMITIVES, Architecture, Cell, Edge, Node, Placed, deepen, grow_node, growth_candidates, widen
from archsearch.arch.description import STEMS
from archsearch.arch.shapes import trace
from archsearch.jobs import InputError


@st.composite
def cells(draw: Any, post_ops: tuple[str, ...] = ("proj_channels", "concat_channels")) -> Cell:
    count = draw(st.integers(1, 3))
    last = draw(st.integers(0, count - 1))
    nodes: dict[int, Node] = {}
    known = ["s0", "s1"]
    for index in [*(i for i in range(count) if i != last), last]:
        edge = st.builds(Edge, st.sampled_from(known), st.sampled_from(PRIMITIVES))
        nodes[index] = Node(tuple(draw(st.lists(edge, min_size=1, max_size=3, unique=True))))
        known.append(f"n{index}")
    return Cell(tuple(nodes[i] for i in range(count)), last, draw(st.sampled_from(post_ops)))


@st.composite
def plain(draw: Any, post_ops: tuple[str, ...] = ("proj_channels", "concat_channels")) -> Architecture:
    stem = draw(st.sampled_from(sorted(STEMS)))
    least = 2 ** STEMS[stem]
    size = (draw(st.integers(least, least + 9)), draw(st.integers(1, 12)))
    channels = draw(st.integers(1, 3)) * 2 if STEMS[stem] > 1 else draw(st.integers(1, 5))
    pool = {name: draw(cells(post_ops)) for name in ("normal", "reduction", "other")[: draw(st.integers(1, 3))]}
    level, side = 0, max(size)
    for _ in range(STEMS[stem]):
        side = -(-side // 2)
    levels = [0]  # halvings since the stem, by output, the stem's first
    layout = []
    for k in range(draw(st.integers(1, 4))):
        s1 = draw(st.integers(max(-1, k - 2), k - 1))
        s0 = draw(st.sampled_from([i for i in range(-1, k) if 0 <= levels[s1 + 1] - levels[i + 1] <= 1]))
        level = levels[s1 + 1]
        reduction = (side >> level) > 1 and draw(st.booleans())
        levels.append(level + reduction)
        layout.append(Placed(draw(st.sampled_from(sorted(pool))), reduction, (s0, s1)))
    used = {placed.cell for placed in layout}
    arch = Architecture(
        input=(draw(st.integers(1, 3)), *size),
        classes=draw(st.integers(2, 4)),
        channels=channels,
        stem=stem,
        cells={name: cell for name, cell in pool.items() if name in used},
        layout=tuple(layout),
    )
    fits = [not p.reduction and s.out == s.s1 for p, s in zip(arch.layout, trace(arch).cells, strict=True)]
    return replace(
        arch, layout=tuple(replace(p, residual=fit and draw(st.booleans())) for p, fit in zip(layout, fits, strict=True))
    )


@st.composite
def architectures(draw: Any, post_ops: tuple[str, ...] = ("proj_channels", "concat_channels")) -> Architecture:
    arch = draw(plain(post_ops))
    for step in draw(st.lists(st.sampled_from(["node", "width", "depth"]), max_size=3, unique=True)):
        try:
            if step == "node":
                name = draw(st.sampled_from(sorted(arch.cells)))
                edges = draw(
                    st.lists(st.sampled_from(growth_candidates(arch, name, PRIMITIVES)), min_size=1, max_size=3, unique=True)
                )
                arch = grow_node(arch, {name: edges})
            elif step == "width":
                arch = widen(arch, 2)
            else:
                arch = deepen(arch, draw(st.integers(0, len(arch.layout) - 1)))
        except InputError:  # concat_channels does not grow, a description of reductions only does not deepen
            assert step == "depth" or arch.cells[name].post_op == "concat_channels"
    return arch
