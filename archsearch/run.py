"""Reading a run on disk: its points, its frontier, its models, its report. Nothing here changes a run's history."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch import config as configuration
from archsearch.cluster.loop import Outcome
from archsearch.config import Config
from archsearch.jobs import ArchsearchError, ArtifactRef, Event, EventKind, InputError, JobState, StoreDamaged
from archsearch.report import summary, write_html, write_report
from archsearch.report.evaluation import evaluation_summary
from archsearch.searchers.constraints import Constraint
from archsearch.store import Artifacts, IncompleteRun, Point, RunFolder, RunState, list_runs, open_store

if TYPE_CHECKING:
    from torch import nn


class Run:
    """A run on disk: its points, its frontier, its models. Reading never changes it."""

    def __init__(self, folder: RunFolder, outcome: Outcome | None = None) -> None:
        self.folder = folder
        self.outcome = outcome  # how the session that made this object ended
        with open_store(folder, write=False) as store:
            self.meta: Mapping[str, Any] = store.meta
            self.driver = store.driver()  # who runs it now, if anyone does
            log = store.log_bytes()
            self.state = RunState()
            self.session: Mapping[str, Any] = {}  # what the latest driver said of itself
            for event in store.events():
                self._take(event)
                self.session = event.data.get("session", self.session) if event.kind is EventKind.BUDGET else self.session
        kept = 0 if self.meta.get("simulated") else self.state.artifact_bytes
        self.disk = {"artifacts": kept, "log": log}  # bytes
        self.config = _configuration(self.meta, self.state)

    def _take(self, event: Event) -> None:
        try:
            self.state.apply(event)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StoreDamaged(f"{self.path}: event {event.number} ({event.kind}) is none that archsearch writes") from error

    @property
    def path(self) -> Path:
        return self.folder.path

    def points(self) -> list[Point]:
        """Every trained architecture of the pool, in the order of training."""
        return self.state.points()

    def frontier(self) -> list[dict[str, Any]]:
        """The non-dominated points, cheapest first: ``{id, cost, error, stage}``.

        Once the frontier was trained again with other seeds (``search.confirm``) it is made of these errors; see ``summary``.
        """
        frontier: list[dict[str, Any]] = self.summary()["frontier"]
        return frontier

    def summary(self) -> dict[str, Any]:
        """What ``status --json`` prints."""
        state, stopped = self.state, self.state.stopped or {}
        counts = {str(kind): number for kind, number in state.counts.items()}
        if not self.driver:  # what a killed driver left running waits to be started again
            counts[JobState.QUEUED] += counts[JobState.RUNNING]
            counts[JobState.RUNNING] = 0
        waiting = [{"job": job, "stage": str(state.jobs[job].job.stage), **about} for job, about in state.waiting.items()]
        waiting = waiting if self.driver else []
        counts[JobState.QUEUED] += len(waiting)
        counts[JobState.RUNNING] -= len(waiting)
        word = "running" if self.driver else stopped.get("state", "killed" if state.last_number else "new")
        return {
            "run": str(self.path),
            "state": word,
            "reason": stopped.get("reason"),
            **summary(state.points(), **frontier_settings(self.config)),
            **measured_summary(state.points(), self.config),
            "jobs": counts,
            "waiting": waiting,
            "slots": {"total": state.slots or 0, "busy": counts[JobState.RUNNING]},
            "device_seconds": state.device_seconds,
            "disk": self.disk,
            "events": state.last_number,
            "warm_from": self.meta.get("warm_from"),
        }

    def load(self, point: int) -> nn.Module:
        """The network of a point with its trained weights, in evaluation mode; it takes (N, C, H, W) float images.

        Inputs are normalised as ``archsearch.data.normalise`` says. Hash and shapes are checked.

        Raises:
            InputError: no such point.
            StoreDamaged: the weights are not those that were written.
        """
        found = self.state.point(point)
        if found is not None and found.weights is None:
            raise InputError(
                f"{self.path.name} has not kept the weights of point {point} (run.keep: {self.config['run'].keep})"
            )
        if found is None or found.weights is None:
            raise InputError(f"{self.path.name} has no point {point}. Points: {', '.join(str(p.id) for p in self.points())}.")
        return load_network(self, found.arch, found.weights)

    def report(self) -> list[Path]:
        """Write the run's tables, pictures and gallery into its folder."""
        return write_run_report(
            self.path, self.state, self.config, self.meta, self.session, evaluations=evaluations_in(self.folder)
        )


def _configuration(meta: Mapping[str, Any], state: RunState) -> Config:
    """What a run was made with, as far as it is needed to look at it: not the secrets, and not who followed it, if that
    plug-in is not installed here."""
    settings = [f"{key}={json.dumps(value)}" for key, value in state.settings.items()]

    def read(*more: str) -> Config:
        return configuration.from_snapshot(
            meta["config"], expanded=meta["expanded"], overrides=[*settings, *more], strict=False
        )

    try:
        return read()
    except InputError:
        return read("tracking={}")


