"""What profiling gives: measurements with their intervals, on a device, by a runtime.

Units: milliseconds and KiB everywhere, as the tables of operator-to-backend assignments have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from archsearch.jobs import JSON


@dataclass(frozen=True, slots=True)
class Measurement:
    """One quantity of one model, measured: ``low`` and ``high`` bound the median with 95 % confidence.

    ``noisy`` says that the interval stayed wider than was asked for, or that others held the cores, although the measurement
    was repeated (the latency's faults decide about that).
    """

    median: float
    low: float
    high: float
    unit: str  # "ms", "KiB", "mJ"
    minimum: float
    p90: float
    iqr: float
    runs: int
    noisy: bool = False

    def to_json(self) -> dict[str, JSON]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        return cls(**data)


@dataclass(frozen=True, slots=True)
class Profile:
    """All that was measured of one model with one runtime on one device.

    ``about`` holds what is worth knowing of the circumstances: load, clocks and temperature where they can be read, build
    time in seconds, file size, the largest deviation from the reference's output.
    """

    latency: Measurement
    load_memory: Measurement | None  # peak of the process up to the loaded model
    run_memory: Measurement | None  # peak of the process while it runs
    energy: Measurement | None  # only where a counter exists
    runtime: str
    fingerprint: str  # hash of what the device is and runs
    protocol: int  # version of the protocol
    about: Mapping[str, JSON] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        return asdict(self) | {"about": dict(self.about)}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Profile:
        values = dict(data)
        for name in ("latency", "load_memory", "run_memory", "energy"):
            if values[name] is not None:
                values[name] = Measurement.from_json(values[name])
        return cls(**values)
