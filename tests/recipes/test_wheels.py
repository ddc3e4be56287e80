"""What a pack holds of Python: the closure for a platform, wheels and their hashes, and locks that tell what differs.

The packages are made here and served by an index on loopback (`loopback_index`); pip is real.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from platform import libc_ver, machine

import pytest
from loopback_index import served, source_archive, wheel

import archsearch
from archsearch.jobs import InputError
from archsearch.recipes.archives import Archive, build
from archsearch.recipes.closure import Target, closure, own_wheel
from archsearch.recipes.pack import unpack, write_pack
from archsearch.recipes.wheels import LOCK, clean_environment, environment, locked, wheels

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
CP = f"cp{PYTHON.replace('.', '')}"
#: A platform that is not this one.
OTHER = "aarch64" if machine() != "aarch64" else "x86_64"
PI = f"manylinux_2_28_{OTHER}"


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where demo-a, -b and -c are installed: a needs b everywhere, c as an extra, and what is nowhere on Windows."""
    folder = tmp_path / "site"
    needs = ("demo_B>=2", "demo-c; extra == 'fast'", "demo-win; sys_platform == 'win32'")
    for payload in (wheel("demo-a", "1.0", *needs), wheel("demo-b", "2.0+cpu", pure=False), wheel("demo-c", "3.0")):
        zipfile.ZipFile(io.BytesIO(payload)).extractall(folder)
    monkeypatch.syspath_prepend(str(folder))
    return folder


@pytest.fixture
def index(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, bytes]]:
    """The only index that pip is configured for: the files that are put into it."""
    files = {
        "demo_a-1.0-py3-none-any.whl": wheel("demo-a", "1.0", "demo-b>=2"),
        "demo_a-1.1-py3-none-any.whl": wheel("demo-a", "1.1", "demo-b>=2"),
        f"demo_b-2.0+cpu-{CP}-{CP}-manylinux_2_28_{machine()}.whl": wheel("demo-b", "2.0+cpu", pure=False),
        "demo_c-3.0.tar.gz": source_archive("py3-none-any"),
    }
    for platform in (f"manylinux_2_17_{OTHER}.manylinux2014_{OTHER}", f"manylinux_2_34_{OTHER}"):
        files[f"demo_b-2.0-{CP}-{CP}-{platform}.whl"] = wheel("demo-b", "2.0", pure=False) + platform.encode()
    with served(files) as address:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        for name, value in {"INDEX_URL": address, "CONFIG_FILE": os.devnull, "NO_CACHE_DIR": "1", "RETRIES": "0"}.items():
            monkeypatch.setenv(f"PIP_{name}", value)
        yield files


# ------------------------------------------------------------------------------------------------------ closure, own wheel
def test_the_closure_is_that_of_the_target(site: Path) -> None:
    linux, windows = Target.of(PI, PYTHON).markers(), Target.of("win_amd64", "3.12").markers()
    assert [*closure(["Demo_A"], linux)] == ["demo-a", "demo-b"]
    assert [*closure(["demo-a[fast]"], linux)] == ["demo-a", "demo-b", "demo-c"]
    with pytest.raises(InputError, match="demo-win, which demo-a needs"):
        closure(["demo-a"], windows)
    with pytest.raises(InputError, match="no extra 'slow': expected one of fast"):
        closure(["demo-a[slow]"], linux)
    whole = closure(["archsearch"], Target.of().markers())
    assert {"archsearch", "torch", "ray", "aiohttp", "numpy", "tensorwatch", "pydotz"} <= {*whole}  # aiohttp by ray[default]
    assert not {"pytest", "ruff", "onnx"} & {*whole}


