"""The files that a run leaves in its folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from archsearch.jobs import StoreUnavailable
from archsearch.report.tables import describe, origin_of, tsv
from archsearch.report.view import FrontierView, error_label, number, quantity
from archsearch.store import Point
from archsearch.store.durable import write_durably

GALLERY = "model_desc_gallery"


def write_report(
    folder: Path,
    points: Sequence[Point],
    *,
    cost: str = "madds",
    error: str = "val_error",
    eps: float = 0.025,
    band_standard_errors: float = 0.0,
    admits: Callable[[Point], bool] = lambda point: True,
    objectives: Sequence[str] = (),
) -> list[Path]:
    """Write tables, pictures and gallery; each file is replaced whole, so that a reader never sees half of one.

    ``full_pool.tsv`` has every point in the order of training, ``pareto_front_summary.tsv`` the non-dominated ones,
    ``pareto_eps_summary.tsv`` the band and ``pareto_xy.tsv`` the corners of the hull, each by cost. The gallery has the
    description of each non-dominated model, ``Architecture.from_yaml`` reads it; those of models that are no longer
    on the frontier go.

    Args:
        folder: the run's folder.
        cost, error, eps, band_standard_errors, admits: as in ``FrontierView.of``.
        objectives: what devices have measured: ``device_frontiers.png`` shows the frontier on each, side by side.

    Returns:
        The files, tables first.

    Raises:
        StoreUnavailable: a file cannot be written.
    """
    from archsearch.report.device_pictures import device_pictures
    from archsearch.report.pictures import pictures

    drawing: dict[str, Any] = {"error": error, "eps": eps, "band_standard_errors": band_standard_errors, "admits": admits}
    view = FrontierView.of(points, cost=cost, **drawing)
    files: dict[str, bytes] = {
        "full_pool.tsv": tsv(points).encode(),
        "pareto_front_summary.tsv": tsv(view.pick(view.front)).encode(),
        "pareto_eps_summary.tsv": tsv(view.pick(view.band)).encode(),
        "pareto_xy.tsv": tsv(view.pick(view.hull)).encode(),
        **pictures(view),
        **device_pictures([FrontierView.of(points, cost=name, **drawing) for name in objectives]),
        **{f"{GALLERY}/model_desc_{point.id}.yaml": _description(point, error) for point in view.pick(view.front)},
    }
    written = [Path(folder) / name for name in files]
    try:
        for path, payload in zip(written, files.values(), strict=True):
            write_durably(path, payload)
        for old in set((Path(folder) / GALLERY).glob("model_desc_*.yaml")) - set(written):
            old.unlink()
    except OSError as error:
        raise StoreUnavailable(f"the report in {folder} cannot be written: {error}; free the disk or check rights") from error
    return written


def _description(point: Point, name: str) -> bytes:
    """The architecture as YAML below a line that says what it is."""
    madds, error = number(point, "madds"), number(point, name)
    figures = [f"point {point.id}", describe(point.arch)]
    figures += [] if point.origin is None else [f"taken from {origin_of(point)}"]
    figures += [] if madds is None else [f"{quantity(madds)} multiply-adds"]
    figures += [] if error is None else [f"{error_label(name)} {error:.2%}"]
    head = f"# {', '.join(figures)}\n".encode()
    text = yaml.safe_dump(dict(point.arch), sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)
    return head + text.encode()
