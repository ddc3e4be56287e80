"""Made-up observations for the golden database's tests."""

from __future__ import annotations

import hashlib
from typing import Any


def recipe(number: int) -> tuple[str, str]:
    """Id and text of a made-up recipe; the store does not look into it."""
    return hashlib.sha256(b"%d" % number).hexdigest()[:32], f'{{"number":{number}}}'


def row(number: int, device: str = "framework", **changes: Any) -> dict[str, Any]:
    values = {
        "task": "classification",
        "dataset_hash": "abc",
        "task_metric_name": "val_accuracy",
        "task_metric": 0.5 + number / 1e6,
    }
    return {"recipe_id": recipe(number)[0], "device": device, "quantisation": "float32", **values, "point": number, **changes}


def batch(start: int, count: int) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """``count`` recipes and a row of each, as ``GoldenDatabase.add`` takes them."""
    numbers = range(start, start + count)
    return dict(map(recipe, numbers)), [row(number) for number in numbers]
