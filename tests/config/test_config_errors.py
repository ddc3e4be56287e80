"""What the user reads when a configuration is wrong: file, line, key, what was given, what is allowed, what to do."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from archsearch import config

Write = Callable[..., str]
Refused = Callable[..., str]


@pytest.mark.parametrize(
    ("text", "start", "advice"),
    [
        ("train:\n  epoch: 3\n", "conf.yaml:3: unknown key train.epoch. Did you mean epochs?", ""),
        ("train:\n  augment:\n    flp: 3\n", "conf.yaml:4: unknown key train.augment.flp. Did you mean flip?", ""),
        ("train:\n  rounds: 3\n", "conf.yaml:3: unknown key train.rounds. Keys of train: epochs, lr, ", ""),
        ("search:\n  lr: 3\n", "conf.yaml:3: unknown key search.lr. It is a key of train.", ""),
        ("trian: {}\n", "conf.yaml:2: unknown section trian. Did you mean train? Sections: data, search, train.", ""),
        ("train:\n  epochs: 0\n", "conf.yaml:3: train.epochs is 0", "Write a whole number at least 1 and at most 1000."),
        ("train:\n  epochs: ten\n", 'conf.yaml:3: train.epochs is "ten"', "Write a whole number at least 1"),
        ("train:\n  lr: 0\n", "conf.yaml:3: train.lr is 0", "Write a number greater than 0."),
        ("train:\n  lr: .inf\n", "conf.yaml:3: train.lr is .inf", "input should be a finite number. Write a number"),
        ("train:\n  optimizer: sdg\n", 'conf.yaml:3: train.optimizer is "sdg"', "Did you mean sgd? Write one of sgd, adamw."),
        ("train:\n  widths: [1,\n    0]\n", "conf.yaml:4: train.widths.1 is 0", "Write a whole number at least 1."),
        (
            "train:\n  widths: x\n",
            'conf.yaml:3: train.widths is "x"',
            "Write a whole number, or a list (a whole number at least 1 each).",
        ),
        ("train:\n  augment: 3\n", "conf.yaml:3: train.augment is 3", "Write a mapping with keys such as flip, shift."),
        ("train:\n  augment: {flip: maybe}\n", 'conf.yaml:3: train.augment.flip is "maybe"', "Write true or false."),
        (
            "train:\n  limit: soon\n",
            'conf.yaml:3: train.limit is "soon"',
            "not a length of time. Write a length of time such as 90",
        ),
        ("train:\n  limit: 0s\n", 'conf.yaml:3: train.limit is "0s"', "input should be greater than 0. Write a length of"),
        ("train:\n  labels: {a: {b: c}}\n", 'conf.yaml:3: train.labels.a is {"b": "c"}', "Write text."),
        ("train:\n  token: [hush]\n", "conf.yaml:3: train.token is ***", "Write text, or null."),
        ("train:\n  optimizer: adamw\n  lr: 2\n", "conf.yaml:2: train: adamw diverges with lr above 1; give a smaller lr.", ""),
        ("train: 3\n", "conf.yaml:2: train is a section: write keys below it, not 3.", ""),
        ("search:\n\n  name: petridsh\n", "conf.yaml:4: search: no searcher is called 'petridsh'.", ""),
        ("search:\n  name: growth\n  eps: 1\n", "conf.yaml:4: unknown key search.eps. ", ""),
    ],
)
def test_one_error_is_one_line(write: Write, refused: Refused, text: str, start: str, advice: str) -> None:
    found = refused(config.load, write("data: {path: x}\n" + text))
    assert found.startswith(start)
    assert advice in found
    assert "\n" not in found


def test_a_missing_key_says_what_to_add(write: Write, refused: Refused) -> None:
    found = refused(config.load, write("train: {}\ndata:\n  seed: 3\n"))
    assert found == "conf.yaml:2: data.path is missing. Add it: text (where the data lie)."
    assert "data.path is missing" in refused(config.load, write("train: {}"))


def test_errors_of_included_files_name_those(write: Write, refused: Refused) -> None:
    write("\ntrain:\n  lr: -1\n", "sub/base.yaml")
    found = refused(config.load, write("include: sub/base.yaml\ndata: {path: x}\n"))
    assert found.startswith("sub/base.yaml:3: train.lr is -1")


def test_all_errors_are_told_at_once_in_order(write: Write, refused: Refused) -> None:
    text = "train:\n  lr: -1\n  lr: 2\n  epoch: 3\nserch: {}\ndata:\n  path: ${NOPE_NOT_SET}\n  seed: x\nsearch: {name: x}\n"
    lines = refused(config.load, write(text)).splitlines()
    assert lines[0] == "conf.yaml has 7 errors:"
    assert [line.split()[0] for line in lines[1:]] == [f"conf.yaml:{n}:" for n in (2, 3, 4, 5, 7, 8, 9)]


def test_a_variable_without_value_causes_no_second_error(write: Write, refused: Refused) -> None:
    found = refused(config.load, write("data: {path: x}\ntrain:\n  epochs: ${NOPE_NOT_SET}\n  widths:\n  - ${NOPE_NOT_SET}\n"))
    assert found.splitlines()[0] == "conf.yaml has 2 errors:"


def test_of_many_errors_ten_are_shown(write: Write, refused: Refused) -> None:
    lines = refused(config.load, write("data: {path: x}\n" + "".join(f"x{n}: 1\n" for n in range(25)))).splitlines()
    assert lines[0] == "conf.yaml has 25 errors:"
    assert len(lines) == 12
    assert lines[-1].strip() == "... and 15 more."


def test_long_values_are_cut(write: Write, refused: Refused) -> None:
    found = refused(config.load, write(f"data: {{path: x}}\ntrain:\n  lr: {'y' * 500}\n"))
    assert len(found) < 200


def test_secrets_stay_out_of_messages(write: Write, refused: Refused) -> None:
    conf = write("data: {path: x}\ntrain: {labels: {access_key: [hush]}, lr: 's3://me:hush@host'}")
    found = refused(config.load, conf, overrides=["train.token=[hush]", "train.epochs=a://b:hush@c"])
    assert len(found.splitlines()) == 5
    assert "hush" not in found
