"""The JSON Schema for editors accepts what loads and names what does not."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from archsearch import config


def errors(text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(config.schema())
    return [error.message for error in validator.iter_errors(yaml.safe_load(text))]


def test_it_is_a_schema_and_json() -> None:
    jsonschema.Draft202012Validator.check_schema(config.schema())
    assert json.loads(json.dumps(config.schema())) == config.schema()


@pytest.mark.parametrize(
    "text",
    [
        "include: a.yaml",
        "include: [a.yaml, b.yaml]\ntrain:",
        "data: {path: x}\ntrain: {epochs: 3, widths: [1, 2], augment: {flip: true}, limit: 3m, optimizer: adamw}",
        "train: {epochs: '${N:3}', lr: '${LR}', augment: {flip: '${F}'}, optimizer: '${O}', widths: ['${W}'], limit: 90}",
        "data: {seed: 3}",
        "search: {name: growth, rounds: 3}",
        "search: {name: petridish, eps: 0.5}",
        "search: {eps: 0.5}",
    ],
)
def test_good_files(text: str) -> None:
    assert errors(text) == []


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("trian: {}", "trian"),
        ("train: {epoch: 3}", "epoch"),
        ("train: {epochs: 0}", "epochs"),
        ("train: {optimizer: sdg}", "sdg"),
        ("train: {limit: soon}", "soon"),
        ("search: {name: nobody}", "nobody"),
        ("search: {name: growth, eps: 1}", "eps"),
        ("search: {name: petridish, rounds: 1}", "rounds"),
        ("search: {rounds: 1}", "rounds"),
        ("include: 3", "3"),
    ],
)
def test_bad_files(text: str, names: str) -> None:
    found = errors(text)
    assert found
    assert names in str(found)


def test_keys_carry_descriptions_ranges_and_defaults() -> None:
    schema: dict[str, Any] = config.schema()
    epochs = schema["$defs"]["Train"]["properties"]["epochs"]
    assert epochs["description"] == "passes over the data"
    assert epochs["default"] == 3
    assert {"type": "integer", "minimum": 1, "maximum": 1000} in epochs["anyOf"]
    names = next(part for part in schema["properties"]["search"]["anyOf"] if "properties" in part)["properties"]["name"]
    assert names["enum"] == ["growth", "petridish"]
