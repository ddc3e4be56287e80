"""The train room's configuration sections, and what importing them costs."""

from __future__ import annotations

import subprocess
import sys

import pytest
from pydantic import ValidationError

from archsearch.train import TrainSection, WeakLearnerSection


def test_sections_load_no_torch() -> None:
    code = "import sys, archsearch.train; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_dump_is_json_and_comes_back() -> None:
    for section in (TrainSection(), WeakLearnerSection(primitives=("sep_conv_3x3",))):
        assert type(section).model_validate_json(section.model_dump_json()) == section


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        (TrainSection, "epochs", 0),
        (TrainSection, "optimizer", "adam"),
        (TrainSection, "momentum", 1.0),
        (TrainSection, "drop_path", 1.0),
        (TrainSection, "learning_rate", 0.1),
        (TrainSection, "checkpoint_every", {"minutes": 1}),
        (WeakLearnerSection, "steps", 0),
        (WeakLearnerSection, "primitives", ["none"]),
        (WeakLearnerSection, "primitives", ["sep_conv_4x4"]),
    ],
)
def test_wrong_values_are_refused(section: type[TrainSection], key: str, value: object) -> None:
    with pytest.raises((ValidationError, ValueError), match=key):
        section.model_validate({key: value})
