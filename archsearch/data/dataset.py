"""What a data set is, how it is loaded by name, and how it is split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsearch.jobs import InputError, derive_seed
from archsearch.registry import DATASETS

if TYPE_CHECKING:
    from archsearch.data.section import DataSection

Images = NDArray[np.uint8]
Labels = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Three splits in memory: images ``(N, H, W, C)`` uint8, contiguous; labels ``(N,)`` int64 in ``0..classes-1``.

    ``hash`` is the SHA-256 (hex) of the content as it was loaded, the test split included; two sets with the same hash
    are the same data. Arrays may be read-only (they are when Ray shares them).
    """

    name: str
    x_train: Images
    y_train: Labels
    x_val: Images
    y_val: Labels
    x_test: Images
    y_test: Labels
    classes: int
    class_names: tuple[str, ...]
    hash: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height, width."""
        _, height, width, channels = self.x_train.shape
        return channels, height, width

    def without_test(self) -> Dataset:
        """The same set with an empty test split: all that a search may see. Keeps the hash."""
        return replace(self, x_test=self.x_test[:0].copy(), y_test=self.y_test[:0].copy())

    @classmethod
    def of(
        cls,
        name: str,
        train: tuple[Images, NDArray[Any]],
        val: tuple[Images, NDArray[Any]],
        test: tuple[Images, NDArray[Any]],
        class_names: Sequence[str],
    ) -> Dataset:
        """A data set of three ``(images, labels)`` splits, brought into the layout above."""
        x = [np.ascontiguousarray(images) for images, _ in (train, val, test)]
        y = [np.ascontiguousarray(labels, dtype=np.int64) for _, labels in (train, val, test)]
        names = tuple(class_names)
        content = content_hash([*x, *y], len(names))
        return cls(name, x[0], y[0], x[1], y[1], x[2], y[2], len(names), names, content)


def load(section: DataSection) -> Dataset:
    """The data set that a configuration names.

    Raises:
        InputError: an unknown name, or data that cannot be used; the text names file, key and index.
    """
    dataset: Dataset = DATASETS.get(section.name)(section)
    if section.max_train is None or section.max_train >= len(dataset.y_train):
        return dataset
    if section.max_train < dataset.classes:
        raise InputError(f"data.max_train: {section.max_train} images cannot hold one of each of {dataset.classes} classes")
    _, kept = stratified_split(dataset.y_train, section.max_train, derive_seed(section.seed, "max_train"))
    return Dataset.of(
        dataset.name,
        (dataset.x_train[kept], dataset.y_train[kept]),
        (dataset.x_val, dataset.y_val),
        (dataset.x_test, dataset.y_test),
        dataset.class_names,
    )


def content_hash(arrays: Sequence[NDArray[Any]], classes: int) -> str:
    """SHA-256 (hex) of the arrays' shapes, types and bytes (little-endian), in order, and of the number of classes."""
    digest = hashlib.sha256(f"archsearch data 1, {classes} classes".encode())
    for array in arrays:
        plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
        digest.update(f"{plain.dtype.str}{plain.shape}".encode())
        digest.update(plain.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def permutation(seed: int, n: int) -> NDArray[np.intp]:
    """A random order of ``0..n-1``: sorted raw PCG64 output, whose stream NumPy never changes (``Generator``'s may)."""
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")


def stratified_split(labels: Labels, count: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices ``(rest, part)``, each ascending: ``part`` has ``count`` items, each class in its proportion and there at all.

    Proportions are those of the largest remainder; ties go to the lower class. A class is drawn from with a seed of its own.

    Raises:
        InputError: a class has fewer than two items, or ``count`` leaves a side without some class.
    """
    classes, sizes = np.unique(labels, return_counts=True)
    if sizes.min() < 2:
        which = int(sizes.argmin())
        raise InputError(
            f"class {classes[which]} has {sizes[which]} sample; a stratified split needs at least 2 of each class. "
            "Add samples or drop the class."
        )
    if not len(classes) <= count <= len(labels) - len(classes):
        raise InputError(
            f"a split of {len(labels)} samples into {len(labels) - count} and {count} cannot hold all {len(classes)} classes "
            "on both sides. Change the share, or add samples."
        )
    # Integers throughout: sizes[i] * count / total, floored, and the remainders that decide who gets one more.
    total = int(sizes.sum())
    take = np.clip(sizes * count // total, 1, sizes - 1)
    urgency = sizes * count - take * total
    while (missing := count - int(take.sum())) != 0:
        step = 1 if missing > 0 else -1
        movable = (take + step >= 1) & (take + step <= sizes - 1)
        order = np.argsort(np.where(movable, -step * urgency, np.iinfo(np.int64).max), kind="stable")
        chosen = order[: min(abs(missing), int(movable.sum()))]
        take[chosen] += step
        urgency[chosen] -= step * total
    part = []
    for label, n in zip(classes, take, strict=True):
        members = np.flatnonzero(labels == label)
        part.append(members[permutation(derive_seed(seed, int(label)), len(members))[:n]])
    chosen = np.sort(np.concatenate(part))
    return np.setdiff1d(np.arange(len(labels)), chosen, assume_unique=True), chosen


def share_count(labels: Labels, share: float) -> int:
    """How many of the labels a share stands for: the nearest number that leaves both sides one of each class, if any does."""
    classes = len(np.unique(labels))
    return max(classes, min(round(len(labels) * share), len(labels) - classes))


def normalise(dataset: Dataset) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel of the training images scaled to 0..1; 1.0 for a channel that is constant.

    Counted in integers, so that every machine gets the same floats.
    """
    means, deviations = [], []
    values = np.arange(256, dtype=np.int64)
    for channel in range(dataset.x_train.shape[3]):
        histogram = np.zeros(256, np.int64)
        for start in range(0, len(dataset.x_train), 1024):  # bincount widens to 8 bytes a pixel
            histogram += np.bincount(dataset.x_train[start : start + 1024, :, :, channel].reshape(-1), minlength=256)
        n, first, second = (int((histogram * values**power).sum()) for power in (0, 1, 2))
        means.append(first / n / 255)
        deviations.append(((n * second - first * first) ** 0.5 / n / 255) or 1.0)
    return tuple(means), tuple(deviations)
