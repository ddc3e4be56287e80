"""Recorded tables: the reference's shapes, round trips, and what a bad one is answered with."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest
from generated_tables import generated_table
from reference_example import PRINTED, reference_table

from archsearch.jobs import InputError
from archsearch.profile.assignment.evaluation import (
    Evaluation,
    box_of,
    contenders,
    front,
    regret_curve,
    surely_dominates,
)
from archsearch.profile.assignment.tables import Table, encoding_json, read_table, solutions_json, table_json


def written(folder: Path, data: object) -> Path:
    path = folder / "table.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_the_reference_s_table_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, reference_table())
    with pytest.raises(InputError, match=r"table.json: 14 of 32 ids are missing \(16, 17, 18, 19, 20, \.\.\.\)"):
        read_table(path)
    table = read_table(path, partial=True)
    assert table.encoding.backends == ("cpu", "acl_cl") and table.encoding.mode == "name" and not table.complete
    assert table.evaluations[5].values == (47.013, 73492)
    assert [each.id for each in front(table.evaluations.values())] == [15, 31, 13, 12, 5, 2, 0]
    assert {id_: each.values for id_, each in table.evaluations.items()} == PRINTED


def test_the_estimators_shape_is_read_too(tmp_path: Path) -> None:
    whole = generated_table("sums", 3)
    said = {**encoding_json(whole.encoding), **solutions_json(whole.encoding, front(whole.evaluations.values()))}
    assert set(said["solutions"][0]) == {"id", "exec_time", "max_rss"}
    assert list(said["configs"]) == [str(each["id"]) for each in said["solutions"]]
    again = read_table(written(tmp_path, said), partial=True)
    assert list(again.evaluations.values()) == front(whole.evaluations.values())


@pytest.mark.parametrize(("kind", "mode"), [("unsupported", "name"), ("live", "index")])
def test_ours_come_back_as_they_were(tmp_path: Path, kind: str, mode: str) -> None:
    made = generated_table(kind, 11, names=3, nodes=7, mode=mode)
    known = dict(made.evaluations)
    first = next(each for each in known.values() if each.feasible)
    known[first.id] = Evaluation(first.id, 2.0, 9.0, (1.5, 2.5), (8.0, 9.0))
    table = Table(made.encoding, known, {"device": "test"})
    data = table_json(table)
    assert read_table(written(tmp_path, data)) == table
    assert set(data["solutions"][-1]) == {"id", "time", "memory"}
    assert ("infeasible" in data) == (kind == "unsupported")
    if mode == "index":
        assert data["oplist"] == list(made.encoding.nodes), "as the reference writes it: the symbol of each operation"


def changed(**changes: object) -> dict:
    return {"oplist": ["a", "b"], "solutions": [{"id": i, "time": 1 + i, "memory": 9 - i} for i in range(4)], **changes}


def first_solution(**changes: object) -> dict:
    data = changed()
    data["solutions"][0] = {**data["solutions"][0], **changes}
    return data


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("{", "is not JSON"),
        ("[1]", "holds a list; expected an object"),
        ("[" * 100_000, "is not JSON"),
        ('{"oplist": ["a"], "oplist": ["b"], "solutions": []}', "'oplist' stands twice"),
        ('{"oplist": ["a"], "solutions": [{"id": 0, "time": NaN, "memory": 1}]}', "holds NaN"),
        ('{"oplist": ["a"], "solutions": [{"id": 0, "time": 1e999, "memory": 1}]}', "time is inf"),
        ({"oplist": ["a"]}, "has no solutions"),
        (changed(extra=1), "unknown keys extra"),
        (changed(oplist=[]), "oplist is empty"),
        (changed(oplist=["a", "a"]), "oplist holds a more than once"),
        (changed(oplist=["a", 1]), "oplist holds a number; expected text"),
        (changed(backends="cpu"), "backends is text; expected a list"),
        (changed(mode="both"), "mode 'both'"),
        (changed(mode="index", oplist=[0, 2], opmap=[["a", 1], ["b", 2]]), "names the symbol 2"),
        (changed(graph=[["c", 1, []]]), "operations c, which are not in oplist"),
        (changed(graph=[["a", 1, [5]], ["b", 1, []]]), "do not run before it"),
        (changed(solutions={}), "solutions is an object"),
        (changed(infeasible=[{"id": 0, "error": "no"}]), r"infeasible\[0\]: the id 0 stands there twice"),
        (first_solution(id=1), r"solutions\[1\]: the id 1 stands there twice"),
        (first_solution(id=4), r"solutions\[0\]: there is no assignment 4"),
        (first_solution(id=-1), "whole number of at least 0"),
        (first_solution(id=True), "whole number"),
        (first_solution(time=-1), "time is -1.0; expected a finite number"),
        (first_solution(time="1"), "time is text"),
        (first_solution(memory=10**400), "memory is inf"),
        (first_solution(rss=1), "has the keys id, time, memory, rss"),
        (first_solution(time_interval=[2, 3]), "outside its interval"),
        (changed(solutions=changed()["solutions"][:3]), r"1 of 4 ids are missing \(3\)"),
        (changed(oplist=[f"op{i}" for i in range(900)], solutions=[]), r"0 of 2\^900 ids; .* give --partial"),
        (changed(oplist=[f"op{i}" for i in range(4000)], solutions=[]), "4000 symbols"),
        (changed(oplist=["a"] * 200_000, solutions=[]), "200000 symbols"),
        (changed(mode="index", oplist=[0, 10**12]), "names the symbol 1000000000000; expected at most 999"),
        ('{"oplist": ["a"], "graph": [["a", 1e999, []]], "solutions": []}', "expected a list of"),
    ],
)  # fmt: skip
def test_a_bad_table_is_refused_with_file_and_place(tmp_path: Path, data: object, text: str) -> None:
    path = written(tmp_path, data)
    with pytest.raises(InputError, match=text) as caught:
        read_table(path)
    assert str(path) in str(caught.value) and len(str(caught.value)) < 700


def test_a_file_that_is_not_there_or_too_large(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "none.json")
    huge = tmp_path / "huge.json"
    with huge.open("wb") as file:
        file.truncate(300 * 2**20)
    with pytest.raises(InputError, match="tables have at most"):
        read_table(huge)


# ------------------------------------------------------------------------------------------------------------------ fronts
def points(*values: tuple[float, float]) -> list[Evaluation]:
    return [Evaluation(id_, time, memory) for id_, (time, memory) in enumerate(values)]


def test_ties_and_weakly_dominated_points_are_not_on_the_front() -> None:
    """The reference kept both."""
    found = front(points((1, 5), (1, 5), (1, 6), (2, 5), (3, 2), (3, 2), (4, 2), (9, 1)))
    assert [each.id for each in found] == [0, 4, 7]
    assert front([Evaluation(0, error="broken"), Evaluation(1, 1.0, 1.0)]) == [Evaluation(1, 1.0, 1.0)]


def test_dominance_with_intervals_in_mind() -> None:
    """Noise alone makes a front of two points one of six: what only seems better is measured again."""
    sure = Evaluation(0, 10.0, 100.0, (9.9, 10.1), (100.0, 100.0))
    close = Evaluation(1, 10.1, 101.0, (9.8, 10.4), (99.0, 103.0))
    far = Evaluation(2, 12.0, 120.0, (11.9, 12.1), (119.0, 121.0))
    assert surely_dominates(sure, far) and not surely_dominates(sure, close) and not surely_dominates(sure, sure)
    assert [each.id for each in front([sure, close, far])] == [0]
    assert [each.id for each in contenders([sure, close, far])] == [0, 1]
    wide = Evaluation(3, 10.0, 98.5, (9.0, 12.0), (98.0, 99.0))
    assert not surely_dominates(wide, close) and not surely_dominates(wide, far), "its interval reaches into theirs"
    assert [each.id for each in contenders([wide, close, far, sure])] == [3, 0, 1], "what a wide one hides still dominates"
    plain = points((1, 5), (1, 5), (2, 6), (3, 2))
    assert [each.id for each in contenders(plain)] == [0, 1, 3]


def test_regret_does_not_depend_on_units_and_ends_at_zero() -> None:
    table = list(generated_table("live", 4).evaluations.values())
    scaled = [Evaluation(each.id, each.time * 2**-10, each.memory * 2**14) for each in table]
    for of_front in (False, True):
        curve = regret_curve(table, table, of_front=of_front)
        assert curve == regret_curve(scaled, scaled, of_front=of_front)
        assert all(0 <= later <= earlier <= 1 for earlier, later in pairwise(curve))
        assert curve[-1] == 0 and len(curve) == len(table)
    assert regret_curve([Evaluation(0, error="x")], table) == [1.0]
    with pytest.raises(InputError, match="not one assignment could run"):
        box_of([Evaluation(0, error="x")])


@pytest.mark.parametrize(
    "bad", [{"time": -1.0}, {"time": float("inf")}, {"memory": float("nan")}, {"time_interval": (3.0, 4.0)}, {"error": "no"}]
)
def test_an_evaluation_has_finite_values_or_an_error(bad: dict) -> None:
    with pytest.raises(InputError, match="assignment 7"):
        Evaluation(**{"id": 7, "time": 2.0, "memory": 1.0, **bad})
