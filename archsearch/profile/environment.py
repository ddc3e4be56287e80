"""What a measurement ran on, and what else went on there: cores, clocks, temperature, load, energy counters.

Everything is read from Linux's files where they exist; what cannot be read is None, never made up.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from archsearch.jobs import JSON, InputError

CPUS = Path("/sys/devices/system/cpu")
THERMAL = Path("/sys/class/thermal")
POWERCAP = Path("/sys/class/powercap")


# ------------------------------------------------------------------------------------------------------------------ cores
def allowed_cores() -> list[int]:
    """The cores that this process may run on."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def choose_cores(threads: int, allowed: Sequence[int] | None = None, root: Path = CPUS) -> list[int]:
    """One core for each thread: physical cores before their second threads, the last ones first.

    The first core of a machine is where most interrupts go.

    Raises:
        InputError: there are fewer cores than threads.
    """
    cores = allowed_cores() if allowed is None else sorted(allowed)
    if not 1 <= threads <= len(cores):
        raise InputError(f"threads = {threads}: this process may use {len(cores)} cores; expected 1 to {len(cores)}")
    seen: set[str] = set()
    first: list[int] = []
    second: list[int] = []
    for core in reversed(cores):
        siblings = _text(root / f"cpu{core}" / "topology" / "thread_siblings_list") or str(core)
        (second if siblings in seen else first).append(core)
        seen.add(siblings)
    return sorted((first + second)[:threads])


# ------------------------------------------------------------------------------------------------------------------- load
@dataclass(frozen=True, slots=True)
class Load:
    """CPU time used so far, in seconds: of all cores by anyone, of it by others than this system (``stolen``), by this process;
    and how long this process's threads have waited for a core that was taken (None where the kernel does not tell)."""

    cores: int
    used: float
    stolen: float
    own: float
    waited: float | None
    wall: float

    def others(self, later: Load) -> float:
        """The share of all cores' time that others than this process used until ``later``."""
        passed = (later.wall - self.wall) * self.cores
        used = (later.used - self.used) - (later.own - self.own)
        return min(1.0, max(0.0, used / passed)) if passed > 0 else 0.0

    def kept_waiting(self, later: Load, threads: int) -> float | None:
        """Seconds until ``later`` for which others kept this process's threads from as many cores as it may have ``threads``.

        Some libraries start more of them than they are given cores: those wait for each other, and what this process itself
        used of its cores no other had.
        """
        if self.waited is None or later.waited is None:
            return None
        left = max(0.0, (later.wall - self.wall) * threads - (later.own - self.own))
        waited = min(left, max(0.0, later.waited - self.waited))
        return waited + max(0.0, later.stolen - self.stolen) * threads / max(1, self.cores)


def load_now() -> Load:
    """Where the counters stand."""
    ticks = os.sysconf("SC_CLK_TCK")
    cores, used, stolen = 0, 0.0, 0.0
    for line in (_text(Path("/proc/stat")) or "").splitlines():
        name, *fields = line.split()
        if name.startswith("cpu") and name[3:].isdigit():
            user, nice, system, _idle, _wait, irq, soft, steal = map(int, fields[:8])
            cores += 1
            used += (user + nice + system + irq + soft + steal) / ticks
            stolen += steal / ticks
    delays = [_text(task / "schedstat") for task in Path("/proc/self/task").glob("*")]
    known = [int(delay.split()[1]) / 1e9 for delay in delays if delay]
    return Load(cores, used, stolen, time.process_time(), sum(known) if known else None, time.monotonic())


# --------------------------------------------------------------------------------------------------- clocks, temperature
def clock_mhz(cores: Sequence[int], root: Path = CPUS) -> float | None:
    """The slowest clock of these cores at the moment, in MHz."""
    found = [_number(root / f"cpu{core}" / "cpufreq" / "scaling_cur_freq") for core in cores]
    known = [value / 1000 for value in found if value is not None]
    return min(known) if known else None


def temperature(root: Path = THERMAL) -> float | None:
    """The hottest sensor, in degrees Celsius."""
    found = [_number(zone / "temp") for zone in sorted(root.glob("thermal_zone*"))]
    known = [value / 1000 for value in found if value is not None and value > 0]
    return max(known) if known else None


# ----------------------------------------------------------------------------------------------------------------- energy
@dataclass(frozen=True)
class EnergyCounter:
    """The processors' own counters (RAPL), of whole packages: what others use at the time is in it.

    ``domains`` are pairs of a counter's file and the value at which it starts again at 0, in microjoules.
    """

    domains: tuple[tuple[Path, float], ...] = field(default=())

    @classmethod
    def find(cls, root: Path = POWERCAP) -> EnergyCounter | None:
        """The counters of this machine that can be read, or None."""
        found = []
        for domain in sorted(root.glob("*:*")):
            if domain.name.count(":") == 1 and (_text(domain / "name") or "").startswith("package"):
                if _number(domain / "energy_uj") is None:
                    return None  # a sum without one package would be wrong, not partial
                found.append((domain / "energy_uj", _number(domain / "max_energy_range_uj") or 0.0))
        return cls(tuple(found)) if found else None

    def read(self) -> tuple[float, ...]:
        """Where the counters stand, in microjoules; NaN for one that cannot be read any more."""
        return tuple(_nan(_number(path)) for path, _ in self.domains)

    def spent(self, before: Sequence[float], after: Sequence[float]) -> float | None:
        """Millijoules between two readings less than one turn of the counters apart."""
        total = 0.0
        for (_, turn), first, last in zip(self.domains, before, after, strict=True):
            total += last - first if last >= first else last - first + turn
        return total / 1000 if total == total else None


# ------------------------------------------------------------------------------------------------------------ fingerprint
def machine() -> dict[str, JSON]:
    """What this machine is, apart from what measures on it."""
    cpu: dict[str, str] = {}
    for line in (_text(Path("/proc/cpuinfo")) or "").splitlines():
        key, _, value = line.partition(":")
        cpu.setdefault(key.strip(), value.strip())
    flags = " ".join(sorted((cpu.get("flags") or cpu.get("Features") or "").split()))
    return {
        "machine": platform.machine(),
        "cpu": cpu.get("model name") or cpu.get("Model") or platform.processor(),
        "cpu_flags": hashlib.sha256(flags.encode()).hexdigest()[:12],
        "cpus": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def environment(packages: Sequence[str], threads: int, cores: Sequence[int]) -> dict[str, JSON]:
    """What decides how long a model takes here, apart from the model: the same at every call while nothing is changed."""
    governors = {_text(CPUS / f"cpu{core}" / "cpufreq" / "scaling_governor") for core in cores}
    return {
        **machine(),
        "packages": {name: installed(name) for name in sorted(packages)},
        "threads": threads,
        "cores": list(cores),
        "governor": ",".join(sorted(name for name in governors if name)) or None,
    }


def fingerprint(environment: Mapping[str, JSON]) -> str:
    """16 hexadecimal digits that stand for an environment."""
    text = json.dumps(environment, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def installed(package: str) -> str | None:
    """The version of an installed package, without importing it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


def _number(path: Path) -> float | None:
    try:
        return float(_text(path) or "")
    except ValueError:
        return None


def _nan(value: float | None) -> float:
    return float("nan") if value is None else value
