"""onert: the contract suite, that each operation runs where it is told to, and that names and places are ONE's own."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from profile_models import HERE, named

from archsearch.arch import seed_architecture
from archsearch.cli import main
from archsearch.jobs import InputError
from archsearch.profile.assignment.encoding import encode
from archsearch.profile.models import Loaded, Model, architecture_model, load_model
from archsearch.profile.prepared import prepared
from archsearch.profile.runtimes import Unsupported, runtime
from archsearch.profile.runtimes.face import deviation
from archsearch.profile.settings import Settings
from archsearch.testing import RuntimeContract
from archsearch.testing.runtimes import MODEL, SHORT

pytest.importorskip("onert")
pytest.importorskip("tico")

from archsearch.profile.runtimes.circle import circle_graph
from archsearch.profile.runtimes.onert import KERNELS, Session


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory):
    """A place of this file's own for exported models."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ARCHSEARCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


class TestOnert(RuntimeContract):
    name = "onert"


@pytest.fixture(scope="module")
def used():
    found = runtime("onert")
    found.settle(1)
    return found


@pytest.fixture(scope="module")
def many():
    return load_model(named("many_kinds"), 1)


def all_of(graph, kind: str) -> list[str]:
    return ["ruy" if node.name == kind else "cpu" for node in graph.nodes]


