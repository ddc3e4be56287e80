"""A real PostgreSQL server for tests: on a free loopback port, with a password, run by an unprivileged user."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

PASSWORD = "pw-4711-secret"


def binaries() -> Path | None:
    """Where Debian, or the path, has the server's programs."""
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if found := shutil.which("initdb"):
        places.append(Path(found).resolve().parent)
    return next((place for place in places if (place / "initdb").exists() and (place / "pg_ctl").exists()), None)


class PostgresServer:
    """``url`` has the password in it. ``stop`` and ``start`` may be called again and again."""

    def __init__(self, bin: Path, folder: Path) -> None:
        self.bin, self.folder = bin, folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        (folder / "password").write_text(PASSWORD)
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        access = ["-U", "arch", "-A", "scram-sha-256", "--pwfile", "password"]
        self._do("initdb", "-D", "data", *access, "--no-sync", "-E", "UTF8", "--locale=C")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://arch:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    def start(self) -> None:
        options = f"-p {self.port} -h 127.0.0.1 -k {self.folder} -c fsync=off"
        self._do("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        """At once: clients lose their connections, as after a power failure."""
        self._do("pg_ctl", "-D", "data", "-w", "-m", "immediate", "stop")

    def kill_backends(self) -> int:
        """SIGKILL to each process that serves a client: the server then restarts all of itself. How many there were."""
        master = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        children = Path(f"/proc/{master}/task/{master}/children").read_text().split()
        serving = [int(pid) for pid in children if b"127.0.0.1" in Path(f"/proc/{pid}/cmdline").read_bytes()]
        for pid in serving:
            os.kill(pid, signal.SIGKILL)
        return len(serving)

    def wait(self) -> None:
        """Until it lets clients in again."""
        for _ in range(100):
            try:
                return psycopg.connect(self.url).close()
            except psycopg.OperationalError:
                time.sleep(0.1)
        raise AssertionError("the server did not come back")

    def _do(self, program: str, *arguments: str) -> None:
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        subprocess.run([self.bin / program, *arguments], cwd=self.folder, check=True, stdout=subprocess.DEVNULL, **user)


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    place = binaries()
    if place is None:
        pytest.skip("PostgreSQL's programs (initdb, pg_ctl) are not installed: apt-get install postgresql")
    with tempfile.TemporaryDirectory(prefix="archsearch-pg-") as folder:
        server = PostgresServer(place, Path(folder))
        try:
            yield server
        finally:
            if (server.folder / "data" / "postmaster.pid").exists():
                server.stop()
