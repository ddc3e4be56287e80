"""Environments restored from a pack's wheels in a process without network: of real packages, from the indexes that pip is
configured for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

import archsearch
from archsearch.jobs import InputError
from archsearch.recipes.closure import own_wheel
from archsearch.recipes.pack import PackFile, check_pack, unpack, write_pack
from archsearch.recipes.wheels import LOCK, clean_environment, environment, locked, wheels

#: Two packages of Python and C, and what they need.
SMALL = ("jinja2", "pyyaml", "packaging")

RESTORE = "import sys; from pathlib import Path; from archsearch.recipes.wheels import environment; " \
    "print(environment(Path(sys.argv[1]), Path(sys.argv[2])))"  # fmt: skip
LIST = "import json, sys; from importlib.metadata import distributions as d; " \
    "print(json.dumps([sorted(x.metadata['Name'].lower() for x in d()), sys.path]))"  # fmt: skip


def fetched(folder: Path, requirements: tuple[str, ...]) -> list[PackFile]:
    """The wheels for this machine from the indexes that pip is configured for here."""
    try:
        return wheels(None, None, folder, requirements)
    except InputError as error:
        if "Check the network" in str(error):
            pytest.skip(f"pip's indexes cannot be reached from here: {error}")
        raise


def restored_without_network(pack: Path, place: Path, hostile: dict[str, str]) -> Path:
    """The interpreter that ``environment`` gives in a process that has no network at all."""
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("unshare --net needs rights that are not there")
    unpack(pack, place / "unpacked")
    script = f"cat /proc/net/dev >&2; exec {sys.executable} -c '{RESTORE}' {place}/unpacked {place}/env"
    source = str(Path(archsearch.__file__).parents[1])
    env = {**os.environ, **hostile, "PYTHONPATH": os.pathsep.join([source, *filter(None, [hostile.get("PYTHONPATH")])])}
    done = subprocess.run(
        ["unshare", "--net", "sh", "-c", script], capture_output=True, text=True, timeout=900, env=env, cwd=place
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^ *(\w+):", done.stderr, re.MULTILINE) in ([], ["lo"]), done.stderr  # no way out of there
    return Path(done.stdout.strip())


def test_an_environment_restored_without_network(tmp_path: Path) -> None:
    """Real packages of the real index; what else Python and pip would listen to says something else."""
    found = fetched(tmp_path / "wheels", SMALL)
    lock = locked(SMALL, wheels=found)
    write_pack(tmp_path / "pack.tar", [*found, lock])
    info = tmp_path / "bad" / f"PyYAML-{version('pyyaml')}.dist-info"  # whoever listens to PYTHONPATH takes it for installed
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: PyYAML\nVersion: {version('pyyaml')}\n")
    (tmp_path / "pip.conf").write_text("[global]\ntarget = /nonexistent/pip-target\n")
    (tmp_path / "pip.py").write_text("raise SystemExit('the current folder was listened to')")
    hostile = {
        "PYTHONPATH": str(tmp_path / "bad"),
        "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"),
        "PIP_PREFIX": "/nonexistent",
    }
    python = restored_without_network(tmp_path / "pack.tar", tmp_path, hostile)
    assert python.is_relative_to(tmp_path / "env")

    listed = subprocess.run([python, "-I", "-c", LIST], capture_output=True, text=True, check=True, env=clean_environment())
    names, path = json.loads(listed.stdout)
    assert names == ["archsearch", "jinja2", "markupsafe", "packaging", "pyyaml"]
    assert all("site-packages" not in each or str(tmp_path) in each for each in path)
    code = "import yaml, markupsafe._speedups, jinja2, archsearch.jobs; print(yaml.safe_load('a: 1'), archsearch.jobs.__file__)"
    said = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    assert said.startswith("{'a': 1}") and str(tmp_path / "env") in said
    with pytest.raises(InputError, match="exists already"):
        environment(tmp_path / "unpacked", tmp_path / "env")

    wheel = next((tmp_path / "unpacked/wheels").glob("pyyaml*"))
    wheel.write_bytes(wheel.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="DO NOT MATCH THE HASHES"):
        environment(tmp_path / "unpacked", tmp_path / "env2")
    wheel.unlink()
    (tmp_path / "unpacked/wheels" / "pyyaml-6-cp311-cp311-win_arm64.whl").touch()
    with pytest.raises(InputError, match="cannot run pyyaml-6"):
        environment(tmp_path / "unpacked", tmp_path / "env2")
    assert not (tmp_path / "env2").exists()


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_all_that_archsearch_needs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The complete closure: hundreds of megabytes, from the index into an environment that runs, with the network off."""
    began = time.monotonic()
    found = fetched(tmp_path / "wheels", ("archsearch",))
    seconds = {"wheels": time.monotonic() - began}
    write_pack(tmp_path / "pack", [*found, locked(wheels=found)])
    pack = check_pack(tmp_path / "pack")
    began = time.monotonic()
    python = restored_without_network(tmp_path / "pack", tmp_path, {})
    seconds["restored"] = time.monotonic() - began
    size = sum(entry.size for entry in pack.files.values())
    with capsys.disabled():
        print(f"\n{len(found)} wheels, {size / 1e6:.0f} MB; {seconds}")
    # pip takes the lock itself, too, and finds that it lacks nothing.
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--no-index", "--require-hashes"]
    taken = subprocess.run([*command, "-r", tmp_path / "unpacked" / LOCK], capture_output=True, text=True)
    assert taken.returncode == 0, taken.stderr
    code = "import ray, torch, tensorwatch, sklearn, archsearch.cli; from archsearch.recipes.wheels import own_wheel as own; "
    code += "print(own().path)"
    said = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, env=clean_environment(), cwd=tmp_path)
    assert said.returncode == 0 and said.stdout.strip() == own_wheel().path, said.stderr
