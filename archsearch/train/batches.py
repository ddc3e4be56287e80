"""Images on the training device, and batches of them that depend on nothing but (seed, step)."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from archsearch.data.augment import augment
from archsearch.data.dataset import Dataset, Images, Labels, normalise
from archsearch.jobs import InputError, derive_seed

if TYPE_CHECKING:
    from archsearch.data.section import AugmentSection

#: The data set that this process used last, on its device: jobs of one run share it, and another run's replaces it.
_RESIDENT: dict[tuple[str, str], Resident] = {}


@dataclass(frozen=True)
class Split:
    """Images ``(N, H, W, C)`` uint8 and labels ``(N,)`` int64, on the training device."""

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Resident:
    """A data set on a device. ``shift`` and ``scale``, both ``(1, C, 1, 1)``, take pixels 0..255 to mean 0 and deviation 1."""

    train: Split
    val: Split
    shift: Tensor
    scale: Tensor
    classes: int

    def images(self, x: Tensor) -> Tensor:
        """Raw images ``(N, H, W, C)`` uint8 as a network takes them: ``(N, C, H, W)`` float32, normalised, contiguous."""
        return x.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).sub_(self.shift).mul_(self.scale)


def resident(dataset: Dataset, device: str) -> Resident:
    """The data set on the device, moved there once per process; on a CPU its arrays are shared, not copied."""
    key = (dataset.hash, device)
    if key not in _RESIDENT:
        _RESIDENT.clear()
        mean, std = (torch.tensor(values, dtype=torch.float64).view(1, -1, 1, 1) * 255 for values in normalise(dataset))
        _RESIDENT[key] = Resident(
            on_device(dataset.x_train, dataset.y_train, device),
            on_device(dataset.x_val, dataset.y_val, device),
            mean.to(device, torch.float32),
            (1 / std).to(device, torch.float32),
            dataset.classes,
        )
    return _RESIDENT[key]


def on_device(x: Images, y: Labels, device: str) -> Split:
    """One split on a device."""
    with warnings.catch_warnings():
        # Arrays that Ray shares between processes are read-only. Nothing here writes into them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        return Split(torch.from_numpy(x).to(device), torch.from_numpy(y).to(device))


class Batches:
    """Training batches of one job. Step ``s`` gives the same batch in every process: shuffling is keyed by the epoch,
    augmentation by the step, so a resumed job needs no state of a random number generator.

    Every batch has the same size; the last, smaller one of an epoch is left out (epochs are shuffled anew, so no image is
    left out for good).
    """

    def __init__(self, data: Resident, batch_size: int, settings: AugmentSection, seed: int) -> None:
        if len(data.train) < 2:
            raise InputError(f"the training split has {len(data.train)} image; batch normalisation needs at least 2")
        self.data = data
        self.size = min(batch_size, len(data.train))
        if self.size < 2:
            raise InputError("batch_size: 1 was given, but batch normalisation needs at least 2 images in a step")
        self.per_epoch = len(data.train) // self.size
        self.settings = settings
        self.seed = seed
        self._augmented = any((settings.flip, settings.shift, settings.cutout, settings.mixup))
        self._generator = torch.Generator(device=data.train.x.device)
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def at(self, step: int) -> tuple[Tensor, Tensor]:
        """Images ``(N, C, H, W)`` float32 and labels, ``(N,)`` int64 or, after mixup, ``(N, classes)`` float32."""
        epoch, index = divmod(step, self.per_epoch)
        if epoch != self._epoch:
            order = torch.randperm(len(self.data.train), generator=generator(self.seed, "shuffle", epoch))
            self._order, self._epoch = order.to(self.data.train.x.device), epoch
        chosen = self._order[index * self.size : (index + 1) * self.size]
        x, y = self.data.images(self.data.train.x[chosen]), self.data.train.y[chosen]
        if self._augmented:
            self._generator.manual_seed(derive_seed(self.seed, "augment", step))
            x, y = augment(x, y, self.settings, self._generator, classes=self.data.classes)
        return x, y


def generator(seed: int, *key: int | str) -> torch.Generator:
    """A fresh CPU generator for one purpose."""
    return torch.Generator().manual_seed(derive_seed(seed, *key))


def reseed(seed: int, step: int, device: str) -> None:
    """Set torch's global generators (dropout, drop path) for one step; ``torch.manual_seed`` costs ten times as much."""
    value = derive_seed(seed, "dropout", step)
    torch.default_generator.manual_seed(value)
    if device.startswith("cuda"):
        index = torch.device(device).index
        torch.cuda.default_generators[torch.cuda.current_device() if index is None else index].manual_seed(value)
