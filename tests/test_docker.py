"""docker/: linted, nothing forgotten, and the install script itself in a Debian that has nothing else."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import yaml

from archsearch.cluster.ray_environment import NO_METRICS

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DOCKERFILE = ROOT / "docker" / "Dockerfile"


def run(*command: object, **options) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def test_the_image_and_the_scripts_are_linted():
    run(BIN / "hadolint", "--failure-threshold", "style", DOCKERFILE)
    run(BIN / "shellcheck", "--enable=require-variable-braces", "--exclude=SC2250", *(ROOT / "docker").glob("*.sh"))
    run(BIN / "shellcheck", *(ROOT / "confs" / "cluster").glob("*.sh"))


def test_the_image_holds_what_it_needs_and_no_secret():
    text = DOCKERFILE.read_text()
    kept = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in re.findall(r"^COPY (\S+) ", text, re.MULTILINE):
        assert (ROOT / source).exists() and source.split("/")[0] in kept, source
    assert {"device", "cuda", "node"} <= set(re.findall(r"^FROM base AS (\w+)", text, re.MULTILINE))
    assert re.search(r"^USER [1-9]\d*$", text, re.MULTILINE), "a number: Kubernetes' runAsNonRoot believes no name"
    assert all(f"{name}={value}" in text for name, value in NO_METRICS.items())
    assert "RAY_AUTH_MODE=token" in text and not re.search(
        r"RAY_AUTH_TOKEN=|^(ENV|ARG) .*(SECRET|PASSWORD)", text, re.MULTILINE
    )


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("debootstrap"), reason="needs root and debootstrap")
def test_the_install_script_in_a_clean_debian():
    """A search by the image's user, in a root that held Debian's minimum and certificates before."""
    with tempfile.TemporaryDirectory(prefix="archsearch-root-") as place:
        root = Path(place)
        root.chmod(0o755)  # the image's user is to get in
        run("debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", root)
        for file in ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt"):
            shutil.copy(file, root / file[1:])
        links = os.environ.get("PIP_FIND_LINKS", "")  # where this machine keeps its build of torch for CPUs, if it does
        if links.startswith("/"):
            shutil.copytree(links, root / links[1:])
        for name in ("archsearch", "docker", "pyproject.toml", "README.md"):
            source, target = ROOT / name, root / "src" / name
            target.parent.mkdir(exist_ok=True)
            shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)

        def inside(*command: str, user: str = "0:0", home: str = "/root") -> str:
            # Mounts and processes of their own: none is left, whatever happens.
            isolated = ["unshare", "--mount", "--pid", "--fork", f"--mount-proc={root}/proc", "chroot", f"--userspec={user}"]
            mine = {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
            path = "/opt/archsearch/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            return run(*isolated, root, "/bin/sh", "-c", " ".join(command), env={**mine, "PATH": path, "HOME": home})

        inside("/src/docker/install.sh", "system", "user", "dependencies", "package")
        size = int(run("du", "-sm", root / "opt" / "archsearch").split()[0])
        config = {"data": {"name": "digits", "max_train": 200}, "search": {"max_hull_points": 2}, "seed_train": {"epochs": 1}}
        (root / "home" / "archsearch" / "small.yaml").write_text(yaml.safe_dump(config))
        as_user = {"user": "1000:1000", "home": "/home/archsearch"}
        out = inside("cd ~ && archsearch search small.yaml --executor inline --json", **as_user)
        assert json.loads(out)["state"] == "done"
        refused = inside("RAY_AUTH_MODE=token timeout 60 ray start --head --block 2>&1 || true", **as_user)
        assert "no authentication token was found" in refused  # as the environment of the image has it
    print(f"/opt/archsearch: {size} MB")
