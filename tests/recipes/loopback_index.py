"""An index of packages on loopback, which asks for a password and has a token in its addresses, as companies' indexes do;
and packages for it."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

BACKEND = """
import zipfile
def build_wheel(folder, settings=None, metadata=None):
    with zipfile.ZipFile(f"{folder}/demo_c-3.0-TAG.whl", "w") as wheel:
        wheel.writestr("demo_c.py", "")
        wheel.writestr("demo_c-3.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: demo-c\\nVersion: 3.0\\n")
        wheel.writestr("demo_c-3.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: TAG\\n")
        wheel.writestr("demo_c-3.0.dist-info/RECORD", "")
    return "demo_c-3.0-TAG.whl"
"""


def wheel(name: str, version: str, *needs: str, pure: bool = True) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        info = f"{name.replace('-', '_')}-{version}.dist-info"
        archive.writestr(f"{name.replace('-', '_')}.py", f"version = {version!r}\n")
        about = [f"Name: {name}", f"Version: {version}", "Provides-Extra: fast", *(f"Requires-Dist: {need}" for need in needs)]
        archive.writestr(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", *about, ""]))
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: {str(pure).lower()}\nTag: py3-none-any\n")
        archive.writestr(
            f"{info}/RECORD", f"{name.replace('-', '_')}.py,sha256=abc,{len(version)}\n{info}/INSTALLER,sha256=x,1\n"
        )
    return file.getvalue()


def source_archive(tag: str) -> bytes:
    """demo-c as sources, whose build needs nothing from anywhere."""
    file = io.BytesIO()
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    with tarfile.open(fileobj=file, mode="w:gz") as tar:
        for path, text in (
            ("pyproject.toml", project),
            ("backend.py", BACKEND.replace("TAG", tag)),
            ("PKG-INFO", "Name: demo-c\n"),
        ):
            member = tarfile.TarInfo(f"demo_c-3.0/{path}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return file.getvalue()


@contextmanager
def served(files: dict[str, bytes]) -> Iterator[str]:
    """The index's address, secrets and all. What is named "x/FILE" is sent instead of the file, under the file's hash."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.strip("/").split("/")
            wanted = f"Basic {base64.b64encode(b'user:secret').decode()}"
            if self.headers["Authorization"] != wanted or parts[0] != "T0KEN":
                self.send_response(401)
                self.send_header("WWW-Authenticate", "Basic")
                self.end_headers()
                return
            if parts[1] == "simple":
                names = [name for name in files if re.sub(r"-\d.*", "", name).replace("_", "-") == parts[2]]
                hashes = [hashlib.sha256(files[name]).hexdigest() for name in names]
                rows = [f'<a href="/T0KEN/files/{n}#sha256={h}">{n}</a>' for n, h in zip(names, hashes, strict=True)]
                body = f"<!DOCTYPE html><html><body>{''.join(rows)}</body></html>".encode()
            else:
                name = parts[2].replace("%2B", "+")
                body = files.get(f"x/{name}", files[name])
            self.send_response(200)
            self.send_header("Content-Type", "text/html" if parts[1] == "simple" else "application/octet-stream")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://user:secret@127.0.0.1:{server.server_port}/T0KEN/simple/"
    finally:
        server.shutdown()
        server.server_close()
