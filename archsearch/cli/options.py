"""Options that several verbs share, so that they are called and explained the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one key of the configuration; may be repeated. The value is YAML."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout instead of text.")]
Address = Annotated[
    str | None,
    typer.Option("--address", metavar="local|auto|HOST:PORT", help="Ray: start it here, use this machine's, or join another."),
]
Executor = Annotated[
    str | None,
    typer.Option("--executor", metavar="ray|inline", help="Ray, or one job after another in this process."),
]
Server = Annotated[
    str,
    typer.Option("--address", metavar="URL", envvar="ARCHSEARCH_ADDRESS", help="The cluster's job server, http://HEAD:8265."),
]
Device = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="Measure on this device, after what others measure there; default: in this process."),
]
DeviceConfig = Annotated[
    Path | None,
    typer.Option("--config", metavar="CONF.yaml", help="--device: a configuration that says how it is reached (devices:)."),
]
DeviceAddress = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="local|auto|HOST:PORT",
        help="--device: as in archsearch devices the cluster that has it, or local: from this process, without a cluster. "
        "Default: as the configuration says, without one auto.",
    ),
]


def printable(text: str, allowed: str = "") -> str:
    """Text that may be a stranger's, for a terminal: but for what is ``allowed``, nothing in it moves the cursor or colours."""
    return "".join(letter if letter.isprintable() or letter in allowed else "?" for letter in text)


def size_text(count: float) -> str:
    """Bytes for people: 512 bytes, 1.21 MiB."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.3g} {unit}" if unit != "bytes" else f"{count:.0f} bytes"
        count /= 1024
    return f"{count:.3g} TiB"
