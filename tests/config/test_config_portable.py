"""What leaves this process: configurations that travel, and those that a run keeps, hold no secret."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from archsearch import config

Write = Callable[..., str]
Refused = Callable[..., str]

TEXT = """
data: {path: '${PLACE}/x'}
train: {token: '${HUB_TOKEN}', epochs: '${EPOCHS:7}', labels: {plain: '$${as it is', db_password: '${PW:hush-default}'}}
"""


def test_what_travels_means_the_same_elsewhere_and_holds_no_secret(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLACE", "/here")
    monkeypatch.setenv("HUB_TOKEN", "hush-here")
    monkeypatch.setenv("PW", "hush-too")
    here = config.load(write(TEXT), overrides=["train.lr=0.5", "train.labels.odd=${PLACE}"])
    text = config.portable_text(here)
    assert "hush-here" not in text and "hush-too" not in text and "${HUB_TOKEN}" in text

    monkeypatch.setenv("PLACE", "/there")
    monkeypatch.setenv("EPOCHS", "9")
    monkeypatch.setenv("HUB_TOKEN", "hush-there")
    there = config.load(write(text, "sent.yaml"))
    assert there["data"] == here["data"]
    assert there["train"] == here["train"].model_copy(update={"token": "hush-there"})
    assert there["train"].labels["odd"] == "${PLACE}"


@pytest.mark.parametrize(
    "text",
    [
        "data: {path: x}\ntrain: {token: hush}",
        "data: {path: x}\ntrain: {labels: {db_password: hush}}",
        "data: {path: 's3://me:hush@host/x'}",
        "data: {path: 'http://host/x?sig=hush'}",
    ],
)
def test_a_secret_that_is_written_out_neither_travels_nor_is_kept(write: Write, refused: Refused, text: str) -> None:
    loaded = config.load(write(text))
    said = refused(config.portable_text, loaded)
    assert "holds a secret" in said and "hush" not in said
    kept = config.without_secrets(loaded.source_text)
    assert "hush" not in kept
    [path] = config.left_open(kept, {})
    key = ".".join(map(str, path))
    assert key in said
    assert f"--set {key}=VALUE" in refused(config.from_snapshot, kept)
    value = loaded.to_json(mask=False)
    for step in path:
        value = value[step]
    again = config.from_snapshot(kept, overrides=[f"{key}={value}"], settable=["search"])
    assert dict(again.sections) == dict(loaded.sections)


def test_what_holds_no_secret_is_kept_as_it_was_written(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "hush")
    monkeypatch.setenv("PW", "hush")
    monkeypatch.setenv("PLACE", "x")
    text = config.load(write(TEXT)).source_text
    assert config.without_secrets(text) == text
