"""The configurations that users start from are good, and say what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from archsearch.config import load

CONFS = sorted((Path(__file__).parents[1] / "confs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFS, ids=lambda path: path.stem)
def test_it_is_good_and_commented(path):
    config = load(path)
    assert config["run"].name == path.stem
    assert path.read_text().startswith("# ")


def test_the_four_that_were_promised_are_there():
    assert {"petridish_digits", "petridish_glyphs", "petridish_cifar10", "petridish_imagenet"} <= {path.stem for path in CONFS}


def test_the_growth_baseline_differs_in_the_searcher_only():
    growth, petridish = (load(CONFS[0].parent / f"{name}_digits.yaml").to_json() for name in ("growth", "petridish"))
    assert {name for name in petridish if petridish[name] != growth[name]} == {"run", "search"}
    assert {key for key in petridish["search"] if petridish["search"][key] != growth["search"][key]} == {"name"}
