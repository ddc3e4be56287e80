"""A board behind SSH: a real sshd on loopback, whose sessions end as those of a board do that loses its power."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from listed_run import until
from real_head import free_ports

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"

needs_ssh = pytest.mark.skipif(
    os.geteuid() != 0 or not Path(SSHD).exists() or not shutil.which("ssh"), reason="needs OpenSSH, and root for its server"
)


def key(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


class Board:
    """An sshd on loopback; ``settings`` is how a configuration names it."""

    def __init__(self, folder: Path, pythonpath: str) -> None:
        self.folder = folder
        (self.port,) = free_ports(1)
        host, self.mine = key(folder / "host"), key(folder / "mine")
        public = host.with_suffix(".pub").read_text().split()
        self.known = folder / "known"
        self.known.write_text(f"[127.0.0.1]:{self.port} {public[0]} {public[1]}\n")
        (folder / "allowed").write_text(self.mine.with_suffix(".pub").read_text())
        self.config = folder / "config"
        path = os.pathsep.join([pythonpath, str(Path(__file__).parents[2])])
        lines = [f"Port {self.port}", "ListenAddress 127.0.0.1", f"HostKey {host}", f"AuthorizedKeysFile {folder}/allowed"]
        lines += ["UsePAM no", "StrictModes no", "PidFile none", f'SetEnv PYTHONPATH="{path}"']
        self.config.write_text("\n".join(lines) + "\n")
        self.server: subprocess.Popen | None = None

    def start(self) -> None:
        Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "log").open("a") as log:
            self.server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(self.config)], stdout=log, stderr=log)
        until(self._listens, timeout=20)

    def _listens(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        """The server and its connections: as when a board loses its power."""
        if self.server is not None:
            for process in [*self.connections(), psutil.Process(self.server.pid)]:
                process.kill()
            self.server.wait()
            self.server = None

    def connections(self) -> list[psutil.Process]:
        children = psutil.Process(self.server.pid).children(recursive=True)
        return [process for process in children if process.name().startswith("sshd")]

    def settings(self, **changes):
        about = {"runner": "ssh", "host": "root@127.0.0.1", "port": self.port, "python": sys.executable}
        return {**about, "identity": str(self.mine), "known_hosts": str(self.known), **changes}

    def script(self, text: str) -> str:
        """An interpreter that is none."""
        path = self.folder / "python"
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return str(path)
