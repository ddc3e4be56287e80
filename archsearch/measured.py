"""Quantities that are measured on devices: how an objective names one, and what a device's answers say of it.

``latency_ms@pi4`` is the latency on the device that section ``devices`` calls pi4. Answers are a `Profile`'s JSON (see
``archsearch.profile.measurement``), read with distrust: whatever is missing or no number is a figure that is lacking, with a
reason. Shared by the searchers and the store, which both fold a run's events.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from archsearch.jobs import JSON, FailureKind

#: Failures that say something of the architecture on the device; after any other it is measured when the run goes on.
INFEASIBLE = frozenset({FailureKind.EXCEPTION, FailureKind.NON_FINITE})

#: Queues of devices are called so, and then the device's name.
QUEUE = "device:"


class Quantity(NamedTuple):
    """``sources``: entries of a profile, of which the largest counts. ``factor`` takes their unit to ``unit``."""

    words: str
    unit: str
    sources: tuple[str, ...]
    factor: float


QUANTITIES: Mapping[str, Quantity] = {
    "latency_ms": Quantity("latency", "ms", ("latency",), 1.0),
    "peak_memory_mb": Quantity("peak memory", "MB", ("load_memory", "run_memory"), 1024 / 1e6),  # from KiB
    "energy_mj": Quantity("energy", "mJ", ("energy",), 1.0),
}


class Objective(NamedTuple):
    """A quantity on a device; ``str`` gives what the user wrote."""

    quantity: str
    device: str

    def __str__(self) -> str:
        return f"{self.quantity}@{self.device}"


def parse_objective(text: str) -> Objective:
    """``"latency_ms@pi4"`` as an objective.

    Raises:
        ValueError: another form, or a quantity that nobody measures.
    """
    quantity, at, device = text.partition("@")
    if quantity not in QUANTITIES:
        near = difflib.get_close_matches(quantity, QUANTITIES, n=1)
        hint = f" (did you mean {near[0]}?)" if near else ""
        raise ValueError(f"nothing that is measured is called {quantity!r}{hint}; known: {', '.join(QUANTITIES)}")
    if not at or not device:
        raise ValueError(f"{text!r} does not say on which device; write {quantity}@DEVICE")
    return Objective(quantity, device)


def label(name: str) -> tuple[str, str] | None:
    """What an objective is in words, and its unit; None for any other name."""
    try:
        quantity, device = parse_objective(name)
    except ValueError:
        return None
    return f"{QUANTITIES[quantity].words} on {device}", QUANTITIES[quantity].unit


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured median with its 95 % interval. ``noisy``: the interval stayed wider than was asked for."""

    value: float
    low: float
    high: float
    unit: str
    noisy: bool

    def to_json(self) -> dict[str, JSON]:
        return {"value": self.value, "low": self.low, "high": self.high, "unit": self.unit, "noisy": self.noisy}


@dataclass(frozen=True, slots=True)
class Choice:
    """With which assignment of operations to backends an architecture was measured, if the best of some was looked for.

    ``backends`` by operation; None is the library's own choice. ``gain`` is the share by which the quantity that was looked
    at is below that of the library's own choice, where both are known.
    """

    backends: Mapping[str, str] | None
    tried: int
    gain: float | None

    def __str__(self) -> str:
        text = "the library's own choice" if self.backends is None else backends_in_words(self.backends)
        less = f", {self.gain:.1%} less than the library's own choice" if self.backends is not None and self.gain else ""
        return f"{text} (of {self.tried} tried{less})"

    def to_json(self) -> dict[str, JSON]:
        return {"backends": None if self.backends is None else dict(self.backends), "tried": self.tried, "gain": self.gain}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of measuring one architecture on one device: ``figures``, or why there is none, by objective.

    ``metrics`` are the device's own words. ``again``: no device has said anything, and one may when the run goes on.
    """

    figures: Mapping[str, Figure]
    lacking: Mapping[str, str]
    metrics: Mapping[str, JSON] = field(default_factory=dict)
    again: bool = False

    @property
    def identity(self) -> tuple[JSON, JSON, JSON, JSON]:
        """What was measured on, with what, by which rules: figures with another one do not compare with these.

        The last says how the best assignment was looked for; None where it was not.
        """
        fingerprint, runtime, protocol = (self.metrics.get(name) for name in ("fingerprint", "runtime", "protocol"))
        return fingerprint, runtime, protocol, _assignment(self).get("rule")

    @property
    def choice(self) -> Choice | None:
        """The assignment that it was measured with; None where none was looked for, or the device does not say it well."""
        found = _assignment(self)
        backends, tried = found.get("backends"), found.get("tried")
        gain: Any = found.get("gain")
        named = isinstance(backends, Mapping) and all(isinstance(each, str) for pair in backends.items() for each in pair)
        if not (named or ("backends" in found and backends is None)) or not isinstance(tried, int):
            return None
        return Choice(backends, tried, float(gain) if _number(gain) else None)


def read_answer(device: str, metrics: Mapping[str, JSON]) -> Answer:
    """A device's answer, taken apart."""
    figures: dict[str, Figure] = {}
    lacking: dict[str, str] = {}
    for name, quantity in QUANTITIES.items():
        objective = str(Objective(name, device))
        given = [metrics[source] for source in quantity.sources if metrics.get(source) is not None]
        found = [figure for each in given if (figure := _figure(each, quantity)) is not None]
        if found:
            figures[objective] = max(found, key=lambda figure: figure.value)
        else:
            lacking[objective] = "the answer is none" if given else f"the device does not tell its {quantity.words}"
    return Answer(figures, lacking, metrics)


