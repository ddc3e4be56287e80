"""Includes, variables, overrides and snapshots."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from archsearch import config
from archsearch.config import Duration
from archsearch.config.files import MAX_FILES
from archsearch.jobs import InputError

Write = Callable[..., str]
Refused = Callable[..., str]

DATA = "data: {path: d.npz}\n"


# ------------------------------------------------------------------------------------------------------------- sections
def test_missing_sections_and_keys_get_their_defaults(write: Write) -> None:
    found = config.load(write(DATA + "train:\n"))
    assert found["train"].epochs == 3
    assert found["search"].name == "petridish"
    assert found["data"].path == "d.npz"


def test_a_section_is_chosen_by_name(write: Write) -> None:
    assert config.load(write(DATA + "search: {name: growth, rounds: 2}")).sections["search"].model_dump() == {
        "name": "growth",
        "rounds": 2,
    }


def test_a_loaded_configuration_does_not_change(write: Write) -> None:
    found = config.load(write(DATA))
    with pytest.raises(ValidationError):
        found["train"].epochs = 5
    with pytest.raises(TypeError):
        found.sections["train"] = None  # type: ignore[index]


@pytest.mark.parametrize(
    ("given_value", "seconds"),
    [
        (90, 90.0),
        ("90", 90.0),
        ("90s", 90.0),
        ("3m", 180.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
        ("500ms", 0.5),
        ("1h 1.5m", 3690.0),
    ],
)
def test_durations(given_value: object, seconds: float) -> None:
    assert TypeAdapter(Duration).validate_python(given_value) == seconds


@pytest.mark.parametrize(
    "given_value", ["", "soon", "3 weeks", "-3m", -1, True, None, ".inf", float("inf"), float("nan"), "1h30", [3], "9" * 400]
)
def test_what_is_no_duration(given_value: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(given_value)


# -------------------------------------------------------------------------------------------------------------- includes
def test_includes_are_merged_deeply_and_the_later_wins(write: Write) -> None:
    write("train: {epochs: 1, lr: 0.1, widths: [1, 2]}\ndata: {path: one, seed: 1}", "sub/one.yaml")
    write("include: one.yaml\ntrain: {epochs: 2, widths: [3]}", "sub/two.yaml")
    write("train: {epochs: 4}", "three.yaml")
    found = config.load(write("include: [sub/two.yaml, three.yaml]\ntrain: {lr: 0.3}"))
    assert (found["train"].epochs, found["train"].lr, found["train"].widths) == (4, 0.3, [3])
    assert found["data"].model_dump() == {"path": "one", "seed": 1}


def test_a_file_may_be_included_twice(write: Write) -> None:
    write(DATA, "base.yaml")
    write("include: base.yaml", "a.yaml")
    write("include: base.yaml", "b.yaml")
    assert config.load(write("include: [a.yaml, b.yaml]"))["data"].path == "d.npz"


def test_a_circle_of_includes_is_told_with_its_chain(write: Write, refused: Refused) -> None:
    write("include: b.yaml", "a.yaml")
    write("# on the second line:\ninclude: sub/../a.yaml", "b.yaml")
    message = refused(config.load, "a.yaml")
    assert message.startswith("b.yaml:2:")
    assert "a.yaml -> b.yaml -> sub/../a.yaml" in message


def test_includes_are_bounded(write: Write, refused: Refused) -> None:
    write(DATA, "leaf.yaml")
    message = refused(config.load, write("include: [" + ", ".join(["leaf.yaml"] * (MAX_FILES + 1)) + "]"))
    assert f"more than {MAX_FILES} files" in message


@pytest.mark.parametrize("entry", ["3", "[[a]]", "{a: b}", "''"])
def test_an_include_is_a_file_name(write: Write, refused: Refused, entry: str) -> None:
    assert "include takes a file name" in refused(config.load, write(f"include: {entry}"))


def test_a_missing_file_is_named(write: Write, refused: Refused, tmp_path: Path) -> None:
    assert refused(config.load, write("data:\n  path: x\ninclude: [gone.yaml]")).startswith(
        "conf.yaml:3: the included file gone.yaml is not there"
    )
    assert refused(config.load, "nowhere.yaml").startswith("nowhere.yaml: cannot be read: No such file")
    assert refused(config.load, tmp_path).endswith("Name a configuration file.")


def test_files_that_are_no_configuration(write: Write, refused: Refused, tmp_path: Path) -> None:
    (tmp_path / "bytes.yaml").write_bytes(b"a: \xff\xfe")
    assert "UTF-8" in refused(config.load, tmp_path / "bytes.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * (2 << 20))
    assert "larger than" in refused(config.load, tmp_path / "large.yaml")
    assert "expected sections" in refused(config.load, write("- a\n- b\n", "list.yaml"))
    assert "found a single value" in refused(config.load, write("hello\n", "word.yaml"))


# ------------------------------------------------------------------------------------------------------------- variables
def test_variables_are_filled_in(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "7")
    monkeypatch.setenv("WHERE", "/data")
    monkeypatch.delenv("NOPE", raising=False)
    write("train:\n  epochs: ${N:3}\n  lr: ${NOPE:1e-2}\n  token: ${NOPE:}\n", "base.yaml")
    monkeypatch.setenv("BASE", "base")
    found = config.load(write("include: ${BASE}.yaml\ndata:\n  path: '${WHERE}/${N}/$${x}'\n  seed: '${N}'\n"))
    assert found["train"].model_dump(include={"epochs", "lr", "token"}) == {"epochs": 7, "lr": 0.01, "token": None}
    assert found["data"].model_dump() == {"path": "/data/7/${x}", "seed": 7}


def test_a_variable_is_a_scalar_and_never_more(write: Write, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V", "[1, 2]")
    assert 'train.widths is "[1, 2]"' in refused(config.load, write(DATA + "train:\n  widths: ${V}\n"))
    monkeypatch.setenv("V", "${HOME} !!python/none *a")
    assert config.load(write("data:\n  path: ${V}\n"))["data"].path == "${HOME} !!python/none *a"


def test_a_quoted_variable_is_text(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V", "1e3")
    found = config.load(write("data:\n  path: '${V}'\n"))
    assert found["data"].path == "1e3"
    assert config.load(write(found.source_text, "snapshot.yaml")) == found


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("${NOPE}", "NOPE is not set"),
        ("${1X}", "cannot read"),
        ("${NOPE", "cannot read"),
        ("${}", "cannot read"),
        ("${A B:c}", "cannot read"),
    ],
)
def test_a_variable_without_value_is_an_error(
    write: Write, refused: Refused, monkeypatch: pytest.MonkeyPatch, text: str, says: str
) -> None:
    monkeypatch.delenv("NOPE", raising=False)
    message = refused(config.load, write(f"train: {{}}\ndata:\n  path: {text}\n"))
    assert message.startswith("conf.yaml:3: data.path: ")
    assert says in message


def test_nothing_is_filled_in_unless_wanted(write: Write, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V", "leaked")
    message = refused(config.load, write("data:\n  path: ${V:x}\n"), expand_env=False)
    assert "${V:x}" in message
    assert "leaked" not in message


# ------------------------------------------------------------------------------------------------------------- overrides
def test_overrides_are_yaml_and_come_last(write: Write) -> None:
    found = config.load(
        write(DATA + "train: {lr: 0.5, widths: [1, 2, 3]}"),
        overrides=[
            "train.lr=1e-3",
            "train.widths.1=9",
            "train.augment.flip=true",
            "search={name: growth, rounds: 4}",
            "data.path=a=b",
        ],
    )
    assert (found["train"].lr, found["train"].widths, found["train"].augment.flip) == (0.001, [1, 9, 3], True)
    assert found["search"].rounds == 4
    assert found["data"].path == "a=b"


def test_an_override_reaches_keys_with_dots(write: Write) -> None:
    assert config.load(write(DATA), overrides=[r"train.labels.a\.b=c"])["train"].labels == {"a.b": "c"}


def test_an_override_reads_no_variable(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V", "leaked")
    found = config.load(write(DATA), overrides=["data.path=${V}"])
    assert found["data"].path == "${V}"
    assert config.from_snapshot(found.source_text) == found


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.epochs", "there is no ="),
        ("=3", "is not a path"),
        ("train..epochs=3", "is not a path"),
        ("train.epochs=[", "not readable as YAML"),
        ("train.epochs={a: 1, a: 2}", "there twice"),
        ("train.epochs=0", "train.epochs is 0, which is not allowed. Write a whole number at least 1 and at most 1000."),
        ("train.epoch=3", "unknown key train.epoch. Did you mean epochs?"),
        ("trian.epochs=3", "unknown section trian. Did you mean train?"),
        ("train.widths.7=3", "not an item of a list of 1"),
        ("train.lr.x=3", "cannot be set inside 0.5"),
        ("train.epochs=!!python/name:os.system x", "is not allowed"),
    ],
)
def test_a_bad_override_is_named(write: Write, refused: Refused, override: str, says: str) -> None:
    message = refused(config.load, write(DATA + "train: {lr: 0.5, widths: [1]}"), overrides=[override])
    assert f"--set {override}" in message
    assert says in message


# ------------------------------------------------------------------------------------------------------------- snapshots
def test_a_snapshot_keeps_variables_and_resumes_to_the_same(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "/secret/place")
    monkeypatch.setenv("N", "7")
    write("train:\n  epochs: ${N:3}\n  lr: '${N}'\n", "base.yaml")
    found = config.load(write("include: base.yaml\ndata:\n  path: ${WHERE}/x\n"), overrides=["train.widths=[4, 5]"])
    assert "/secret/place" not in found.source_text
    assert yaml.safe_load(found.source_text) == {
        "train": {"epochs": "${N:3}", "lr": "${N}", "widths": [4, 5]},
        "data": {"path": "${WHERE}/x"},
    }
    assert dict(found.expanded) == {"train.epochs": 7, "train.lr": "7", "data.path": "/secret/place/x"}
    monkeypatch.setenv("N", "8")
    monkeypatch.delenv("WHERE")
    again = config.from_snapshot(found.source_text, expanded=json.loads(json.dumps(dict(found.expanded))))
    assert again == found
    assert config.from_snapshot(again.source_text, expanded=again.expanded) == found


def test_a_strangers_snapshot_reads_nothing_of_ours(write: Write, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V", "leaked")
    message = refused(config.from_snapshot, "data:\n  path: ${V:x}\n", file="run/config.yaml")
    assert message.startswith("run/config.yaml:2: data.path: ${V:x} is not filled in")
    assert "--set data.path=VALUE" in message
    assert "leaked" not in message
    looked_at = config.from_snapshot("data:\n  path: ${V:x}\n", strict=False)
    assert looked_at["data"].path == "${V:x}"
    write(DATA, "ours.yaml")
    assert "cannot include" in refused(config.from_snapshot, "include: ours.yaml\n" + DATA)


@pytest.mark.parametrize(
    ("text", "value"), [("data:\n  path: ${MY_PASSWORD}\n", "x"), ("data:\n  path: ${V}\n", "s3://me:hush@host/x")]
)
def test_secrets_are_not_kept_and_are_asked_for(
    write: Write, refused: Refused, monkeypatch: pytest.MonkeyPatch, text: str, value: str
) -> None:
    monkeypatch.setenv("MY_PASSWORD", value)
    monkeypatch.setenv("V", value)
    found = config.load(write(text))
    assert found["data"].path == value
    assert dict(found.expanded) == {}
    assert "--set data.path=VALUE" in refused(config.from_snapshot, found.source_text, expanded=found.expanded)
    again = config.from_snapshot(found.source_text, expanded=found.expanded, overrides=["data.path=new"], settable=["train"])
    assert again["data"].path == "new"


def test_a_key_that_is_secret_is_not_kept(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V", "hush")
    assert dict(config.load(write(DATA + "train:\n  token: ${V}\n")).expanded) == {}


def test_only_what_is_settable_is_set(write: Write, refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("N", "7")
    found = config.load(write(DATA + "train:\n  epochs: ${N}\n"))

    def again(*overrides: str) -> config.Config:
        return config.from_snapshot(
            found.source_text, expanded=found.expanded, overrides=overrides, settable=["search", "train.lr"]
        )

    changed = again("search.eps=0.5", "train.lr=0.7")
    assert (changed["search"].eps, changed["train"].lr, changed["train"].epochs) == (0.5, 0.7, 7)
    for override in ("train.epochs=9", "data.seed=3", "train.l=1", "train={lr: 1}"):
        assert f"--set {override}: this cannot be changed any more; only search, train.lr can." in refused(again, override)


def test_values_from_python(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("V", "leaked")
    values = {"data": {"path": "${V}"}, "train": {"widths": [1, 2], "limit": "3m"}}
    before = copy.deepcopy(values)
    found = config.from_values(values, overrides=["train.epochs=5"])
    assert values == before
    assert (found["data"].path, found["train"].limit, found["train"].epochs) == ("${V}", 180.0, 5)
    assert config.from_snapshot(found.source_text) == found
    assert "configuration: train.epochs" in refused(config.from_values, {"data": {"path": "x"}, "train": {"epochs": 0}})
    assert "made of dicts" in refused(config.from_values, {"data": {"path": Path("x")}})


def test_the_whole_configuration_can_be_written_and_read(write: Write) -> None:
    found = config.load(write(DATA + "train: {limit: 1h, widths: [3], labels: {a: '$${x'}}"), overrides=["data.path=$${a}"])
    again = config.load(write(found.to_yaml(mask=False), "again.yaml"))
    assert dict(again.sections) == dict(found.sections)


def test_secrets_are_masked(write: Write) -> None:
    found = config.load(
        write("data: {path: 's3://me:hush@host/x?api_key=hush&page=2'}\ntrain: {token: hush, labels: {db_password: hush}}")
    )
    shown = found.to_yaml() + json.dumps(found.to_json())
    assert "hush" not in shown
    assert "s3://me:***@host/x?api_key=***&page=2" in shown
    assert "hush" in found.to_yaml(mask=False)


# ------------------------------------------------------------------------------------------------------------------ fuzz
@settings(max_examples=200)
@given(st.text(st.sampled_from("ab:{}[]$&*<!-'\"#|>?,.0 \n\tdata train path lr"), max_size=60))
def test_no_text_gives_anything_but_a_configuration_or_an_input_error(text: str) -> None:
    try:
        found = config.from_snapshot(text, strict=False)
    except InputError:
        return
    assert set(found.sections) == {"data", "search", "train"}
