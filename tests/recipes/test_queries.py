"""The golden query against the values of its specification, and at its edges."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsearch.frontier import paretoness
from archsearch.recipes import query_pareto_optimal_recipes as query
from archsearch.recipes.metrics import COSTS
from archsearch.recipes.queries import META
from archsearch.recipes.ranking import SORTS

CASES = json.loads((Path(__file__).parent / "pareto_queries.json").read_text())["cases"]

ORDERS = {
    "sort_metric_custom": "metric_custom_best_to_worst",
    "sort_metric_accuracy": "metric_accuracy_best_to_worst",
    "sort_angular_seed": "angular_custom_to_accuracy",
    "sort_paretoness": "paretoness",
}


def frame(custom, accuracy, name="od_inf_rate_ms", **more):
    ids = [f"r{i}" for i in range(len(custom))]
    return pd.DataFrame({"recipe_id": ids, name: custom, "relative_task_metric": accuracy, **more})


def quiet(*args, **options):
    """A query that warns of nothing; its ids as row numbers."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ids, meta = query(*args, **options)
    return [int(each[1:]) for each in ids], meta


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["case"])
def test_the_values_of_the_specification(case):
    df = frame(case["custom_raw_smaller_is_better"], case["accuracy"])
    for key, order in ORDERS.items():
        found, meta = quiet(df, sort_by=order)
        assert found == case[key] and sorted(found) == case["exact_front"]
        np.testing.assert_allclose(meta["metric_custom_all"], case["custom_norm_max_over_value"], atol=1e-8)
        assert meta["metric_custom"] == [meta["metric_custom_all"][i] for i in found]
        assert meta["metric_accuracy"] == [case["accuracy"][i] for i in found]
        assert meta["metric_accuracy_all"] == case["accuracy"]
    assert quiet(df, method="fuzzy", sort_by="paretoness", top_N_fuzzy=3)[0] == case["fuzzy_top3"]
    points = np.column_stack([df["od_inf_rate_ms"], -df["relative_task_metric"]])
    np.testing.assert_allclose(paretoness(points, ratios=(True, False)), case["paretoness_proposed"], rtol=0, atol=6e-9)


def test_what_is_faster_and_what_is_smaller():
    names = {name: quiet(frame([1, 2], [0.1, 0.2], name), metric_custom=name)[1]["metric_custom_name"] for name in COSTS}
    assert {name for name, words in names.items() if words == "x times faster"} == {"od_inf_rate_ms", "od_total_time"}
    assert set(names.values()) == {"x times faster", "x times smaller"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"method": "best"}, "method is 'best'; expected one of exact, fuzzy"),
        ({"metric_custom": "latency"}, "metric_custom is 'latency'; expected one of od_inf_rate_ms, if_inf_macs"),
        ({"sort_by": None}, "sort_by is None; expected one of metric_custom_best_to_worst"),
        ({"method": "fuzzy"}, "top_N_fuzzy is None; expected a whole number of at least 1"),
        ({"method": "fuzzy", "top_N_fuzzy": 0}, "top_N_fuzzy is 0"),
        ({"method": "fuzzy", "top_N_fuzzy": 2.5}, "top_N_fuzzy is 2.5"),
        ({"metric_custom": "if_inf_macs"}, "no column 'if_inf_macs'.*columns of numbers: od_inf_rate_ms, relative_task_metric"),
    ],
)
def test_what_is_not_allowed_is_answered_with_what_is(options, words):
    with pytest.raises(ValueError, match=words):
        query(frame([1, 2], [0.1, 0.2]), **options)


def test_rows_without_a_value_are_left_out_and_counted():
    custom = [1.0, np.nan, 3.0, np.inf, 2.0, -1.0, None, 4.0]
    accuracy = [0.5, 0.9, np.nan, 0.9, 0.8, 0.9, 0.9, -0.1]
    df = frame(custom, accuracy)
    before = df.copy()
    with pytest.warns(
        UserWarning, match=r"6 of 8 rows left out: 2 without od_inf_rate_ms, 1 with an infinite od_inf_rate_ms, "
    ) as w:
        ids, meta = query(df)
    text = str(w[0].message)
    assert "1 with a negative od_inf_rate_ms, 1 without relative_task_metric, 1 with a negative relative_task_metric" in text
    assert ids == ["r0", "r4"] and meta["metric_custom_all"] == [2.0, 1.0]
    pd.testing.assert_frame_equal(df, before)
    with pytest.warns(UserWarning, match="no row has both"):
        assert query(df.iloc[[1, 3]]) == ([], {name: [] for name in META})
    assert len(META) == 6


