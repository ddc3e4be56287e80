"""Estimators: one contract for all, and of ``structured`` each part against a slow oracle."""

from __future__ import annotations

import statistics
import sys

import numpy as np
import pytest
from generated_tables import Costs, generated_encoding, generated_table

from archsearch.frontier import hypervolume
from archsearch.jobs import InputError
from archsearch.profile.assignment.driver import make_estimator
from archsearch.profile.assignment.elimination import affordable, pareto_assignments
from archsearch.profile.assignment.encoding import Encoding, Symbol, encode
from archsearch.profile.assignment.evaluation import Evaluation, front, regret_curve
from archsearch.profile.assignment.features import Features
from archsearch.profile.assignment.gain import expected_gains
from archsearch.profile.assignment.hlps import Hlps
from archsearch.profile.assignment.largest import LargestPart
from archsearch.profile.assignment.model import Model
from archsearch.profile.assignment.structured import Structured
from archsearch.profile.graph import Graph, Operation
from archsearch.registry import ESTIMATORS
from archsearch.testing import EstimatorContract
from archsearch.testing.estimators import run

NAMES = ("brute", "random", "hlps", "nsga2", "structured")


# ------------------------------------------------------------------------------------------------------- the contract
def test_all_are_registered() -> None:
    assert set(ESTIMATORS) == set(NAMES)
    with pytest.raises(InputError, match="Did you mean 'structured'"):
        make_estimator("structure", generated_encoding(0), 0)


class TestBrute(EstimatorContract):
    name = "brute"


class TestRandom(EstimatorContract):
    name = "random"


class TestHlps(EstimatorContract):
    name = "hlps"


class TestNsga2(EstimatorContract):
    name = "nsga2"


class TestStructured(EstimatorContract):
    name = "structured"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "brute"])
def test_the_seed_matters(name: str) -> None:
    table = generated_table("live", 21, backends=2, names=6)
    asked = [
        [each.id for each in run(make_estimator(name, table.encoding, seed), table.evaluations.__getitem__, 30)]
        for seed in (3, 4)
    ]
    assert asked[0] != asked[1]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "brute"])
def test_the_last_symbol_is_searched(name: str) -> None:
    """The reference never moved it. Here nothing else matters, and only its third backend is any good."""
    encoding = Encoding("name", tuple(Symbol(f"op{i}") for i in range(6)), ("a", "b", "c"), tuple(range(6)))

    def measure(id_: int) -> Evaluation:
        good = encoding.digits(id_)[-1] == 2
        return Evaluation(id_, 1.0 if good else 50.0, 100.0 if good else 900.0)

    assert any(each.time == 1.0 for each in run(make_estimator(name, encoding, 1), measure, 60))


