"""onnxruntime and OpenVINO: the contract suite, ONNX files as PyTorch's exporter writes them, segments, what cannot run."""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from profile_models import named

from archsearch.arch import seed_architecture
from archsearch.cli import main
from archsearch.jobs import InputError
from archsearch.profile import prepared as preparing
from archsearch.profile import process
from archsearch.profile.assignment.live import ModelProblem
from archsearch.profile.graph import Graph, Operation
from archsearch.profile.measurement import Profile
from archsearch.profile.models import Loaded, Model, architecture_model, load_model, read_model
from archsearch.profile.onnx_export import export
from archsearch.profile.onnx_files import inputs_of, reference_outputs
from archsearch.profile.prepared import cache, prepared
from archsearch.profile.protocol import measure
from archsearch.profile.runtimes import face, runtime
from archsearch.profile.runtimes import onnxruntime as onnxruntime_module
from archsearch.profile.runtimes.face import deviation
from archsearch.profile.runtimes.segments import segments
from archsearch.profile.settings import Failed, Settings, Subject
from archsearch.testing import RuntimeContract

ONCE = Settings(launches=1, rounds=2, runs=4, seconds=0.0, warmup=0.2, memory_runs=0, repeats=0, patience=0.0)


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCHSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class TestOnnxRuntime(RuntimeContract):
    name = "onnxruntime"


class TestOpenVino(RuntimeContract):
    name = "openvino"


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """A network with an operation that OpenVINO lacks, its batch left open, its weights in a file beside."""
    import torch
    from torch import nn

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1, groups=8), nn.MaxPool2d(2))
            self.head = nn.Linear(8, 300)

        def forward(self, x):
            return self.head(torch.linalg.det(self.body(x)))

    path = tmp_path_factory.mktemp("net") / "net.onnx"
    shapes = ({0: torch.export.Dim("batch")},)
    made = torch.onnx.export(Net().eval(), (torch.ones(2, 3, 12, 12),), dynamo=True, dynamic_shapes=shapes, verbose=False)
    made.save(path, external_data=True)
    assert (path.parent / "net.onnx.data").stat().st_size > 4 * 8 * 300
    return path


def test_an_onnx_file_is_measured_and_what_cannot_run_is_named(net):
    """As a whole, in segments of both, and where an operation lacks a backend; what cannot run stops nothing else."""
    model = read_model(str(net))
    problem = ModelProblem(model, "onnxruntime", mode="name", settings=Settings(memory_runs=1))
    names = [node.name for node in problem.described.graph.nodes]
    assert names == ["Conv2D", "ReLU", "DepthwiseConv2D", "Pool2D", "Det", "Linear"]
    assert problem.described.backends == ("onnxruntime", "openvino")
    assert problem.described.graph.nodes[0].size == 4 * (3 * 12 * 12 + 8 * 3 * 9 + 8 + 8 * 6 * 6), "a batch of one"
    good = tuple("onnxruntime" if name == "Det" else "openvino" for name in names)
    subjects = [
        Subject(model, "onnxruntime"),
        Subject(model, "onnxruntime", good),
        Subject(model, "onnxruntime", (*good[:4], "openvino", "onnxruntime")),
        Subject(model, "openvino"),
    ]
    whole, mixed, *lacking = measure(subjects, ONCE)
    for found in (whole, mixed):
        assert isinstance(found, Profile) and found.latency.median > 0, found
        assert found.about["deviation"] < 1e-4
    size = sum(each.stat().st_size for each in net.parent.iterdir())
    assert whole.about["file_size"] == size and whole.runtime == "onnxruntime"
    for found in lacking:
        assert isinstance(found, Failed) and found.kind == "unsupported"
        assert "'openvino' cannot run operation 4 (Det): No conversion rule found for operations: Det" in found.message


def test_inputs_are_made_from_what_a_file_declares(net, tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto
    (first,), (again,), (two,) = inputs_of(net, 1), inputs_of(net, 1), inputs_of(net, 2)
    assert first.shape == (1, 3, 12, 12) and two.shape == (2, 3, 12, 12) and first.dtype == np.float32
    assert np.array_equal(first, again) and 0.8 < first.std() < 1.2

    def declared(kind: int, shape: list[object] | None) -> Path:
        make = helper.make_tensor_sequence_value_info if shape is None else helper.make_tensor_value_info
        node = helper.make_node("Identity", ["x"], ["y"])
        graph = helper.make_graph([node], "g", [make("x", kind, shape or [1])], [make("y", kind, shape or [1])])
        path = tmp_path / "declared.onnx"
        path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString())
        return path

    (tokens,) = inputs_of(declared(kinds.INT64, ["n", 7, "n"]), 3)
    assert tokens.shape == (3, 7, 3) and set(tokens.flat) <= {0, 1} and tokens.dtype == np.int64
    for kind, shape, said in (
        (kinds.FLOAT, ["n", 3, "h", 4], r"shape \(n, 3, h, 4\): only its first size may be open.*--dim_param h"),
        (kinds.FLOAT, None, "is no tensor of a known shape"),
        (kinds.STRING, [1], "holds no numbers"),
    ):
        path = declared(kind, shape)
        with pytest.raises(InputError, match=said):
            measure([Subject(Model("onnx", str(path), "declared"), "onnxruntime")], ONCE)


