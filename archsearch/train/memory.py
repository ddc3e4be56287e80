"""How much memory of a device a job needs, from its spec alone: so that several can share one. Loads no torch."""

from __future__ import annotations

from archsearch.arch import Architecture, Cost, cost, grow_node, growth_candidates
from archsearch.jobs import JSON
from archsearch.train.section import TrainSection, WeakLearnerSection

#: Bytes that any process holds of a CUDA device before its first step: context and kernels, and libraries' workspaces.
CONTEXT = 1 << 30

#: Activations kept for the backward pass, gradients in flight, temporaries of a layer: a multiple of all layers' outputs.
STEP = 1.25

#: Copies of each parameter in float32, besides the weights: the gradient, and what the optimizer keeps.
_COPIES = {"sgd": 2, "adamw": 3}

#: Images of an evaluation's batch at most (see ``evaluate``), and the share of all layers' outputs that lives at one time.
_EVALUATED, _ALIVE = 1024, 0.125


def device_memory(work: str, spec: JSON, data: int) -> int | None:
    """Bytes of a device that a job of the works of ``train.work`` needs at most, or None for other works.

    Reckoned for float32, so about twice what bf16 takes.

    Args:
        data: bytes of the data set, which lies on the device.
    """
    if work == "train":
        train = TrainSection.model_validate(spec["train"])
        copies = 1 + _COPIES[train.optimizer] + (train.keep == "best")
        return CONTEXT + data + _step(cost(Architecture.from_json(spec["arch"])), train.batch_size, copies)
    if work == "petridish":
        learner = WeakLearnerSection.model_validate(spec["learner"])
        return CONTEXT + data + _step(_with_candidates(spec["arch"], learner.primitives), learner.batch_size, 4)
    if work == "test":
        found = cost(Architecture.from_json(spec["arch"]))
        return CONTEXT + data + 4 * found.params + int(_EVALUATED * _ALIVE * found.activation_bytes)
    return None


def _step(found: Cost, batch: int, copies: int) -> int:
    """Bytes of a training step or of an evaluation, whichever is more, with so many copies of each parameter in all."""
    return 4 * found.params * copies + int(max(STEP * batch, _ALIVE * _EVALUATED) * found.activation_bytes)


def _with_candidates(arch: JSON, primitives: tuple[str, ...] | None) -> Cost:
    """What a network costs with every candidate of a search task attached: they are the edges of one more node a cell."""
    parent = Architecture.from_json(arch)
    edges = {name: growth_candidates(parent, name, primitives) for name in parent.cells}
    return cost(grow_node(parent, {name: [edge for edge in found if edge.op != "none"] for name, found in edges.items()}))