def test_nsga2_without_its_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in [name for name in sys.modules if name.startswith("pymoo")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pymoo", None)
    with pytest.raises(InputError, match=r"pip install -e '\.\[nsga2\]'"):
        make_estimator("nsga2", generated_encoding(0), 0)


def test_hlps_looks_all_around_a_point() -> None:
    """Every other backend of every symbol, the last one's too: by the reference the last symbol was never moved."""
    encoding = generated_encoding(0, backends=3, names=6)
    hlps = Hlps(encoding, 0)
    here = encoding.digits(500)
    around = {tuple(digits) for digits in hlps._neighbours(here)}
    assert len(around) == 6 * 2 and all(sum(a != b for a, b in zip(here, each, strict=True)) == 1 for each in around)
    wide = [[place for place in range(6) if digits[place] != here[place]] for digits in hlps._wide(here)]
    assert [len(moved) for moved in wide] == [distance for distance in range(1, 7) for _ in range(2)]
    assert wide[-1] == list(range(6))


def test_hlps_moves_all_operations_of_a_name_together_first() -> None:
    encoding = generated_encoding(4, backends=2, names=3, nodes=12, mode="index")
    costs = Costs(encoding, "sums", 4)
    lifted = {encoding.lifted(id_) for id_ in range(encoding.by_name.size)}
    asked = [each.id for each in run(make_estimator("hlps", encoding, 0), costs, 40)]
    together = [id_ in lifted for id_ in asked]
    assert all(together[:4]) and sum(together) <= len(lifted)
    assert not any(together[together.index(False) + 12 :]), "then the full space"


# ------------------------------------------------------------------------------------------------ structured and its parts
@pytest.mark.parametrize("kind", ["sums", "live", "unsupported"])
def test_structured_finds_the_front_with_a_quarter_of_the_space(kind: str) -> None:
    """Where costs are made of operations and transitions it is far ahead of random; the figures are of seeds that are fixed."""
    ours, random = [], []
    for seed in range(4):
        table = generated_table(kind, seed, backends=3, names=4)
        everything = list(table.evaluations.values())
        for name, regrets in (("structured", ours), ("random", random)):
            found = run(make_estimator(name, table.encoding, seed), table.evaluations.__getitem__, table.encoding.size // 4)
            regrets.append(regret_curve(found, everything)[-1])
    assert statistics.mean(ours) < 0.02
    assert statistics.mean(ours) < 0.3 * statistics.mean(random)


def test_structured_is_not_trapped_where_structure_does_not_hold() -> None:
    """Without any structure it is not much worse than random, and it gets everything in the end (see the contract)."""
    ours, random = [], []
    for seed in range(3):
        table = generated_table("iid", seed, backends=2, names=6)
        everything = list(table.evaluations.values())
        for name, regrets in (("structured", ours), ("random", random)):
            found = run(make_estimator(name, table.encoding, seed), table.evaluations.__getitem__, 32)
            regrets.append(regret_curve(found, everything)[-1])
    assert statistics.mean(ours) < statistics.mean(random) + 0.05


def test_structured_in_a_space_too_large_to_list() -> None:
    """3^17 assignments or so: what the elimination proposes beats random, and what was learned is near the best there is."""
    encoding = generated_encoding(6, backends=3, names=5, nodes=24, mode="index")
    assert encoding.size > 10**7
    costs = Costs(encoding, "sums", 6)
    found = {
        name: [each.values for each in run(make_estimator(name, encoding, 1), costs, 30)] for name in ("structured", "random")
    }
    worst = np.max([value for values in found.values() for value in values], axis=0)
    volumes = {name: hypervolume(np.array(values) / worst, [1.0, 1.0]) for name, values in found.items()}
    assert volumes["structured"] > 1.1 * volumes["random"]


def test_structured_proposes_the_optimum_of_what_it_learned() -> None:
    """Costs that add up over a chain of 14 symbols, 60 random assignments of 4.8 million seen: the fastest and the smallest of
    all, symbol by symbol, are considered next; the neighbours of what was seen are far from them."""
    nodes = tuple(Operation(f"op{i:02d}", 100, (i - 1,) if i else ()) for i in range(14))
    encoding = encode(Graph(nodes), ("a", "b", "c"))
    rng = np.random.default_rng(4)
    costs = rng.random((14, 3, 2))

    def measure(id_: int) -> Evaluation:
        time, memory = costs[np.arange(14), encoding.digits(id_)].sum(axis=0)
        return Evaluation(id_, float(time), float(memory))

    estimator = Structured(encoding, 0)
    for id_ in rng.integers(0, encoding.size, 60):
        estimator.tell(measure(int(id_)))
    considered, _ = estimator._candidates(estimator._learn_models())
    best = {tuple(map(int, costs[:, :, kind].argmin(axis=1))) for kind in (0, 1)}
    assert best <= {tuple(map(int, digits)) for digits in considered}


def test_structured_avoids_what_cannot_run() -> None:
    """One symbol on one backend fails, a third of all: understood after one or two failures. Two of twenty are at random."""
    failed = []
    for seed in range(4):
        table = generated_table("unsupported", seed, backends=3, names=4)
        assert sum(not each.feasible for each in table.evaluations.values()) == 27
        found = run(make_estimator("structured", table.encoding, 0), table.evaluations.__getitem__, 20)
        failed.append(sum(not each.feasible for each in found))
    assert max(failed) <= 4 and statistics.mean(failed) <= 3


def test_structured_takes_memory_for_the_largest_part_where_it_is() -> None:
    encoding = generated_encoding(3, backends=3, names=5)
    parts = np.random.default_rng(5).random((5, 3))
    for largest in (True, False):
        estimator = Structured(encoding, 0)
        for id_ in np.random.default_rng(6).permutation(encoding.size)[:60]:
            chosen = parts[np.arange(5), encoding.digits(int(id_))]
            estimator.tell(Evaluation(int(id_), 1.0 + chosen[0], float(chosen.max() if largest else chosen.sum())))
        assert (estimator._learn_models().largest is not None) == largest


def total(digits: tuple[int, ...], own: np.ndarray, pairs: dict, largest: bool) -> tuple[float, float]:
    parts = [own[symbol, digit] for symbol, digit in enumerate(digits)]
    between = [costs[digits[a], digits[b]] for (a, b), costs in pairs.items()]
    time = sum(part[0] for part in (*parts, *between))
    return time, max(part[1] for part in parts) if largest else sum(part[1] for part in (*parts, *between))


@pytest.mark.parametrize("largest", [False, True])
@pytest.mark.parametrize("shape", ["chain", "tree", "loops", "apart"])
def test_elimination_finds_every_optimum_that_listing_finds(shape: str, largest: bool) -> None:
    pairs_of = {
        "chain": [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)],
        "tree": [(0, 1), (0, 2), (1, 3), (1, 4), (2, 5)],
        "loops": [(0, 1), (1, 2), (0, 2), (2, 3), (3, 4), (2, 4), (0, 5)],
        "apart": [(0, 3), (1, 4)],
    }
    rng = np.random.default_rng(len(shape))
    names = Encoding("name", tuple(Symbol(f"op{i}") for i in range(6)), ("a", "b", "c"), tuple(range(6)))
    for _ in range(3):
        own = rng.random((6, 3, 2))
        pairs = {pair: rng.normal(0.0, 0.5, (3, 3, 2)) for pair in pairs_of[shape]}
        listed = [names.digits(id_) for id_ in range(names.size)]
        oracle = front(
            Evaluation(id_, time + 50, memory + 50)
            for id_, (time, memory) in enumerate(total(digits, own, pairs, largest) for digits in listed)
        )
        found = pareto_assignments(own, pairs, largest_memory=largest)
        values = [total(tuple(map(int, digits)), own, pairs, largest) for digits in found]
        assert np.allclose(values, [(each.time - 50, each.memory - 50) for each in oracle], atol=1e-9)
        only = pareto_assignments(own, pairs, largest_memory=largest, allowed=(0, 2))
        assert len(only) and set(only.ravel()) <= {0, 2}


def test_pairs_that_would_make_tables_large_are_taken_apart_as_sums() -> None:
    rng = np.random.default_rng(0)
    symbols, base = 14, 4
    own = np.zeros((symbols, base, 2))
    sums = {(a, b): rng.random((base, 1, 2)) + rng.random((1, base, 2)) for a in range(symbols) for b in range(a)}
    sums = {(b, a): costs for (a, b), costs in sums.items()}
    alone, kept = affordable(own, sums, base)
    assert len(kept) < len(sums)
    digits = tuple(int(each) for each in rng.integers(0, base, symbols))
    assert total(digits, alone, kept, False) == pytest.approx(total(digits, own, sums, False)), "sums lose nothing by it"
    assert len(pareto_assignments(own, sums)) >= 1


def test_expected_gains_against_draws() -> None:
    rng = np.random.default_rng(1)
    points = np.array([[0.2, 0.7], [0.5, 0.4], [0.55, 0.6]])
    means = np.array([[0.3, 0.5], [0.1, 0.9], [0.9, 0.9], [0.5, 0.1], [1.3, 0.2]])
    deviations = np.array([[0.1, 0.2], [0.05, 0.05], [0.2, 0.1], [1e-6, 1e-6], [0.2, 0.2]])
    before = hypervolume(points, [1.0, 1.0])
    expected = expected_gains(points, means, deviations)
    for place in range(len(means)):
        draws = rng.normal(means[place], deviations[place], (3000, 2))
        gains = [hypervolume([*points, draw], [1.0, 1.0]) - before for draw in draws]
        assert expected[place] == pytest.approx(np.mean(gains), abs=4 * np.std(gains) / 3000**0.5 + 1e-6)


def test_the_model_learns_terms_that_add_up() -> None:
    """Its terms, summed over an assignment, are its prediction up to a constant; draws scatter around them."""
    encoding = generated_encoding(1, backends=2, names=6)
    features = Features(encoding)
    digits = np.array([encoding.digits(id_) for id_ in range(encoding.size)])
    costs = Costs(encoding, "sums", 1, noise=0.0)
    values = np.array([costs(id_).time for id_ in range(encoding.size)])
    some = np.random.default_rng(0).permutation(encoding.size)[:32]
    model = Model(features, features.of(digits[some]), values[some])
    predicted, deviation = model.predict(features.of(digits))
    error = predicted - values
    assert np.sqrt(np.mean(error**2)) < 0.05 * values.std()
    assert np.mean(np.abs(error) <= 3 * deviation + 0.01 * values.std()) > 0.9
    own, pairs, use = features.terms(model.weights())
    sums = np.array(
        [
            sum(own[s, d] for s, d in enumerate(each))
            + sum(costs[each[a], each[b]] for (a, b), costs in pairs.items())
            + sum(use[b] for b in set(each))
            for each in digits
        ]
    )
    assert np.corrcoef(sums, predicted)[0, 1] > 0.999
    generator = np.random.default_rng(3)
    draws = np.array([features.of(digits) @ model.weights(generator) for _ in range(200)])
    assert np.corrcoef(draws.mean(axis=0), predicted)[0, 1] > 0.99


def test_drawn_terms_are_as_uncertain_as_they_are() -> None:
    """After few measurements draws scatter by the posterior's deviation, which is written out here as a matrix."""
    encoding = generated_encoding(1, backends=2, names=4)
    features = Features(encoding)
    phi = features.of(np.array([encoding.digits(id_) for id_ in range(encoding.size)]))
    values = np.array([Costs(encoding, "live", 1)(id_).time for id_ in range(encoding.size)])
    model = Model(features, phi[:6], values[:6])
    prior = np.diag(model.variances.groups[features.group])
    covariance = phi[:6] @ prior @ phi[:6].T + model.variances.missed * features.alike(phi[:6], phi[:6])
    covariance += model.variances.noise * np.eye(6)
    gain = prior @ phi[:6].T @ np.linalg.inv(covariance)
    posterior = phi @ (prior - gain @ phi[:6] @ prior) @ phi.T
    generator = np.random.default_rng(0)
    draws = np.array([phi @ model.weights(generator) for _ in range(3000)])
    assert draws.std(axis=0) == pytest.approx(model.scale * np.sqrt(np.diag(posterior)), rel=0.08)
    assert draws.mean(axis=0) == pytest.approx(phi @ model.weights(), abs=0.1 * model.scale)


def test_memory_as_the_largest_part() -> None:
    """Peaks are recovered where they show, and what an assignment is expected to be from the others does not use itself."""
    encoding = generated_encoding(3, backends=3, names=4)
    digits = np.array([encoding.digits(id_) for id_ in range(encoding.size)])
    peaks = np.random.default_rng(2).random((4, 3))
    values = peaks[np.arange(4), digits].max(axis=1)
    half = np.random.default_rng(3).permutation(len(digits))[:40]
    part = LargestPart(digits[half], values[half], 3)
    assert np.mean(np.abs(part.predict(digits) - values) < 1e-12) > 0.8
    for place, index in enumerate(half[:10]):
        others = np.delete(half, place)
        assert part.left_out[place] == LargestPart(digits[others], values[others], 3).predict(digits[index][None])[0]