def test_cuts_keep_constants_inner_graphs_and_functions(tmp_path):
    """Whichever way it is cut: values that an inner graph takes from around it, constants that several read, a function."""
    onnx = pytest.importorskip("onnx")
    helper, kinds = onnx.helper, onnx.TensorProto

    def value(name: str, kind: int, shape: list[int]) -> object:
        return helper.make_tensor_value_info(name, kind, shape)

    def branch(op: str, *names: str) -> object:
        node = helper.make_node(op, list(names), [f"{op}_out"])
        return helper.make_graph([node], op, [], [value(f"{op}_out", kinds.FLOAT, [2, 3])])

    constant = helper.make_tensor("half", kinds.FLOAT, [1], [0.5])
    nodes = [
        helper.make_node("Constant", [], ["half"], value=constant),
        helper.make_node("Neg", ["half"], ["minus"]),
        helper.make_node("Mul", ["x", "half"], ["a"]),
        helper.make_node("Twice", ["a"], ["b"], domain="mine"),
        helper.make_node("ReduceSum", ["b"], ["s"], keepdims=0),
        helper.make_node("Greater", ["s", "zero"], ["c"]),
        helper.make_node("If", ["c"], ["d"], then_branch=branch("Add", "a", "minus"), else_branch=branch("Sub", "b", "w")),
        helper.make_node("Relu", ["d"], ["y"]),
    ]
    weights = [helper.make_tensor("zero", kinds.FLOAT, [], [0.0]), helper.make_tensor("w", kinds.FLOAT, [3], [1.0, -2.0, 3.0])]
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("mine", 1)]
    twice = helper.make_function("mine", "Twice", ["v"], ["u"], [helper.make_node("Add", ["v", "v"], ["u"])], opsets[:1])
    io = [value("x", kinds.FLOAT, [2, 3])], [value("y", kinds.FLOAT, [2, 3]), value("a", kinds.FLOAT, [2, 3])]
    graph = helper.make_graph(nodes, "g", *io, weights)
    path = tmp_path / "inner.onnx"
    onnx.save_model(helper.make_model(graph, functions=[twice], opset_imports=opsets, ir_version=10), path)
    read_model(str(path))
    used = runtime("onnxruntime")
    used.settle(1)
    for first, sign in enumerate((1, -1)):
        inputs = (sign * np.abs(inputs_of(path, 1)[0]),)
        model, reference = Loaded(None, inputs, path), reference_outputs(path, inputs)
        assert [(node.name, node.inputs) for node in used.graph(model).nodes] == [
            ("Mul", ()), ("Add", (0,)), ("ReduceSum", (1,)), ("Greater", (2,)), ("If", (3, 1, 0)), ("ReLU", (4,))
        ]  # fmt: skip
        for digits in range(first, 64, 7):
            plan = [used.backends[digits >> place & 1] for place in range(6)]
            compiled = used.compile(model, plan)
            assert deviation(compiled.fetch(compiled.run(compiled.load(inputs))), reference) < 1e-6, plan


def test_segments_hold_each_operation_once_in_an_order_that_runs():
    fire = Graph(tuple(Operation("x", 1, inputs) for inputs in ((), (0,), (0,), (1,), (2,), (3, 4))))
    found = [(segment.backend, segment.nodes) for segment in segments(fire, ["a", "b", "b", "a", "a", "a"])]
    assert found == [("a", (0,)), ("b", (1, 2)), ("a", (3, 4, 5))], "branches that change at one depth change together"
    for seed in range(200):
        draw = random.Random(seed)
        reads = [tuple(sorted(draw.sample(range(i), min(i, draw.randrange(4))))) for i in range(draw.randrange(1, 15))]
        graph = Graph(tuple(Operation("x", 1, inputs) for inputs in reads))
        assignment = [draw.choice("abc") for _ in reads]
        made = list(segments(graph, assignment))
        order = [index for segment in made for index in segment.nodes]
        assert sorted(order) == list(range(len(reads)))
        assert all(order.index(source) < order.index(index) for index in order for source in reads[index])
        assert all(assignment[index] == segment.backend for segment in made for index in segment.nodes)
        assert all(first.backend != second.backend for first, second in itertools.pairwise(made))


