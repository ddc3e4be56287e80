"""The ``devices`` section of a configuration: what there is to measure on, by name, and how each is reached."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, PositiveInt, RootModel, model_validator

from archsearch.config import Duration, Section
from archsearch.jobs import InputError, Job

#: Queues of devices are called ``device:NAME``, and so is the custom resource of a node that offers one.
PREFIX = "device:"

#: Keys that say how a board is reached over SSH.
_OF_SSH = ("host", "port", "identity", "known_hosts", "python")

#: What Ray takes as the value of a label.
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def device_of(job: Job) -> str | None:
    """The device in whose queue a job stands, or None."""
    return job.queue.removeprefix(PREFIX) if job.queue.startswith(PREFIX) else None


class DeviceSettings(Section):
    """One device. Jobs in its queue run on the node that has its label, or on the board that this node reaches by SSH."""

    runner: Literal["local", "ssh"] = Field("local", description="local: the node itself; ssh: a board that the node reaches")
    host: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*(@[A-Za-z0-9][A-Za-z0-9_.:-]*)?$",  # never an option of ssh's
        description="ssh: USER@HOST, or a name from the node's ~/.ssh/config; the node must know its host key",
    )
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(None, description="ssh: the port, if it is not 22")
    identity: str | None = Field(None, description="ssh: the node's file with the private key, if it is not the usual one")
    known_hosts: str | None = Field(None, description="ssh: the node's file of host keys, if it is not the usual one")
    python: str | None = Field(
        None, description="ssh: the board's interpreter that has archsearch, as seen from its home; default: python3"
    )
    threads: PositiveInt = Field(1, description="CPU threads of what is measured")
    torch_device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="cpu, cuda or cuda:1")
    timeout: Duration = Field(600.0, gt=0, description="a job that has not ended after this time is ended and tried again")
    labels: dict[str, str] = Field(
        default_factory=dict, description="labels of the device's node, as in Ray; default: {device: NAME}"
    )
    lock: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="devices of a host with the same name here are not used at once; default: host for local, else the board's",
    )

    @model_validator(mode="after")
    def _reachable(self) -> DeviceSettings:
        given = [key for key in _OF_SSH if getattr(self, key) is not None]
        if self.runner == "ssh" and self.host is None:
            raise ValueError("runner: ssh needs a host, such as host: pi@10.0.0.7")
        if self.runner == "local" and given:
            raise ValueError(f"{given[0]} is for runner: ssh; a local device is measured by the node's own interpreter")
        return self

    @property
    def lock_name(self) -> str:
        """What is not used twice at once: two local devices of one host would disturb each other."""
        return self.lock or ("host" if self.host is None else self.host.rpartition("@")[2])


class DevicesSection(RootModel[dict[str, DeviceSettings]]):
    """Devices to measure on, by name: ``devices: {pi4: {runner: ssh, host: pi@10.0.0.7}}``."""

    model_config = ConfigDict(frozen=True)

    root: dict[str, DeviceSettings] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _named(self) -> DevicesSection:
        for name in self.root:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no device's name: letters and digits, and '_', '-', '.' between them, at most 63"
                )
        return self

    def names(self) -> Iterator[str]:
        return iter(self.root)

    def hosts(self) -> dict[str, str]:
        """The boards that are reached by SSH, by device."""
        return {name: device.host for name, device in self.root.items() if device.host is not None}

    def of(self, job: Job) -> DeviceSettings:
        """The settings of the device in whose queue a job stands.

        Raises:
            InputError: the configuration has no such device.
        """
        name = device_of(job)
        if name not in self.root:
            known = ", ".join(self.root) or "none"
            raise InputError(f"job {job.id} is for the device {name!r}, which section devices does not have. Known: {known}.")
        return self.root[name]

    def node_labels(self, name: str) -> dict[str, str]:
        """What the labels of the device's node must be."""
        return self.root[name].labels or {"device": name}
