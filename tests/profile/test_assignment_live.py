"""Assignments measured for real: PyTorch, in processes of its own, on a network of three kinds of operations."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest
from profile_models import SHORT

from archsearch.cli import main
from archsearch.jobs import InputError
from archsearch.profile.assignment.driver import DeviceGone, assign
from archsearch.profile.assignment.live import ModelProblem, encoding_of
from archsearch.profile.bench import Here
from archsearch.profile.graph import Described, Graph, Operation
from archsearch.profile.models import Model
from archsearch.profile.process import ChildFault
from archsearch.profile.settings import Settings

MODEL = """
import torch
from torch import nn

def made():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 14 * 14, 5)), torch.ones(1, 3, 16, 16)
"""


def test_assignments_are_measured_and_what_cannot_run_costs_nothing(tmp_path: Path) -> None:
    (tmp_path / "assigned_model.py").write_text(MODEL)
    model = Model("function", "assigned_model:made", "made", str(tmp_path))
    problem = ModelProblem(model, "pytorch", ("onednn", "nnpack"), "name", replace(SHORT, launches=1))
    encoding = problem.encoding
    assert [symbol.name for symbol in encoding.symbols] == ["Conv2D", "Linear", "ReLU", "Reshape"]
    on_nnpack = encoding.id((1, 0, 0, 0))
    found = problem.evaluate_all([0, encoding.size - 1, on_nnpack])
    assert [each.feasible for each in found] == [True, False, True]
    assert "does not run on nnpack" in found[1].error and "operation 1 (ReLU)" in found[1].error
    for each in (found[0], found[2]):
        (low, high), (least, most) = each.bounds
        # On a busy machine two blocks of runs may be so far apart that an interval reaches down to nothing.
        assert 0 <= low <= each.time <= high and each.time > 0 and 0 < least <= each.memory <= most
    log = tmp_path / "log.jsonl"
    done = assign(problem, "brute", 1, log=log)
    assert done.evaluations[0].feasible and done.again[0].id == 0 and done.survived == 1
    assert "pytorch" in json.loads(log.read_text().splitlines()[0])["source"]


def test_what_does_not_fit_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    graph = Graph((Operation("Conv2D", 10), Operation("Add", 10, (0,))))
    described = Described(graph, ("onednn", "native"), (frozenset({"onednn", "native"}), frozenset({"onednn"})))
    assert encoding_of(described, None, "pytorch", "name").backends == ("onednn", "native")
    with pytest.raises(InputError, match="no backend 'cuda' here; it has onednn, native"):
        encoding_of(described, ("cuda",), "pytorch", "name")
    with pytest.raises(InputError, match="memory_runs is 0"):
        ModelProblem(Model("function", "x:y", "x"), "pytorch", None, "name", Settings(memory_runs=0))
    with pytest.raises(SystemExit) as left:
        main(["assign", "no_such_module_anywhere:made", "--resume", str(tmp_path / "log")])
    assert left.value.code == 2 and "no_such_module_anywhere" in capsys.readouterr().err
    assert not (tmp_path / "log").exists()


def test_processes_that_do_not_start_are_no_fault_of_the_assignment() -> None:
    problem = object.__new__(ModelProblem)
    graph = Graph((Operation("Conv2D", 10),))
    problem.described = Described(graph, ("onednn",), (frozenset({"onednn"}),))
    problem.encoding = encoding_of(problem.described, None, "pytorch", "name")
    problem.model, problem.runtime, problem.settings = Model("function", "x:y", "x"), "pytorch", SHORT
    problem.source, problem.memory, problem.watch = "nowhere", True, None

    class Gone(Here):
        def measure(self, *_: object, **__: object) -> NoReturn:
            raise ChildFault("died", "no memory for a process")

    problem.bench = Gone()
    with pytest.raises(DeviceGone, match="no memory for a process"):
        assign(problem, "brute", 1)