def backends_in_words(backends: Mapping[str, str]) -> str:
    """``onednn, but native: Conv2D Linear``: the commonest backend, and what runs elsewhere."""
    groups: dict[str, list[str]] = {}
    for operation, backend in backends.items():
        groups.setdefault(backend, []).append(operation)
    common, *rest = sorted(groups, key=lambda backend: (-len(groups[backend]), backend)) or [""]
    return ", ".join([common, *(f"but {backend}: {' '.join(groups[backend])}" for backend in rest)])


def no_answer(device: str, reason: str, *, again: bool) -> Answer:
    """A measurement that failed."""
    return Answer({}, {str(Objective(name, device)): reason for name in QUANTITIES}, again=again)


def _assignment(answer: Answer) -> Mapping[str, JSON]:
    found = answer.metrics.get("assignment")
    return found if isinstance(found, Mapping) else {}


def _figure(given: Any, quantity: Quantity) -> Figure | None:
    """A measurement's JSON as a figure, or None if it is none: its median must be finite and above 0."""
    if not isinstance(given, Mapping) or not _number(given.get("median")):
        return None
    median = quantity.factor * given["median"]
    low, high = (quantity.factor * given[end] if _number(given.get(end)) else median for end in ("low", "high"))
    return Figure(median, min(low, median), max(high, median), quantity.unit, bool(given.get("noisy")))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0


class Answers:
    """All that was measured in a run, by architecture (its hash) and device; and what earlier runs had measured.

    An earlier run's answer counts for a device that has told, by an answer of this run, that it is the same: by its
    fingerprint, the runtime, the version of the protocol and how assignments are chosen.
    """

    def __init__(self) -> None:
        self._own: dict[tuple[str, str], Answer] = {}
        self._earlier: dict[str, list[Mapping[str, JSON]]] = {}
        self._identities: dict[str, tuple[JSON, ...]] = {}

    def told(self, hash_: str, device: str, metrics: Mapping[str, JSON]) -> Answer:
        """Take a device's answer."""
        answer = self._own[hash_, device] = read_answer(device, metrics)
        if answer.figures:
            self._identities.setdefault(device, answer.identity)
        return answer

    def failed(self, hash_: str, device: str, data: Mapping[str, JSON]) -> Answer:
        """Take that there is none, as the data of the event say that ended the job."""
        reason = str(data.get("message") or data.get("reason") or "no result")
        answer = self._own[hash_, device] = no_answer(device, reason, again=data.get("kind") not in INFEASIBLE)
        return answer

    def forget(self, hash_: str, device: str) -> None:
        """It is to be measured again."""
        self._own.pop((hash_, device), None)

    def imported(self, hash_: str, metrics: Iterable[Mapping[str, JSON]]) -> None:
        """Take what an earlier run had measured of an architecture."""
        self._earlier.setdefault(hash_, []).extend(metrics)

    def may_know(self, hash_: str, device: str) -> bool:
        """Whether an earlier run's answer could count for a device, once that has told what it is."""
        return device not in self._identities and hash_ in self._earlier

    def of(self, hash_: str, device: str) -> Answer | None:
        """What is known of an architecture on a device."""
        if (hash_, device) in self._own:
            return self._own[hash_, device]
        for metrics in self._earlier.get(hash_, ()):
            answer = read_answer(device, metrics)
            if device in self._identities and answer.identity == self._identities[device]:
                return answer
        return None

    def all_of(self, hash_: str, devices: Sequence[str]) -> Iterator[tuple[str, Answer]]:
        """Device and answer, for those of ``devices`` that have any."""
        for device in devices:
            if (answer := self.of(hash_, device)) is not None:
                yield device, answer
