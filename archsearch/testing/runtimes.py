"""What a runtime must do, as tests: see ``archsearch.profile.runtimes.Runtime``."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import pytest

from archsearch.jobs import InputError
from archsearch.profile.graph import Graph
from archsearch.profile.measurement import Profile
from archsearch.profile.models import Loaded, Model
from archsearch.profile.protocol import describe, device_environment, measure
from archsearch.profile.runtimes import Runtime, Unsupported, runtime
from archsearch.profile.runtimes.face import deviation
from archsearch.profile.settings import Settings, Subject

#: Names the model of these tests for a process that measures.
MODEL = Model("function", "archsearch.testing.runtimes:small_model", "small model")

#: As little as shows that the runtime works in processes of its own.
SHORT = Settings(launches=1, rounds=2, runs=4, seconds=0.0, warmup=0.2, memory_runs=1, repeats=0, patience=0.0)


def small_model() -> tuple[Any, Any]:
    """A module with the usual operations, two branches among them, and its input (1, 3, 12, 12)."""
    import torch
    from torch import nn

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)
            self.depthwise = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([torch.relu(self.conv(x) + x), self.depthwise(x)], dim=1)

    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), Branches(), *head)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in model.parameters():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return model.eval(), torch.randn((1, 3, 12, 12), generator=generator)


class RuntimeContract:
    """Derive from it and set ``name``. ``tolerance`` is the largest deviation from the reference, as a share of its greatest
    value, that a runtime of this precision may have."""

    name: ClassVar[str]
    tolerance: ClassVar[float] = 1e-4

    @pytest.fixture(scope="class")
    def used(self) -> Runtime:
        found = runtime(self.name)
        found.settle(1)
        return found

    @pytest.fixture(scope="class")
    def model(self) -> Loaded:
        module, inputs = small_model()
        return Loaded(module, (inputs.numpy(),))

    def test_it_has_its_name_and_its_backends_in_a_fixed_order(self, used: Runtime) -> None:
        assert used.name == self.name
        assert used.backends and len(set(used.backends)) == len(used.backends)
        assert used.backends == runtime(self.name).backends
        assert used.packages, "without versions in the fingerprint, figures of two versions would be taken for the same"

    def test_the_graph_follows_from_the_content(self, used: Runtime, model: Loaded) -> None:
        graph = used.graph(model)
        assert graph.nodes and all(node.size > 0 and node.name for node in graph.nodes)
        module, inputs = small_model()
        assert used.graph(Loaded(module, (inputs.numpy(),))) == graph
        assert Graph.from_json(graph.to_json()) == graph
        reads = [source for node in graph.nodes for source in node.inputs]
        assert len(set(reads)) == len(graph.nodes) - 1, "every operation but the last is read by another"

    def test_it_tells_what_it_supports(self, used: Runtime, model: Loaded) -> None:
        for node in used.graph(model).nodes:
            assert any(used.supports(node, backend) for backend in used.backends), node
            assert not used.supports(node, "no such backend")

    def test_its_own_choice_computes_what_the_model_computes(self, used: Runtime, model: Loaded) -> None:
        compiled = used.compile(model, None)
        assert compiled.file_size > 0
        kept = [each.copy() for each in model.inputs]
        for inputs in (model.inputs, tuple(-2 * each for each in model.inputs)):
            with_torch = _reference(model.module, inputs)
            for _ in range(2):
                found = compiled.fetch(compiled.run(compiled.load(inputs)))
                assert deviation(found, with_torch) <= self.tolerance
        assert all(np.array_equal(a, b) for a, b in zip(kept, model.inputs, strict=True)), "the inputs were written to"

    def test_every_backend_computes_what_the_model_computes(self, used: Runtime, model: Loaded) -> None:
        """Each by itself wherever it can, and all mixed, one after another: also where two meet nothing is lost."""
        graph, reference = used.graph(model), _reference(model.module, model.inputs)
        able = [[name for name in used.backends if used.supports(node, name)] for node in graph.nodes]
        plans = [[name if name in names else names[0] for names in able] for name in used.backends]
        plans.append([names[index % len(names)] for index, names in enumerate(able)])
        for plan in plans:
            compiled = used.compile(model, plan)
            found = compiled.fetch(compiled.run(compiled.load(model.inputs)))
            assert deviation(found, reference) <= self.tolerance, plan

    def test_an_assignment_that_does_not_fit_is_refused_and_says_why(self, used: Runtime, model: Loaded) -> None:
        graph = used.graph(model)
        with pytest.raises(InputError, match=f"{len(graph.nodes)} operations"):
            used.compile(model, [used.backends[0]] * (len(graph.nodes) + 1))
        with pytest.raises(InputError, match="no such backend"):
            used.compile(model, ["no such backend"] * len(graph.nodes))
        for backend in used.backends:
            lacking = [node for node in graph.nodes if not used.supports(node, backend)]
            if lacking:
                with pytest.raises(Unsupported) as refused:
                    used.compile(model, [backend] * len(graph.nodes))
                assert refused.value.operation == lacking[0]
                assert backend in str(refused.value) and lacking[0].name in str(refused.value)

    def test_it_is_measured_in_processes_of_its_own(self, used: Runtime, model: Loaded) -> None:
        described = describe(MODEL, self.name, SHORT)
        assert described.graph == used.graph(model) and described.backends == used.backends
        found = measure([Subject(MODEL, self.name)], SHORT)[0]
        assert isinstance(found, Profile), found
        assert found.runtime == self.name and found.latency.median > 0 and found.latency.runs >= SHORT.runs
        assert found.fingerprint == device_environment(self.name, SHORT)[0]
        assert found.load_memory is not None and found.load_memory.median > 0


def _reference(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    import torch

    with torch.inference_mode():
        return (module(*(torch.from_numpy(each) for each in inputs)).numpy(),)