def test_a_platform_takes_the_wheels_of_older_ones() -> None:
    names = [*Target.of("manylinux_2_18_x86_64", "3.11").platforms()]
    assert names[:3] == ["manylinux_2_18_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert names[-3:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    assert next(Target.of(f"linux_{OTHER}").platforms()) == PI
    assert [*Target.of("musllinux_1_1_x86_64").platforms()] == ["musllinux_1_1_x86_64", "musllinux_1_0_x86_64"]
    if libc_ver()[0] == "glibc":  # the name that says most
        assert Target.of().platform == f"manylinux_{libc_ver()[1].replace('.', '_')}_{machine()}"
    for wrong in ({"platform": "raspberry"}, {"platform": "linux_x86_64; rm"}, {"python": "2.7"}, {"python": "3.11.2"}):
        with pytest.raises(InputError, match="expected one such as"):
            Target.of(**wrong)


def test_its_own_wheel_is_the_same_from_sources_and_installed(tmp_path: Path) -> None:
    """Whoever installs the wheel and packs again packs the same wheel; and it holds what the package holds, no more."""
    own = own_wheel()
    assert isinstance(own.content, bytes) and own_wheel() == own
    assert own.path == f"wheels/archsearch-{version('archsearch')}-py3-none-any.whl"
    with zipfile.ZipFile(io.BytesIO(own.content)) as archive:
        archive.extractall(tmp_path / "site")
        root = Path(archsearch.__file__).parent
        sources = {path for path in root.rglob("*") if path.suffix in (".py", ".yaml", ".html", ".typed")}
        assert {name: archive.read(name) for name in archive.namelist() if not name.startswith("archsearch-")} == {
            f"archsearch/{path.relative_to(root)}": path.read_bytes() for path in sources
        }
    (tmp_path / "site/archsearch/__pycache__").mkdir()
    (tmp_path / "site/archsearch/__pycache__/jobs.pyc").write_bytes(b"x")
    code = "import sys; from archsearch.recipes.closure import own_wheel; sys.stdout.buffer.write(own_wheel().content)"
    env = clean_environment() | {"PYTHONPATH": str(tmp_path / "site")}
    again = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, cwd=tmp_path, env=env)
    assert hashlib.sha256(again.stdout).digest() == hashlib.sha256(own.content).digest()


# ------------------------------------------------------------------------------------------------------------------ index
def test_wheels_of_another_platform_and_no_secret(site: Path, index: dict[str, bytes], tmp_path: Path) -> None:
    told: list[str] = []
    found = wheels(PI, PYTHON, tmp_path / "wheels", ["demo-a[fast]"], progress=told.append)
    names = [Path(file.path).name for file in found[1:]]
    older = f"demo_b-2.0-{CP}-{CP}-manylinux_2_17_{OTHER}.manylinux2014_{OTHER}.whl"
    assert names == ["demo_a-1.0-py3-none-any.whl", older, "demo_c-3.0-py3-none-any.whl"]
    assert found[0] == own_wheel()
    assert (tmp_path / "wheels" / older).read_bytes() == index[older]
    assert any(line.startswith("fetching demo-b==2.0 (2 of 2)") for line in told)
    assert [file.source for file in found[1:]] == [
        "http://127.0.0.1/.../demo_a-1.0-py3-none-any.whl",
        f"http://127.0.0.1/.../{older}",
        "built here of http://127.0.0.1/.../demo_c-3.0.tar.gz",
    ]
    lock = locked(["demo-a[fast]"], wheels=found, platform=PI, python=PYTHON)
    assert isinstance(lock.content, bytes)
    assert f"demo-b==2.0 --hash=sha256:{hashlib.sha256(index[older]).hexdigest()}\n" in lock.content.decode()
    write_pack(tmp_path / "pack", [*found, lock])
    written = (tmp_path / "pack/manifest.json").read_text() + lock.content.decode()
    assert not re.search("secret|T0KEN|user", written)

    alone = locked(["demo-a"], platform=PI, python=PYTHON)  # what the index says, without the wheels
    assert isinstance(alone.content, bytes) and "# wheels: archsearch\n" in alone.content.decode()
    pins = [line for line in lock.content.decode().splitlines() if "==" in line and "demo-c" not in line]
    assert [line for line in alone.content.decode().splitlines() if "==" in line] == pins
    with pytest.raises(InputError, match="no wheel was given of demo-b"):
        locked(["demo-a"], wheels=found[:2], platform=PI, python=PYTHON)

    unpack(tmp_path / "pack", tmp_path / "unpacked")
    with pytest.raises(InputError, match=f"the pack is for {PI}, this machine is"):
        environment(tmp_path / "unpacked", tmp_path / "env")
    assert not (tmp_path / "env").exists()


