"""Artifacts are written whole and read back checked, on a local disk and elsewhere; nothing leads out of their root."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from archsearch.jobs import ArtifactRef, InputError, StoreDamaged, StoreUnavailable
from archsearch.store import Artifacts


@pytest.fixture(params=["local", "memory"])
def artifacts(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Artifacts]:
    if request.param == "local":
        yield Artifacts(tmp_path / "run")
    else:
        yield Artifacts("memory://bucket/run")
        fsspec.filesystem("memory").store.clear()


def tamper(artifacts: Artifacts, key: str, data: bytes | None) -> None:
    fs, root = fsspec.core.url_to_fs(artifacts.url)
    if data is None:
        fs.rm_file(f"{root}/{key}")
    else:
        fs.pipe_file(f"{root}/{key}", data)


def test_saved_bytes_come_back_and_keys_say_what_they_are(artifacts: Artifacts) -> None:
    payload = random.Random(1).randbytes(5000)
    ref = artifacts.save(12, 3, "weights.safetensors", payload)
    assert ref.key == f"artifacts/000012/3/weights-{ref.sha256[:16]}.safetensors" and ref.size == 5000
    assert artifacts.load(ref) == payload
    assert Artifacts(artifacts.url).load(ArtifactRef.from_json(ref.to_json())) == payload  # as a worker finds it
    assert artifacts.save(12, 3, "weights.safetensors", payload) == ref  # an attempt may repeat itself
    assert artifacts.save(1234567, 1, "curve", b"").key == "artifacts/1234567/1/curve-e3b0c44298fc1c14.bin"


@pytest.mark.parametrize("damage", ["flip", "cut", "longer", "missing"])
def test_damage_is_named_by_its_key(artifacts: Artifacts, damage: str) -> None:
    payload = random.Random(2).randbytes(300)
    ref = artifacts.save(1, 1, "weights", payload)
    for at in (0, 150, 299):
        flipped = bytearray(payload)
        flipped[at] ^= 4
        data = {"flip": bytes(flipped), "cut": payload[:at], "longer": payload + b"\0", "missing": None}[damage]
        tamper(artifacts, ref.key, data)
        with pytest.raises(StoreDamaged, match=ref.key):
            artifacts.load(ref)
        tamper(artifacts, ref.key, payload)
    assert artifacts.load(ref) == payload


def test_a_torn_artifact_is_written_again(artifacts: Artifacts) -> None:
    ref = artifacts.save(1, 1, "weights", b"all of it")
    tamper(artifacts, ref.key, b"all")
    assert artifacts.load(artifacts.save(1, 1, "weights", b"all of it")) == b"all of it"


@pytest.mark.parametrize(
    "key",
    [
        "/etc/passwd",
        "artifacts/../run.db",
        "../x",
        "artifacts//x",
        "artifacts/./x",
        "run.db",
        "",
        "artifacts/..",
        "artifacts/a\\b",
    ],
)
def test_keys_that_leave_the_artifacts_are_refused(artifacts: Artifacts, key: str) -> None:
    with pytest.raises(InputError, match="key"):
        artifacts.load(ArtifactRef(key, "0" * 64, 1))


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "-x", "a b", "a\n"])
def test_names_that_are_not_one_file_are_refused(artifacts: Artifacts, name: str) -> None:
    with pytest.raises(InputError, match="artifact name"):
        artifacts.save(1, 1, name, b"")


def test_symbolic_links_are_not_followed(tmp_path: Path) -> None:
    artifacts, outside = Artifacts(tmp_path / "run"), tmp_path / "outside"
    outside.mkdir()
    ref = artifacts.save(1, 1, "weights", b"payload")
    path = tmp_path / "run" / ref.key
    path.rename(outside / path.name)
    path.symlink_to(outside / path.name)
    with pytest.raises(InputError, match="symbolic link"):
        artifacts.load(ref)
    (tmp_path / "run" / "artifacts" / "000002").symlink_to(outside)
    with pytest.raises(InputError, match="symbolic link"):
        artifacts.save(2, 1, "weights", b"payload")
    assert os.listdir(outside) == [path.name]
    (tmp_path / "link").symlink_to(tmp_path / "run")  # the root itself may be reached by one
    assert Artifacts(tmp_path / "link").save(3, 1, "weights", b"payload").size == 7


def test_collect_removes_what_is_not_kept_and_spares_running_jobs(artifacts: Artifacts) -> None:
    refs = [artifacts.save(job, attempt, "weights", b"%d" % job) for job in (1, 2, 3) for attempt in (1, 2)]
    artifacts.save_checkpoint(1, 1, b"checkpoint")
    removed = artifacts.collect({refs[0].key}, spare={3})
    assert removed == [refs[1].key, refs[2].key, refs[3].key]
    assert [artifacts.load(refs[i]) for i in (0, 4, 5)] == [b"1", b"3", b"3"]
    with pytest.raises(StoreDamaged):
        artifacts.load(refs[2])
    assert artifacts.load_checkpoint(1, 1) == b"checkpoint"
    assert artifacts.collect({ref.key for ref in refs}) == []


def test_collect_on_a_local_disk_clears_half_written_files_and_empty_folders(tmp_path: Path) -> None:
    artifacts = Artifacts(tmp_path)
    assert artifacts.collect(set()) == []
    kept, lost = artifacts.save(1, 1, "weights", b"1"), artifacts.save(2, 1, "weights", b"2")
    (tmp_path / "artifacts/000001/1/.writing-abc").write_bytes(b"half")
    assert artifacts.collect({kept.key}) == ["artifacts/000001/1/.writing-abc", lost.key]
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_dir()) == [
        "artifacts",
        "artifacts/000001",
        "artifacts/000001/1",
    ]


def test_a_write_is_synced_before_it_gets_its_name_and_the_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    real = {name: getattr(os, name) for name in ("fsync", "replace")}

    def fsync(file: int) -> None:
        steps.append("sync " + Path(os.readlink(f"/proc/self/fd/{file}")).name.split("-")[0])
        real["fsync"](file)

    def rename(source: Path, target: Path) -> None:
        steps.append("rename")
        assert Path(source).read_bytes() == b"payload"
        real["replace"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", rename)
    artifacts = Artifacts(tmp_path, reached=steps.append)
    artifacts.save(1, 1, "weights", b"payload")
    made = [f"sync {folder}" for folder in (tmp_path.name.split("-")[0], "artifacts", "000001")]
    assert steps == ["artifact.before", *made, "sync .writing", "rename", "sync 1", "artifact.after"]


def test_disk_full_leaves_nothing_and_is_said(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting is not permitted")
    try:
        artifacts = Artifacts(disk)
        artifacts.save_checkpoint(1, 1, b"older")
        for write in (lambda big: artifacts.save(1, 1, "weights", big), lambda big: artifacts.save_checkpoint(1, 1, big)):
            with pytest.raises(StoreUnavailable, match="No space left"):
                write(bytes(2 << 20))
        assert artifacts.load_checkpoint(1, 1) == b"older"
        assert [path.name for path in disk.rglob("*") if path.is_file()] == ["1.ckpt"]
        assert artifacts.load(artifacts.save(1, 1, "weights", bytes(1000))) == bytes(1000)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_checkpoints_the_newest_intact_of_earlier_attempts(artifacts: Artifacts) -> None:
    assert artifacts.load_checkpoint(7, 1) is None
    for attempt in (1, 2, 3, 10):
        artifacts.save_checkpoint(7, attempt, b"old")
        artifacts.save_checkpoint(7, attempt, b"attempt %d" % attempt)
    artifacts.save_checkpoint(8, 1, b"another job")
    assert [artifacts.load_checkpoint(7, n) for n in (1, 2, 9, 10, 11)] == [
        b"attempt 1",
        b"attempt 2",
        b"attempt 3",
        b"attempt 10",
        b"attempt 10",
    ]
    fs, root = fsspec.core.url_to_fs(artifacts.url)
    intact = fs.cat_file(f"{root}/checkpoints/000007/3.ckpt")
    draw = random.Random(3)
    for at in range(len(intact)):
        flipped = bytearray(intact)
        flipped[at] ^= draw.randrange(1, 256)
        tamper(artifacts, "checkpoints/000007/3.ckpt", bytes(flipped))
        assert artifacts.load_checkpoint(7, 9) == b"attempt 2"
        tamper(artifacts, "checkpoints/000007/3.ckpt", intact[:at])
        assert artifacts.load_checkpoint(7, 9) == b"attempt 2"
    tamper(artifacts, "checkpoints/000007/3.ckpt", fs.cat_file(f"{root}/checkpoints/000008/1.ckpt"))
    assert artifacts.load_checkpoint(7, 9) == b"attempt 2"
    artifacts.drop_checkpoints(7)
    artifacts.drop_checkpoints(7)
    assert artifacts.load_checkpoint(7, 10) is None and artifacts.load_checkpoint(8, 1) == b"another job"


def test_what_cannot_be_reached(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nonsense"):
        Artifacts("nonsense://x")
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable):
        Artifacts(tmp_path / "file").save(1, 1, "weights", b"")
    ref = Artifacts(tmp_path / "run").save(1, 1, "weights", b"x")
    with pytest.raises(StoreDamaged, match="is missing"):
        Artifacts(tmp_path / "run").load(replace(ref, key="artifacts/000001/1/gone.bin"))


def test_a_relative_root_does_not_follow_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    artifacts = Artifacts("run")
    ref = artifacts.save(1, 1, "weights", b"x")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert Artifacts(artifacts.url).load(ref) == artifacts.load(ref) == b"x"
