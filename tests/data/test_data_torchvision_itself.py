"""Downloads with torchvision, and the same arrays as its own classes give, where it is installed."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import sys
import tarfile
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from torchvision_files import WRITERS, holds, read, write_cifar, write_mnist, write_svhn

from archsearch.data.torchvision_sets import LAYOUTS
from archsearch.jobs import InputError


def archive(folder: Path, place: Path) -> str:
    """A tar.gz of ``folder``; its MD5 sum."""
    with tarfile.open(place, "w:gz") as file:
        file.add(folder, folder.name)
    return md5_of(place)


def md5_of(file: Path) -> str:
    return hashlib.md5(file.read_bytes()).hexdigest()


def test_without_torchvision_a_download_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchvision", None)
    with pytest.raises(InputError, match=r"torchvision is needed to fetch svhn .*pip install -e '\.\[torchvision\]'"):
        read("svhn", tmp_path, download=True)
    write_svhn(tmp_path)
    read("svhn", tmp_path, download=True)  # the files are there: nothing is fetched


def test_a_torchvision_that_does_not_fit_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"cannot be imported \(operator torchvision::nms .*the build that fits the installed"):
        read("mnist", tmp_path / "data", download=True)


@pytest.fixture(scope="module")
def torchvision() -> Iterator[ModuleType]:
    """torchvision itself. Beside another build of torch its compiled part is missing, which data sets do not need."""
    pytest.importorskip("torch")
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            import torchvision
    except ImportError:
        pytest.skip("torchvision is not installed")
    except RuntimeError:
        import torch

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "DEF")
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        import torchvision
    yield torchvision


CLASSES = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST", "kmnist": "KMNIST", "cifar10": "CIFAR10", "cifar100": "CIFAR100"}


@pytest.mark.parametrize("name", WRITERS)
def test_torchvision_reads_the_same(
    tmp_path: Path, name: str, torchvision: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    WRITERS[name](tmp_path)
    data = read(name, tmp_path)
    found = getattr(torchvision.datasets, CLASSES.get(name, name.upper()))
    folder = tmp_path / LAYOUTS[name][0].folder

    def md5(file: str) -> str:
        return md5_of(folder / file)

    if name.startswith("cifar"):  # it compares the sums of the official files
        for key in ("train_list", "test_list"):
            monkeypatch.setattr(found, key, [[file, md5(file)] for file, _ in getattr(found, key)])
        monkeypatch.setattr(found, "meta", found.meta | {"md5": md5(found.meta["filename"])})
    if name == "svhn":
        lists = {split: [url, file, md5(file)] for split, (url, file, _) in found.split_list.items() if split != "extra"}
        monkeypatch.setattr(found, "split_list", lists)
    if name == "stl10":
        monkeypatch.setattr(found, "_check_integrity", lambda self: True)
    options = [{"split": "train"}, {"split": "test"}] if name in ("svhn", "stl10") else [{"train": True}, {"train": False}]
    train, test = (found(str(tmp_path), **option) for option in options)
    split = [
        (np.stack([np.asarray(image) for image, _ in part]), np.array([label for _, label in part])) for part in (train, test)
    ]
    (x, y), (x_test, y_test) = [(images[..., None] if images.ndim == 3 else images, labels) for images, labels in split]
    holds(data, (x, y, x_test, y_test))
    if hasattr(train, "classes"):
        assert data.class_names == tuple(name.split(" - ")[0] for name in train.classes)


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """A web server of a folder on the loopback; its address."""

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_arguments: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), lambda *given: Quiet(*given, directory=str(folder))) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_a_download_by_torchvision(tmp_path: Path, torchvision: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    files = tmp_path / "server"
    cifar = write_cifar(files, "cifar10", binary=False)
    mnist = write_mnist(files, pack=gzip.compress)
    svhn = write_svhn(files)
    known = torchvision.datasets
    with served(files) as address:
        monkeypatch.setattr(known.CIFAR10, "url", f"{address}/cifar-10-python.tar.gz")
        monkeypatch.setattr(known.CIFAR10, "tgz_md5", archive(files / "cifar-10-batches-py", files / "cifar-10-python.tar.gz"))
        holds(read("cifar10", tmp_path / "mine", download=True), cifar)
        sums = [(file, md5_of(files / "MNIST" / "raw" / file)) for file, _ in known.MNIST.resources]
        monkeypatch.setattr(known.MNIST, "resources", sums)
        monkeypatch.setattr(known.MNIST, "mirrors", [f"{address}/gone/", f"{address}/MNIST/raw/"])
        holds(read("mnist", tmp_path / "mine", download=True), mnist)
        lists = {s: [f"{address}/{s}_32x32.mat", f"{s}_32x32.mat", md5_of(files / f"{s}_32x32.mat")] for s in ("train", "test")}
        monkeypatch.setattr(known.SVHN, "split_list", lists)
        holds(read("svhn", tmp_path / "mine", download=True), svhn)
        monkeypatch.setattr(known.CIFAR10, "tgz_md5", "0" * 32)
        with pytest.raises(InputError, match=r"cifar10 could not be fetched into \S*other: File not found or corrupted"):
            read("cifar10", tmp_path / "other", download=True)
    with pytest.raises(InputError, match=r"cifar10 could not be fetched into \S*third: .*refused"):
        read("cifar10", tmp_path / "third", download=True)
