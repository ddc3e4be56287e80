"""Event data kept as text: equal to what was written, whatever it holds, and parsed only when it is looked into."""

from __future__ import annotations

import copy
import json
import math
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from archsearch.jobs import Event, EventKind, Job, Resources, Stage
from archsearch.store import as_stored, canonical, plain
from archsearch.store.chain import rows_of
from archsearch.store.text import _CUT_TEXT, JsonText, Recorded, read

NAMES = st.sampled_from(["spec", "stage", "ranked", "node", "metrics", "seed", "work", "a"])
TEXTS = (
    NAMES | st.text(max_size=8) | st.sampled_from(['"spec":{', ',"stage":"', '}"', "{", "]]}", '\\"', "\ud800", '"ranked":{}'])
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=12,
)
OBJECTS = st.dictionaries(TEXTS, VALUES, max_size=4)


def opened(value: Any) -> Any:
    """With every text parsed."""
    if isinstance(value, (dict, JsonText)):
        return {key: opened(item) for key, item in value.items()}
    return [opened(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    spec=VALUES | OBJECTS,
    work=TEXTS,
    queue=TEXTS,
    labels=st.dictionaries(TEXTS, TEXTS, max_size=2),
    parent=st.none() | st.just(3),
)
def test_a_job_is_read_as_it_was_asked(spec, work, queue, labels, parent) -> None:
    job = Job(7, Stage.SEARCH, work, spec, 11, Resources(labels=labels), queue, parent)
    text = canonical(job.to_json())
    found = read(EventKind.ASKED, text)
    assert opened(found) == json.loads(text) and found.text == text and canonical(found) == text
    cut = isinstance(spec, dict) and "spec" not in labels and _CUT_TEXT not in text
    assert isinstance(found["spec"], JsonText) == cut
    assert Job.from_json(found) == Job.from_json(json.loads(text))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(metrics=OBJECTS, ranked=VALUES | OBJECTS, artifacts=OBJECTS, node=TEXTS, kind=st.sampled_from(EventKind))
def test_a_result_is_read_as_it_was_told(metrics, ranked, artifacts, node, kind) -> None:
    for found in ({**metrics, "ranked": ranked}, metrics):
        text = canonical({"attempt": 1, "metrics": found, "artifacts": artifacts, "seconds": 0.5, "node": node})
        assert opened(read(kind, text)) == json.loads(text)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.dictionaries(TEXTS, VALUES, max_size=5), st.sampled_from(EventKind))
@example({"ranked": None, "spec": {"ranked": {}}}, EventKind.TOLD)
@example({"metrics": {"ranked": None}, "artifacts": {"ranked": {}}}, EventKind.TOLD)
@example({"metrics": {"ranked": {"a": {"x": 1}, "b": 2}}, "node": "n"}, EventKind.TOLD)
@example({"metrics": {"ranked": {"a": ["}", "x"]}}, "node": "n"}, EventKind.TOLD)
@example({"a": {"spec": {}}, "spec": None, "stage": "x"}, EventKind.ASKED)
@example(
    {"resources": {"labels": {"spec": "x"}}, "spec": {"a": ',"stage":"'}, "stage": "x", "work": ',"stage":"'}, EventKind.ASKED
)
def test_any_data_of_any_kind_is_read_as_it_was_written(data, kind) -> None:
    text = canonical(data)
    assert opened(read(kind, text)) == json.loads(text) and canonical(read(kind, text)) == text


ARCH_TEXTS = st.sampled_from(
    ["arch", "cells", "stem", "parent", "inherit", "hash", '"stem":"', '"}', '{"cells":{', "conv3x3", "\x1f"]
)
ARCH_VALUES = st.recursive(
    st.none() | st.integers() | ARCH_TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ARCH_TEXTS, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    arch=ARCH_VALUES | st.fixed_dictionaries({"cells": ARCH_VALUES, "stem": ARCH_TEXTS}),
    inherit=ARCH_VALUES | st.fixed_dictionaries({"parent": ARCH_VALUES, "kind": ARCH_VALUES}),
    more=st.dictionaries(ARCH_TEXTS, ARCH_VALUES, max_size=3),
)
@example({"cells": {"stem": "x"}, "stem": "y"}, None, {})
@example({"cells": {}, "stem": "y", "z": 1}, {"parent": {"cells": {}, "stem": "x"}}, {})
@example(None, {"parent": {"cells": {}, "stem": "x"}}, {"a": {"arch": {"cells": {}, "stem": "x"}}})
@example({"cells": {"a": {"parent": {"cells": {}, "stem": "s"}}}, "stem": "y"}, {"parent": None}, {})
@example({"cells": None}, {"arch": "arch"}, {})  # no architecture: without a stem it ends nowhere
def test_a_spec_is_looked_into_as_it_was_asked(arch, inherit, more) -> None:
    spec = {**more, "arch": arch, "inherit": inherit}
    text = canonical(Job(7, Stage.SEARCH_TRAINED, "train", spec, 11).to_json())
    assert opened(dict(read(EventKind.ASKED, text)["spec"])) == json.loads(text)["spec"]


