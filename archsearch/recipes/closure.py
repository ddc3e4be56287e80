"""What archsearch needs of Python: the closure of its requirements as it is installed here, and its own wheel.

Read with importlib.metadata alone: nothing that is installed is imported, and nobody is asked.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import re
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path, PurePosixPath

from packaging.markers import default_environment
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import platform_tags, sys_tags
from packaging.utils import canonicalize_name

import archsearch
from archsearch.jobs import InputError
from archsearch.recipes.pack import PackFile

OWN = "archsearch"
#: The requirements whose closure is packed where nothing else is said; an extra so: "archsearch[onnx]".
ALL = (OWN,)

_UNIX = re.compile(r"(linux|manylinux1|manylinux2010|manylinux2014|manylinux_2_\d+|musllinux_1_\d+|macosx_\d+_\d+)_([a-z]\w+)")
_WINDOWS = {"win32": "x86", "win_amd64": "AMD64", "win_arm64": "ARM64"}
#: What a name says of glibc 2.x. Of "linux" it says nothing: 28 is what torch's own wheels ask for.
_GLIBC = {"manylinux1": 5, "manylinux2010": 12, "manylinux2014": 17, "linux": 28}
_NAMES = {"linux": ("posix", "Linux"), "darwin": ("posix", "Darwin"), "win32": ("nt", "Windows")}
#: Files that pip writes beside those of a wheel.
_OF_INSTALLING = {"INSTALLER", "REQUESTED", "RECORD", "direct_url.json"}
_DATE = (1980, 1, 1, 0, 0, 0)
_WHEEL = b"Wheel-Version: 1.0\nGenerator: archsearch\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


# ---------------------------------------------------------------------------------------------------------------- target
@dataclass(frozen=True, slots=True)
class Target:
    """A CPython that wheels are for: a platform's name as in those of wheels, and a version such as "3.11"."""

    platform: str
    python: str

    @classmethod
    def of(cls, platform: str | None = None, python: str | None = None) -> Target:
        """The target that was named; by default that of this process.

        Raises:
            InputError: the names are none of a platform, or of a Python.
        """
        target = cls(platform or _this_platform(), python or f"{sys.version_info.major}.{sys.version_info.minor}")
        if not (_UNIX.fullmatch(target.platform) or target.platform in _WINDOWS):
            raise InputError(
                f"the platform {platform!r} is none of a wheel: expected one such as manylinux_2_28_x86_64, linux_aarch64, "
                "macosx_14_0_arm64 or win_amd64"
            )
        if not re.fullmatch(r"3\.\d+", target.python):
            raise InputError(f"the Python {python!r} is no version: expected one such as 3.11")
        return target

    @property
    def system(self) -> tuple[str, str]:
        """What `sys.platform` and `platform.machine` are there."""
        if match := _UNIX.fullmatch(self.platform):
            return "darwin" if match[1].startswith("macosx") else "linux", match[2]
        return "win32", _WINDOWS[self.platform]

    @property
    def here(self) -> bool:
        """Whether this process runs on such a system, with such a Python; perhaps with an older system library."""
        own = Target.of()
        return (self.system, self.python) == (own.system, own.python)

    def platforms(self) -> Iterator[str]:
        """The names of the platforms whose wheels run there, the nearest first. Of macOS pip itself knows the older ones."""
        match = _UNIX.fullmatch(self.platform)
        family, machine = match.groups() if match else ("", "")
        if family.startswith("musllinux"):
            yield from (f"musllinux_1_{minor}_{machine}" for minor in range(int(family.split("_")[2]), -1, -1))
        elif "linux" in family:
            older = {minor: name for name, minor in _GLIBC.items() if name != "linux"}
            for minor in range(_GLIBC.get(family) or int(family.split("_")[2]), 4, -1):
                yield f"manylinux_2_{minor}_{machine}"
                if minor in older:
                    yield f"{older[minor]}_{machine}"
            yield f"linux_{machine}"
        else:
            yield self.platform

    def options(self) -> list[str]:
        """What pip is told of it."""
        abi = next(iter(sys_tags())).abi if self.here else f"cp{self.python.replace('.', '')}"
        version = f"{self.python}.{sys.version_info.micro}" if self.here else self.python
        return [
            *("--implementation", "cp", "--python-version", version, "--abi", abi),
            *(option for name in self.platforms() for option in ("--platform", name)),
        ]

    def markers(self) -> dict[str, str]:
        """What the markers of requirements are compared with there (dependency specifiers of the Python packaging guide)."""
        found = {name: str(value) for name, value in default_environment().items()}
        if not self.here:
            system, machine = self.system
            found |= {"sys_platform": system, "platform_machine": machine, "platform_release": "", "platform_version": ""}
            found["os_name"], found["platform_system"] = _NAMES[system]
            found |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
            found |= {"python_version": self.python, "python_full_version": f"{self.python}.0"}
            found["implementation_version"] = found["python_full_version"]
        return found


def _this_platform() -> str:
    """This machine's name: where there are several, the one that says most, which is that of its system library."""
    names = list(platform_tags())
    return next((name for name in names if name.startswith(("manylinux_", "musllinux_"))), names[0])


