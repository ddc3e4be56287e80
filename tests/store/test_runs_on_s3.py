"""Artifacts at s3://, on a real server of that protocol on loopback: hashes, written once, a search that is resumed there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import fsspec
import pytest
from moto.server import ThreadedMotoServer
from store_runs import archsearch, config, results

import archsearch as api
from archsearch.cluster.loop import RunLoop
from archsearch.cluster.observer import Observer
from archsearch.jobs import Event, InputError, StoreDamaged, StoreUnavailable
from archsearch.store import Artifacts

SECRET = "wJalr-not-to-be-stored"


class S3:
    """``stop`` and ``start`` keep the port and what is stored."""

    def __init__(self) -> None:
        self.port = 0
        self.start()

    def start(self) -> None:
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        self.server.start()
        self.port = self.server.get_host_and_port()[1]

    def stop(self) -> None:
        self.server.stop()


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    server = S3()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.port}")
        patch.setenv("AWS_MAX_ATTEMPTS", "1")
        boto3.client("s3").create_bucket(Bucket="bucket")
        fsspec.config.conf["s3"] = {"skip_instance_cache": True}
        yield server
        fsspec.config.conf.pop("s3")
    server.stop()


def test_artifacts_and_checkpoints(s3: S3) -> None:
    artifacts = Artifacts("s3://bucket/plain")
    ref = artifacts.save(1, 1, "weights.safetensors", b"payload")
    assert (
        Artifacts(artifacts.url).load(ref)
        == b"payload"
        == artifacts.load(artifacts.save(1, 1, "weights.safetensors", b"payload"))
    )
    fs = fsspec.filesystem("s3")
    with pytest.raises(FileExistsError):  # this is what "once" relies on
        fs.pipe_file(f"bucket/plain/{ref.key}", b"other", mode="create")
    fs.pipe_file(f"bucket/plain/{ref.key}", b"tampere")
    with pytest.raises(StoreDamaged, match=ref.key):
        artifacts.load(ref)
    artifacts.save_checkpoint(3, 1, b"older")
    artifacts.save_checkpoint(3, 2, b"newer")
    assert artifacts.load_checkpoint(3, 2) == b"newer" and artifacts.load_checkpoint(3, 1) == b"older"
    artifacts.drop_checkpoints(3)
    assert artifacts.load_checkpoint(3, 2) is None
    assert artifacts.collect(set()) == [ref.key]
    with pytest.raises(StoreDamaged, match="missing"):
        artifacts.load(ref)
    with pytest.raises(StoreUnavailable, match="no-such-bucket"):
        Artifacts("s3://no-such-bucket/x").save(1, 1, "weights", b"x")
    assert not fs.exists("no-such-bucket")


class Interrupting(Observer):
    """Stops the server once, starts it again when the run has paused, and asks the run to stop later on."""

    def __init__(self, s3: S3) -> None:
        self.s3, self.said, self.down = s3, list[str](), False

    def on_events(self, loop: RunLoop, events: list[Event]) -> None:
        if loop.ledger.told >= 2 and not self.said and not self.down:
            self.down = True
            self.s3.stop()
        if loop.ledger.told >= 4:
            loop.request_stop()

    def on_tick(self, loop: RunLoop) -> None:
        pass

    def on_message(self, text: str) -> None:
        if "paused" in text:
            self.said.append(text)
            if len(self.said) == 1:
                self.s3.start()


def test_a_search_with_its_weights_there_through_a_stopped_server_and_resumed(s3: S3, tmp_path: Path) -> None:
    points = {"max_hull_points": 4}
    api.search(config(search=points), run_dir=tmp_path / "reference")
    watching, path = Interrupting(s3), tmp_path / "run"
    run = api.search(config(run={"artifacts": "s3://bucket/runs"}, search=points), run_dir=path, observer=watching)
    assert run.outcome is not None and run.outcome.state == "interrupted" and "s3://bucket/runs/run" in watching.said[0]
    assert api.resume(path).outcome.state == "done"  # type: ignore[union-attr]
    assert results(path) == results(tmp_path / "reference")
    assert not (path / "artifacts").exists() and not (path / "checkpoints").exists()
    found = api.load_run(path)
    assert found.load(found.frontier()[0]["id"]) is not None
    warm = api.search(config(search={"max_hull_points": 5}), run_dir=tmp_path / "warm", warm_from=path)
    assert warm.meta["warm_from"]["points"] == 4
    assert "s3://bucket/runs/run stay" in archsearch("runs", "rm", path, "--yes").stdout
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET.encode() not in file.read_bytes(), f"{file} holds the secret"


def test_a_place_that_is_anothers_is_refused(s3: S3, tmp_path: Path) -> None:
    """Two runs of one name in different folders, one place for artifacts: neither may collect what is the other's."""
    Artifacts("s3://bucket/shared/run").claim("another", new=True)
    conf = config(run={"artifacts": "s3://bucket/shared"})
    with pytest.raises(InputError, match="not this run's"):
        api.search(conf, run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for wrong in ("s3://key:secret@bucket/x", "simplecache::s3://bucket/x"):
        with pytest.raises(InputError, match="credentials in the environment") as error:
            api.search(config(run={"artifacts": wrong}))
        assert "secret@" not in str(error.value)


def test_no_credentials_is_said_before_anything_starts(s3: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    with pytest.raises(StoreUnavailable, match="s3://bucket/none"):
        api.search(config(run={"artifacts": "s3://bucket/none"}), run_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
