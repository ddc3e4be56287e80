"""The best assignment of one model on this machine: what the work ``profile`` answers where a search asks for it.

In two steps. An estimator looks around with short measurements, as many as the budget has. Then those that look best are
measured at full length, side by side with the library's own choice, and the best of these is the answer. What was picked for a
low short measurement is never reported with it, and an assignment takes the place of the library's own choice only where the
intervals tell them apart.

Each short measurement goes into the job's checkpoint at once: an attempt that is interrupted, killed or out of time is gone on
from by the next one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from archsearch.jobs import JSON, Context, InputError
from archsearch.measured import QUANTITIES, Figure, read_answer
from archsearch.profile.assignment.driver import assign
from archsearch.profile.assignment.encoding import Encoding, Mode, checked_mode
from archsearch.profile.assignment.evaluation import Evaluation
from archsearch.profile.assignment.live import ModelProblem
from archsearch.profile.assignment.log import KeptLog, header_of
from archsearch.profile.measurement import Profile
from archsearch.profile.models import Model
from archsearch.profile.protocol import Step, measure
from archsearch.profile.settings import Failed, Settings, Subject

#: How a short measurement differs from the protocol: one process for the time, and one for the memory where that counts.
SHORT: Mapping[str, Any] = {"launches": 1, "memory_runs": 1, "repeats": 0}

#: Assignments that are measured at full length, beside the library's own choice.
FINALISTS = 3


@dataclass(frozen=True)
class Wanted:
    """How to look for an assignment, and for which.

    ``objective`` is a quantity of ``archsearch.measured``. ``limits``: quantity, limit, and whether it is below and not just at
    it that a value must be. ``backends`` None: all that the runtime has.

    Raises:
        InputError: it makes no sense.
    """

    estimator: str
    budget: int
    mode: Mode
    backends: tuple[str, ...] | None
    objective: str
    limits: tuple[tuple[str, float, bool], ...] = ()

    def __post_init__(self) -> None:
        checked_mode(self.mode)
        if unknown := [name for name in (self.objective, *(limit[0] for limit in self.limits)) if name not in QUANTITIES]:
            raise InputError(f"nothing that is measured is called {unknown[0]!r}; known: {', '.join(QUANTITIES)}")

    @property
    def memory(self) -> bool:
        """Whether memory counts."""
        return "peak_memory_mb" in (self.objective, *(name for name, _, _ in self.limits))

    def key(self, values: Mapping[str, float], known: Iterable[str] = QUANTITIES) -> tuple[float, float]:
        """What an assignment is worth, the less the better: by how much it is beyond the limits, then the objective.

        Args:
            known: quantities that could be there; no limit on others counts, and an objective that is not among them is the
                latency.
        """
        beyond = sum(_beyond(values.get(name, math.inf), limit, strict) for name, limit, strict in self.limits if name in known)
        return beyond, values.get(self.objective if self.objective in known else "latency_ms", math.inf)

    def to_json(self) -> dict[str, JSON]:
        lists = {"limits": [list(limit) for limit in self.limits]}
        return asdict(self) | lists | {"backends": None if self.backends is None else list(self.backends)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Wanted:
        """
        Raises:
            InputError: it is not of ``to_json``'s form.
        """
        try:
            limits = tuple((str(name), float(limit), bool(strict)) for name, limit, strict in data["limits"])
            backends = None if data["backends"] is None else tuple(map(str, data["backends"]))
            return cls(**{**data, "limits": limits, "backends": backends})
        except (TypeError, ValueError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError(f"profile: assignment does not say how to look for the best: {error!r}") from error


def best_assignment(model: Model, runtime: str, settings: Settings, wanted: Wanted, context: Context) -> dict[str, JSON]:
    """Look for the best assignment, and measure it.

    Returns:
        A `Profile` as JSON, and ``assignment``: ``rule`` is what was wanted; ``backends`` by operation, and ``operations`` in
        the order in which they run, both None for the library's own choice; ``tried`` counts that one too, ``infeasible``
        those that could not run, ``resumed`` those that an earlier attempt had tried; ``gain`` is the share by which the
        objective is below the library's own choice's.

    Raises:
        InputError: the runtime or a backend cannot be used here, or not even the library's own choice could be measured.
        ChildFault: measuring processes do not even start.
        Interrupted: as the context raised it; the measuring process has been ended.
    """
    told = 0

    def watch(step: Step) -> None:
        context.report(phase=f"assignment {told + 1} of {wanted.budget}, {step.phase}", step=told, steps=wanted.budget)

    def count(evaluation: Evaluation, where: str) -> None:
        nonlocal told
        told += 1

    short = replace(settings, **SHORT)
    problem = ModelProblem(model, runtime, wanted.backends, wanted.mode, short, memory=wanted.memory, watch=watch)
    seed, encoding = context.job.seed, problem.encoding
    header = header_of(encoding, wanted.estimator, seed, problem.source)
    log = KeptLog(context.load_checkpoint(), header, context.save_checkpoint)
    told = len(log.first)
    done = assign(problem, wanted.estimator, wanted.budget, seed=seed, log=log, measure_again=False, watch=count)
    finalists = _finalists(done.evaluations, wanted)

    def watch_again(step: Step) -> None:
        context.report(phase=f"the best again, {step.phase}", step=step.done, steps=step.total)

    ways = [None, *(encoding.backends_of(id_) for id_ in finalists)]
    found = measure([Subject(model, runtime, way) for way in ways], settings, watch=watch_again)
    place = choose(found, wanted)
    chosen = found[place]
    if isinstance(chosen, Failed):
        raise InputError(f"{model.name}: {chosen.message}")
    about = {
        "rule": wanted.to_json(),
        **_named(encoding, finalists[place - 1] if place else None),
        "tried": len(done.evaluations) + 1,
        "infeasible": sum(not each.feasible for each in done.evaluations),
        "resumed": done.resumed,
        "gain": _gain(_figures(found[0]), _figures(chosen), wanted.objective),
    }
    return {**chosen.to_json(), "assignment": about}


def choose(found: Sequence[Profile | Failed], wanted: Wanted) -> int:
    """The place of the best, of which the first is the library's own choice: that, unless another is surely better."""
    own, *others = (_figures(each) for each in found)
    own_key, own_low = _key(own, wanted), own[wanted.objective].low if wanted.objective in own else math.inf
    keys = {}
    for place, figures in enumerate(others, 1):
        beyond, value = key = _key(figures, wanted)
        if value < math.inf and (beyond < own_key[0] or (beyond == own_key[0] and figures[wanted.objective].high < own_low)):
            keys[place] = key
    return min(keys, key=lambda place: keys[place], default=0)


