"""Final evaluation: models of a run's frontier trained long, from scratch, with several seeds, and measured on the test split.

An evaluation is a run of its own in ``RUN/evaluations/NAME``: the same run loop, store, executors and resume drive a fixed
list of jobs. What it evaluates stands in its description and never changes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import config as configuration
from archsearch.arch import Architecture, scale_cells
from archsearch.cluster.loop import Outcome
from archsearch.cluster.observer import Observer
from archsearch.config import Config
from archsearch.jobs import InputError, StoreBusy
from archsearch.planning import Plan, load_data, refuse_unasked, same_data
from archsearch.report.evaluation import write_evaluation
from archsearch.run import Run, evaluation_of, load_network, load_run
from archsearch.searchers.evaluation import Entrant, FinalEvaluation
from archsearch.session import begin, go_on
from archsearch.store import RunFolder, database_url

if TYPE_CHECKING:
    from torch import nn

#: Sections that may be set for an evaluation.
SETTABLE = frozenset({"evaluation", "resources", "cluster"})


class Evaluation:
    """An evaluation on disk. ``outcome`` says how the session that made this object ended."""

    def __init__(self, folder: RunFolder, outcome: Outcome | None = None) -> None:
        self.run = Run(folder, outcome)
        self.outcome = outcome

    @property
    def path(self) -> Path:
        return self.run.path

    def summary(self) -> dict[str, Any]:
        """What ``evaluate --json`` prints: run, state and jobs, and what ``evaluation_summary`` says."""
        told = self.run.summary()
        about = {key: told[key] for key in ("run", "state", "reason", "jobs", "device_seconds")}
        return {**about, **evaluation_of(self.run.state, self.run.meta)}

    def load(self, point: int, repeat: int = 0) -> nn.Module:
        """The network that was trained for a point, in evaluation mode; inputs as for ``Run.load``.

        Args:
            repeat: which of its trainings, from 0.

        Raises:
            InputError: there is no such training, or it has not ended.
            StoreDamaged: the weights are not those that were written.
        """
        for record in self.run.state.jobs.values():
            spec = record.job.spec
            if record.job.work == "train" and (spec["point"], spec["repeat"]) == (point, repeat) and record.artifacts:
                return load_network(self.run, spec["arch"], record.artifacts["weights"])
        raise InputError(f"{self.path} has no finished training {repeat} of point {point}")

    def report(self, place: Path | None = None) -> list[Path]:
        """Write ``evaluation.tsv``, ``evaluation.json`` and ``evaluation.png`` into ``place``, by default its own folder."""
        about = {key: self.run.meta[key] for key in ("name", "evaluation", "dataset", "versions")}
        return write_evaluation(place or self.path, evaluation_of(self.run.state, self.run.meta), about)


def evaluate(
    run: Run | str | Path,
    *,
    points: Sequence[int] | None = None,
    top: int | None = None,
    name: str = "final",
    overrides: Sequence[str] = (),
    observer: Observer | None = None,
    reached: Callable[[str], None] = lambda name: None,
    join: bool = True,
) -> Evaluation:
    """Train models of a run's frontier as its section ``evaluation`` says, and measure them on the test split.

    The same call again goes on where an interrupted or killed one stood, and only reads one that has ended.

    Args:
        run: a run or its folder.
        points: which points of the pool; by default all that stand on the frontier, or those that this evaluation began with.
        top: only so many of the frontier, those with the lowest errors.
        name: the evaluation's folder below ``RUN/evaluations``; another name is another evaluation.
        join: as for `archsearch.resume`.
        overrides: as for `archsearch.search`, of the sections evaluation, resources and cluster.

    Raises:
        InputError: no such run, point or setting; or the evaluation of that name is another one. Nothing was written.
        StoreBusy: the run is being searched, or the evaluation driven, by somebody else.
    """
    of = load_run(run.path if isinstance(run, Run) else run)
    folder = _folder(of, name)
    earlier = Run(folder) if folder.made else None
    chosen = _chosen(of, points, top, earlier)
    config = _config(of, overrides)
    if not join:
        refuse_unasked(config, overrides, of.folder)
    about = {"of": of.meta["id"], "points": chosen, "settings": config["evaluation"].model_dump(mode="json")}
    if earlier is not None:
        _refuse_another(folder, earlier.meta["evaluation"], about)
    if earlier is not None and (earlier.state.stopped or {}).get("state") == "done":
        return Evaluation(folder, Outcome("done", str((earlier.state.stopped or {})["reason"])))
    made = same_data(_plan(of, config, chosen), of.folder, of.meta)
    if earlier is None:
        meta = {"directory": of.meta["directory"], "simulated": False, "evaluation": {**about, **_axes(config)}}
        outcome = begin(made, folder, about=meta, store=database_url(of.folder), observer=observer, reached=reached)
    else:
        outcome = go_on(made, folder, earlier.meta, changes={}, observer=observer, reached=reached)
    if observer:
        observer.on_message("writing the report …")
    found = Evaluation(folder, outcome)
    found.report()
    latest = load_run(of.path)
    if not latest.driver:  # whose report comes later, and shows the evaluation as well
        latest.report()
    return found


def load_evaluation(run: str | Path, name: str = "final") -> Evaluation:
    """An evaluation of a run, to read it.

    Raises:
        InputError: no run is there, or it has no evaluation of that name.
    """
    return Evaluation(_folder(load_run(run), name))


def _folder(of: Run, name: str) -> RunFolder:
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", name):
        raise InputError(f"evaluation name {name!r}: expected letters, digits, '_', '-' and '.', not starting with '.' or '-'")
    return RunFolder.at(of.folder.evaluations / name)


def _chosen(of: Run, points: Sequence[int] | None, top: int | None, earlier: Run | None) -> list[int]:
    """The points to evaluate, in order of id.

    Raises:
        InputError, StoreBusy: as for `evaluate`.
    """
    if points is not None and top is not None:
        raise InputError("top and points: give the one or the other")
    if "evaluation" in of.meta:
        raise InputError(f"{of.path} is itself an evaluation; name the run that it belongs to: {of.path.parent.parent}")
    if of.driver:
        raise StoreBusy(f"{of.path} is being searched by {of.driver}: wait for its end, or stop it first")
    if of.meta.get("simulated"):
        raise InputError(f"{of.path} was simulated: its errors are made up. Evaluate a real search.")
    known = {point.id for point in of.points()}
    if not known:
        raise InputError(f"{of.path} has no trained point yet: there is nothing to evaluate. Go on with `archsearch resume`.")
    if points is not None:
        if unknown := sorted(set(points) - known):
            raise InputError(f"{of.path.name} has no point {unknown[0]}. Points: {', '.join(map(str, sorted(known)))}.")
        if not points:
            raise InputError("points is empty: name at least one, or leave it out to evaluate the frontier")
        return sorted(set(points))
    if earlier is not None and top is None:
        return list(earlier.meta["evaluation"]["points"])
    front = of.frontier()
    if top is not None:
        if not 1 <= top <= len(front):
            raise InputError(f"top = {top}: the frontier of {of.path.name} has {len(front)} points; give 1 to {len(front)}")
        front = sorted(front, key=lambda entry: (entry["error"], entry["cost"]))[:top]
    return sorted(entry["id"] for entry in front)


def _config(of: Run, overrides: Sequence[str]) -> Config:
    """The run's configuration as its latest session had it, less budget, tracking and devices, with ``overrides``."""
    own = ["budget={}", "tracking={}", "devices={}"]
    if (place := of.config["run"].artifacts) is not None:
        below = f"{place.rstrip('/')}/{of.folder.name}/evaluations"
        own.append(f"run.artifacts={json.dumps(below)}")
    base = configuration.from_snapshot(of.config.source_text, expanded=of.config.expanded, overrides=own, strict=False)
    return configuration.from_snapshot(base.source_text, expanded=base.expanded, overrides=overrides, settable=SETTABLE)


