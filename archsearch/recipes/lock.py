"""The lock of a pack: which versions archsearch ran with, as a file of requirements that pip itself takes.

A line holds a package's version, the SHA-256 of its archive where an index was asked (or its wheel lies in the pack), and as
a comment the digest of its installed files. What stands above the lines says for which platform and Python they are.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from archsearch.jobs import InputError
from archsearch.recipes.closure import Target, files_digest, installed
from archsearch.recipes.pack import NAMED

LOCK = "python/lock.txt"
FORMAT = "archsearch lock 1"
#: A lock has some 200 bytes for each package.
MOST_BYTES = 16 << 20

_PIN = re.compile(r"([a-z0-9-]+)==([\w.+!]+)(?: --hash=sha256:([0-9a-f]{64}))?(?: # files sha256:([0-9a-f]{64}))?")
_ABOUT = ("platform", "python", "requirements", "wheels")


@dataclass(frozen=True, slots=True)
class Pin:
    """One package. ``archive``: the SHA-256 of what pip gets; ``files``: see `files_digest`; "" where they are not known."""

    version: str
    archive: str = ""
    files: str = ""


@dataclass(frozen=True)
class Lock:
    """``complete``: all its wheels lie in the pack, not archsearch's own alone. ``pins`` by canonical name."""

    target: Target
    requirements: tuple[str, ...]
    complete: bool
    pins: Mapping[str, Pin]

    def text(self) -> str:
        of = "all" if self.complete else "archsearch"
        about = (self.target.platform, self.target.python, " ".join(self.requirements), of)
        hashed = all(pin.archive for pin in self.pins.values())
        lines = [f"# {FORMAT}", *(f"# {name}: {value}" for name, value in zip(_ABOUT, about, strict=True))]
        lines.append(f"# in the unpacked pack: python -m pip install{' --require-hashes' * hashed} -r {LOCK}")
        lines.append("--find-links ../wheels")
        for name, pin in sorted(self.pins.items()):
            archive = f" --hash=sha256:{pin.archive}" if hashed else ""  # one hash, and pip wants all
            lines.append(f"{name}=={pin.version}{archive}" + (f" # files sha256:{pin.files}" if pin.files else ""))
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: Path) -> Lock:
        """
        Raises:
            InputError: there is none, or it is not as `text` writes it.
        """
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(MOST_BYTES)
            about = dict(re.findall(r"^# (\w+): (.*)$", text, re.MULTILINE))
            matches = (match.groups(default="") for match in map(_PIN.fullmatch, text.splitlines()) if match)
            pins = {name: Pin(*pin) for name, *pin in matches}
            target = Target.of(about["platform"], about["python"])
            lock = cls(target, tuple(about["requirements"].split()), about["wheels"] == "all", pins)
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error}. Expected the folder of an unpacked pack.") from error
        except (KeyError, UnicodeDecodeError) as error:
            raise InputError(f"{path} is no lock of archsearch: {error!r}. Expected the folder of an unpacked pack.") from error
        if lock.text() != text:  # such as an option that pip alone would read
            raise InputError(f"{path} is not as archsearch writes a lock: expected {FORMAT!r}. Pack again.")
        return lock

    def check_target(self) -> None:
        """
        Raises:
            InputError: the lock is for another system or Python than this process's.
        """
        own = Target.of()
        if self.target.python != own.python:
            raise InputError(
                f"the pack is for Python {self.target.python}, this is {own.python} ({sys.executable}): start archsearch with "
                "that Python, or pack for this one"
            )
        if self.target.system != own.system:
            raise InputError(f"the pack is for {self.target.platform}, this machine is {own.platform}: pack for this platform")

    def check_installed(self) -> None:
        """
        Raises:
            InputError: what runs here is not what was locked; each difference is named.
        """
        wrong = []
        for name, pin in sorted(self.pins.items()):
            if (found := installed(name)) is None:
                wrong.append(f"{name} {pin.version} is not installed")
            elif found.version != pin.version:
                wrong.append(f"{name} is {found.version}, locked {pin.version}")
            elif pin.files and (files := files_digest(name, found)) != pin.files:
                wrong.append(f"{name} {pin.version} has other files (digest {files[:12] or 'none'}, locked {pin.files[:12]})")
        if wrong:
            more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
            raise InputError(
                f"what is installed is not what the pack was made with: {'; '.join(wrong[:NAMED])}{more}. In the unpacked "
                f"pack: python -m pip install -r {LOCK}; or make a pack with wheels."
            )