def test_nullable_columns_and_any_index_are_read():
    df = frame(pd.array([3, None, 2], "Int64"), [0.5, 0.6, 0.4]).set_index(pd.Index([7, 7, 9]))
    with pytest.warns(UserWarning, match="1 of 3 rows left out"):
        assert query(df)[0] == ["r2", "r0"]
    with pytest.raises(ValueError, match="column od_inf_rate_ms has a value that is no number"):
        query(frame(["1", "fast"], [0.5, 0.6]))


def test_several_devices_are_warned_of():
    df = frame([1, 2], [0.1, 0.2], device=["pi4", "jetson"])
    with pytest.warns(UserWarning, match="od_inf_rate_ms of 2 devices"):
        query(df)
    quiet(df.assign(if_inf_macs=[1, 2]), metric_custom="if_inf_macs")
    both = frame([1, None], [0.1, 0.1], device=["pi4", "framework"])  # as a database has them: one was measured, one cannot be
    with pytest.warns(UserWarning) as said:
        query(both)
    assert [str(each.message).split(":")[0] for each in said] == ["1 of 2 rows left out"]


def test_zero_memory_is_the_best_and_stays_finite():
    df = frame([0, 10, 20, 0], [0.5, 0.6, 0.7, 0.4], "od_gpu_mem_MB")
    found, meta = quiet(df, metric_custom="od_gpu_mem_MB")
    assert found == [0, 1, 2] and meta["metric_custom"] == [4.0, 2.0, 1.0]
    assert quiet(df, "fuzzy", "od_gpu_mem_MB", "paretoness", 4)[0][-1] == 3
    found, meta = quiet(frame([0, 0], [0.5, 0.6], "od_gpu_mem_MB"), metric_custom="od_gpu_mem_MB")
    assert found == [1] and meta["metric_custom_all"] == [1.0, 1.0]
    assert np.isfinite(quiet(frame([5e-324, 1e308], [0.5, 0.6]))[1]["metric_custom_all"]).all()


def test_one_row_and_equal_rows():
    for method, top in (("exact", None), ("fuzzy", 5)):
        for order in SORTS:
            assert quiet(frame([3], [0.5]), method, sort_by=order, top_N_fuzzy=top)[0] == [0]
            assert quiet(frame([3] * 4, [0.5] * 4), method, sort_by=order, top_N_fuzzy=top)[0] == [0, 1, 2, 3]
    assert quiet(frame([3] * 4, [0.5] * 4), "fuzzy", top_N_fuzzy=2)[0] == [0, 1]
    assert quiet(frame([2, 2, 1, 3], [0.5, 0.5, 0.5, 0.6]))[0] == [2, 3]  # weakly dominated rows go


def test_the_angle_is_of_the_chosen_and_fuzzy_may_go_behind_the_front():
    custom, accuracy = np.random.default_rng(4).random((2, 40)) + 0.1
    found, meta = quiet(frame(custom, accuracy), "fuzzy", sort_by="angular_custom_to_accuracy", top_N_fuzzy=12)
    x, y = np.array(meta["metric_custom"]), np.array(meta["metric_accuracy"])
    assert (np.diff(np.degrees(np.arctan2(y - y.min(), x - x.min()))) >= 0).all()
    assert sorted(found) == sorted(quiet(frame(custom, accuracy), "fuzzy", sort_by="paretoness", top_N_fuzzy=12)[0])
    assert set(found) > set(quiet(frame(custom, accuracy))[0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=25), st.integers(1, 30))
def test_fuzzy_never_ranks_a_row_before_one_that_beats_it(rows, top):
    custom, accuracy = np.array(rows, float).T
    found, _ = quiet(frame(custom, accuracy), "fuzzy", sort_by="paretoness", top_N_fuzzy=top)
    assert len(found) == min(top, len(rows))
    for place, i in enumerate(found):
        behind = [j for j in range(len(rows)) if j not in found[:place]]
        better = [j for j in behind if custom[j] <= custom[i] and accuracy[j] >= accuracy[i] and rows[j] != rows[i]]
        assert not better and not [j for j in behind if rows[j] == rows[i] and j < i]


def test_the_room_is_imported_without_pandas():
    code = (
        "import sys, archsearch.recipes as r; r.query_pareto_optimal_recipes; r.select_recipes; print('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
