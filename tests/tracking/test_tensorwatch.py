"""TensorWatch's stream: off unless named, on loopback only, and deaf: nothing that is sent to it is ever unpickled."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import socket
import subprocess
import sys
import time

import psutil
import pytest
import zmq
from recording import Recording, config

import archsearch
from archsearch.jobs import InputError
from archsearch.tracking import RunEnd
from archsearch.tracking.tensorwatch import TensorWatch, TensorWatchConfig

PUBLISHES, SERVES = 40859, 41459  # TensorWatch's own numbers: its publisher and its server, which takes pickled requests


def listening():
    """(address, port) of this process's listening TCP sockets."""
    return {tuple(found.laddr) for found in psutil.Process().net_connections("tcp") if found.status == psutil.CONN_LISTEN}


@pytest.fixture
def port(stream_number):
    return stream_number


@pytest.fixture
def stream(port):
    """A callback that streams, as a run would have it."""
    callback = TensorWatch(TensorWatchConfig(port=port))
    callback.open()
    yield callback
    callback.close()


class Listens(Recording):
    def on_point(self, point):
        super().on_point(point)
        self.sockets = listening()


def test_no_search_listens_unless_it_is_told_to(tmp_path):
    before, listens = listening(), Listens()
    archsearch.search(config(search={"max_hull_points": 1}), run_dir=tmp_path / "r", callbacks=[listens])
    assert listens.sockets == before


def test_it_listens_on_loopback_only_and_only_while_the_search_runs(tmp_path, port):
    before, listens = listening(), Listens()
    tracking = {"callbacks": ["tensorwatch"], "tensorwatch": {"port": port}}
    values = config(search={"max_hull_points": 2}, tracking=tracking)
    archsearch.search(values, run_dir=tmp_path / "r", callbacks=[listens])
    assert listens.sockets - before == {("127.0.0.1", PUBLISHES + port)}
    assert listening() == before
    resumed = Listens()  # the port is free again at once
    archsearch.resume(tmp_path / "r", overrides=["search.max_hull_points=3"], callbacks=[resumed])
    assert resumed.sockets - before == {("127.0.0.1", PUBLISHES + port)}


