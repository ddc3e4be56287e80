"""One run as one ZIP file: what ``archsearch runs export`` packs."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import uuid
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from archsearch import api
from archsearch.jobs import InputError, StoreUnavailable
from archsearch.store import Artifacts, RunFolder, canonical, read_run
from archsearch.store.durable import TEMPORARY, make_folders, sync_folder

#: Of the run's description: not the paths and variables of the machine that it ran on.
DESCRIPTION = ("id", "name", "created", "seed", "dataset", "versions")


def export_run(path: Path, target: Path) -> dict[str, Any]:
    """Write the archive whole, or not at all; one of that name is replaced. Reads the run, also beside its driver.

    Returns:
        What ``manifest.json`` says: the run's name and id, counts, and of each file its SHA-256 and size.

    Raises:
        InputError: no run is there, or the target is not a ZIP file's name.
        StoreDamaged: a byte of the run is not what was written.
        StoreUnavailable: the archive cannot be written.
    """
    target = target.expanduser().absolute()
    if target.suffix.lower() != ".zip" or target.is_dir():
        raise InputError(f"-o {target}: the archive is a ZIP file; give a name that ends in .zip")
    run = api.load_run(path)
    temporary = target.with_name(f"{TEMPORARY}{uuid.uuid4().hex}")
    manifest: dict[str, Any] = {
        "format": "archsearch run 1",
        "run": run.meta["name"],
        "id": run.meta["id"],
        "points": len(run.points()),
        "weights": 0,
        "files": {},
    }
    try:
        make_folders(target.parent)
        with temporary.open("xb") as file:
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, payload in _files(run):
                    _add(archive, name, payload)
                    manifest["files"][name] = {"sha256": hashlib.sha256(payload).hexdigest(), "size": len(payload)}
                    manifest["weights"] += name.startswith("weights/")
                _add(archive, "manifest.json", _json(manifest))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except OSError as error:
        raise StoreUnavailable(f"{target} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()
    return manifest


def _files(run: api.Run) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file, one in memory at a time."""
    stored = read_run(run.path)
    yield "config.yaml", str(run.meta["config"]).encode()
    yield "run.json", _json({key: run.meta[key] for key in DESCRIPTION if key in run.meta})
    yield "summary.json", _json({**run.summary(), "run": run.meta["name"]})
    events = [event for event in stored.events if event.number <= run.state.last_number]  # a living run may have gone on
    lines = [
        {"number": event.number, "time": event.time, "kind": str(event.kind), "job": event.job, "data": event.data}
        for event in events
    ]
    yield "events.jsonl", "".join(f"{canonical(line)}\n" for line in lines).encode()
    points = {point.id: point for point in run.points()}
    if not points:
        return
    with tempfile.TemporaryDirectory() as place:
        found = api.evaluations_in(run.folder)
        written = api.write_run_report(Path(place), run.state, run.config, run.meta, run.session, evaluations=found)
        for each in found:
            if "models" in each:  # it can be read
                folder = Path(place) / "evaluations" / each["name"]
                written += api.Evaluation(RunFolder.at(run.folder.evaluations / each["name"])).report(folder)
        for file in sorted(written):
            yield file.relative_to(place).as_posix(), file.read_bytes()
    if run.meta.get("simulated"):  # its networks were never trained
        return
    artifacts = Artifacts(api.artifacts_root(run.config, run.folder))
    for entry in run.frontier():
        weights = points[entry["id"]].weights
        if weights is not None:
            yield f"weights/{entry['id']}{os.path.splitext(weights.key)[1]}", artifacts.load(weights)


def _add(archive: zipfile.ZipFile, name: str, payload: bytes) -> None:
    """One member, dated 1980, so that the same run packs to the same bytes. Weights hardly shrink: they are only stored."""
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o644 << 16
    archive.writestr(info, payload, zipfile.ZIP_STORED if name.startswith("weights/") else zipfile.ZIP_DEFLATED)


def _json(data: Any) -> bytes:
    return (json.dumps(data, indent=2) + "\n").encode()