def load_run(path: str | Path) -> Run:
    """A run by its folder.

    Raises:
        InputError: no run is there.
        StoreDamaged: a byte is not what was written.
    """
    return Run(RunFolder.at(path))


def load_network(run: Run, arch: Mapping[str, Any], weights: ArtifactRef) -> nn.Module:
    """A network of a run with its stored weights, in evaluation mode; hash and shapes are checked.

    Raises:
        StoreDamaged: the weights are not those that were written.
    """
    from archsearch.arch import Architecture
    from archsearch.arch.build import build
    from archsearch.train.weights import load_weights

    model = build(Architecture.from_json(arch))
    model.load_state_dict(load_weights(Artifacts(artifacts_root(run.config, run.folder)).load(weights)))
    return model.eval()


def evaluation_of(state: RunState, meta: Mapping[str, Any]) -> dict[str, Any]:
    """What an evaluation has found so far (see ``archsearch.report.evaluation.evaluation_summary``)."""
    about = meta["evaluation"]
    return evaluation_summary(
        state, about["points"], seeds=about["settings"]["seeds"], cost=about["cost"], error=about["error"]
    )


def evaluations_in(folder: RunFolder) -> list[dict[str, Any]]:
    """The evaluations of a run as its page shows them: ``name`` and results, or ``error``: why they cannot be read."""
    found: list[dict[str, Any]] = []
    for each in list_runs(folder.evaluations):
        try:
            with open_store(each, write=False) as store:
                found.append({"name": each.name, **evaluation_of(RunState(store.events()), store.meta)})
        except IncompleteRun:
            continue  # nothing was begun
        except ArchsearchError as error:
            found.append({"name": each.name, "error": str(error)})
    return found


def artifacts_root(config: Config, folder: RunFolder) -> str:
    """Where weights lie: ``run.artifacts``, a folder of this run's name below it, or the run's own folder."""
    place = config["run"].artifacts
    return f"{place.rstrip('/')}/{folder.name}" if place else folder.url


def frontier_settings(config: Config) -> dict[str, Any]:
    """How the run's frontier is drawn: ``cost``, ``error``, ``eps``, ``band_standard_errors``, and ``admits``: which points may
    be on it at all, by the limits on what is measured."""
    section = config["search"]
    return {
        "cost": getattr(section, "cost", "madds"),
        "error": getattr(section, "error", "val_error"),
        "eps": getattr(section, "convex_hull_eps", 0.025),
        "band_standard_errors": getattr(section, "band_standard_errors", 0.0),
        "admits": partial(_admits, tuple(getattr(section, "measured_limits", ()))),
    }


def _admits(limits: Sequence[Constraint], point: Point) -> bool:
    """Whether a point keeps the limits on what is measured; what is not known yet breaks none."""
    lacking = point.metrics.get("unmeasured", ())
    return not any(
        limit.name in lacking or (limit.name in point.metrics and not limit.holds(point.metrics)) for limit in limits
    )


def measured_summary(points: Sequence[Point], config: Config) -> dict[str, Any]:
    """``measurements``: for each objective ``{measured, noisy, waiting, lacking: {reason: points}}``, ids of points, and the
    ``frontier`` of those that were measured. Nothing where a search measures nothing."""
    found = {}
    settings = frontier_settings(config)
    for name in objectives(config):
        lacking: dict[str, list[int]] = {}
        for point in points:
            if name in point.metrics.get("unmeasured", ()):
                lacking.setdefault(point.metrics["unmeasured"][name], []).append(point.id)
        there = [point for point in points if name in point.metrics]
        known = {*(point.id for point in there), *(id_ for ids in lacking.values() for id_ in ids)}
        found[name] = {
            "measured": [point.id for point in there],
            "noisy": [point.id for point in there if point.metrics["measured"][name]["noisy"]],
            "waiting": [point.id for point in points if point.id not in known],
            "lacking": lacking,
            "frontier": summary(there, **{**settings, "cost": name})["frontier"],
        }
    return {"measurements": found} if found else {}


def objectives(config: Config) -> list[str]:
    """What a search measures of every point, such as ``latency_ms@pi4``; the cost first, if it is one."""
    return list(getattr(config["search"], "measured", ()))


def write_run_report(
    path: Path,
    state: RunState,
    config: Config,
    meta: Mapping[str, Any],
    session: Mapping[str, Any],
    *,
    evaluations: Sequence[Mapping[str, Any]] = (),
) -> list[Path]:
    """All files of ``archsearch.report`` for a run: ``report.html`` is the one to look at, and shows its evaluations too."""
    settings = frontier_settings(config)
    environment = {key: meta[key] for key in ("seed", "dataset", "versions") if key in meta}
    environment["latest session"] = {key: value for key, value in session.items() if value != meta.get(key)}
    measured = objectives(config)
    files = write_report(path, state.points(), **settings, objectives=measured)
    name = str(meta.get("name", path.name))
    page = write_html(
        path,
        state,
        name=name,
        config=config.to_yaml(),
        environment=environment,
        evaluations=evaluations,
        objectives=measured,
        **settings,
    )
    return [*files, page]
