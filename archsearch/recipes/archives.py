"""The archives of packages: what pip would install on a target, got from the indexes that it is configured for.

Of an address only host and file are kept: users' addresses hold names and tokens.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from archsearch.jobs import InputError
from archsearch.recipes.closure import Target, installed, is_pure
from archsearch.recipes.lock import Pin
from archsearch.recipes.pack import NAMED
from archsearch.recipes.pip import PipFailed, run_pip

_NOT_FOUND = re.compile(r"No matching distribution found for ([\w.-]+)==")
#: What pip says of an index that does not answer, before it says that the index has nothing.
_UNREACHABLE = re.compile(r"Retrying \(Retry|Could not fetch URL|[Cc]onnection broken|[Mm]ax retries exceeded")
_BEGUN = re.compile(r"\s*(?:Collecting|Processing) ")

Progress = Callable[[str], None]


class Archive(NamedTuple):
    """What pip would install: its hash as the index has it, and where it lies."""

    version: str
    sha256: str
    url: str

    @property
    def file(self) -> str:
        return unquote(urlsplit(self.url).path.rpartition("/")[2])

    @property
    def source(self) -> str:
        """The address without what may be secret in it: user, token, folders."""
        parts = urlsplit(self.url)
        return f"a folder: {self.file}" if parts.scheme == "file" else f"{parts.scheme}://{parts.hostname}/.../{self.file}"


def ask(pins: Mapping[str, Pin], target: Target, progress: Progress | None) -> dict[str, Archive]:
    """What pip would install of each pin on the target.

    Raises:
        InputError: there is none of some, which are named; or no index answers.
    """
    left, missing = dict(pins), []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        while left:
            compiled = [name for name in left if (known := installed(name)) and not is_pure(known)]
            options = ["--only-binary", ",".join(compiled)] if compiled else []
            command = ["install", "--dry-run", "--ignore-installed", "--no-deps", "--target", folder, "--report", str(report)]
            try:
                run_pip([*command, *options, *target.options()], pip_lines(left), _counted("asking for", left, progress))
                break
            except PipFailed as error:
                match = _NOT_FOUND.search(error.text)
                if match is None or _UNREACHABLE.search(error.text):
                    raise InputError(
                        f"pip cannot get what is needed from its indexes: {error}. Check the network and pip's settings "
                        "(python -m pip config list)."
                    ) from error
                missing.append(canonicalize_name(match[1]))
                del left[missing[-1]]
            if len(missing) == NAMED:
                break
        if missing:
            names = ", ".join(f"{name} {pins[name].version}" for name in missing)
            raise InputError(
                f"no index has a wheel for {target.platform} with Python {target.python} of: {names}. A version such as "
                "1.0+cpu is often on an index of its own: tell pip of it (PIP_EXTRA_INDEX_URL), or name another platform."
            )
        found = json.loads(report.read_text(encoding="utf-8"))["install"] if left else []
    archives: dict[str, Archive] = {}
    for each in found:
        name, info = canonicalize_name(each["metadata"]["name"]), each["download_info"]
        hash = info.get("archive_info", {}).get("hashes", {}).get("sha256")
        if hash is None:
            raise InputError(f"pip knows no SHA-256 of {name} {pins[name].version}: expected an archive on an index")
        archives[name] = Archive(each["metadata"]["version"], hash, info["url"])
    return archives


def fetch(archives: Mapping[str, Archive], target: Target, folder: Path, progress: Progress | None) -> None:
    """Download wheels, each of which must be what the index said."""
    if archives:
        pins = {name: Pin(archive.version, archive.sha256) for name, archive in archives.items()}
        command = ["download", "--no-deps", "--require-hashes", "--only-binary", ":all:", "--dest", str(folder)]
        try:
            run_pip([*command, *target.options()], pip_lines(pins), _counted("fetching", pins, progress))
        except PipFailed as error:
            raise InputError(f"the wheels cannot be fetched: {error}; try again") from error
    for name, archive in archives.items():
        if not (path := folder / archive.file).is_file() or sha256_of(path) != archive.sha256:
            raise InputError(f"{archive.file} is not what the index said ({name}, SHA-256 {archive.sha256}); try again")


def build(archives: Mapping[str, Archive], folder: Path, progress: Progress | None) -> None:
    """Make wheels of source archives, which must be for every platform."""
    if not archives:
        return
    pins = {name: Pin(archive.version, archive.sha256) for name, archive in archives.items()}
    try:
        env = {**os.environ, "SOURCE_DATE_EPOCH": "315532800"}  # the date in an archive is no news
        command = ["wheel", "--no-deps", "--require-hashes", "--wheel-dir", str(folder)]
        run_pip(command, pip_lines(pins), _counted("building", pins, progress), env)
    except PipFailed as error:
        raise InputError(f"no index has a wheel of {', '.join(archives)}, and none can be built: {error}") from error
    built = {name_and_tags(path)[0]: path.name for path in folder.glob("*.whl")}
    if wrong := [name for name in archives if not built.get(name, "").endswith("-none-any.whl")]:
        raise InputError(f"no index has a wheel of {', '.join(wrong)}, and what can be built is for this machine alone")


def pip_lines(pins: Mapping[str, Pin]) -> list[str]:
    """The requirements of pip."""
    return [f"{name}=={pin.version}" + (f" --hash=sha256:{pin.archive}" if pin.archive else "") for name, pin in pins.items()]


def _counted(doing: str, pins: Mapping[str, Pin], progress: Progress | None) -> Callable[[str], None]:
    """Hears pip's lines, and tells which package it is at."""
    seen: set[str] = set()

    def hear(line: str) -> None:
        if progress and (match := _BEGUN.match(line)):
            seen.add(line)
            progress(f"{doing} {Path(line[match.end() :].split()[0]).name} ({len(seen)} of {len(pins)})")

    return hear


def name_and_tags(path: Path) -> tuple[str, frozenset[Tag]]:
    """What a wheel's file name says: the package's canonical name, and where it runs."""
    try:
        name, _, _, tags = parse_wheel_filename(path.name)
    except InvalidWheelFilename as error:
        raise InputError(f"{path.name} is no name of a wheel: {error}") from error
    return name, tags


def sha256_of(content: Path | bytes) -> str:
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
