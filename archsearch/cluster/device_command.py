"""How a job's process is started on a device: by this interpreter, or over SSH."""

from __future__ import annotations

import os
import shlex
import sys

from archsearch.cluster.devices_section import DeviceSettings

#: What is started on the device.
MODULE = "archsearch.cluster.device_child"


def command(settings: DeviceSettings) -> list[str]:
    """The command that starts a job's process on a device, from its node."""
    if settings.runner == "local":
        return [sys.executable, "-m", MODULE]
    # No terminal: it would echo and break long lines, and is not needed, since the process ends itself when its stdin ends.
    # The shell stays, so that 255 means a lost connection alone: of a process that was killed it makes 128 and the signal.
    there = f"{shlex.quote(settings.python or 'python3')} -m {MODULE}; exit $?"
    words = ["ssh", "-T"]
    for option in (
        "BatchMode=yes",
        "StrictHostKeyChecking=yes",
        "ConnectTimeout=10",
        "ServerAliveInterval=5",
        "ServerAliveCountMax=3",
        "ControlMaster=no",  # sharing would save a moment, and leave a process that outlives its job
        "ControlPath=none",
        "ForwardAgent=no",
        "ClearAllForwardings=yes",
        "LogLevel=ERROR",
    ):
        words += ["-o", option]
    for flag, value in (("-p", settings.port), ("-i", settings.identity)):
        words += [flag, str(value)] if value is not None else []
    if settings.known_hosts is not None:
        words += ["-o", f"UserKnownHostsFile={settings.known_hosts}"]
    return [*words, "--", str(settings.host), f"exec sh -c {shlex.quote(there)}"]


def environment(settings: DeviceSettings) -> dict[str, str]:
    """This process's own; a child of the same interpreter finds the same modules, and the GPUs that Ray hides from an actor."""
    own = dict(os.environ)
    if settings.runner == "local":
        own["PYTHONPATH"] = os.pathsep.join(filter(None, [*sys.path, own.get("PYTHONPATH")]))
        if own.get("CUDA_VISIBLE_DEVICES") == "":
            del own["CUDA_VISIBLE_DEVICES"]
    return own