def _finalists(evaluations: Sequence[Evaluation], wanted: Wanted) -> list[int]:
    """Ids that look best by their short measurements, which know of no energy."""

    def key(each: Evaluation) -> tuple[float, float]:
        values = {"latency_ms": each.time, "peak_memory_mb": QUANTITIES["peak_memory_mb"].factor * each.memory}
        return wanted.key(values, values)

    return [each.id for each in sorted((each for each in evaluations if each.feasible), key=key)[:FINALISTS]]


def _figures(found: Profile | Failed) -> dict[str, Figure]:
    """By quantity, as the search will read them; none of what could not be measured."""
    if isinstance(found, Failed):
        return {}
    return {name.removesuffix("@here"): figure for name, figure in read_answer("here", found.to_json()).figures.items()}


def _key(figures: Mapping[str, Figure], wanted: Wanted) -> tuple[float, float]:
    return wanted.key({name: figure.value for name, figure in figures.items()})


def _beyond(value: float, limit: float, strict: bool) -> float:
    """By which share a value is beyond a limit; 0 if it keeps it."""
    return 0.0 if value < limit or (value == limit and not strict) else max(value / limit - 1.0, 1e-9)


def _gain(own: Mapping[str, Figure], chosen: Mapping[str, Figure], objective: str) -> float | None:
    return 1.0 - chosen[objective].value / own[objective].value if objective in own and objective in chosen else None


def _named(encoding: Encoding, id_: int | None) -> dict[str, JSON]:
    if id_ is None:
        return {"backends": None, "operations": None}
    return {"backends": encoding.described(id_), "operations": list(encoding.backends_of(id_))}
