"""torchvision's classification sets by name, from the files that torchvision (or anybody) has put into ``data.path``.

The files are read here, by NumPy, and not by torchvision's classes: those of CIFAR unpickle, and nothing that is loaded may
run code (``archsearch.data.pickled`` reads the same bytes without). So reading needs no torchvision; only
``data.download: true`` does, which knows addresses and MD5 sums from it.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsearch.data.dataset import Dataset, Images, share_count, stratified_split
from archsearch.data.pickled import as_bytes_array, read_pickle
from archsearch.jobs import InputError, derive_seed

if TYPE_CHECKING:
    from archsearch.data.section import DataSection

Split = tuple[Images, NDArray[Any]]  # (N, H, W, C) and (N,)
_DIGITS = tuple("0123456789")


@dataclass(frozen=True)
class Layout:
    """One way in which a set lies on disk: a folder below ``data.path``, its files, and who reads them.

    ``read(folder)`` returns the training and the test split and the names of the classes.
    """

    folder: str
    files: tuple[str, ...]
    read: Callable[[Path], tuple[Split, Split, tuple[str, ...]]]


def load(section: DataSection) -> Dataset:
    """The set ``data.name`` from ``data.path``. ``val_share`` of its training images becomes the validation split.

    Raises:
        InputError: files are missing (the text says which, where, and what to do) or damaged; ``data.download: true``
            without torchvision, or a download that failed.
    """
    name, root = section.name, Path(section.path or "").expanduser().absolute()
    layouts = LAYOUTS[name]
    found = _found(root, layouts)
    if found is None and section.download:
        from archsearch.data.torchvision_download import download

        download(name, root)
        found = _found(root, layouts)
    if found is None:
        raise InputError(_missing(name, root, section.download))
    layout, folder = found
    try:
        (x, y), (x_test, y_test), names = layout.read(folder)
        for split, images, labels in (("training", x, y), ("test", x_test, y_test)):
            _check(split, images, labels, len(names))
    except (OSError, EOFError, zlib.error, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{folder}: {name} cannot be read: {error}. The files are damaged or not the official ones: replace them."
        ) from error
    y = y.astype(np.int64)
    try:
        train, val = stratified_split(y, share_count(y, section.val_share), derive_seed(section.seed, name, "val"))
    except InputError as error:
        raise InputError(f"{folder}: the training images cannot be split for validation (data.val_share): {error}") from error
    return Dataset.of(name, (x[train], y[train]), (x[val], y[val]), (x_test, y_test), names)


def _check(split: str, images: Images, labels: NDArray[Any], classes: int) -> None:
    if len(images) != len(labels):
        raise ValueError(f"{len(images)} {split} images but {len(labels)} labels")
    if not len(labels):
        raise ValueError(f"no {split} image")
    if labels.min() < 0 or labels.max() >= classes:
        index = int(np.flatnonzero((labels < 0) | (labels >= classes))[0])
        raise ValueError(f"{split} image {index} has label {labels[index]}, expected 0..{classes - 1}")


# --------------------------------------------------------------------------------------------------------------- the files
def _found(root: Path, layouts: tuple[Layout, ...]) -> tuple[Layout, Path] | None:
    """The first layout whose files are all there: in their own folder below ``root``, or in ``root`` itself."""
    for layout in layouts:
        for folder in (root / layout.folder, root):
            if all(_file(folder, name) for name in layout.files):
                return layout, folder
    return None


def _file(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _missing(name: str, root: Path, downloaded: bool) -> str:
    if root.exists() and not root.is_dir():
        return f"data.path: {root} is a file; for data.name {name} give the folder that holds its files."
    ways = []
    for layout in LAYOUTS[name]:
        lacking = [file for file in layout.files if not _file(root / layout.folder, file)]
        ways.append(f"{root / layout.folder} with {', '.join(layout.files)}")
        if len(lacking) < len(layout.files):  # begun: this is the one that is meant
            ways = [f"{root / layout.folder} with {', '.join(lacking)} as well"]
            break
    help_ = "" if downloaded else " Put them there, or set data.download: true, which fetches them with torchvision."
    return f"data.path: the files of {name} are not all in {root}. Expected {'; or '.join(ways)}.{help_}"


def _bytes(folder: Path, name: str) -> bytes:
    path = _file(folder, name)
    assert path is not None  # ``_found`` has seen it
    return gzip.decompress(path.read_bytes()) if path.name != name else path.read_bytes()


def _records(folder: Path, name: str, size: int) -> NDArray[np.uint8]:
    """A file of records of ``size`` bytes each: (N, size)."""
    content = np.frombuffer(_bytes(folder, name), np.uint8)
    if len(content) % size:
        raise ValueError(f"{name} has {len(content)} bytes, which is no multiple of the {size} of an image")
    return content.reshape(-1, size)


def _pixels(flat: NDArray[np.uint8], side: int) -> Images:
    """Rows of three planes of ``side`` x ``side`` as (N, side, side, 3)."""
    return flat.reshape(-1, 3, side, side).transpose(0, 2, 3, 1)


# ------------------------------------------------------------------------------------------------- MNIST and its relatives
_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def _idx(names: tuple[str, ...]) -> Callable[[Path], tuple[Split, Split, tuple[str, ...]]]:
    def read(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
        x, y, x_test, y_test = (_idx_array(folder, name, 3 if "images" in name else 1) for name in _IDX)
        return (x[..., None], y), (x_test[..., None], y_test), names

    return read


def _idx_array(folder: Path, name: str, axes: int) -> NDArray[np.uint8]:
    """An array of bytes in the IDX format: two zeros, type 8, number of axes, lengths as big-endian int32, content."""
    content = _bytes(folder, name)
    start = 4 + 4 * axes
    shape = tuple(int(length) for length in np.frombuffer(content[4:start], ">u4"))
    if content[:4] != bytes([0, 0, 8, axes]) or len(shape) != axes or len(content) - start != prod(shape):
        raise ValueError(f"{name} is not an IDX file of bytes with {axes} axes, or not whole")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


# ------------------------------------------------------------------------------------------------------------------- CIFAR
_BATCHES = (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")


def _cifar10_binary(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    *train, test = (_records(folder, f"{name}.bin", 1 + 3072) for name in _BATCHES)
    records = np.concatenate(train)
    names = _lines(folder, "batches.meta.txt")
    return (_pixels(records[:, 1:], 32), records[:, 0]), (_pixels(test[:, 1:], 32), test[:, 0]), names


def _cifar100_binary(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    train, test = (_records(folder, name, 2 + 3072) for name in ("train.bin", "test.bin"))  # coarse label, fine label, pixels
    names = _lines(folder, "fine_label_names.txt")
    return (_pixels(train[:, 2:], 32), train[:, 1]), (_pixels(test[:, 2:], 32), test[:, 1]), names


def _lines(folder: Path, name: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in _bytes(folder, name).decode().splitlines() if line.strip())


def _cifar_pickled(
    batches: tuple[str, ...], labels: bytes, meta: str, names: bytes
) -> Callable[[Path], tuple[Split, Split, tuple[str, ...]]]:
    """The archive for Python: each batch a pickled dict with ``data`` (N, 3072) and a list of labels."""

    def batch(folder: Path, name: str) -> Split:
        content = read_pickle(_bytes(folder, name))
        return _pixels(as_bytes_array(content[b"data"]).reshape(-1, 3072), 32), np.array(content[labels], np.int64)

    def read(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
        *train, test = (batch(folder, name) for name in batches)
        x, y = (np.concatenate(parts) for parts in zip(*train, strict=True))
        return (x, y), test, tuple(name.decode() for name in read_pickle(_bytes(folder, meta))[names])

    return read


# --------------------------------------------------------------------------------------------------------- SVHN and STL-10
def _svhn(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    """Matlab files: ``X`` (32, 32, 3, N), ``y`` (N, 1) with 10 for the digit 0."""
    from scipy.io import loadmat

    def read(name: str) -> Split:
        try:
            content = loadmat(folder / name, variable_names=["X", "y"])
        except Exception as error:  # a damaged file fails anywhere in SciPy
            raise ValueError(f"{name}: {error}") from error
        x, y = content["X"], content["y"].reshape(-1)
        if x.dtype != np.uint8 or x.ndim != 4 or y.dtype.kind not in "iu":
            raise ValueError(f"{name}: X is {x.dtype} of shape {x.shape}, expected uint8 of shape (32, 32, 3, N)")
        return x.transpose(3, 0, 1, 2), np.where(y == 10, 0, y)

    return read("train_32x32.mat"), read("test_32x32.mat"), _DIGITS


def _stl10(folder: Path) -> tuple[Split, Split, tuple[str, ...]]:
    """Planes of 96 x 96, column by column; labels from 1. The unlabelled images are not used."""

    def read(split: str) -> Split:
        x = _pixels(_records(folder, f"{split}_X.bin", 3 * 96 * 96), 96).transpose(0, 2, 1, 3)
        return x, np.frombuffer(_bytes(folder, f"{split}_y.bin"), np.uint8).astype(np.int64) - 1

    return read("train"), read("test"), _lines(folder, "class_names.txt")


_FASHION = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_KANA = ("o", "ki", "su", "tsu", "na", "ha", "ma", "ya", "re", "wo")
_CIFAR100 = ("train", "test")

#: Name -> how the set may lie on disk, torchvision's own way first.
LAYOUTS: dict[str, tuple[Layout, ...]] = {
    "mnist": (Layout("MNIST/raw", _IDX, _idx(_DIGITS)),),
    "fashion_mnist": (Layout("FashionMNIST/raw", _IDX, _idx(_FASHION)),),
    "kmnist": (Layout("KMNIST/raw", _IDX, _idx(_KANA)),),
    "cifar10": (
        Layout(
            "cifar-10-batches-py",
            (*_BATCHES, "batches.meta"),
            _cifar_pickled(_BATCHES, b"labels", "batches.meta", b"label_names"),
        ),
        Layout("cifar-10-batches-bin", (*(f"{name}.bin" for name in _BATCHES), "batches.meta.txt"), _cifar10_binary),
    ),
    "cifar100": (
        Layout(
            "cifar-100-python", (*_CIFAR100, "meta"), _cifar_pickled(_CIFAR100, b"fine_labels", "meta", b"fine_label_names")
        ),
        Layout("cifar-100-binary", ("train.bin", "test.bin", "fine_label_names.txt"), _cifar100_binary),
    ),
    "svhn": (Layout("", ("train_32x32.mat", "test_32x32.mat"), _svhn),),
    "stl10": (Layout("stl10_binary", ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt"), _stl10),),
}
