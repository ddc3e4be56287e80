"""PyTorch's runtimes: the contract suite, and that each backend is the code path that it is called after."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest
from profile_models import named

from archsearch.arch import seed_architecture
from archsearch.jobs import InputError
from archsearch.profile.graph import Graph, Operation
from archsearch.profile.models import Loaded, architecture_model, load_model
from archsearch.profile.runtimes import Unsupported, runtime
from archsearch.profile.runtimes.face import deviation
from archsearch.testing import RuntimeContract


class TestPyTorch(RuntimeContract):
    name = "pytorch"


@pytest.mark.soak
class TestPyTorchCompile(RuntimeContract):
    name = "pytorch-compile"


class TestPyTorchCuda(RuntimeContract):
    name = "pytorch-cuda"
    tolerance = 1e-2  # TF32

    @pytest.fixture(scope="class", autouse=True)
    def _gpu(self):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no GPU here")


class TestPyTorchCudaGraph(TestPyTorchCuda):
    name = "pytorch-cuda-graph"


def test_without_a_gpu_its_runtimes_say_so():
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    with pytest.raises(InputError, match="'pytorch-cuda-graph' needs a GPU"):
        runtime("pytorch-cuda-graph")


@pytest.fixture(scope="module")
def network():
    arch = seed_architecture((3, 16, 16), 10, cells=3, reductions=1, nodes=2, channels=4)
    return load_model(architecture_model(arch.to_json()), 1)


KERNELS = {
    "onednn": "aten::mkldnn_convolution",
    "channels_last": "aten::mkldnn_convolution",
    "native": "aten::_slow_conv2d_forward",
    "nnpack": "aten::_nnpack_spatial_convolution",
}


@pytest.mark.parametrize("backend", KERNELS)
def test_each_backend_runs_its_own_kernel(backend):
    """As PyTorch's own profiler sees it; the convolution's output lies in memory as the backend has it."""
    import torch
    from torch import nn

    used = runtime("pytorch")
    used.settle(1)
    if backend not in used.backends:
        pytest.skip(f"{backend} is not available on this processor")
    module = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()).eval()
    inputs = torch.randn(1, 8, 64, 64)  # so large that PyTorch itself would choose oneDNN
    compiled = used.compile(
        Loaded(module, (inputs.numpy(),)), [backend, "channels_last" if backend == "channels_last" else "onednn"]
    )
    given = compiled.load((inputs.numpy(),))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as seen:
        output = compiled.run(given)
    ran = {event.key for event in seen.key_averages()} & set(KERNELS.values())
    assert ran == {KERNELS[backend]}
    assert output.is_contiguous(memory_format=torch.channels_last) == (backend == "channels_last")
    assert torch._C._get_mkldnn_enabled() and torch._C._get_nnpack_enabled(), "switched off for this operation only"


def test_maps_are_laid_out_anew_where_two_backends_meet():
    import torch
    from torch import nn

    used = runtime("pytorch")
    module, inputs = nn.Sequential(nn.Conv2d(8, 16, 3), nn.ReLU()).eval(), (torch.randn(1, 8, 12, 12).numpy(),)
    for first, second in itertools.permutations(("onednn", "channels_last", "native"), 2):
        compiled = used.compile(Loaded(module, inputs), [first, second])
        output = compiled.run(compiled.load(inputs))
        assert output.is_contiguous(memory_format=torch.channels_last) == (second == "channels_last")


def test_a_networks_operations(network):
    """Names, edges and sizes of the cell space; the identity is none, and the same from a network built anew."""
    graph = runtime("pytorch").graph(network)
    names = [node.name for node in graph.nodes]
    assert {"Conv2D", "DepthwiseConv2D", "BatchNorm", "ReLU", "Add", "Concat", "Pad", "Pool2D", "Reshape", "Linear"} == set(
        names
    )
    assert names[0] == "Conv2D" and names[-1] == "Linear" and graph.nodes[-1].inputs == (len(names) - 2,)
    stem = graph.nodes[0]
    assert stem.inputs == () and stem.size == 4 * (3 * 16 * 16 + 3 * 4 * 9 + 4 * 16 * 16)
    assert all(len(node.inputs) == 2 for node in graph.nodes if node.name in ("Add", "Concat"))
    again = load_model(architecture_model(network.module.arch.to_json()), 1)
    assert runtime("pytorch").graph(again) == graph


def test_any_mixture_computes_the_same_and_holds_its_weights_once(network):
    used = runtime("pytorch")
    used.settle(1)
    graph = used.graph(network)
    plain = used.compile(network, None)
    reference = plain.fetch(plain.run(plain.load(network.inputs)))
    before = [tensor.stride() for tensor in network.module.state_dict().values()]
    for seed in range(4):
        draw = random.Random(seed)
        plan = [draw.choice([name for name in used.backends if used.supports(node, name)]) for node in graph.nodes]
        compiled = used.compile(network, plan)
        assert deviation(compiled.fetch(compiled.run(compiled.load(network.inputs))), reference) < 1e-5
        assert compiled.file_size == plain.file_size
    assert [tensor.stride() for tensor in network.module.state_dict().values()] == before, "the model itself was changed"


def test_functions_are_operations_too():
    """Convolutions and methods written out in a model's code, with weights of its own."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Written(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Identity()
            self.kernel = nn.Parameter(torch.randn(4, 3, 3, 3))

        def forward(self, x):
            y = F.conv2d(self.inner(x), self.kernel, padding=1)
            return (F.relu(y) + y.clamp(min=0.1)).flatten(1)

    used, model = runtime("pytorch"), Loaded(Written().eval(), (torch.randn(1, 3, 9, 9).numpy(),))
    used.settle(1)
    graph = used.graph(model)
    assert [(node.name, node.inputs) for node in graph.nodes] == [
        ("Conv2D", ()), ("ReLU", (0,)), ("clamp", (0,)), ("Add", (1, 2)), ("Reshape", (3,))
    ]  # fmt: skip
    plain = used.compile(model, None)
    reference = plain.fetch(plain.run(plain.load(model.inputs)))
    for plan in (["native"] * 5, ["channels_last", "native"] * 2 + ["onednn"]):
        compiled = used.compile(model, plan)
        assert deviation(compiled.fetch(compiled.run(compiled.load(model.inputs))), reference) < 1e-5
    with pytest.raises(Unsupported, match="not a plain Conv2d module"):
        used.compile(model, ["nnpack"] + ["native"] * 4)


