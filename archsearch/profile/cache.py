"""Measurements kept across runs where they were made: one file each, in a folder of the user's own that may be deleted.

What is asked for is found again only on the same device (by its fingerprint), with the same runtime, version of the protocol
and settings that decide what the figures say. Noisy measurements and failures are not kept. A file holds figures and hashes:
no network, no weights. It is written whole under another name first, so that neither a kill nor a second writer leaves a part.
Of many those stay that were asked for last.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from archsearch.arch import Architecture
from archsearch.jobs import JSON, InputError
from archsearch.places import cache_folder
from archsearch.profile.environment import EnergyCounter, installed
from archsearch.profile.kept import note_use, thin_out
from archsearch.profile.measurement import Profile
from archsearch.profile.protocol import PROTOCOL, Step, Watch, device_environment, measure
from archsearch.profile.settings import Failed, Settings, Subject

FORMAT = "archsearch profile 1"

#: Measurements in one of the 256 folders, of some kilobytes each.
MOST = 64

#: Settings that do not change what a measurement says that was not noisy.
_NO_MATTER = frozenset({"repeats", "patience", "limit", "seed"})


class Cache:
    """The measurements below one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, key: Mapping[str, JSON]) -> tuple[Profile | None, str]:
        """The measurement with this key, whose ``about`` says in ``cached`` when and where it was made; or None, and what is
        wrong with its file, if there is one."""
        path = self._path(key)
        try:
            stored = json.loads(path.read_bytes())
            entry = stored["entry"]
            if stored["format"] != FORMAT or stored["sha256"] != _digest(entry) or entry["key"] != dict(key):
                raise ValueError("it is not what was written")
            found = Profile.from_json(entry["profile"])
            made = {"at": float(entry["made"]["at"]), "host": str(entry["made"]["host"])}
            note_use(path)
            return replace(found, about={**found.about, "cached": made}), ""
        except FileNotFoundError:
            return None, ""
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            return None, f"{path} was ignored, and measured again: {error}"

    def keep(self, key: Mapping[str, JSON], found: Profile) -> str:
        """Keep a measurement; why that was not possible, or nothing."""
        made = {"at": time.time(), "host": platform.node()}
        entry = {"key": dict(key), "profile": found.to_json(), "made": made}
        content = json.dumps({"format": FORMAT, "sha256": _digest(entry), "entry": entry})
        path = self._path(key)
        half = path.with_name(f".writing-{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                with half.open("x") as file:
                    file.write(content)
                    file.flush()
                    os.fsync(file.fileno())
                half.replace(path)
            finally:
                half.unlink(missing_ok=True)
            thin_out(path.parent, MOST)
        except OSError as error:
            return f"{path} could not be written: {error.strerror or error}"
        return ""

    def _path(self, key: Mapping[str, JSON]) -> Path:
        name = _digest(key)
        return self.folder / name[:2] / f"{name}.json"


def own_cache() -> Cache | None:
    """This user's on this machine, unless there is no place for it."""
    with suppress(InputError):
        return Cache(cache_folder() / "profiles")
    return None


def measure_cached(
    subjects: Sequence[Subject], settings: Settings, *, watch: Watch | None = None, cache: Cache | None, fresh: bool = False
) -> list[Profile | Failed]:
    """As `measure`, but what the cache has of them is not measured again, and what is measured is kept. The ``about`` of what
    comes from it says so (``cached``); that of the others says what is wrong with the cache (``cache_warning``).

    Args:
        fresh: all are measured; what the cache had of them is replaced.
    """
    if cache is None:
        return measure(subjects, settings, watch=watch)
    results: dict[int, Profile | Failed] = {}
    warnings: dict[int, str] = {}
    here = {name: device_environment(name, settings)[0] for name in {each.runtime for each in subjects}} if not fresh else {}
    for number, subject in enumerate(() if fresh else subjects):
        if (key := _key(subject, settings, here[subject.runtime])) is not None:
            known, warnings[number] = cache.find(key)
            if known is not None:
                results[number] = known
    rest = [number for number in range(len(subjects)) if number not in results]

    def passed_on(step: Step) -> None:
        if watch is not None:
            watch(step if step.subject is None else replace(step, subject=rest[step.subject]))

    measured = measure([subjects[number] for number in rest], settings, watch=passed_on) if rest else []
    for number, found in zip(rest, measured, strict=True):
        if isinstance(found, Profile):
            key = _key(subjects[number], settings, found.fingerprint)
            unwritten = cache.keep(key, found) if key is not None and not found.latency.noisy else ""
            if warning := warnings.get(number) or unwritten:
                found = replace(found, about={**found.about, "cache_warning": warning})
        results[number] = found
    return [results[number] for number in range(len(subjects))]


def _key(subject: Subject, settings: Settings, fingerprint: str) -> dict[str, JSON] | None:
    """What a measurement is found again by; None for a model that is no architecture: what it is may change."""
    if subject.model.kind != "architecture":
        return None
    return {
        "arch": Architecture.from_json(subject.model.value).hash,
        "assignment": None if subject.assignment is None else list(subject.assignment),
        "runtime": subject.runtime,
        "fingerprint": fingerprint,
        "protocol": PROTOCOL,
        "energy": EnergyCounter.find() is not None,  # or what was measured before a counter could be read would stand
        "settings": {name: value for name, value in settings.to_json().items() if name not in _NO_MATTER},
        "archsearch": installed("archsearch"),
    }


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