def test_the_architectures_of_a_spec_stay_text_and_all_else_is_plain() -> None:
    parent = {"cells": {"normal": {"nodes": [[["s1", "skip_connect"]]], "last": 0}}, "stem": "conv3x3"}
    spec = {"arch": {**parent, "classes": 3}, "hash": "ab", "inherit": {"kind": "node", "parent": parent}, "train": {"lr": 1.0}}
    found = read(EventKind.ASKED, canonical(Job(7, Stage.SEARCH_TRAINED, "train", spec, 11).to_json()))["spec"]
    assert isinstance(found["arch"], JsonText) and isinstance(found["inherit"]["parent"], JsonText)
    assert type(found["inherit"]) is type(found["train"]) is dict and found["hash"] == "ab"
    assert plain(found) == spec and plain({"spec": found}) == {"spec": spec} and canonical(found) == canonical(spec)


@pytest.mark.parametrize("value", [math.nan, math.inf, None, "é", "\ud800", 2**70, (1, 2), {3: 4}])
def test_canonical_text_is_what_pythons_json_writes(value) -> None:
    data = {"b": [value, 0.1, -0.0, True], "a": "x"}
    assert canonical(data) == json.dumps(data, sort_keys=True, separators=(",", ":"))


def test_the_ranking_of_a_search_stays_text_and_all_else_is_plain() -> None:
    ranked = {"normal": [["s0", "skip_connect", -0.25]], "reduction": []}
    data = {"attempt": 1, "metrics": {"ranked": ranked, "steps": 4}, "artifacts": {}, "seconds": 1.0, "node": "n"}
    found = read(EventKind.TOLD, canonical(data))
    assert isinstance(found["metrics"]["ranked"], JsonText) and type(found["metrics"]) is dict
    assert found["metrics"]["steps"] == 4 and found["metrics"]["ranked"] == ranked
    assert found == data and canonical(found) == canonical(data)


def test_it_is_not_parsed_before_it_is_looked_into() -> None:
    text = JsonText('{"a": this is no JSON}')
    assert copy.deepcopy(text).text == text.text
    with pytest.raises(ValueError):
        text["a"]


def test_it_is_a_mapping_and_cannot_be_taken_for_an_empty_dictionary() -> None:
    text = JsonText('{"a":[2],"b":1}')
    assert (dict(text), len(text), "a" in text, text.get("c"), {**text, "d": 0}) == (
        {"a": [2], "b": 1},
        2,
        True,
        None,
        {"a": [2], "b": 1, "d": 0},
    )
    with pytest.raises(TypeError):
        json.dumps({"spec": text})
    assert canonical({"spec": text}) == '{"spec":{"a":[2],"b":1}}' and plain({"spec": text}) == {"spec": {"a": [2], "b": 1}}
    with pytest.raises(TypeError, match="nothing that JSON holds"):
        canonical({"spec": object()})


@pytest.mark.parametrize("value", ["\ud800", 10**30, -0.0, 5e-324, 1.7976931348623157e308, 0.1 + 0.2])
def test_values_at_the_edge_survive(value) -> None:
    found = read(EventKind.TOLD, canonical({"x": value}))["x"]
    assert (
        found == value
        and type(found) is type(value)
        and math.copysign(1, 1 if isinstance(value, str) else found)
        == (math.copysign(1, 1 if isinstance(value, str) else value))
    )


def test_not_a_number_and_depth_survive() -> None:
    deep: Any = 1
    for _ in range(300):
        deep = [deep]
    found = read(EventKind.TOLD, canonical({"nan": math.nan, "inf": -math.inf, "deep": deep}))
    assert math.isnan(found["nan"]) and found["inf"] == -math.inf and found["deep"] == deep


def test_the_log_takes_the_text_of_an_event_as_it_is_and_makes_it_for_others() -> None:
    data = {"attempt": 1, "metrics": {"ranked": {"b": []}}, "artifacts": {}, "seconds": 1.0, "node": ""}
    stored, bare = as_stored(1, 2.0, EventKind.TOLD, 5, data), Event(1, 2.0, EventKind.TOLD, 5, data)
    assert stored == bare and isinstance(stored.data, Recorded)
    assert rows_of([stored], (0, 9)) == rows_of([bare], (0, 9))
