"""Tables made up for tests: costs with the structure that real ones have, and some without any. Never shown as results."""

from __future__ import annotations

import numpy as np

from archsearch.profile.assignment.encoding import Encoding, Mode, encode
from archsearch.profile.assignment.evaluation import Evaluation
from archsearch.profile.assignment.tables import Table
from archsearch.profile.graph import Graph, Operation

BACKENDS = ("native", "onednn", "nnpack", "other")
NAMES = ("Conv2D", "DepthwiseConv2D", "Add", "Pool2D", "Linear", "Relu", "Norm", "Concat")
#: Kinds whose costs are what ``structured`` expects, and those that are not.
REALISTIC = ("sums", "live", "unsupported")
ADVERSARIAL = ("parity", "iid", "trap")


def generated_graph(rng: np.random.Generator, nodes: int, names: int) -> Graph:
    """A chain with some skips, in which every name occurs; sizes fall along it as those of a network do."""
    kinds = list(NAMES[:names]) + [str(each) for each in rng.choice(NAMES[:names], nodes - names)]
    rng.shuffle(kinds)
    made = []
    for place, name in enumerate(kinds):
        size = int(65536 * 2.0 ** -(4 * place // nodes)) * (1 + NAMES.index(name))
        inputs = [place - 1] if place else []
        if place > 2 and rng.random() < 0.25:
            inputs.append(int(rng.integers(0, place - 1)))
        made.append(Operation(name, size, tuple(inputs)))
    return Graph(tuple(made))


def generated_encoding(seed: int, *, backends: int = 2, names: int = 5, nodes: int = 14, mode: Mode = "name") -> Encoding:
    return encode(generated_graph(np.random.default_rng(seed), nodes, names), BACKENDS[:backends], mode)


class Costs:
    """What assignments cost: time of each operation, of each edge that changes backends, of what is not fused; peak memory.

    ``live``: memory is the largest over the run of what lives then; otherwise a sum. ``noise``: relative.
    """

    def __init__(self, encoding: Encoding, kind: str, seed: int, noise: float = 0.01) -> None:
        rng = np.random.default_rng([seed, 7])
        self.encoding, self.kind, self.noise, self.seed = encoding, kind, noise, seed
        assert encoding.graph is not None
        nodes, base = encoding.graph.nodes, encoding.base
        sizes = np.array([node.size for node in nodes]) / 65536
        names = [NAMES.index(node.name) for node in nodes]
        speed = rng.lognormal(0.0, 0.8, (len(NAMES), base))[names]
        self.time = sizes[:, None] * rng.lognormal(0.5, 0.8, len(NAMES))[names][:, None] * speed
        self.time = self.time * rng.lognormal(0.0, 0.15, (len(nodes), base))
        self.transition = rng.lognormal(-1.5, 0.7, (base, base)) * (1 - np.eye(base))
        self.fused = rng.lognormal(-2.0, 0.5, base)
        self.work = 4000 * sizes[:, None] * rng.lognormal(0.0, 1.0, (len(NAMES), base))[names]
        self.library = 3000 * rng.lognormal(0.0, 0.8, base)
        self.sizes = sizes
        self.unsupported = {(int(rng.integers(0, 2)), base - 1)} if kind == "unsupported" else set()
        self.table = rng.lognormal(0.0, 0.6, (encoding.size, 2)) if kind == "iid" else None
        self.hidden = encoding.digits(int(rng.integers(0, encoding.size)))

    def __call__(self, id_: int) -> Evaluation:
        digits = self.encoding.digits(id_)
        if any((symbol, place) in self.unsupported for symbol, place in enumerate(digits)):
            return Evaluation(id_, error="RuntimeError: unsupported operation")
        noise = np.random.default_rng([self.seed, id_ % 2**32]).normal(1.0, self.noise, 2)
        time, memory = self._values(id_, digits) * np.maximum(noise, 0.5)
        return Evaluation(id_, float(time), float(memory))

    def _values(self, id_: int, digits: tuple[int, ...]) -> np.ndarray:
        if self.table is not None:
            return self.table[id_] * [10, 20000]
        graph = self.encoding.graph
        assert graph is not None
        chosen = [digits[symbol] for symbol in self.encoding.nodes]
        time = sum(self.time[node, backend] for node, backend in enumerate(chosen))
        peak, total, live = 0.0, 0.0, 0.0
        for node, operation in enumerate(graph.nodes):
            for source in operation.inputs:
                if chosen[source] != chosen[node]:
                    time += self.transition[chosen[source], chosen[node]] * (0.1 + self.sizes[source])
                elif {operation.name, graph.nodes[source].name} & {"Relu", "Norm", "Add"}:
                    time -= self.fused[chosen[node]] * min(0.3, self.sizes[source])
            live = 2000 * self.sizes[node] + sum(2000 * self.sizes[source] for source in operation.inputs)
            peak = max(peak, live + self.work[node, chosen[node]])
            total += self.work[node, chosen[node]]
        memory = 20000 + sum(self.library[backend] for backend in set(chosen)) + (total if self.kind == "sums" else peak)
        time = max(time, 0.05)
        if self.kind == "parity":  # no term of one or two symbols explains this
            time *= 1.0 + 1.5 * (sum(digits) % 2)
            memory *= 1.0 + 0.5 * (sum(d * (1 + i % 2) for i, d in enumerate(digits)) % 3)
        if self.kind == "trap":  # what is learned elsewhere leads away from the one assignment that beats all
            near = sum(a == b for a, b in zip(digits, self.hidden, strict=True))
            if near == len(digits):
                time, memory = 0.2 * time, 0.6 * memory
        return np.array([time, memory])


def generated_table(
    kind: str, seed: int, *, backends: int = 2, names: int = 5, nodes: int = 14, mode: Mode = "name", noise: float = 0.01
) -> Table:
    encoding = generated_encoding(seed, backends=backends, names=names, nodes=nodes, mode=mode)
    costs = Costs(encoding, kind, seed, noise)
    return Table(encoding, {id_: costs(id_) for id_ in range(encoding.size)})
