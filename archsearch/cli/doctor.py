"""``archsearch doctor``: what is installed, what the machine, Ray and CUDA offer, and what is missing for which feature."""

from __future__ import annotations

import fcntl
import importlib.metadata
import json
import mmap
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from archsearch.cli.options import Address, Json

EXAMPLES = """
archsearch doctor
archsearch doctor --address 10.0.0.5:6379 --run-dir /data/runs
archsearch doctor --json
"""

#: What each extra of the package is for; one that is not listed here is shown by its name alone.
FEATURES = {
    "nsga2": "archsearch assign --estimator nsga2",
    "onert": "archsearch profile --runtime onert: Samsung ONE",
    "onnx": "archsearch export as ONNX; archsearch profile MODEL.onnx: checking the file",
    "openvino": "--runtime openvino; a backend beside onnxruntime",
    "ort": "--runtime onnxruntime; archsearch profile MODEL.onnx",
    "parquet": "archsearch db export and import of .parquet files",
    "tensorboard": "tracking.callbacks: [tensorboard]",
    "test": "running the tests (make test)",
    "torchvision": "data.download: fetching CIFAR, MNIST, SVHN, ...",
}

PATIENCE = 2.0  # seconds after which a step says that it is under way
RAY_TIMEOUT = 30.0


def command(
    address: Address = None,
    run_dir: Annotated[Path, typer.Option("--run-dir", help="Folder that would hold the runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """Tell what is installed, what this machine, Ray and CUDA offer, and what is missing for which feature.

    Starts nothing and changes nothing. With --address it asks that Ray cluster for its nodes. Exit code 0: a search can
    start here; 2: it cannot, and the last lines say what to do.
    """
    found = examine(address, run_dir)
    print(json.dumps(found, indent=2) if as_json else _text(found))
    if not found["ok"]:
        raise typer.Exit(2)


def examine(address: str | None, run_dir: Path) -> dict[str, Any]:
    """All findings as JSON; ``ok`` is whether a search can start, ``problems`` what to do if not."""
    problems: list[str] = []
    required, extras = _packages(problems)
    found = {
        "archsearch": _installed("archsearch"),
        "python": {"version": platform.python_version(), "executable": sys.executable},
        "packages": required,
        "features": extras,
        "machine": _machine(),
        "cuda": _cuda(problems),
        "ray": _ray(address, problems),
        "run_dir": _run_dir(run_dir, problems),
    }
    return {"ok": not problems, "problems": problems, **found}


@contextmanager
def _said_if_slow(step: str) -> Iterator[None]:
    """Says on stderr what is being done if it takes more than two seconds."""
    timer = threading.Timer(PATIENCE, lambda: print(f"doctor: {step} ...", file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _packages(problems: list[str]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """What the package's own metadata asks for, against what is there: required packages, then one entry for each extra."""
    try:
        from packaging.requirements import Requirement

        metadata = importlib.metadata.metadata("archsearch")
        wanted = [Requirement(text) for text in importlib.metadata.requires("archsearch") or []]
    except (importlib.metadata.PackageNotFoundError, ModuleNotFoundError) as error:
        problems.append(f"archsearch is not installed completely ({error}). In its folder: pip install -e .")
        return [], []

    def check(requirement: Requirement) -> dict[str, Any]:
        version = _installed(requirement.name)
        fits = version is not None and requirement.specifier.contains(version, prereleases=True)
        return {"name": requirement.name, "required": str(requirement.specifier), "installed": version, "ok": fits}

    def applies(requirement: Requirement, extra: str) -> bool:
        return requirement.marker is None or requirement.marker.evaluate({"extra": extra})

    required = [check(requirement) for requirement in wanted if applies(requirement, "")]
    missing = [package for package in required if not package["ok"]]
    for package in missing:
        have = f"{package['installed']} is installed" if package["installed"] else "it is not installed"
        problems.append(f"{package['name']}{package['required']} is needed and {have}. pip install -e . brings it.")
    extras = []
    for extra in metadata.get_all("Provides-Extra") or []:
        own = [check(requirement) for requirement in wanted if applies(requirement, extra) and not applies(requirement, "")]
        lacking = [package["name"] + package["required"] for package in own if not package["ok"]]
        command_line = f"pip install -e '.[{extra}]'"
        extras.append({"name": extra, "for": FEATURES.get(extra, ""), "missing": lacking, "install": command_line})
    return required, extras


def _machine() -> dict[str, Any]:
    import psutil

    memory = psutil.virtual_memory()
    return {
        "system": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "load": round(os.getloadavg()[0], 2),
        "memory_gb": _gb(memory.total),
        "memory_free_gb": _gb(memory.available),
    }


def _cuda(problems: list[str]) -> dict[str, Any]:
    """What torch sees. No CUDA is not a problem: searches run on CPUs then."""
    try:
        with _said_if_slow("asking torch for CUDA devices"):
            import torch

            devices = [
                {
                    "name": torch.cuda.get_device_name(number),
                    "memory_gb": _gb(torch.cuda.get_device_properties(number).total_memory),
                    "free_gb": _gb(torch.cuda.mem_get_info(number)[0]),
                }
                for number in range(torch.cuda.device_count())
            ]
    except (ImportError, OSError, RuntimeError) as error:
        problems.append(f"torch does not work here: {error}. Install it again.")
        return {"torch": _installed("torch"), "built_for": None, "devices": [], "note": "torch does not work"}
    note = ""
    if not devices:
        note = "no CUDA device: jobs run on CPU cores"
        if torch.version.cuda is None and shutil.which("nvidia-smi"):
            note += "; this machine has an NVIDIA driver, and a CUDA build of torch would use it"
    return {"torch": torch.__version__, "built_for": torch.version.cuda, "devices": devices, "note": note}


def _ray(address: str | None, problems: list[str]) -> dict[str, Any]:
    """Whether a cluster answers, and what it says of its nodes. Without an address nothing is asked."""
    found: dict[str, Any] = {"version": _installed("ray"), "address": address, "reachable": None, "status": ""}
    if address in (None, "local"):
        found["status"] = "not asked: a search starts its own Ray; --address auto or HOST:PORT asks a cluster"
        return found
    assert address is not None
    why = ""
    if address != "auto":
        host, _, port = address.removeprefix("ray://").rpartition(":")
        try:
            with _said_if_slow(f"connecting to {address}"), socket.create_connection((host.strip("[]"), int(port)), timeout=5):
                pass
        except (OSError, ValueError) as error:
            why = f"nothing answers there ({error})"
    if not why:
        # A process of its own, since a client of a cluster that half answers waits for minutes.
        line = [sys.executable, "-m", "ray.scripts.scripts", "status", *(["--address", address] if address != "auto" else [])]
        try:
            with _said_if_slow(f"asking the Ray cluster at {address}"):
                done = subprocess.run(line, capture_output=True, text=True, timeout=RAY_TIMEOUT, check=False)
            if done.returncode == 0:
                found["status"] = done.stdout.strip()
            else:
                why = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:240]
        except subprocess.TimeoutExpired:
            why = f"it does not answer within {RAY_TIMEOUT:.0f} s as a Ray cluster"
    found["reachable"] = not why
    if why:
        found["status"] = why
        problems.append(
            f"the Ray cluster {address} cannot be used: {why}. Check the address and port, that Ray runs there "
            "(ray start --head), and that its token is in RAY_AUTH_TOKEN_PATH."
        )
    return found


def _run_dir(folder: Path, problems: list[str]) -> dict[str, Any]:
    """Whether runs can be kept there: locks, shared memory maps (SQLite's WAL needs both) and syncing are tried beside it."""
    place = folder.absolute()
    while not place.is_dir() and place != place.parent:
        place = place.parent
    found: dict[str, Any] = {"path": str(folder), "writable": True, "free_gb": _gb(shutil.disk_usage(place).free), "note": ""}
    try:
        with (
            tempfile.TemporaryDirectory(prefix=".archsearch-doctor-", dir=place) as trial,
            (Path(trial) / "file").open("w+b") as file,
        ):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.truncate(mmap.PAGESIZE)
            with mmap.mmap(file.fileno(), mmap.PAGESIZE) as shared:
                shared[0] = 1
                shared.flush()
            os.fsync(file.fileno())
    except (OSError, ValueError) as error:
        found |= {"writable": False, "note": str(error)}
        problems.append(f"runs cannot be kept in {folder}: {error}. Name a writable folder on a local disk with --run-dir.")
    return found


def _gb(size: float) -> float:
    return round(size / 2**30, 1)


def _text(found: dict[str, Any]) -> str:
    """The findings for people: one line each, details below."""
    machine, cuda, ray, runs = found["machine"], found["cuda"], found["ray"], found["run_dir"]
    python = f"{found['python']['version']} at {found['python']['executable']}"
    rows = [
        ("archsearch", f"{found['archsearch']}, Python {python}"),
        ("machine", f"{machine['cores']} cores (load {machine['load']}), {machine['memory_gb']} GB of memory, "
         f"{machine['memory_free_gb']} GB free; {machine['system']}"),
        ("runs", f"{runs['path']}: {'writable' if runs['writable'] else 'NOT WRITABLE'}, {runs['free_gb']} GB free"),
        ("torch", f"{cuda['torch']}, " + (f"built for CUDA {cuda['built_for']}" if cuda["built_for"] else "built for CPU")),
        *(("", f"{device['name']}: {device['memory_gb']} GB, {device['free_gb']} GB free") for device in cuda["devices"]),
        *([("", cuda["note"])] if cuda["note"] else []),
        ("ray", f"{ray['version']}; " + (f"{ray['address']} answers" if ray["reachable"] else ray["status"])),
        *(("", line) for line in (ray["status"].splitlines() if ray["reachable"] else [])),
        *((package["name"], f"{package['installed'] or 'MISSING'} ({package['required'] or 'any version'})"
           + ("" if package["ok"] else "  <- does not fit")) for package in found["packages"]),
    ]  # fmt: skip
    lines = [f"{label:<14} {text}".rstrip() for label, text in rows]
    for extra in found["features"]:
        purpose = extra["for"] or f"extra {extra['name']}"
        state = f"missing {', '.join(extra['missing'])}: {extra['install']}" if extra["missing"] else "all there"
        lines.append(f"{'feature':<14} {purpose}: {state}")
    verdict = ["", "A search can start here."] if found["ok"] else ["", "A search cannot start here:"]
    return "\n".join([*lines, *verdict, *(f"- {problem}" for problem in found["problems"])])
