"""A user's own data: a NumPy ``.npz`` file with x_train, y_train, x_test and y_test, and perhaps x_val and y_val. Nothing in it
can run code."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsearch.data.dataset import Dataset, Images, Labels, share_count, stratified_split
from archsearch.jobs import InputError, derive_seed

if TYPE_CHECKING:
    from archsearch.data.section import DataSection

_KEYS = ("x_train", "y_train", "x_test", "y_test")
_OWN_VALIDATION = ("x_val", "y_val")


def load(section: DataSection) -> Dataset:
    """``x_*``: (N, H, W, C) or (N, H, W) uint8; ``y_*``: (N,) integers 0..classes-1, each of them in ``y_train``.

    ``x_val`` and ``y_val`` are the validation split; in a file without them, ``val_share`` of the training images becomes it.
    Other keys of the file are ignored.

    Raises:
        InputError: whatever is wrong with the file, by file, key and index.
    """
    path = Path(section.path or "").expanduser().absolute()
    arrays = _read(path)
    present = [split for split in ("train", "test", "val") if f"x_{split}" in arrays]
    splits = {split: _split(path, split, arrays[f"x_{split}"], arrays[f"y_{split}"]) for split in present}
    x, y = splits.pop("train")
    for split, (images, _) in splits.items():
        if x.shape[1:] != images.shape[1:]:
            raise InputError(
                f"{path}: images of x_train are {x.shape[1:]} but those of x_{split} are {images.shape[1:]}; "
                "height, width and channels must be the same."
            )
    classes = _classes(path, y, {f"y_{split}": labels for split, (_, labels) in splits.items()})
    names = [str(k) for k in range(classes)]
    if "val" in splits:
        return Dataset.of("npz", (x, y), splits["val"], splits["test"], names)
    try:
        train, val = stratified_split(y, share_count(y, section.val_share), derive_seed(section.seed, "npz", "val"))
    except InputError as error:
        raise InputError(f"{path}: y_train cannot be split for validation: {error}") from error
    return Dataset.of("npz", (x[train], y[train]), (x[val], y[val]), splits["test"], names)


def write(dataset: Dataset, path: Path) -> None:
    """Write a data set into a new file, which ``load`` reads with the same splits: the same set by its hash.

    The same set gives the same bytes on every machine.
    """
    with path.open("xb") as file:
        np.savez(
            file,
            allow_pickle=False,
            x_train=dataset.x_train,
            y_train=dataset.y_train,
            x_val=dataset.x_val,
            y_val=dataset.y_val,
            x_test=dataset.x_test,
            y_test=dataset.y_test,
        )
        file.flush()
        os.fsync(file.fileno())


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """The four arrays, or all six, their checksums verified."""
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise InputError(f"data.path: {path} {what}. Give the path of an .npz file with {', '.join(_KEYS)}.")
    try:
        archive = zipfile.ZipFile(path)
    except (OSError, ValueError, RuntimeError, zipfile.BadZipFile) as error:
        raise InputError(
            f"data.path: {path} cannot be read as an .npz file ({error}). Write it with "
            "numpy.savez(path, x_train=..., y_train=..., x_test=..., y_test=...)."
        ) from error
    with archive:
        members = {name.removesuffix(".npy"): name for name in archive.namelist()}
        if missing := [key for key in _KEYS if key not in members]:
            raise InputError(
                f"{path}: no {' and no '.join(missing)}. Expected the keys {', '.join(_KEYS)}; "
                f"found {', '.join(members) or 'none'}."
            )
        own = [key for key in _OWN_VALIDATION if key in members]
        if len(own) == 1:
            raise InputError(f"{path}: {own[0]} is there alone; a validation split has both, x_val and y_val.")
        return {key: _member(path, archive, key, members[key]) for key in [*_KEYS, *own]}


def _member(path: Path, archive: zipfile.ZipFile, key: str, member: str) -> NDArray[Any]:
    try:
        with archive.open(member) as stream:
            array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            rest = stream.read(1)  # at the end of a member, and only there, zipfile compares the checksum
    except Exception as error:  # a damaged file fails anywhere in zipfile, zlib or NumPy, in a dozen ways
        raise InputError(
            f"{path}: {key} cannot be read ({str(error) or type(error).__name__}). The file is damaged, or the array is not a "
            "plain one; write plain uint8 images and int64 labels with numpy.savez."
        ) from error
    if rest:
        raise InputError(f"{path}: {key} is damaged: it holds more bytes than its shape {array.shape} says. Write it again.")
    return array


def _split(path: Path, split: str, x: NDArray[Any], y: NDArray[Any]) -> tuple[Images, Labels]:
    """Images with four axes and int64 labels of equal length."""
    x_key, y_key = f"{path}: x_{split}", f"{path}: y_{split}"
    if x.ndim not in (3, 4) or not all(x.shape[1:]):
        raise InputError(f"{x_key} has shape {x.shape}, expected (N, height, width) or (N, height, width, channels).")
    if y.ndim != 1:
        raise InputError(f"{y_key} has shape {y.shape}, expected (N,): one class number for each image, not one-hot.")
    if len(x) != len(y):
        raise InputError(f"{x_key} has {len(x)} images but y_{split} has {len(y)} labels; they must pair up.")
    if not len(y):
        raise InputError(f"{x_key} and y_{split} are empty; training needs images of each class, the test at least one.")
    return _images(x_key, x), _labels(y_key, y)


def _images(key: str, x: NDArray[Any]) -> Images:
    if x.dtype != np.uint8:
        if len(bad := _not_finite(x)):
            raise InputError(
                f"{key}[{bad[0]}] holds NaN or infinity (so do {len(bad) - 1} others). Repair them; save 0..255 as uint8."
            )
        raise InputError(
            f"{key} is {x.dtype}, expected uint8. Scale pixels to 0..255 and save x.astype('uint8'); "
            "the mean and deviation of each channel are taken out during training."
        )
    if x.ndim == 4 and x.shape[1] in (1, 3, 4) and min(x.shape[2:]) > 4:
        raise InputError(
            f"{key} has shape {x.shape}, but channels come last: (N, height, width, channels). Save x.transpose(0, 2, 3, 1)."
        )
    return x if x.ndim == 4 else x[..., None]


def _not_finite(array: NDArray[Any]) -> NDArray[np.intp]:
    """Which items along the first axis hold NaN or infinity."""
    if array.dtype.kind not in "fc":
        return np.empty(0, np.intp)
    return np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))


def _labels(key: str, y: NDArray[Any]) -> Labels:
    if y.dtype.kind not in "iu":
        hint = f"{key}[{bad[0]}] is {y[bad[0]]}, and " if len(bad := _not_finite(y)) else ""
        raise InputError(f"{hint}{key} is {y.dtype}, expected integers 0..classes-1. Save y.astype('int64').")
    if int(y.max()) > np.iinfo(np.int64).max or y.min() < 0:
        index = int(y.argmin() if y.min() < 0 else y.argmax())
        raise InputError(f"{key}[{index}] is {y[index]}, out of range; labels are 0..classes-1.")
    return y.astype(np.int64)


def _classes(path: Path, y: Labels, others: Mapping[str, Labels]) -> int:
    """How many classes there are: the largest training label + 1, each of 0..classes-1 in ``y_train``."""
    present = np.unique(y)
    if len(present) == 1:
        raise InputError(f"{path}: y_train holds one class only ({present[0]}); at least two are needed.")
    classes = int(present[-1]) + 1
    if len(present) < classes:
        gap = int(np.flatnonzero(present != np.arange(len(present)))[0])
        raise InputError(
            f"{path}: no image in y_train has label {gap}, though the largest label is {classes - 1} "
            f"(y_train[{int(y.argmax())}]). Labels must be 0..classes-1 without a gap: numpy.unique(y, return_inverse=True)[1]."
        )
    for key, labels in others.items():
        if labels.max() >= classes:
            index = int(np.argmax(labels >= classes))
            raise InputError(
                f"{path}: {key}[{index}] is {labels[index]}, out of range: y_train has the classes 0..{classes - 1}. "
                "Drop those images or add the class to the training data."
            )
    return classes
