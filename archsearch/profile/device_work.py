"""The works of ``archsearch profile --device`` and ``archsearch assign --device``: what a `Bench` does, as jobs on the device.

Architectures alone are taken, since a stored spec must not run code.
"""

from __future__ import annotations

from archsearch.arch.parse import as_list, as_record
from archsearch.jobs import JSON, Context, Result
from archsearch.profile.bench import Here
from archsearch.profile.models import architecture_model
from archsearch.profile.protocol import Step
from archsearch.profile.settings import Failed, Settings, Subject


def profile_side_by_side(spec: JSON, context: Context) -> Result:
    """Measure several architectures, or one with several assignments, taking turns.

    ``spec``: ``subjects`` (each ``{arch, assignment}``, the second perhaps None), ``runtime``, ``protocol`` (`Settings`) and
    ``fresh``. The metrics: ``results``, each ``{profile}`` or ``{failed}``, and with which ``runtime`` on what ``fingerprint``.

    Raises:
        InputError: the spec is wrong, or the runtime cannot be used.
        Interrupted: as the context raised it; the measuring process has been ended.
    """
    record = as_record(spec, "profile_side_by_side", ("subjects", "runtime", "protocol", "fresh"))
    subjects = []
    for each in as_list(record["subjects"], "subjects"):
        one = as_record(each, "subjects", ("arch", "assignment"))
        assignment = one["assignment"]
        model = architecture_model(one["arch"])
        subjects.append(Subject(model, record["runtime"], None if assignment is None else tuple(assignment)))

    def watch(step: Step) -> None:
        context.report(phase=step.phase, step=step.done, steps=step.total, subject=step.subject)

    found = Here().measure(subjects, Settings.from_json(record["protocol"]), watch=watch, fresh=bool(record["fresh"]))
    results = [{"failed" if isinstance(each, Failed) else "profile": each.to_json()} for each in found]
    measured = next((each.fingerprint for each in found if not isinstance(each, Failed)), None)
    return Result({"results": results, "runtime": record["runtime"], "fingerprint": measured})


def describe(spec: JSON, context: Context) -> Result:
    """Take an architecture apart.

    ``spec``: ``arch``, ``runtime``, ``protocol``. The metrics: ``described`` (`Described`), ``runtime``, ``fingerprint`` and
    the ``environment`` that it stands for.

    Raises:
        InputError: the spec is wrong, or the runtime cannot be used or cannot take it apart.
    """
    record = as_record(spec, "describe", ("arch", "runtime", "protocol"))
    found = Here().describe(architecture_model(record["arch"]), record["runtime"], Settings.from_json(record["protocol"]))
    about = {"fingerprint": found.fingerprint, "environment": dict(found.environment)}
    return Result({"described": found.described.to_json(), "runtime": record["runtime"], **about})