def test_a_port_that_is_taken_refuses_the_search(tmp_path, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", PUBLISHES + port))
        taken.listen()
        values = config(tracking={"callbacks": ["tensorwatch"], "tensorwatch": {"port": port}})
        with pytest.raises(InputError, match=rf"tracking\.tensorwatch\.port = {port}: TCP port {PUBLISHES + port} of 127"):
            archsearch.search(values, run_dir=tmp_path / "r")
    assert not (tmp_path / "r").exists()


#: TensorWatch's own client, in a process of its own, as in a notebook: prints all that it got when the search has ended.
READER = """
import json, sys, time
import tensorwatch
client = tensorwatch.WatcherClient(port=int(sys.argv[1]))
items = {name: [] for name in ("pool", "points", "hypervolume", "progress")}
class Kept(tensorwatch.Stream):
    def __init__(self, name):
        super().__init__()
        self.name, self.source = name, client.open_stream(name)
        self.subscribe(self.source)
    def write(self, item, from_stream=None):
        if self.name == "pool" and not items["pool"]:
            print("listening", flush=True)
        items[self.name].append(item.value)
kept = [Kept(name) for name in items]
end = time.monotonic() + 200
while not (items["pool"] and items["pool"][-1]["state"] == "done") and time.monotonic() < end:
    time.sleep(0.1)
print(json.dumps(items), flush=True)
"""


def test_a_reader_that_comes_late_sees_the_whole_pool(tmp_path, stream, port):
    recording = Recording()
    run = archsearch.search(config(), run_dir=tmp_path / "r", callbacks=[recording])
    ((start,),) = recording.told("on_start")
    stream.on_start(start)
    for point in recording.points[:-1]:
        stream.on_point(point)
    with subprocess.Popen([sys.executable, "-c", READER, str(port)], stdout=subprocess.PIPE, text=True) as reader:
        os.set_blocking(reader.stdout.fileno(), False)
        deadline = time.monotonic() + 200
        while not reader.stdout.readline().startswith("listening") and time.monotonic() < deadline:
            stream.on_job_progress(7, 1, {"step": 3})  # the running jobs report on, meanwhile
            time.sleep(0.1)
        last = recording.points[-1]
        stream.on_point(last)
        stream.on_end(RunEnd("done", "enough"))
        os.set_blocking(reader.stdout.fileno(), True)
        items = json.loads(reader.stdout.read())
    assert len(items["pool"][0]["points"]) == len(run.points()) - 1, "those from before it listened"
    assert items["pool"][0]["state"] == "running" and items["pool"][0]["run"] == "r"
    assert items["pool"][-1]["points"] == [[p.id, p.metrics["madds"], p.metrics["val_error"]] for p in run.points()]
    assert items["pool"][-1]["frontier"] == [entry["id"] for entry in run.frontier()]
    assert items["pool"][-1]["number"] == len(run.points())
    assert [point["id"] for point in items["points"]] == [last.id]
    assert items["hypervolume"] == [[last.number, last.hypervolume]]
    assert items["progress"][0] == {"job": 7, "attempt": 1, "step": 3}


LEAVING = """
import os, sys, threading, zmq
from archsearch.jobs import InputError
from archsearch.tracking.tensorwatch import TensorWatch, TensorWatchConfig
ended, workers = 0, int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))  # which share the numbers
for round in range(200):
    number = (int(sys.argv[1]) + round * workers) % 500
    stream = TensorWatch(TensorWatchConfig(port=number))
    try:
        stream.open()
    except InputError:  # somebody else's port
        continue
    context = zmq.Context()
    readers = [context.socket(zmq.SUB) for _ in range(8)]
    for reader in readers:
        reader.setsockopt(zmq.SUBSCRIBE, b"")
        reader.connect(f"tcp://127.0.0.1:{40859 + number}")
    threading.Event().wait(0.02)
    leaving = threading.Thread(target=lambda: [reader.close(linger=0) for reader in readers])
    leaving.start()
    stream.close()
    leaving.join()
    context.term()
    ended += 1
    if ended == 100:
        sys.exit(0)
sys.exit("hardly a port was free")
"""


def test_readers_that_leave_as_it_ends_do_not_hold_it_up(port):
    subprocess.run([sys.executable, "-c", LEAVING, str(port)], check=True, timeout=120)


# ------------------------------------------------------------------------------------------------------------------ attacks
class Payload:
    """Unpickled, it makes a folder."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


def attack(port, payload):
    """Send it in every way that a peer can: as a request, a message, a subscription, and as bytes."""
    context = zmq.Context()
    for kind in (zmq.REQ, zmq.DEALER, zmq.PUSH, zmq.PUB, zmq.XSUB, zmq.SUB):
        with context.socket(kind) as peer:
            peer.linger = 500
            peer.sndtimeo = 500
            peer.connect(f"tcp://127.0.0.1:{port}")
            with contextlib.suppress(zmq.ZMQError):
                for topic in (b"", b"StreamItem", b"\x01"):
                    if kind == zmq.SUB:
                        peer.setsockopt(zmq.SUBSCRIBE, topic + payload)
                    elif kind == zmq.XSUB:
                        peer.send(topic + payload)
                    else:
                        peer.send_multipart([topic, payload] if topic else [payload])
            time.sleep(0.2)
    context.term()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2) as raw:
        raw.sendall(payload * 100)


def test_nothing_that_arrives_is_unpickled(tmp_path, stream, port, monkeypatch):
    from tensorwatch import zmq_wrapper

    unpickled = []
    monkeypatch.setattr(zmq_wrapper.pickle, "loads", unpickled.append)
    payload = pickle.dumps(Payload(tmp_path / "ran"))
    attack(PUBLISHES + port, payload)
    with pytest.raises(ConnectionRefusedError):  # TensorWatch's server of requests is not there at all
        socket.create_connection(("127.0.0.1", SERVES + port), timeout=2)
    for number in range(20):  # it still sends
        stream._send("hypervolume", (number, 0.5))
        time.sleep(0.02)
    assert unpickled == [] and not (tmp_path / "ran").exists()


#: TensorWatch's own server of requests, on the port that it would have.
SERVER = """
import sys, time
from tensorwatch.zmq_wrapper import ZmqWrapper
server = ZmqWrapper.ClientServer(port=int(sys.argv[1]), is_server=True, callback=lambda client, request: None)
print("listening", flush=True)
time.sleep(120)
"""


def test_the_same_attack_runs_code_in_tensorwatchs_own_server(tmp_path, port):
    """So the test above can fail."""
    line = [sys.executable, "-c", SERVER, str(SERVES + port)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout.readline() == "listening\n"
            attack(SERVES + port, pickle.dumps(Payload(tmp_path / "ran")))
            deadline = time.monotonic() + 20
            while not (tmp_path / "ran").exists() and time.monotonic() < deadline:
                time.sleep(0.05)
        finally:
            server.kill()
    assert (tmp_path / "ran").exists()
