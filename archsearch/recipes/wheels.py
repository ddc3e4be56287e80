"""What a pack holds of Python: a lock, wheels for a named platform, and the environment that is restored from them.

pip does all asking and installing, as it is configured here: its indexes, its cache. Of an address only host and file go into
a pack: users' addresses hold names and tokens. A pack's wheels are code: restore those of people you trust.

>>> found = wheels("manylinux_2_28_x86_64", "3.11", Path("wheels"))
>>> write_pack("python.tar", [*found, locked(wheels=found, platform="manylinux_2_28_x86_64", python="3.11")])
>>> python = environment(unpacked, Path("env"))
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import Distribution, distributions
from pathlib import Path

from packaging.tags import sys_tags

from archsearch.jobs import InputError
from archsearch.recipes.archives import Progress, ask, build, fetch, name_and_tags, pip_lines, sha256_of
from archsearch.recipes.closure import ALL, OWN, Target, closure, files_digest, installed, own_wheel
from archsearch.recipes.lock import LOCK, Lock, Pin
from archsearch.recipes.pack import PackFile
from archsearch.recipes.pip import PipFailed, clean_environment, run_pip, run_python

__all__ = ["ALL", "LOCK", "clean_environment", "environment", "locked", "own_wheel", "wheels"]

WHEELS = "wheels"


# ------------------------------------------------------------------------------------------------------------------ pack
def locked(
    requirements: Sequence[str] = ALL,
    *,
    wheels: Sequence[PackFile] = (),
    platform: str | None = None,
    python: str | None = None,
    index: bool = True,
    progress: Progress | None = None,
) -> PackFile:
    """The lock: exact versions of what ``requirements`` need, as installed here, and archsearch (``lock.Lock``).

    Args:
        requirements: names, with extras.
        wheels: what `wheels` gave for the same requirements and target: the hashes are theirs, and nobody is asked. Without,
            the lock is of what is installed, and the pack must hold `own_wheel` beside it.
        platform, python: as for `wheels`.
        index: ask pip's indexes for the archives' hashes, so that ``pip install --require-hashes`` can install it where there
            is a network; pip may have to download what its cache lacks. Else it has the digests of what is installed alone.

    Raises:
        InputError: something is not installed, or no index has it; or none can be reached.
    """
    target = Target.of(platform, python)
    found = _pins(requirements, target)
    if wheels:
        pins = {name_and_tags(Path(file.path))[0]: file for file in wheels}
        if lacking := found.keys() - pins.keys():
            raise InputError(
                f"no wheel was given of {', '.join(sorted(lacking))}: expected what `wheels` gave for {requirements}"
            )
        found = {name: Pin(file.version, sha256_of(file.content)) for name, file in pins.items()}
    else:
        if index:
            archives = ask(found, target, progress)
            found = {name: Pin(archive.version, archive.sha256) for name, archive in archives.items()}
        own = own_wheel()
        found[OWN] = Pin(own.version, sha256_of(own.content))
        if target.here:
            found = {name: replace(pin, files=_files_digest(name)) for name, pin in found.items()}
    lock = Lock(target, tuple(requirements), bool(wheels), found)
    return PackFile(LOCK, lock.text().encode(), "the environment that packed", target.python)


def wheels(
    platform: str | None,
    python: str | None,
    folder: Path,
    requirements: Sequence[str] = ALL,
    *,
    progress: Progress | None = None,
) -> list[PackFile]:
    """The wheels of all that ``requirements`` need, at the versions installed here, and archsearch's own.

    For another system a version's local label, as in 2.13.0+cpu, is left out: it names the build for this one.
    What an index has as a source archive alone is built here if it is Python alone: that wheel is for every platform.

    Args:
        platform: for which machine, such as manylinux_2_28_x86_64 (a Linux with glibc 2.28 or newer), linux_aarch64 (the same
            of glibc), macosx_14_0_arm64, win_amd64; None: this one.
        python: such as "3.11"; None: this one.
        folder: new or empty; the files lie there.

    Raises:
        InputError: something is not installed here, or cannot be had as a wheel for that platform; each is named, and
            ``folder`` stays empty.
    """
    target = Target.of(platform, python)
    pins = _pins(requirements, target)
    folder = folder.expanduser().absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty: name a new folder for the wheels")
    archives = ask(pins, target, progress)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        place = Path(temporary)
        sources = {name: archive for name, archive in archives.items() if not archive.file.endswith(".whl")}
        fetch({name: archive for name, archive in archives.items() if name not in sources}, target, place, progress)
        build(sources, place, progress)
        got = {name_and_tags(path)[0]: path for path in place.glob("*.whl")}
        _check_needs(requirements, target, got)
        for name, path in got.items():
            got[name] = path.rename(folder / path.name)
    packed = [own_wheel()]
    for name, path in sorted(got.items()):
        source = f"{'built here of ' * (name in sources)}{archives[name].source}"
        packed.append(PackFile(f"{WHEELS}/{path.name}", path, source, archives[name].version))
    return packed


def _pins(requirements: Sequence[str], target: Target) -> dict[str, Pin]:
    """What the index is asked for: not archsearch, which no index has."""
    found = {name: each.version for name, each in closure(requirements, target.markers()).items() if name != OWN}
    return {name: Pin(version if target.here else version.partition("+")[0]) for name, version in found.items()}


def _check_needs(requirements: Sequence[str], target: Target, got: Mapping[str, Path]) -> None:
    """What the wheels themselves say that they need is there: for another platform it may be more than here.

    Raises:
        InputError: it is not.
    """

    def find(name: str) -> Distribution | None:
        return (
            installed(OWN) if name == OWN else next(iter(distributions(path=[str(got[name])])), None) if name in got else None
        )

    closure(requirements, target.markers(), find)


# --------------------------------------------------------------------------------------------------------------- restore
def environment(folder: Path, target: Path, *, progress: Progress | None = None) -> Path:
    """The Python executable of what an unpacked pack runs with.

    With all its wheels it is a new virtual environment in ``target``, made of them alone: no network, no index, no settings of
    pip, no packages of the user. With a lock alone it is this process's own, once that was compared with the lock.

    Args:
        folder: of the unpacked pack.
        target: does not exist.

    Raises:
        InputError: the pack is for another platform or Python, or what is installed is not what was locked: each difference is
            named; or the environment cannot be made, and then nothing is left of it.
    """
    lock = Lock.read(folder / LOCK)
    lock.check_target()
    if not lock.complete:
        lock.check_installed()
        return Path(sys.executable)
    target = target.expanduser().absolute()
    if os.path.lexists(target):
        raise InputError(f"{target} exists already: name a new folder")
    try:
        return _restored(lock, (folder / WHEELS).absolute(), target, progress or (lambda line: None))
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, PipFailed):
            raise InputError(f"the environment cannot be restored from the pack's wheels: {error}") from error
        raise


def _restored(lock: Lock, folder: Path, target: Path, tell: Progress) -> Path:
    taken = set(sys_tags())
    files = sorted(folder.glob("*.whl"))
    if foreign := [path.name for path in files if not name_and_tags(path)[1] & taken]:
        raise InputError(
            f"the pack's wheels are for {lock.target.platform}, this machine is {Target.of().platform} and cannot run "
            f"{foreign[0]}: pack for this platform"
        )
    tell("making a virtual environment")
    run_python(["-I", "-m", "venv", "--without-pip", str(target)])
    python = target / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    tell(f"installing {len(files)} wheels")
    command = ["--python", str(python), "install", "--no-index", "--find-links", str(folder)]
    command += ["--require-hashes", "--no-deps", "--no-compile", "--only-binary", ":all:"]
    run_pip(command, pip_lines(lock.pins), env=clean_environment() | {"PIP_CONFIG_FILE": os.devnull})
    return python


def _files_digest(name: str) -> str:
    return files_digest(name, known) if (known := installed(name)) else ""
