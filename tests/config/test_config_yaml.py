"""Reading YAML: what scalars mean, bounds, duplicate keys, and that writing and reading again gives the same."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from archsearch.config import plain, yaml_text
from archsearch.config.tree import Place

Refused = Callable[..., str]


def read(text: str) -> Any:
    problems: list[tuple[Place, str]] = []
    node = yaml_text.parse(text, "f.yaml", problems)
    assert problems == []
    return plain(node)


def problems_of(text: str) -> list[str]:
    problems: list[tuple[Place, str]] = []
    yaml_text.parse(text, "f.yaml", problems)
    return [f"{place}: {what}" for place, what in problems]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("1e6", 1e6),
        ("1.", 1.0),
        (".5", 0.5),
        ("-0.5e+2", -50.0),
        ("1_000_000", 1_000_000),
        ("-7", -7),
        ("010", 10),
        ("0x1F", 31),
        ("0o17", 15),
        ("true", True),
        ("FALSE", False),
        ("on", "on"),
        ("no", "no"),
        ("12:30", "12:30"),
        ("2026-11-21", "2026-11-21"),
        ("~", None),
        ("", None),
        ("null", None),
        ("'1'", "1"),
        ("1e", "1e"),
        ("e3", "e3"),
        ("1.2.3", "1.2.3"),
        (".inf", math.inf),
        ("!!str 5", "5"),
    ],
)
def test_scalars_mean_what_yaml_1_2_says(text: str, value: Any) -> None:
    found = read(f"key: {text}")["key"]
    assert found == value
    assert type(found) is type(value)


def test_keys_are_text() -> None:
    assert read("{1: a, on: b, null: c, 1.50: d}") == {"1": "a", "on": "b", "null": "c", "1.50": "d"}


def test_aliases_and_merge_keys_are_copied() -> None:
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {y: 4, <<: [*a, {z: 5}]}\nd: *a\n"
    assert read(text) == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 4, "z": 5}, "d": {"x": 1, "y": 2}}


def test_of_merged_mappings_the_first_wins() -> None:
    assert read("a: &a {x: 1}\nb: &b {x: 2}\nc: {<<: [*a, *b]}")["c"] == {"x": 1}


@pytest.mark.parametrize("text", ["a: {<<: 3}", "a: {<<: [3]}"])
def test_only_mappings_can_be_merged(text: str) -> None:
    assert "<< takes a mapping" in problems_of(text)[0]


def test_a_duplicate_key_is_named_with_both_lines() -> None:
    found = problems_of("a:\n  x: 1\n  y: 2\n  x: 3\nb: 1\na: 2\n")
    assert found == [
        "f.yaml:4: the key 'x' is there twice (first on line 2). Remove one.",
        "f.yaml:6: the key 'a' is there twice (first on line 1). Remove one.",
    ]


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system ['true']",
        "!!python/name:os.system",
        "!mine x",
        "!!binary aGk=",
        "!!set {a}",
        "!!str {}",
    ],
)
def test_a_tag_makes_no_object(tag: str) -> None:
    (found,) = problems_of(f"a: 1\nb: {tag}")
    assert found.startswith("f.yaml:2: the YAML tag")


@pytest.mark.parametrize("text", ["a: !!int x", "a: !!float y", f"a: {'9' * 5000}"])
def test_a_number_that_is_none_is_a_problem(text: str) -> None:
    assert "is not a readable" in problems_of(text)[0]


def test_complex_keys_are_refused() -> None:
    assert "a key must be a word" in problems_of("? [a, b]\n: 1\n")[0]


def test_repeated_aliases_cannot_fill_the_memory(refused: Refused) -> None:
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 6)]
    assert "more than 50000 values" in refused(read, "\n".join(rows))


def test_an_alias_that_contains_itself_is_refused(refused: Refused) -> None:
    assert "deeper than 50" in refused(read, "a: &a [*a]")
    assert "deeper than 50" in refused(read, "a: &a {<<: *a}")


@pytest.mark.parametrize("text", ["[" * 100_000, "a: " + "[" * 60 + "]" * 60, "- " * 20_000])
def test_deep_nesting_is_refused(refused: Refused, text: str) -> None:
    assert "deep" in refused(read, text)


def test_size_is_bounded(refused: Refused) -> None:
    assert "larger than 1 MiB" in refused(read, "#" * (yaml_text.MAX_BYTES + 1))


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("a: 1\nb: [1, 2\nc: 3\n", "f.yaml:3:", "expected ',' or ']'"),
        ("a:\n\tb: 1\n", "f.yaml:2:", "spaces, not tabs"),
        ("a: {b: ${X:1}}\n", "f.yaml:1:", "in quotes"),
        ("a: *nowhere\n", "f.yaml:1:", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:", "single document"),
        ("a: \x07\n", "f.yaml:", "not readable as YAML"),
    ],
)
def test_syntax_errors_name_the_line(refused: Refused, text: str, line: str, hint: str) -> None:
    message = refused(read, text)
    assert message.startswith(line)
    assert hint in message


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn", "Co"]), max_size=12)
    | st.sampled_from(
        ["1e-3", "on", "1:30", "0o7", "<<", "${A}", "$${A}", "a ${B:c d}", "1_0", ".5", "~", "null", "- x", "# y"]
    ),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab.<${}:", max_size=4), inner, max_size=4),
    max_leaves=12,
)


@given(JSON)
def test_what_is_written_is_read_the_same(value: Any) -> None:
    """``${`` in written text is escaped; it comes back as it was once templates are filled in without any variable."""
    problems: list[tuple[Place, str]] = []
    node = yaml_text.parse(yaml_text.dump({"v": value}), "f.yaml", problems)
    assert problems == []

    def none(name: str) -> None:
        raise AssertionError(f"{name} was taken for a variable")

    assert plain(node, lambda template, *_: template.fill(none))["v"] == value


def test_pyyaml_alone_reads_the_same_from_what_is_written() -> None:
    """A person may read a snapshot with any YAML reader: text that PyYAML would take for a number is quoted."""
    import yaml

    values = {"a": ["1e-3", "on", "1:30", "0o17", "1_0"], "b": 0.001, "c": [1e6, 3, None, True]}
    assert yaml.safe_load(yaml_text.dump(values)) == values
