"""The ``profile`` section of a configuration: how a search measures its points on devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import Field, field_validator

from archsearch.config import Duration, Section
from archsearch.jobs import JSON
from archsearch.profile.settings import Settings


class ProfileSection(Section):
    """What section ``devices`` does not say of measurements; without an objective such as latency_ms@DEVICE there are none."""

    runtime: str = Field("pytorch", description="what runs the networks, on all devices that runtimes does not name")
    runtimes: dict[str, str] = Field(default_factory=dict, description="what runs them on single devices, e.g. {pi4: pytorch}")
    protocol: dict[str, JSON] = Field(
        default_factory=dict,
        description="knobs of the measurement that differ from the protocol's own, e.g. {runs: 100, memory_runs: 0}",
    )
    wait: Duration = Field(
        1800.0,
        description="once nothing but measurements is left to do and no device has given a sign of life for so long, the "
        "search ends without those that are missing; archsearch resume asks for them again",
    )
    cache: bool = Field(
        True, description="take what an earlier run has measured on the very same device, if the device has kept it"
    )
    work: str = Field("profile", description="the registered work that measures; it gives what archsearch.profile's does")

    @field_validator("protocol")
    @classmethod
    def _in_range(cls, protocol: dict[str, JSON]) -> dict[str, JSON]:
        if taken := {"threads", "seed"} & protocol.keys():
            raise ValueError(f"{min(taken)} is not for here: devices.NAME.threads says it, and a seed is each job's own")
        Settings.from_json(protocol)
        return protocol

    def across(self, sections: Mapping[str, Any]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What does not fit other sections: path and problem."""
        known = list(sections["devices"].names())
        for name in self.runtimes:
            if name not in known:
                there = ", ".join(known) or "none"
                yield ("profile", "runtimes", name), f"section devices has no device {name!r}. Known: {there}."

    def runtime_of(self, device: str) -> str:
        return self.runtimes.get(device, self.runtime)

    def spec(self, device: str) -> dict[str, JSON]:
        """What a measurement's job says besides the architecture."""
        fresh = {} if self.cache else {"cache": False}
        return {"runtime": self.runtime_of(device), "protocol": dict(self.protocol), **fresh}
