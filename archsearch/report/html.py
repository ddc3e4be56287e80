"""``report.html``: one page about a run that needs neither network nor server and runs nothing that the run's data say."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from archsearch.jobs import JSON, StoreUnavailable
from archsearch.report.evaluation import error_text
from archsearch.report.html_points import objective_data, points_data
from archsearch.report.html_slots import compute_data, slots_data
from archsearch.report.view import FrontierView, quantity
from archsearch.store import Point, RunState
from archsearch.store.durable import write_durably

NAME = "report.html"


def write_html(
    folder: Path,
    state: RunState,
    *,
    name: str,
    config: str,
    environment: Mapping[str, JSON],
    cost: str = "madds",
    error: str = "val_error",
    eps: float = 0.025,
    band_standard_errors: float = 0.0,
    admits: Callable[[Point], bool] = lambda point: True,
    evaluations: Sequence[Mapping[str, JSON]] = (),
    objectives: Sequence[str] = (),
) -> Path:
    """Write ``report.html`` into ``folder``, replaced whole.

    Args:
        folder: the run's folder.
        name: what the page calls the run.
        config: the configuration as text, with secrets masked already: the page may be handed on.
        environment: facts to list, in order; a nested one takes one line.
        cost, error, eps, band_standard_errors, admits: as in ``FrontierView.of``.
        objectives: what devices have measured; each has a frontier of its own, side by side.
        evaluations: final evaluations of the run's models: ``name`` and what ``evaluation_summary`` gives, or ``error``.

    Returns:
        The file.

    Raises:
        StoreUnavailable: it cannot be written.
    """
    points = state.points()
    drawing: dict[str, Any] = {"error": error, "eps": eps, "band_standard_errors": band_standard_errors}
    view = FrontierView.of(points, cost=cost, admits=admits, **drawing)
    data = {
        "name": name,
        "config": config,
        "environment": [[key, _text(value)] for key, value in environment.items()],
        "state": str((state.stopped or {}).get("state", "unfinished")),
        "reason": str((state.stopped or {}).get("reason") or ""),
        **points_data(view, state),
        **compute_data(view, state),
        **slots_data(state),
        "devices": [objective_data(FrontierView.of(points, cost=name, admits=admits, **drawing)) for name in objectives],
        "evaluations": [_evaluation(each) for each in evaluations],
    }
    path = Path(folder) / NAME
    try:
        write_durably(path, page(data).encode())
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be written: {error}; free the disk or check rights") from error
    return path


def _evaluation(found: Mapping[str, JSON]) -> dict[str, JSON]:
    """An evaluation as the page shows it: the texts of its table's rows, marked and best ones by point."""
    models = found.get("models", ())
    return {
        "name": found["name"],
        "problem": found.get("error") if not models else None,
        "note": "" if not models else f"{found['confidence']:.0%} confidence interval {found['interval']}",
        "frontier": found.get("frontier", ()),
        "best": found.get("best"),
        "rows": [
            [
                model["point"],
                model["architecture"],
                "" if model[found["cost"]] is None else quantity(model[found["cost"]]),
                f"{model['trainings']}/{model['seeds']}",
                error_text(model),
            ]
            for model in models
        ],
    }


def page(data: JSON) -> str:
    """The page that shows ``data``.

    Nothing in ``data`` can become markup or script: it stands in a JSON block in which ``<``, ``>`` and ``&`` are escaped,
    the script puts it on the page as text only, and the page's policy allows no script but that one (by its hash), no
    request, no form and no frame.
    """
    template = files("archsearch.report").joinpath("report_template.html").read_text(encoding="utf-8")
    script = re.search(r"<script>(.*?)</script>", template, re.DOTALL)
    assert script is not None, "the template has one inline script"
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    return template.replace("@SCRIPT_HASH@", f"sha256-{digest}").replace("@DATA@", embedded(data))


def embedded(data: JSON) -> str:
    """JSON that can stand inside a ``<script>`` block; numbers that are not finite become null, as JSON has none."""
    text = json.dumps(_finite(data), ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: JSON) -> JSON:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(child) for child in value]
    return value


def _text(value: JSON) -> str:
    """A value in one line; a mapping as "name value, name value"."""
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_text(child)}" for key, child in value.items())
    return value if isinstance(value, str) else json.dumps(value, default=str)
