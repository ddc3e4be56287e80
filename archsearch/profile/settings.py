"""How to measure, and what: plain data that goes to the process that measures and into stored jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from archsearch.jobs import JSON, InputError
from archsearch.profile.models import Model

#: Least and greatest value of each setting.
_BOUNDS: dict[str, tuple[float, float]] = {
    "threads": (1, 4096),
    "batch": (1, 65536),
    "runs": (1, 1_000_000),
    "seconds": (0, 3600),
    "launches": (1, 100),
    "rounds": (1, 1000),
    "warmup": (0, 600),
    "width": (0, 10),
    "repeats": (0, 20),
    "tolerance": (0, 1),
    "memory_runs": (0, 100),
    "busy": (0, 1),
    "hot": (0, 200),
    "patience": (0, 3600),
    "limit": (1, 86400),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True, slots=True)
class Settings:
    """The protocol's knobs; the defaults are the protocol."""

    threads: int = 1  # of the runtime, each on a core of its own
    batch: int = 1  # images in an input, where the model does not bring its own
    runs: int = 30  # at least so many runs of each subject, over all processes
    seconds: float = 1.0  # and at least so long
    launches: int = 5  # processes, one after another, that the runs are spread over
    rounds: int = 4  # blocks of each subject in a process, in a random order anew each round
    warmup: float = 3.0  # longest warm-up of a subject in a process, in seconds
    width: float = 0.05  # widest interval that is taken, as a share of the median
    repeats: int = 2  # how often a noisy subject is measured again
    tolerance: float = 1e-3  # largest deviation from the reference's output, as a share of its largest value
    memory_runs: int = 6  # processes that measure memory; of fewer, least and greatest do not bound a median with 95 %
    busy: float = 0.05  # share of the cores' time that others may use while a subject is measured
    hot: float = 80.0  # degrees Celsius to cool down to before a process starts
    patience: float = 20.0  # longest wait in all for others to end and for the machine to cool down, in seconds
    limit: float = 300.0  # seconds that a process may take for its next answer
    seed: int = 0  # of the order in which subjects are measured

    def __post_init__(self) -> None:
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            whole = _KINDS[name] == "int"
            fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
            if not fits or not low <= value <= high:
                kind = "a whole number" if whole else "a number"
                raise InputError(f"{name} = {value!r}: expected {kind} from {low:g} to {high:g}")

    def to_json(self) -> dict[str, JSON]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Settings:
        """Settings from some of them; the others are the defaults.

        Raises:
            InputError: one is unknown or out of its range.
        """
        if unknown := sorted(set(data) - {each.name for each in fields(cls)}):
            raise InputError(f"protocol: unknown setting {unknown[0]!r}; known: {', '.join(each.name for each in fields(cls))}")
        return cls(**data)


_KINDS = {each.name: str(each.type) for each in fields(Settings)}


@dataclass(frozen=True, slots=True)
class Subject:
    """One thing to measure: a model, what runs it, and a backend for each of its operations (None: its own choice)."""

    model: Model
    runtime: str = "pytorch"
    assignment: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, JSON]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Subject:
        assignment = data["assignment"]
        return cls(Model.from_json(data["model"]), data["runtime"], None if assignment is None else tuple(assignment))


@dataclass(frozen=True, slots=True)
class Failed:
    """Why a subject could not be measured. ``kind``: "unsupported" (a backend lacks an operation), "input" (the model or its
    assignment does not fit), "differs" (from the reference's output), "error", or of its process "died", "hung", "garbage"."""

    kind: str
    message: str

    def to_json(self) -> dict[str, JSON]:
        return asdict(self)
