"""What an estimator of assignments must do, as tests: see ``archsearch.profile.assignment.estimator``."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import pytest

from archsearch.jobs import InputError
from archsearch.profile.assignment.driver import make_estimator
from archsearch.profile.assignment.encoding import Encoding, Mode, Symbol, encode
from archsearch.profile.assignment.estimator import Estimator
from archsearch.profile.assignment.evaluation import Evaluation
from archsearch.profile.graph import Graph, Operation

Measure = Callable[[int], Evaluation]

#: A chain with two skips; in mode ``name`` six symbols, in mode ``index`` seven.
GRAPH = Graph(
    tuple(
        Operation(name, size, inputs)
        for name, size, inputs in (
            ("Conv2D", 4096, ()),
            ("ReLU", 2048, (0,)),
            ("DepthwiseConv2D", 1024, (1,)),
            ("Conv2D", 512, (2,)),
            ("Add", 512, (3, 1)),
            ("Pool2D", 256, (4,)),
            ("Linear", 128, (5, 3)),
        )
    )
)


def made_up(encoding: Encoding) -> Measure:
    """What assignments are worth: costs of operations and of changes of backend; one operation fails on the last backend."""
    generator = np.random.default_rng(5)
    costs = generator.lognormal(0.0, 1.0, (len(encoding.symbols), encoding.base, 2))

    def measure(id_: int) -> Evaluation:
        digits = encoding.digits(id_)
        if digits[1] == encoding.base - 1 and digits[2] == 0:
            return Evaluation(id_, error="RuntimeError: no kernel")
        time, memory = costs[np.arange(len(digits)), digits].sum(axis=0)
        return Evaluation(id_, float(time + 0.5 * sum(digits[a] != digits[b] for a, b in encoding.edges)), float(1000 * memory))

    return measure


def run(estimator: Estimator, measure: Measure, budget: int) -> list[Evaluation]:
    """Ask and tell until the budget is used or nothing is left; what was evaluated, in order."""
    while estimator.spent < budget and (id_ := estimator.ask()) is not None:
        assert estimator.ask() == id_, "to ask changes nothing"
        assert id_ not in estimator.known, "no id is asked for twice"
        estimator.tell(measure(id_))
    return list(estimator.known.values())


@pytest.mark.parametrize(("mode", "backends"), [("name", ("a", "b")), ("index", ("a", "b")), ("name", ("a", "b", "c"))])
class EstimatorContract:
    """Derive from it and set ``name``, under which the estimator is registered."""

    name: ClassVar[str]

    @pytest.fixture
    def encoding(self, mode: Mode, backends: tuple[str, ...]) -> Encoding:
        return encode(GRAPH, backends, mode)

    def test_the_whole_space_is_evaluated_whatever_fails(self, encoding: Encoding) -> None:
        """More than two backends, either mode; what fails counts, and nothing ends before all are known."""
        budget = min(encoding.size, 150)
        found = run(make_estimator(self.name, encoding, 5), made_up(encoding), budget)
        assert len({each.id for each in found}) == budget and all(0 <= each.id < encoding.size for each in found)
        if budget == encoding.size:
            estimator = make_estimator(self.name, encoding, 5)
            for evaluation in found:
                estimator.tell(evaluation)
            assert estimator.ask() is None

    @pytest.mark.parametrize(("symbols", "base"), [(1, 1), (1, 2), (1, 5), (3, 1), (2, 2)])
    def test_tiny_spaces(self, encoding: Encoding, symbols: int, base: int) -> None:
        """One symbol, one backend; values that are equal or zero."""
        names = tuple(Symbol(f"op{number}") for number in range(symbols))
        tiny = Encoding("name", names, tuple("abcde"[:base]), tuple(range(symbols)))
        found = run(make_estimator(self.name, tiny, 0), lambda id_: Evaluation(id_, 5.0 * (id_ % 2), 7.0), tiny.size + 1)
        assert len(found) == tiny.size

    def test_nothing_but_failures(self, encoding: Encoding) -> None:
        found = run(make_estimator(self.name, encoding, 1), lambda id_: Evaluation(id_, error="broken"), 40)
        assert len(found) == 40

    def test_one_made_anew_from_what_was_told_goes_on_the_same(self, encoding: Encoding) -> None:
        measure = made_up(encoding)
        told = run(make_estimator(self.name, encoding, 3), measure, 45)
        for killed_after in (0, 1, 2, 5, 17, 30, 44):
            again = make_estimator(self.name, encoding, 3)
            for evaluation in told[:killed_after]:
                again.tell(evaluation)
            assert again.spent == killed_after
            assert run(again, measure, len(told)) == told, killed_after

    def test_to_be_told_again_changes_nothing(self, encoding: Encoding) -> None:
        """A repeat is free, and the first value stays."""
        measure = made_up(encoding)
        twice, once = (make_estimator(self.name, encoding, 2) for _ in range(2))
        for evaluation in run(make_estimator(self.name, encoding, 2), measure, 12):
            once.tell(evaluation)
            twice.tell(evaluation)
            twice.tell(Evaluation(evaluation.id, 1e-3, 1e-3))
        assert twice.known == once.known and twice.spent == once.spent == 12
        assert run(twice, measure, 20) == run(once, measure, 20)

    def test_what_was_not_asked_for_is_taken_too(self, encoding: Encoding) -> None:
        """Measurements of an earlier study, in any order."""
        measure = made_up(encoding)
        estimator = make_estimator(self.name, encoding, 0)
        for id_ in range(encoding.size - 1, encoding.size - 8, -1):
            estimator.tell(measure(id_))
        assert len(run(estimator, measure, 20)) == 20
        with pytest.raises(InputError, match="no assignment"):
            estimator.tell(Evaluation(encoding.size, 1.0, 1.0))

    def test_units_do_not_matter(self, encoding: Encoding) -> None:
        """Milliseconds and KiB are never added up: in other units, by powers of two, the same ids are asked for."""
        measure = made_up(encoding)

        def other_units(id_: int) -> Evaluation:
            known = measure(id_)
            return known if known.error else Evaluation(id_, known.time * 2.0**-20, known.memory * 2.0**18)

        plain = run(make_estimator(self.name, encoding, 2), measure, 24)
        scaled = run(make_estimator(self.name, encoding, 2), other_units, 24)
        assert [each.id for each in plain] == [each.id for each in scaled]
