"""Queries beyond the golden one: devices joined, limits, tolerance, three metrics, the knee."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from archsearch.jobs import InputError
from archsearch.limits import Limit, parse_limit
from archsearch.recipes import query_pareto_optimal_recipes, select_recipes

ACCURACY = "relative_task_metric"


def frame():
    """Four recipes on two devices; d was not measured on jetson, and a has a second quantisation on pi4."""
    rows = [
        ("a", "pi4", "fp32", 8.0, 0.90, 4.0),
        ("a", "pi4", "int8", 4.0, 0.85, 2.0),
        ("b", "pi4", "fp32", 6.0, 0.80, 3.0),
        ("c", "pi4", "fp32", 2.0, 0.70, 5.0),
        ("d", "pi4", "fp32", 1.0, 0.95, 1.0),
        ("a", "jetson", "fp32", 3.0, 0.90, 4.0),
        ("b", "jetson", "fp32", 1.0, 0.60, 3.0),
        ("c", "jetson", "fp32", 9.0, 0.70, 5.0),
        ("d", "jetson", "fp32", None, 0.95, 1.0),
    ]
    return pd.DataFrame(rows, columns=["recipe_id", "device", "quantisation", "od_inf_rate_ms", ACCURACY, "if_inf_macs"])


def chosen(found):
    return [found.ids[i] for i in found.chosen]


def test_one_device_gives_what_the_golden_query_gives():
    rng = np.random.default_rng(2)
    df = pd.DataFrame({"recipe_id": range(300), "od_total_mem_MB": rng.random(300), ACCURACY: rng.random(300)})
    mine = select_recipes(df, ["od_total_mem_MB", ACCURACY], method="fuzzy", top=20, sort_by="angular_custom_to_accuracy")
    assert chosen(mine) == query_pareto_optimal_recipes(df, "fuzzy", "od_total_mem_MB", "angular_custom_to_accuracy", 20)[0]
    mine = select_recipes(df, ["peak_memory_mb", "accuracy"])  # as a search calls them
    assert chosen(mine) == query_pareto_optimal_recipes(df, metric_custom="od_total_mem_MB")[0]


def test_on_several_devices_the_worst_counts_and_a_name_picks_one():
    found = select_recipes(frame(), devices=["pi4", "jetson"])
    assert found.devices == ("pi4", "jetson") and found.left_out == {"without od_inf_rate_ms": 2}  # d, and a as int8
    assert list(zip(found.ids, found.quantisations, *found.values.T, strict=True)) == [
        ("a", "fp32", 8.0, 0.9),
        ("b", "fp32", 6.0, 0.6),
        ("c", "fp32", 9.0, 0.7),
    ]
    assert chosen(found) == ["b", "a"]
    found = select_recipes(frame(), ["od_inf_rate_ms@pi4", "latency_ms@jetson", ACCURACY])
    assert found.values.tolist() == [[8, 3, 0.9], [6, 1, 0.6], [2, 9, 0.7]] and chosen(found) == ["c", "b", "a"]
    twice = pd.concat([frame(), frame().assign(od_inf_rate_ms=7.0)])  # measured twice: the worse again
    found = select_recipes(twice, devices=["pi4", "jetson"])
    assert dict(zip(found.ids, found.values[:, 0], strict=True))["b"] == 7.0


def test_limits_leave_out_what_is_beyond_them_or_unknown():
    found = select_recipes(frame(), devices=["pi4"], where=["latency_ms<6", "if_inf_macs >= 2"])
    assert found.ids == ["a", "c"] and found.quantisations == ["int8", "fp32"]
    assert found.left_out == {"not latency_ms < 6": 2, "not if_inf_macs >= 2": 1}
    assert select_recipes(frame(), devices=["jetson"], metrics=["madds", "accuracy"], where=["latency_ms<99"]).ids == [
        "a",
        "b",
        "c",
    ]
    nothing = select_recipes(frame(), devices=["pi4"], where=["latency_ms<0.1"])
    assert nothing.ids == [] and nothing.chosen.size == 0 and nothing.knee is None


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("latency_ms<5", Limit("latency_ms", "<", 5)),
        (" a@pi-4 >= 1e-3 ", Limit("a@pi-4", ">=", 1e-3)),
        ("x<=-2", Limit("x", "<=", -2)),
    ],
)
def test_a_limit_is_read(text, limit):
    assert parse_limit(text) == limit


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "rows are of 2 devices: jetson, pi4; say on which to compare"),
        ({"devices": ["pi5"]}, "no device 'pi5'; devices: jetson, pi4"),
        (
            {"devices": ["pi4"], "metrics": ["od_inf_rate_ms@jetson", ACCURACY]},
            "'jetson', which is not among those asked for: pi4",
        ),
        (
            {"devices": ["pi4"], "metrics": ["od_inf_rate_m", ACCURACY]},
            "no column 'od_inf_rate_m' .did you mean od_inf_rate_ms.*columns of",
        ),
        ({"devices": ["pi4"], "metrics": [ACCURACY]}, "expected two or more different"),
        ({"devices": ["pi4"], "where": ["latency_ms==5"]}, "'latency_ms==5': the operator '==' is not one of <, <=, >, >="),
        ({"devices": ["pi4"], "where": ["__import__('os')<5"]}, "not of the form"),
        ({"devices": ["pi4"], "where": ["latency_ms<nan"]}, "not a finite number"),
        ({"devices": ["pi4"], "eps": -0.1}, "eps is -0.1"),
        ({"devices": ["pi4"], "method": "fuzzy"}, "top is None"),
        (
            {
                "devices": ["pi4"],
                "sort_by": "angular_custom_to_accuracy",
                "metrics": ["od_inf_rate_ms", "if_inf_macs", ACCURACY],
            },
            "for two",
        ),
        ({"devices": ["pi4"], "metrics": ["quantisation", ACCURACY]}, "quantisation has a value that is no number"),
    ],
)
def test_bad_input_is_answered_with_what_there_is(options, words):
    with pytest.raises(InputError, match=words):
        select_recipes(frame(), **options)


def test_the_tolerance_is_a_factor_and_the_knee_is_marked():
    df = pd.DataFrame(
        {"recipe_id": list("abcde"), "od_inf_rate_ms": [1, 1.04, 2, 16, 16.9], ACCURACY: [0.5, 0.49, 0.8, 0.9, 0.9]}
    )
    assert chosen(select_recipes(df)) == ["a", "c", "d"]
    found = select_recipes(df, eps=0.05)
    assert chosen(found) == ["a", "b", "c", "d"]  # e is 5.6 % behind d
    assert found.knee is not None and found.ids[found.knee] == "c"


def test_what_is_maximised_can_be_said():
    df = frame()[frame()["device"] == "pi4"]
    assert chosen(select_recipes(df, ["od_inf_rate_ms", "if_inf_macs"], maximise=["if_inf_macs"])) == ["d", "c"]
    assert chosen(select_recipes(df, ["od_inf_rate_ms", "if_inf_macs"])) == ["d"]


def test_four_metrics_of_too_many_rows_have_a_front_and_no_fuzzy_ranking():
    values = np.random.default_rng(0).random((10_001, 4))
    df = pd.DataFrame(values, columns=list("abcd")).assign(recipe_id=range(10_001))
    found = select_recipes(df, list("abcd"), top=3)
    assert found.paretoness is None and len(found.chosen) == 3 and found.front.sum() > 3
    with pytest.raises(InputError, match="10001 points in 4 objectives"):
        select_recipes(df, list("abcd"), method="fuzzy", top=3)
