"""The work ``profile``: one architecture measured where the job runs."""

from __future__ import annotations

from collections.abc import Mapping

from archsearch.arch.parse import as_record
from archsearch.jobs import JSON, Context, InputError, Result
from archsearch.profile.cache import measure_cached, own_cache
from archsearch.profile.models import architecture_model
from archsearch.profile.protocol import Step
from archsearch.profile.settings import Failed, Settings, Subject

_KEYS = ("arch", "runtime", "protocol", "assignment", "cache")


def profile(spec: JSON, context: Context) -> Result:
    """Measure an architecture. The metrics are a `Profile` as JSON; ``assignment`` is beside it where the best was looked for.

    ``spec``: ``arch`` (JSON of an Architecture: nothing else is taken, since a stored spec must not run code), and perhaps
    ``runtime`` (default "pytorch"), ``protocol`` (some of the `Settings`; threads and seed are the job's by default),
    ``assignment``: a backend for each operation, or how to look for the best (see ``archsearch.profile.assignment.best``), and
    ``cache`` (default true: an earlier measurement on this device will do; the best is looked for anew all the same).

    Raises:
        InputError: the spec is wrong, the runtime cannot be used, or the architecture cannot be measured with it.
        Interrupted: as the context raised it; the measuring process has been ended.
    """
    record = as_record(spec, "profile", _KEYS, optional=_KEYS[1:])
    given = {"threads": context.threads, "seed": context.job.seed, **(record.get("protocol") or {})}
    model, runtime = architecture_model(record["arch"]), record.get("runtime") or "pytorch"
    assignment = record.get("assignment")
    if isinstance(assignment, Mapping):
        from archsearch.profile.assignment.best import Wanted, best_assignment

        return Result(best_assignment(model, runtime, Settings.from_json(given), Wanted.from_json(assignment), context))
    subject = Subject(model, runtime, None if assignment is None else tuple(assignment))

    def watch(step: Step) -> None:
        context.report(phase=step.phase, step=step.done, steps=step.total)

    cache = own_cache() if record.get("cache", True) else None
    found = measure_cached([subject], Settings.from_json(given), watch=watch, cache=cache)[0]
    if isinstance(found, Failed):
        raise InputError(f"{subject.model.name}: {found.message}")
    return Result(found.to_json())