def test_what_a_backend_cannot_do_is_named():
    import torch
    from torch import nn

    used = runtime("pytorch")
    used.settle(1)
    if "nnpack" not in used.backends:
        pytest.skip("NNPACK is not available on this processor")
    wide = Loaded(nn.Sequential(nn.Conv2d(2, 2, 3, padding=3)).eval(), (torch.zeros(1, 2, 8, 8).numpy(),))
    with pytest.raises(Unsupported, match=r"'nnpack' cannot run operation 0 \(Conv2D\): NNPACK pads by less"):
        used.compile(wide, ["nnpack"])
    dilated = Loaded(nn.Sequential(nn.Conv2d(2, 2, 3, dilation=2)).eval(), wide.inputs)
    with pytest.raises(Unsupported, match="DilatedConv2D"):
        used.compile(dilated, ["nnpack"])


def test_what_is_no_number_is_never_near_the_reference():
    """In none of the outputs; and differences are those of numbers, in whichever type these are."""
    ones, holes = np.ones(3, np.float32), np.array([1, np.nan, 1], np.float32)
    endless = (ones * np.inf,)
    for outputs, reference in (((ones, holes), (ones, ones)), ((ones, ones), (ones, holes)), (endless, endless)):
        assert deviation(outputs, reference) == float("inf")
    assert deviation((ones, ones + 1), (ones, ones * 4)) == 0.5
    assert deviation((np.array([1], np.uint8),), (np.array([2], np.uint8),)) == 0.5
    assert deviation((np.array([True, False]),), (np.array([True, True]),)) == 1.0
    assert deviation((np.zeros((0, 3)),), (np.zeros((0, 3)),)) == 0.0 and deviation((ones,), (ones[:2],)) == float("inf")


def test_a_model_whose_code_cannot_be_followed_still_runs_as_a_whole():
    used, model = runtime("pytorch"), load_model(named("deciding"), 1)
    used.settle(1)
    assert used.compile(model, None).run(used.compile(model, None).load(model.inputs)).shape == (1, 4)
    with pytest.raises(InputError, match=r"cannot be followed.*measured as a whole"):
        used.graph(model)


def test_a_graph_goes_to_json_and_back_and_refuses_what_is_none():
    graph = Graph((Operation("Conv2D", 12), Operation("Add", 8, (0, 0))))
    assert Graph.from_json(graph.to_json()) == graph
    with pytest.raises(InputError, match=r"operation 0 \(Add\) reads \[1\]"):
        Graph((Operation("Add", 8, (1,)), Operation("ReLU", 8)))
    with pytest.raises(InputError, match="expected a list of"):
        Graph.from_json([["Conv2D", 12]])
