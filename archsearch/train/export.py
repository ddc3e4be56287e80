"""A trained network written in other formats, each file run and compared with PyTorch before it is handed over."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.export import ExportedProgram

from archsearch.arch.export import (
    ExportFailed,
    OnPixels,
    Runner,
    largest_difference,
    onnx_bytes,
    onnx_runner,
    program_of,
    torch_bytes,
    torch_runner,
)
from archsearch.data import Dataset
from archsearch.jobs import JSON
from archsearch.train.batches import resident
from archsearch.train.export_section import ExportSection

WRITERS: Mapping[str, Callable[[ExportedProgram, ExportSection], bytes]] = {
    "onnx": lambda program, settings: onnx_bytes(program, settings.opset),
    "torch": lambda program, settings: torch_bytes(program),
}
RUNNERS: Mapping[str, Callable[[bytes], Runner]] = {"onnx": onnx_runner, "torch": torch_runner}

#: Validation images that each file is run on, at most; spread evenly over the split.
MOST_IMAGES = 1024
#: Sizes of the first batches, and of the others: a graph that was traced with one size must take every other.
SIZES, BATCH = (1, 2, 3, 7, 32), 64


@dataclass(frozen=True)
class Reference:
    """What PyTorch computes, by which files are judged.

    ``whole`` is what they hold: the network, perhaps with its preprocessing. Of the batches that it is ``given``, the last one
    is made up and the others are ``images`` validation images, on which its error is ``error``; ``wanted`` are its outputs.
    """

    whole: nn.Module
    given: Sequence[Tensor]
    wanted: Sequence[Tensor]
    error: float
    images: int

    def example(self) -> bytes:
        """A safetensors file of the made-up ``images`` with the network's ``logits``."""
        return safetensors.torch.save({"images": self.given[-1].contiguous(), "logits": self.wanted[-1].contiguous()})


@dataclass(frozen=True)
class Made:
    """``files``, and what their ``checks`` found, by format."""

    files: Mapping[str, bytes]
    checks: Mapping[str, JSON]


def reference(network: nn.Module, dataset: Dataset, *, pixels: bool) -> Reference:
    """The outputs of a network, which takes normalised images, in evaluation mode.

    They are computed from images that were normalised as while training, apart from what files have inside.

    Args:
        pixels: files take images (N, H, W, C) uint8 and normalise them; else they take what the network takes.

    Raises:
        ExportFailed: some are not finite.
    """
    data = resident(dataset.without_test(), "cpu")
    chosen = np.linspace(0, len(data.val) - 1, min(len(data.val), MOST_IMAGES)).round().astype(np.int64)
    raw, labels = data.val.x[chosen], data.val.y[chosen]
    made_up = made_up_images(*dataset.shape)
    whole = OnPixels(network, data.shift, data.scale) if pixels else network
    given = [*_batches(raw if pixels else data.images(raw)), made_up if pixels else data.images(made_up)]
    normalised = [data.images(batch) for batch in given] if pixels else given
    with torch.no_grad():
        wanted = [network(batch) for batch in normalised]
    if not all(bool(logits.isfinite().all()) for logits in wanted):
        raise ExportFailed("this network's outputs are not finite for every image: there is nothing to compare files with")
    wrong = int((torch.cat(wanted[:-1]).argmax(1) != labels).sum())
    return Reference(whole, given, wanted, wrong / len(labels), len(labels))


def make(judge: Reference, settings: ExportSection, say: Callable[[str], None] = lambda text: None) -> Made:
    """The file of each format, each run and compared.

    Raises:
        ExportFailed: a file cannot be made, or its outputs are further from the network's than ``settings.tolerance``.
    """
    say("tracing the network …")
    program = program_of(judge.whole, judge.given[-1][:2])
    files: dict[str, bytes] = {}
    checks: dict[str, JSON] = {}
    for name in dict.fromkeys(settings.formats):
        say(f"writing {name}, and running it on {judge.images} validation images …")
        files[name] = WRITERS[name](program, settings)
        checks[name] = _check(name, RUNNERS[name](files[name]), judge, settings.tolerance)
    return Made(files, checks)


def made_up_images(channels: int, height: int, width: int) -> Tensor:
    """Six images (6, H, W, C) uint8 such as no data set has: black, white, a chessboard, one white pixel, a ramp, noise."""
    rows, columns = np.mgrid[0:height, 0:width]
    corner = np.zeros((height, width))
    corner[-1, -1] = 255
    plain = [np.zeros((height, width)), np.full((height, width), 255), (rows + columns) % 2 * 255, corner]
    plain.append(columns * 255 / max(width - 1, 1))
    images = np.stack([np.repeat(image[:, :, None], channels, 2) for image in plain]).astype(np.uint8)
    noise = np.random.PCG64(0).random_raw(height * width * channels).astype(np.uint8).reshape(1, height, width, channels)
    return torch.from_numpy(np.concatenate([images, noise]))


def _batches(images: Tensor) -> list[Tensor]:
    """All images in order, in batches of ``SIZES`` and then of ``BATCH``; few images make the last one smaller."""
    cuts: list[int] = []
    at = 0
    while at < len(images):
        at += SIZES[len(cuts)] if len(cuts) < len(SIZES) else BATCH
        cuts.append(at)
    return list(images.tensor_split(cuts[:-1]))


def _check(name: str, run: Runner, judge: Reference, tolerance: float) -> dict[str, JSON]:
    """
    Raises:
        ExportFailed: the file does not compute what PyTorch does; the text has the figures.
    """
    given, wanted = judge.given, judge.wanted
    found: list[Tensor] = []
    for batch in given:
        try:
            found.append(run(batch))
        except Exception as error:  # each library has its own
            raise ExportFailed(f"format {name}: the file does not run on {len(batch)} images: {error}") from error
    largest = largest_difference(found, wanted)
    if largest > tolerance:
        raise ExportFailed(
            f"format {name}: the file's outputs are not PyTorch's. The largest difference is {largest:.2g} of the largest "
            f"output of its batch, {tolerance:g} is allowed. Nothing was written."
        )
    same = sum(int((a.argmax(1) == b.argmax(1)).sum()) for a, b in zip(found[:-1], wanted[:-1], strict=True))
    return {
        "images": sum(map(len, given[:-1])),
        "made_up": len(given[-1]),
        "batch_sizes": sorted({len(batch) for batch in given}),
        "largest_difference": largest,
        "tolerance": tolerance,
        "same_class": same,
    }
