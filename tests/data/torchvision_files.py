"""Small files in the formats of torchvision's sets, and what is in them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.io import savemat

from archsearch.data import DataSection, Dataset, load
from archsearch.data.torchvision_sets import LAYOUTS

Truth = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]  # x_train, y_train, x_test, y_test


def truth(shape: tuple[int, ...], classes: int, train: int = 50, test: int = 12) -> Truth:
    rng = np.random.default_rng(3)
    x, x_test = (rng.integers(0, 256, (n, *shape), np.uint8) for n in (train, test))
    return x, rng.permutation(np.arange(train) % classes), x_test, np.arange(test) % classes


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(np.uint8).tobytes()


def write_mnist(root: Path, name: str = "MNIST", pack: Callable[[bytes], bytes] | None = None) -> Truth:
    x, y, x_test, y_test = truth((7, 7), 10)
    folder = root / name / "raw"
    folder.mkdir(parents=True)
    files = {"train-images-idx3": x, "train-labels-idx1": y, "t10k-images-idx3": x_test, "t10k-labels-idx1": y_test}
    for file, array in files.items():
        (folder / f"{file}-ubyte{'.gz' if pack else ''}").write_bytes((pack or bytes)(idx(array)))
    return x[..., None], y, x_test[..., None], y_test


def planes(x: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)).reshape(len(x), -1)


def python2_pickle(content: dict[bytes, Any]) -> bytes:
    """As Python 2 wrote CIFAR's batches: protocol 2, byte strings, arrays by numpy.core.multiarray._reconstruct."""

    def value(item: Any) -> bytes:
        if isinstance(item, np.ndarray):
            head = b"cnumpy.core.multiarray\n_reconstruct\nq\x07(cnumpy\nndarray\nq\x08K\x00\x85q\x09U\x01bq\x0atq\x0bRq\x0c"
            shape = b"".join(b"M" + struct.pack("<H", n) for n in item.shape)
            dtype = b"cnumpy\ndtype\nq\x0dU\x02u1K\x00K\x01\x87Rq\x0e(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            raw = item.tobytes()
            return head + b"(K\x01(" + shape + b"t" + dtype + b"\x89T" + struct.pack("<I", len(raw)) + raw + b"tb"
        if isinstance(item, list):
            return b"](" + b"".join(map(value, item)) + b"e"
        if isinstance(item, bytes):
            return b"U" + bytes([len(item)]) + item
        return b"K" + bytes([item])

    return b"\x80\x02}q\x01(" + b"".join(value(key) + value(item) for key, item in content.items()) + b"u."


def write_cifar(root: Path, name: str, *, binary: bool) -> Truth:
    classes = 10 if name == "cifar10" else 100
    x, y, x_test, y_test = truth((32, 32, 3), classes, train=5 * (10 if classes == 10 else 60), test=12)
    layout = LAYOUTS[name][binary]
    folder = root / layout.folder
    folder.mkdir(parents=True)
    parts = [(x, y)] if classes == 100 else list(zip(np.split(x, 5), np.split(y, 5), strict=True))
    names = [f"class {k}" for k in range(classes)]
    for file, (images, labels) in zip(layout.files, [*parts, (x_test, y_test)], strict=False):
        if binary:
            coarse = [labels[:, None] // 5] if classes == 100 else []
            (folder / file).write_bytes(np.hstack([*coarse, labels[:, None], planes(images)]).astype(np.uint8).tobytes())
        else:
            key = b"labels" if classes == 10 else b"fine_labels"
            content = {b"batch_label": b"a batch", key: labels.tolist(), b"data": planes(images), b"filenames": [b"a.png"]}
            (folder / file).write_bytes(python2_pickle(content))
    if binary:
        (folder / layout.files[-1]).write_text("\n".join(names) + "\n\n")
    else:
        key = b"label_names" if classes == 10 else b"fine_label_names"
        (folder / layout.files[-1]).write_bytes(python2_pickle({key: [name.encode() for name in names]}))
    return x, y, x_test, y_test


def write_svhn(root: Path) -> Truth:
    x, y, x_test, y_test = truth((32, 32, 3), 10)
    root.mkdir(exist_ok=True)
    for file, images, labels in (("train_32x32.mat", x, y), ("test_32x32.mat", x_test, y_test)):
        column = np.where(labels == 0, 10, labels).astype(np.uint8)[:, None]
        savemat(root / file, {"X": images.transpose(1, 2, 3, 0), "y": column}, do_compression=True)
    return x, y, x_test, y_test


def write_stl10(root: Path) -> Truth:
    x, y, x_test, y_test = truth((96, 96, 3), 10)
    folder = root / "stl10_binary"
    folder.mkdir(parents=True)
    for split, images, labels in (("train", x, y), ("test", x_test, y_test)):
        (folder / f"{split}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())  # columns first
        (folder / f"{split}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
    (folder / "class_names.txt").write_text("\n".join(f"class {k}" for k in range(10)))
    return x, y, x_test, y_test


WRITERS: dict[str, Callable[[Path], Truth]] = {
    "mnist": write_mnist,
    "fashion_mnist": lambda root: write_mnist(root, "FashionMNIST"),
    "kmnist": lambda root: write_mnist(root, "KMNIST"),
    "cifar10": lambda root: write_cifar(root, "cifar10", binary=False),
    "cifar100": lambda root: write_cifar(root, "cifar100", binary=False),
    "svhn": write_svhn,
    "stl10": write_stl10,
}


def read(name: str, root: Path, **keys: Any) -> Dataset:
    return load(DataSection(name=name, path=str(root), **keys))


def pairs(x: np.ndarray, y: np.ndarray) -> list[tuple[bytes, int]]:
    return sorted((image.tobytes(), int(label)) for image, label in zip(x, y, strict=True))


def holds(data: Dataset, expected: Truth) -> None:
    """The test split as it was written; the training images, each with its label, divided into training and validation."""
    x, y, x_test, y_test = expected
    assert np.array_equal(data.x_test, x_test) and np.array_equal(data.y_test, y_test)
    both = np.concatenate([data.x_train, data.x_val]), np.concatenate([data.y_train, data.y_val])
    assert pairs(*both) == pairs(x, y)