@pytest.fixture(scope="module")
def ran(used, many, tmp_path_factory):
    """What onert's own trace says of some sessions: which backend ran each operation. It is written when a process ends."""
    folder, graph = tmp_path_factory.mktemp("trace"), used.graph(many)
    requests = {kind: {"assignment": all_of(graph, kind)} for kind in ("Conv2D", "FullyConnected")}
    requests["inherited"] = {"assignment": None, "variables": {"OP_BACKEND_Conv2D": "ruy"}}
    for mode in ("name", "index"):
        encoding = encode(graph, used.backends, mode)
        variables = dict(each.split("=", 1) for each in shlex.split(encoding.environment(id_of(encoding, graph))))
        assert set(variables) - {"BACKENDS"} in ({"OP_BACKEND_MAP"}, {f"OP_BACKEND_{node.name}" for node in graph.nodes})
        requests[mode] = {"variables": variables, "backends": variables["BACKENDS"]}
    done = subprocess.run(
        [sys.executable, str(HERE / "onert_runs.py")],
        input=json.dumps(list(requests.values())),
        text=True,
        capture_output=True,
        env={**os.environ, "TRACING_MODE": "1", "WORKSPACE_DIR": str(folder), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr
    found = {name: dict[int, str]() for name in requests}
    for event in json.loads((folder / "trace.chrome.json").read_text())["traceEvents"]:
        if event.get("ph") == "B" and event["name"].startswith("@"):
            session, *_, backend = event["tid"].split(", ")  # "$0 sess, $0 subg, cpu"
            place = int(event["name"][1:].split(" ")[0])
            found[[*requests][int(session[1:].split(" ")[0])]][place] = backend
    return {name: [places[place] for place in range(len(graph.nodes))] for name, places in found.items()}


def id_of(encoding, graph) -> int:
    """The id of all convolutions on ruy and the rest on cpu."""
    plan = all_of(graph, "Conv2D")
    return encoding.id(encoding.backends.index(plan[encoding.nodes.index(symbol)]) for symbol in range(len(encoding.symbols)))


def test_each_operation_runs_on_its_backend(used, many, ran):
    graph = used.graph(many)
    kinds = {node.name for node in graph.nodes}
    assert {"Conv2D", "DepthwiseConv2D", "FullyConnected", "Pool2D", "ElementwiseActivation", "BinaryArithmetic"} < kinds
    for kind in ("Conv2D", "FullyConnected"):
        assert ran[kind] == all_of(graph, kind) and "ruy" in ran[kind]


def test_the_users_own_choice_of_backends_is_not_taken_for_the_runtimes(ran):
    assert set(ran["inherited"]) == {"cpu"}


@pytest.mark.parametrize("mode", ["name", "index"])
def test_a_configuration_is_one_that_onert_takes(used, many, mode, ran):
    """The text of ``configs`` in the environment, and onert runs each operation where the id says."""
    graph = used.graph(many)
    encoding = encode(graph, used.backends, mode)
    assert tuple(ran[mode]) == encoding.backends_of(id_of(encoding, graph)) == tuple(all_of(graph, "Conv2D"))


def test_the_environment_is_as_it_was(used, many, monkeypatch):
    monkeypatch.setenv("OP_BACKEND_Conv2D", "ruy")
    before = dict(os.environ)
    used.compile(many, all_of(used.graph(many), "Conv2D"))
    assert dict(os.environ) == before


def test_names_and_places_are_those_of_onert_itself(used, many):
    """It is asked to run each operation where it cannot, and says by its own name which one that was."""
    graph = used.graph(many)
    for place, node in enumerate(graph.nodes):
        plan = ["ruy" if place == each else "cpu" for each in range(len(graph.nodes))]
        if node.name in KERNELS["ruy"]:
            continue
        with pytest.raises(Unsupported, match=f"'ruy' cannot run operation {place} .{node.name}.: .*operation '{node.name}'"):
            Session(used.file(many), graph, plan, 1)
        with pytest.raises(Unsupported, match=f"'ruy' cannot run operation {place} "):
            used.compile(many, plan)


def test_a_network_with_its_norms_folded_and_what_its_pads_cut_off(used):
    """A cell network halves its maps by pads of -1: handed on as they are, onert writes past its memory."""
    arch = seed_architecture((3, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=4)
    network = load_model(architecture_model(arch.to_json()), 1)
    plain = runtime("pytorch").compile(network, None)
    reference = plain.fetch(plain.run(plain.load(network.inputs)))
    graph = used.graph(network)
    for plan in (None, ["ruy" if node.name in KERNELS["ruy"] else "cpu" for node in graph.nodes]):
        compiled = used.compile(network, plan)
        for _ in range(3):
            assert deviation(compiled.fetch(compiled.run(compiled.load(network.inputs))), reference) < 1e-4
    norms = [each for each in network.module.modules() if type(each).__name__ == "BatchNorm2d"]
    products = [node for node in graph.nodes if node.name == "BinaryArithmetic"]
    assert len(products) < len(norms), "a norm that is not folded is a product and a sum"


def test_a_file_that_would_make_onert_write_past_its_memory_is_refused(tmp_path):
    import tico
    import torch
    from torch import nn

    class Cut(nn.Module):
        def forward(self, x):
            return nn.functional.pad(x, (-1, 0, -1, 0))

    tico.convert(Cut().eval(), (torch.zeros(1, 4, 8, 8),)).save(tmp_path / "cut.circle")
    with pytest.raises(InputError, match=r"\(Pad\) pads by less than nothing"):
        circle_graph(tmp_path / "cut.circle")


MEASURES = """
import json, sys
from archsearch.profile.models import Model, load_model
from archsearch.profile.runtimes import runtime
used = runtime("onert")
used.settle(1)
model = load_model(Model.from_json(json.load(sys.stdin)), 1)
compiled = used.compile(model, ["cpu"] * len(used.graph(model).nodes))
compiled.run(compiled.load(model.inputs))
print({"torch", "tico"} & set(sys.modules))
"""


def test_what_measures_is_given_the_file_and_needs_no_pytorch():
    """Exporting takes hundreds of megabytes: in a process that measures they would be taken for the model's."""
    model = prepared(MODEL, runtime("onert"), SHORT)
    assert isinstance(model, Model) and load_model(model, 1).file.suffix == ".circle"
    words = [sys.executable, "-c", MEASURES]
    done = subprocess.run(words, input=json.dumps(model.to_json()), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "set()\n"), done.stderr


def test_a_model_that_cannot_be_exported_is_named(used):
    import torch
    from torch import nn

    class Sorting(nn.Module):
        def forward(self, x):
            return torch.fft.fft(x).real

    with pytest.raises(InputError, match=r"cannot be exported for onert.*fft"):
        used.graph(Loaded(Sorting().eval(), (np.ones((1, 8), np.float32),)))


def test_without_its_packages_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("archsearch.profile.runtimes.face.installed", lambda package: None if package == "tico" else "1")
    with pytest.raises(InputError, match=r"'onert' needs tico, not installed here: pip install 'archsearch\[onert\]'"):
        runtime("onert")


@pytest.mark.soak
def test_assignments_to_their_end_as_a_user_has_them_made(tmp_path, monkeypatch, capsys):
    """An architecture from its file is exported, taken apart, measured on both backends, each twice; the log goes on."""
    monkeypatch.setenv("ARCHSEARCH_CACHE", str(tmp_path / "cache"))
    defaults = tuple(replace(SHORT, launches=1).to_json().values())
    monkeypatch.setattr(Settings.__init__, "__defaults__", defaults)  # assign has no options for these
    arch = seed_architecture((3, 8, 8), 10, cells=3, reductions=1, nodes=1, channels=4)
    (tmp_path / "net.yaml").write_text(arch.to_yaml())

    def assigned(budget: int) -> dict[str, Any]:
        words = [tmp_path / "net.yaml", "--runtime", "onert", "--estimator", "brute", "--budget", budget]
        words += ["--resume", tmp_path / "net.jsonl", "--picture", tmp_path / "front.png", "--json"]
        with pytest.raises(SystemExit) as left:
            main(["assign", *map(str, words)])
        out, err = capsys.readouterr()
        assert not left.value.code, err
        return json.loads(out)

    first = assigned(1)
    assert first["backends"] == ["cpu", "ruy"] and [each["id"] for each in first["solutions"]] == [0]
    (exported,) = (tmp_path / "cache" / "models").glob("*/*.circle")
    made = exported.stat().st_mtime_ns
    on_ruy = 2 ** first["oplist"].index("Conv2D")
    done = assigned(on_ruy + 1)
    assert done["evaluated"] == on_ruy + 1 and done["measured_again"] >= 1 and (tmp_path / "front.png").stat().st_size > 1000
    assert [each["id"] for each in done["infeasible"]] == [*range(1, on_ruy)], "convolutions alone run on ruy, and on cpu all"
    assert all("does not run on ruy" in each["error"] for each in done["infeasible"])
    assert {each["id"] for each in done["solutions"]} <= {0, on_ruy}
    assert done["solutions"] and all(each["exec_time"] > 0 for each in done["solutions"])
    assert [*(tmp_path / "cache" / "models").glob("*/*.circle")] == [exported] and exported.stat().st_mtime_ns == made, "once"