def _axes(config: Config) -> dict[str, str]:
    """The cost and the error of the search, which are those of its evaluation."""
    section = config["search"]
    return {"cost": getattr(section, "cost", "madds"), "error": getattr(section, "error", "val_error")}


def _refuse_another(folder: RunFolder, was: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """
    Raises:
        InputError: the evaluation in ``folder`` is of other points or has other settings.
    """
    if was["of"] != now["of"]:
        raise InputError(f"{folder.path} belongs to another run; give another --name")
    different = []
    if was["points"] != now["points"]:
        different.append(f"its points are {', '.join(map(str, was['points']))}, not {', '.join(map(str, now['points']))}")
    before, after = _flat(was["settings"]), _flat(now["settings"])
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) != after.get(key):
            different.append(f"evaluation.{key} was {before.get(key)!r}, not {after.get(key)!r}")
    if different:
        raise InputError(
            f"{folder.path} holds another evaluation: {'; '.join(different)}. Give its own settings to go on with it, "
            "or another --name to begin a new one."
        )


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return flat


def _plan(of: Run, config: Config, chosen: Sequence[int]) -> Plan:
    """Data and jobs.

    Raises:
        InputError: bad data, or a model that cannot be scaled as asked.
    """
    section = config["evaluation"]
    entrants = []
    for point in chosen:
        found = of.state.point(point)
        assert found is not None
        try:
            arch = scale_cells(Architecture.from_json(found.arch), section.cell_count_scale, section.n_cells)
        except InputError as error:
            raise InputError(
                f"point {point} cannot have evaluation.cell_count_scale = {section.cell_count_scale:g} and at most "
                f"evaluation.n_cells = {section.n_cells} cells: {error}"
            ) from error
        entrants.append(Entrant(point, arch))
    searcher = FinalEvaluation(
        entrants,
        seeds=section.seeds,
        settings=section.train.model_dump(mode="json"),
        seed=config["run"].seed,
        resources=config["resources"].by_stage(),
    )
    return Plan(config, load_data(config, of.meta["directory"]), searcher)