# --------------------------------------------------------------------------------------------------------------- closure
def installed(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def closure(
    requirements: Sequence[str], markers: Mapping[str, str], find: Callable[[str], Distribution | None] = installed
) -> dict[str, Distribution]:
    """What requirements need, and all that needs, by name. Of a requirement its name and its extras count, no version.

    Raises:
        InputError: a requirement is none, or has no such extra; or ``find`` lacks something, which is named with who needs it.
    """
    found: dict[str, Distribution] = {}
    missing: dict[str, str] = {}
    try:
        queue = [(Requirement(text), "what is asked for") for text in requirements]
    except InvalidRequirement as error:
        raise InputError(f"{error}: expected the name of a package, such as archsearch or archsearch[onnx]") from error
    for requirement, _ in queue:
        known = find(canonicalize_name(requirement.name))
        offered = {canonicalize_name(each) for each in (known.metadata.get_all("Provides-Extra") or ())} if known else set()
        if known and (wrong := {canonicalize_name(each) for each in requirement.extras} - offered):
            raise InputError(f"{requirement.name} has no extra {min(wrong)!r}: expected one of {', '.join(sorted(offered))}")
    seen: set[tuple[str, str]] = set()
    while queue:
        requirement, needer = queue.pop()
        name = canonicalize_name(requirement.name)
        if (distribution := found.get(name) or find(name)) is None:
            missing.setdefault(name, needer)
            continue
        found[name] = distribution
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for needed in map(Requirement, distribution.requires or ()):
                if needed.marker is None or needed.marker.evaluate({**markers, "extra": extra}):
                    queue.append((needed, name))
    if missing:
        names = "; ".join(f"{name}, which {needer} needs" for name, needer in sorted(missing.items()))
        raise InputError(f"not there: {names}. Install it here (python -m pip install NAME), and try again.")
    return dict(sorted(found.items()))


def is_pure(distribution: Distribution) -> bool:
    """Whether it holds Python alone, so that one wheel is for all platforms."""
    return "Root-Is-Purelib: true" in (distribution.read_text("WHEEL") or "")


def files_digest(name: str, distribution: Distribution) -> str:
    """One SHA-256 of all files of an installation, as its RECORD has them; "" where it has none.

    The files are not read: another build under the same version is told, an edit in place is not. archsearch's own are read.
    """
    if name == OWN:
        return _digest(f"{path},{hashlib.sha256(data).hexdigest()}" for path, data in _own_files().items())
    lines = []
    for path, hash, *_ in csv.reader((distribution.read_text("RECORD") or "").splitlines()):
        place = PurePosixPath(path)
        of_installing = place.parent.suffix == ".dist-info" and place.name in _OF_INSTALLING
        if hash and not of_installing and place.suffix != ".pyc" and place.parts[0] not in ("..", "/"):
            lines.append(f"{path},{hash}")
    return _digest(lines) if lines else ""


def _digest(lines: Iterator[str] | list[str]) -> str:
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


# ------------------------------------------------------------------------------------------------------------- own wheel
def own_wheel() -> PackFile:
    """The wheel of the archsearch that runs, whether it is installed or runs from its sources: the same bytes each time.

    It is made of the files beside this one and of what is installed of its metadata: no index has them, and nothing is built.

    Raises:
        InputError: archsearch's metadata are not installed.
    """
    if (known := installed(OWN)) is None:
        raise InputError("archsearch is not installed here, it has no metadata: python -m pip install -e FOLDER-OF-ITS-SOURCES")
    info = f"archsearch-{known.version}.dist-info"
    files = dict(_own_files())
    files[f"{info}/METADATA"] = (known.read_text("METADATA") or known.read_text("PKG-INFO") or "").encode()
    files[f"{info}/WHEEL"] = _WHEEL
    files[f"{info}/entry_points.txt"] = (known.read_text("entry_points.txt") or "").encode()
    hashes = {path: base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=") for path, data in files.items()}
    lines = [f"{path},sha256={hashes[path].decode()},{len(data)}" for path, data in files.items()]
    files[f"{info}/RECORD"] = "".join(f"{line}\n" for line in [*lines, f"{info}/RECORD,,"]).encode()
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:  # compressed, the bytes would be zlib's, of a version
        for path, data in files.items():
            member = zipfile.ZipInfo(path, _DATE)
            member.create_system, member.external_attr = 3, 0o100644 << 16
            archive.writestr(member, data)
    return PackFile(
        f"wheels/archsearch-{known.version}-py3-none-any.whl", packed.getvalue(), "the archsearch that packed", known.version
    )


def _own_files() -> dict[str, bytes]:
    """Path in a wheel and content of each file of this archsearch."""
    root = Path(archsearch.__file__).resolve().parent
    paths = (path.relative_to(root) for path in sorted(root.rglob("*")) if path.is_file())
    kept = (path for path in paths if not any(part.startswith(".") or part == "__pycache__" for part in path.parts))
    return {f"archsearch/{path.as_posix()}": (root / path).read_bytes() for path in kept}