def test_what_cannot_be_had_is_named_and_nothing_written(site: Path, index: dict[str, bytes], tmp_path: Path) -> None:
    whole = dict(index)

    def refused(match: str) -> None:
        with pytest.raises(InputError, match=match):
            wheels(PI, PYTHON, tmp_path / "wheels", ["demo-a"])
        assert not (tmp_path / "wheels").exists() or not [*(tmp_path / "wheels").iterdir()]

    for name in whole:
        if name.startswith("demo_a-1.0") or (name.startswith("demo_b") and "2_17" in name):
            del index[name]
    refused(rf"no index has a wheel for {PI} with Python {PYTHON} of: demo-(a 1.0, demo-b 2.0|b 2.0, demo-a 1.0)\.")
    index.update(whole)
    index["x/demo_a-1.0-py3-none-any.whl"] = wheel("demo-a", "1.0", "demo-b>=2", "demo-evil")
    refused("DO NOT MATCH THE HASHES")
    del index["x/demo_a-1.0-py3-none-any.whl"]
    index["demo_a-1.0-py3-none-any.whl"] = wheel("demo-a", "1.0", "demo-b>=2", "demo-new")
    refused("not there: demo-new, which demo-a needs")


@pytest.mark.soak
def test_what_is_built_must_be_for_every_platform(index: dict[str, bytes], tmp_path: Path) -> None:
    index["demo_c-3.0.tar.gz"] = source_archive("py3-none-linux_x86_64")
    sources = Archive("3.0", hashlib.sha256(index["demo_c-3.0.tar.gz"]).hexdigest(), "http://127.0.0.1/demo_c-3.0.tar.gz")
    with pytest.raises(InputError, match="wheel of demo-c, and what can be built is for this machine alone"):
        build({"demo-c": sources}, tmp_path / "built", None)


@pytest.mark.usefixtures("site", "index")
def test_an_index_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://user:secret@127.0.0.1:9/simple/")
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(InputError, match="Check the network") as caught:
        locked(["demo-a"], platform=PI)
    assert "secret" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------------------- lock
def test_a_lock_tells_what_differs(site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = locked(["demo-a[fast]"], index=False)
    assert isinstance(lock.content, bytes)
    place = tmp_path / LOCK
    place.parent.mkdir()

    def check(text: bytes) -> Path:
        place.write_bytes(text)
        return environment(tmp_path, tmp_path / "env")

    assert check(lock.content) == Path(sys.executable) and not (tmp_path / "env").exists()
    assert lock == locked(["demo-a[fast]"], index=False)
    record = site / "demo_a-1.0.dist-info/RECORD"
    # Who installed it is no difference.
    record.write_text(record.read_text().replace("INSTALLER,sha256=x", "INSTALLER,sha256=y"))
    assert check(lock.content)
    record.write_text(record.read_text().replace("abc", "abd"))
    about = site / "demo_b-2.0+cpu.dist-info/METADATA"
    about.write_text(about.read_text().replace("2.0+cpu", "2.1"))
    (site / "demo_c-3.0.dist-info/METADATA").unlink()
    os.rename(site / "demo_c-3.0.dist-info", site / "gone")
    with pytest.raises(InputError) as caught:
        check(lock.content)
    assert "demo-a 1.0 has other files" in str(caught.value)
    assert "demo-b is 2.1, locked 2.0+cpu; demo-c 3.0 is not installed" in str(caught.value)
    assert "archsearch" not in str(caught.value).split("In the unpacked")[0].split(":", 1)[1]

    lines = lock.content.decode().splitlines()
    own = next(line for line in lines if line.startswith("archsearch=="))
    with pytest.raises(InputError, match=r"archsearch \S+ has other files"):
        check(lock.content.replace(own.encode(), (own[:-64] + "0" * 64).encode()))
    for old, new, match in (
        (f"# python: {PYTHON}", "# python: 3.99", f"for Python 3.99, this is {PYTHON}"),
        (lines[1], "# platform: win_arm64", "for win_arm64, this machine is"),
        ("--find-links ../wheels", "--index-url http://127.0.0.1/", "not as archsearch writes a lock"),
        ("demo-a==1.0", "demo-a @ file:///x", "not as archsearch writes a lock"),
        ("# platform", "# machine", "is no lock of archsearch"),
    ):
        assert old in lock.content.decode()
        with pytest.raises(InputError, match=match):
            check(lock.content.replace(old.encode(), new.encode()))
    place.unlink()
    with pytest.raises(InputError, match="Expected the folder of an unpacked pack"):
        environment(tmp_path, tmp_path / "env")
