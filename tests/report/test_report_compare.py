"""Runs beside one another: the common reference, what each frontier dominates of its box, the picture."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import PIL.Image
import pytest

from archsearch.jobs import InputError, Stage
from archsearch.report.compare import LOOKS, Comparison, compare, comparison_picture
from archsearch.store import Point


def point(id_: int, madds: float, error: float | None, **metrics: Any) -> Point:
    values = {"madds": madds, "val_error": error, **metrics}
    return Point(id_, Stage.SEED_TRAINED, {"family": "x"}, None, values, None)


A = [point(1, 100, 0.5), point(2, 200, 0.2), point(3, 300, 0.4)]
B = [point(1, 100, 0.4), point(2, 400, 0.1)]


def both(**settings: Any) -> Comparison:
    return compare({"a": A, "b": B}, **settings)


def test_hypervolume_against_one_reference_by_hand() -> None:
    found = both()
    assert found.cost == "madds" and found.reference == pytest.approx((440, 0.55))
    by_hand = {"a": 100 * 0.05 + 240 * 0.35, "b": 300 * 0.15 + 40 * 0.45}
    assert found.hypervolumes == pytest.approx(by_hand)
    assert found.shares == pytest.approx({name: volume / (440 * 0.55) for name, volume in by_hand.items()})
    assert found.dominated == {"a": 1, "b": 0}, "a's first has the cost of b's first and a larger error"
    entry = found.entry("a")
    assert entry["points"] == 3 and [row["id"] for row in entry["frontier"]] == [1, 2] and entry["best"]["error"] == 0.2


def test_a_run_beside_itself_and_order() -> None:
    same = compare({"a": A, "again": A})
    assert same.hypervolumes["a"] == same.hypervolumes["again"] > 0 and set(same.dominated.values()) == {0}
    turned = compare({"b": B, "a": A})
    assert (turned.hypervolumes, turned.reference) == (both().hypervolumes, both().reference)


def test_the_best_single_point_of_zero_error_counts_and_an_error_ends_at_one() -> None:
    found = compare({"perfect": [point(1, 10, 0.0)], "worst": [point(1, 5, 0.98)]})
    assert found.reference == pytest.approx((11, 1.0))
    assert found.hypervolumes == pytest.approx({"perfect": 1.0, "worst": 6 * 0.02})
    assert compare({"perfect": [point(1, 10, 0.0)], "also": [point(1, 10, 0.0)]}).shares["also"] == pytest.approx(1 - 1 / 1.1)


def test_another_cost_and_one_that_a_run_has_not_measured() -> None:
    timed = [point(p.id, p.metrics["madds"], p.metrics["val_error"], latency=p.metrics["madds"] / 10) for p in A]
    assert compare({"a": timed, "b": timed}, cost="latency").reference[0] == pytest.approx(22)
    assert compare({"a": timed, "b": B}, cost="latency").cost == "madds"


def test_a_run_without_a_point_is_named() -> None:
    with pytest.raises(InputError, match="b has no trained point"):
        compare({"a": A, "b": [point(1, 9, None)]})


def test_the_picture_shows_each_run() -> None:
    picture = comparison_picture(both())
    assert picture == comparison_picture(both()), "the same runs give the same bytes"
    with PIL.Image.open(io.BytesIO(picture)) as image:
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    for colour, _ in LOOKS[:2]:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        assert (pixels == wanted).all(axis=1).sum() > 500, f"no line of colour {colour}"
    third = [int(LOOKS[2][0][i : i + 2], 16) for i in (1, 3, 5)]
    assert not (pixels == third).all(axis=1).any()


@pytest.mark.parametrize("errors", [(0.0, 0.0), (0.9, 1e-4)])
def test_pictures_of_extreme_runs_can_be_drawn(errors: tuple[float, float]) -> None:
    first, second = ([point(1, 1e3, errors[0])], [point(1, 1e9, errors[1])])
    assert comparison_picture(compare({"a": first, "b": second})).startswith(b"\x89PNG")
