"""Restoring an offline pack, training what it holds without network, and comparing what came of it.

A pack is somebody else's: each byte is hashed before anything of it is used, and nothing of it can run code but its wheels.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import IO, Any

from archsearch.jobs import JSON, ArchsearchError, ArtifactRef, InputError
from archsearch.offline import no_network
from archsearch.offline.contents import Comparison, Contents, Figure, compared, read_contents
from archsearch.recipe_run import RecipeRun, load_recipe_run
from archsearch.recipes.pack import check_pack, mark_pack, unpack
from archsearch.recipes.pack_manifest import Pack
from archsearch.session import processor, stop_on_signals, versions
from archsearch.store import Artifacts

Say = Callable[[str], None]
Watch = Callable[[Mapping[str, JSON]], None]

#: Variables of this process that what it starts may need: where programs, libraries and GPUs are, and which instructions of the
#: processor libraries use, which decides the last digits. No others are passed on: they hold tokens and addresses.
PASSED = (
    *("PATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    *("ATEN_CPU_CAPABILITY", "MKL_CBWR", "ONEDNN_MAX_CPU_ISA", "OPENBLAS_CORETYPE"),
)


class NotTrained(ArchsearchError):
    """The process that was to train what a pack holds has failed."""

    exit_code = 3


@dataclass(frozen=True)
class Verdict:
    """What came of a pack: ``state`` is done, interrupted or failed, ``reason`` why it is not done. ``figure`` is there once it
    is done, and so is ``comparison``, if a figure was recorded."""

    pack: Pack
    contents: Contents
    state: str
    reason: str = ""
    figure: Figure | None = None
    comparison: Comparison | None = None

    @property
    def good(self) -> bool:
        return self.figure is not None and (self.comparison is None or self.comparison.good)


def verify_pack(
    path: str | Path,
    id: str | None = None,
    *,
    device: str = "cpu",
    say: Say = lambda text: None,
    progress: Watch = lambda data: None,
) -> Verdict:
    """Check every byte of a pack, restore it into an empty cache, train its recipe there in a process without network, compare
    what comes of it with the recorded figure, and mark the pack as verified if they agree.

    Args:
        id: of the pack that is expected.

    Raises:
        InputError, StoreDamaged: the pack is not what was packed, or another one; or it cannot be restored here, or no process
            can be kept from the network here. Nothing was run, and the pack is as it was.
        NotTrained: the training failed.
        StoreUnavailable: the pack cannot be marked.
    """
    with unpacked(path, id, say) as there:
        _refuse_networked()
        say("without network from here on …")
        done, end = _train(there, there.place / "run", True, device, say, progress)
        verdict = _verdict(there, done, end)
    if verdict.good and verdict.figure is not None:
        mark = {
            "when": datetime.now(UTC).isoformat(timespec="seconds"),
            "figure": verdict.figure.to_json(),
            "compared": "the first figure" if verdict.comparison is None else verdict.comparison.text,
            "network": "none but loopback: it was tried",
            "processor": processor(),
            "versions": versions(),
        }
        verdict = replace(verdict, pack=mark_pack(path, verdict.pack.id, mark))
    return verdict


def run_pack(
    path: str | Path,
    folder: str | Path,
    id: str | None = None,
    *,
    device: str = "cpu",
    say: Say = lambda text: None,
    progress: Watch = lambda data: None,
) -> Verdict:
    """Train what a pack holds into a folder, as ``run_recipe`` does: the same call goes on where a killed one stood. No network
    is needed.

    Raises: as ``verify_pack``, and InputError where the folder is another recipe's.
    """
    target = Path(folder).expanduser().absolute()
    with unpacked(path, id, say) as there:
        done, end = _train(there, target, False, device, say, progress)
        return _verdict(there, done, end)


# --------------------------------------------------------------------------------------------------------------- unpacked
@dataclass(frozen=True)
class Unpacked:
    """A pack that was checked, and lies in an empty cache below ``place``."""

    pack: Pack
    contents: Contents
    place: Path

    @property
    def files(self) -> Path:
        return _files(self.place)


@contextmanager
def unpacked(path: str | Path, id: str | None, say: Say) -> Iterator[Unpacked]:
    """Check a pack and unpack it in a temporary folder, which is removed.

    Raises: InputError and StoreDamaged as ``verify_pack``.
    """
    with TemporaryDirectory(prefix="archsearch-offline-") as name:
        place = Path(name)
        say("checking every byte …")
        check_pack(path, id)  # first: nothing of a wrong one is written
        pack = unpack(path, _files(place), id)
        yield Unpacked(pack, read_contents(pack, _files(place)), place)


def _files(place: Path) -> Path:
    """Where ``recipes.prepared.own`` finds data and weights when the cache is ``place/cache``."""
    return place / "cache" / "offline"


def _refuse_networked() -> None:
    """
    Raises:
        InputError: processes cannot be kept from the network here.
    """
    tried = subprocess.run([*_isolated(), sys.executable, "-I", "-c", ""], capture_output=True, text=True)
    if tried.returncode != 0:
        raise InputError(
            f"not verified: {tried.stderr.strip() or 'no process can be kept from the network here'}. Verify it on Linux, as "
            "root or where users may have namespaces of their own (sysctl kernel.unprivileged_userns_clone or "
            "kernel.apparmor_restrict_unprivileged_userns; of a container, its security options)."
        )


def _isolated() -> list[str]:
    """What runs a command without network: this interpreter, since that of a pack is not asked whether there is one."""
    return [sys.executable, "-I", str(Path(no_network.__file__).absolute())]


# --------------------------------------------------------------------------------------------------------------- training
def _train(
    there: Unpacked, folder: Path, verifying: bool, device: str, say: Say, progress: Watch
) -> tuple[RecipeRun | None, dict[str, Any]]:
    """Restore Python and train, in a process of its own; what lies in the folder then if it was done, and its last word.

    Raises:
        ArchsearchError: as the process had it.
        NotTrained: it ended without a word.
    """
    settings = {
        "files": str(there.files),
        "python": str(there.place / "python"),
        "folder": str(folder),
        "device": device,
        "threads": there.contents.threads,
        "isolated": verifying,
        "rehearse": verifying,
    }
    command = [sys.executable, "-m", "archsearch.offline.inside", json.dumps(settings)]
    surroundings = _surroundings(there)
    asked = False

    def stop() -> None:
        nonlocal asked
        asked = True
        process.terminate()

    with TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [*_isolated(), *command] if verifying else command,
            stdin=subprocess.PIPE,  # closed when this process ends, however it ends
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=surroundings,
            cwd=surroundings["HOME"],
            start_new_session=True,  # Ctrl-C is passed on, once
        )
        try:
            with stop_on_signals(stop):
                assert process.stdout is not None
                last = _listen(process.stdout, say, progress)
                process.wait()
        finally:
            process.kill()
            process.wait()
        errors.seek(0)
        said = errors.read().strip()
    if "error" in last:
        raise InputError(last["error"]) if last.get("code") == InputError.exit_code else NotTrained(last["error"])
    if "end" not in last:
        if asked:
            return None, {"end": "interrupted", "reason": "asked to stop"}
        raise NotTrained(f"the process that trained ended with code {process.returncode}: {said[-2000:] or 'it said nothing'}")
    return (load_recipe_run(folder) if last["end"] == "done" else None), last


def _listen(lines: IO[str], say: Say, progress: Watch) -> dict[str, Any]:
    """Pass on what the process says; its last word."""
    last: dict[str, Any] = {}
    for line in lines:
        try:
            data = json.loads(line)
        except ValueError:
            continue
        if "progress" in data:
            progress(data["progress"])
        elif "say" in data:
            say("".join(letter if letter.isprintable() else "?" for letter in str(data["say"])))  # perhaps a stranger's
        else:
            last = data
    return last


def _surroundings(there: Unpacked) -> dict[str, str]:
    """Its environment: every cache and home is new and empty, but for what the pack brought."""
    made = {"HOME": "home", "TMPDIR": "tmp", "XDG_CACHE_HOME": "xdg/cache", "XDG_CONFIG_HOME": "xdg/config"}
    made |= {"XDG_DATA_HOME": "xdg/data", "XDG_STATE_HOME": "xdg/state", "TORCH_HOME": "torch", "MPLCONFIGDIR": "matplotlib"}
    found = {name: str(there.place / below) for name, below in made.items()}
    for place in found.values():
        Path(place).mkdir(parents=True, exist_ok=True)
    found |= {name: os.environ[name] for name in PASSED if name in os.environ}
    found |= {"ARCHSEARCH_CACHE": str(there.place / "cache"), "OMP_NUM_THREADS": str(there.contents.threads)}
    found |= {"LC_ALL": "C.UTF-8", "PYTHONSAFEPATH": "1", "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return found | {"PYTHONPATH": str(Path(__file__).absolute().parents[2])}  # this archsearch, wherever it lies


def _verdict(there: Unpacked, done: RecipeRun | None, end: Mapping[str, Any]) -> Verdict:
    if done is None:
        return Verdict(there.pack, there.contents, str(end["end"]), str(end.get("reason", "")))
    if done.recipe.id != there.contents.recipe.id:
        raise NotTrained(f"what was trained is recipe {done.recipe.id}, not {there.contents.recipe.id}")
    Artifacts(done.path).load(ArtifactRef.from_json(done.result["weights"]))  # they are there, whole
    figure = Figure.of_result(done.result)
    recorded = there.contents.recorded
    return Verdict(
        there.pack, there.contents, "done", figure=figure, comparison=None if recorded is None else compared(figure, recorded)
    )
