"""The ``profile`` section of a configuration: how a search measures its points on devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PositiveInt, field_validator

from archsearch.config import Duration, Section
from archsearch.jobs import JSON, InputError
from archsearch.profile.settings import Settings
from archsearch.registry import ESTIMATORS

if TYPE_CHECKING:
    from archsearch.profile.runtimes import Runtime


class AssignmentSection(Section):
    """How the best assignment of operations to backends is looked for, for every network and device anew."""

    estimator: str = Field("structured", description="what chooses the assignments to try, as in archsearch assign")
    budget: PositiveInt = Field(
        20,
        description="assignments that are tried, each with a short measurement; the best of them are then measured at full "
        "length beside the runtime's own choice. devices.NAME.timeout must leave time; after it the next attempt goes on",
    )
    mode: Literal["name", "index"] = Field(
        "name", description="what is given a backend: all operations of a name, or of a name and a data size"
    )
    backends: list[str] | None = Field(
        None, min_length=2, description="backends to choose among; default: all that a device's runtime has"
    )

    @field_validator("estimator")
    @classmethod
    def _known(cls, name: str) -> str:
        ESTIMATORS.get(name)
        return name

    @field_validator("backends")
    @classmethod
    def _distinct(cls, names: list[str] | None) -> list[str] | None:
        if twice := sorted({name for name in names or () if (names or []).count(name) > 1}):
            raise ValueError(f"{', '.join(twice)} is there more than once")
        return names

    def refuse(self, device: str, runtime: Runtime) -> None:
        """
        Raises:
            InputError: a device with this runtime here cannot do it.
        """
        from archsearch.profile.assignment.driver import make_estimator
        from archsearch.profile.assignment.encoding import encode
        from archsearch.profile.graph import Graph, Operation

        there = runtime.backends
        if unknown := [name for name in self.backends or () if name not in there]:
            raise InputError(
                f"profile.assignment.backends: the runtime {runtime.name!r} of device {device} has no backend {unknown[0]!r} "
                f"here; it has {', '.join(there)}"
            )
        if len(there) < 2:
            raise InputError(
                f"profile.assignment: the runtime {runtime.name!r} of device {device} has one backend here: there is nothing "
                "to choose. Leave assignment out, or name another runtime"
            )
        make_estimator(self.estimator, encode(Graph((Operation("Conv2D", 1),)), there), 0)  # says which extra it needs


def _short_form(value: Any) -> Any:
    return {} if value == "best" else value


def _with_short_form(schema: dict[str, JSON]) -> None:
    schema["anyOf"] = [{"const": "best", "type": "string"}, *schema["anyOf"]]


class ProfileSection(Section):
    """What section ``devices`` does not say of measurements; without an objective such as latency_ms@DEVICE there are none."""

    runtime: str = Field("pytorch", description="what runs the networks, on all devices that runtimes does not name")
    runtimes: dict[str, str] = Field(default_factory=dict, description="what runs them on single devices, e.g. {pi4: pytorch}")
    protocol: dict[str, JSON] = Field(
        default_factory=dict,
        description="knobs of the measurement that differ from the protocol's own, e.g. {runs: 100, memory_runs: 0}",
    )
    assignment: Annotated[AssignmentSection | None, BeforeValidator(_short_form)] = Field(
        None,
        description="best, or how to look for it: a network's figures on a device are those of its best assignment of "
        "operations to backends, within the constraints: the best in the first thing that the search wants of the device "
        "(its cost, else an objective)",
        json_schema_extra=_with_short_form,
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

    def spec(self, device: str, objective: str, limits: Sequence[tuple[str, float, bool]] = ()) -> dict[str, JSON]:
        """What a measurement's job says besides the architecture.

        Args:
            objective: the quantity in which an assignment is to be the best.
            limits: quantity, limit, and whether a value must be below it.
        """
        spec: dict[str, JSON] = {"runtime": self.runtime_of(device), "protocol": dict(self.protocol)}
        if not self.cache:
            spec["cache"] = False
        if self.assignment is not None:
            wanted = {"objective": objective, "limits": [list(limit) for limit in limits]}
            spec["assignment"] = {**self.assignment.model_dump(mode="json"), **wanted}
        return spec