def test_a_model_is_exported_once(monkeypatch, tmp_path):
    """The next to ask, for either runtime, finds what the first has made, unless it was damaged. All write the same."""
    monkeypatch.setenv("ARCHSEARCH_CACHE", str(tmp_path))
    model = architecture_model(seed_architecture((3, 8, 8), 10, cells=1, reductions=0, nodes=1, channels=4).to_json())
    used = runtime("onnxruntime")
    first = prepared(model, used, ONCE)
    assert isinstance(first, Model) and first.name == model.name
    loaded, built = load_model(first, 1), load_model(model, 1)
    assert loaded.module is None and np.array_equal(loaded.inputs[0], built.inputs[0])
    export(built.module, built.inputs, tmp_path / "again.onnx")
    content = (tmp_path / "again.onnx").read_bytes()
    assert loaded.file.read_bytes() == content
    assert deviation(reference_outputs(loaded.file, loaded.inputs), loaded.reference) < 1e-5
    with monkeypatch.context() as patch:
        patch.setattr(preparing, "Child", lambda *_: pytest.fail("a process was started"))
        assert prepared(model, used, ONCE) == first == prepared(model, runtime("openvino"), ONCE)
        with pytest.raises(pytest.fail.Exception):
            prepared(model, used, Settings(batch=2))
    for name, used_at in (("making-killed", 1.0), ("making-another", time.time())):
        (cache() / name).mkdir()
        os.utime(cache() / name, (used_at, used_at))
    loaded.file.write_bytes(content[:-1] + b"x")
    assert prepared(model, used, ONCE) == first and loaded.file.read_bytes() == content, "made again"
    assert {*os.listdir(cache())} == {Path(first.value).name, "making-another"}, "nothing half made is left"
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("ARCHSEARCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"which cannot be written .*: set ARCHSEARCH_CACHE to a folder"):
        prepared(model, used, ONCE)


def test_a_runtime_that_is_not_installed_names_its_extra(monkeypatch):
    def without(name: str):
        return lambda package: None if package == name else "1"

    monkeypatch.setattr(face, "installed", without("onnxruntime"))
    for name, extra in (("onnxruntime", "ort"), ("openvino", "openvino")):
        with pytest.raises(InputError, match=rf"needs onnxruntime, not installed here: pip install 'archsearch\[{extra}\]'"):
            runtime(name)
    monkeypatch.setattr(face, "installed", without("openvino"))
    monkeypatch.setattr(onnxruntime_module, "installed", without("openvino"))
    assert runtime("onnxruntime").backends == ("onnxruntime",)
    with pytest.raises(InputError, match="needs openvino"):
        runtime("openvino")


def test_what_does_not_fit_is_refused_before_anything_starts(net, monkeypatch, capsys, tmp_path):
    onnx = pytest.importorskip("onnx")
    monkeypatch.setattr(process, "command", lambda: pytest.fail("a process was started"))
    monkeypatch.setenv("ARCHSEARCH_CACHE", str(tmp_path / "cache"))
    (tmp_path / "model").mkdir()
    (tmp_path / "net.onnx.data").write_bytes((net.parent / "net.onnx.data").read_bytes())
    outside = onnx.load(net, load_external_data=False)
    for tensor in outside.graph.initializer:
        for entry in tensor.external_data:
            entry.value = "../net.onnx.data" if entry.key == "location" else entry.value
    path = tmp_path / "model" / "net.onnx"
    path.write_bytes(outside.SerializeToString())
    with pytest.raises(InputError, match="outside the model's folder"):
        measure([Subject(Model("onnx", str(path), "net"), "onnxruntime")], ONCE)
    for words, said in (
        (("profile", path, "--runtime", "openvino"), "outside the model's folder"),
        (("assign", path, "--runtime", "onnxruntime"), "outside the model's folder"),
        (("profile", net), "'pytorch' runs PyTorch's modules, not ONNX files"),
        (("assign", net), "for the runtime onnxruntime or openvino"),
    ):
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in words])
        assert left.value.code == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "cache").exists()


def test_openvino_tells_nobody_that_it_is_used():
    runtime("openvino").settle(1)
    assert "openvino" in sys.modules and sys.modules["openvino_telemetry"] is None


def test_a_module_that_cannot_be_exported_says_so(tmp_path):
    model = load_model(named("deciding"), 1)
    with pytest.raises(InputError, match="cannot be written as ONNX: "):
        export(model.module, model.inputs, tmp_path / "net.onnx")
    assert not list(tmp_path.iterdir())
