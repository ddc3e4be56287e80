"""Augmentation of whole batches on the training device. Every draw comes from the generator given, on that device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from archsearch.data.section import AugmentSection


def augment(
    x: Tensor, y: Tensor, settings: AugmentSection, generator: torch.Generator, *, classes: int | None = None
) -> tuple[Tensor, Tensor]:
    """Flip, shift, cutout and mixup, in this order, each image by itself.

    Args:
        x: ``(N, C, H, W)`` floating, usually normalised (padding and cutout put 0, then the mean); or ``(N, H, W, C)`` uint8.
        y: ``(N,)`` int64, or ``(N, classes)`` floating.
        generator: on the device of ``x``.
        classes: needed for mixup of integer labels.

    Returns:
        The batch in the layout it came in (a uint8 batch is float32 after mixup, still 0..255), never ``x`` itself changed;
        labels as they came, or after mixup ``(N, classes)`` float32 that sum to 1.
    """
    channels_last = x.dtype == torch.uint8
    height, width = x.shape[1:3] if channels_last else x.shape[2:4]
    rows, cols, kept = _indices(len(x), int(height), int(width), settings, generator, x.device)
    if rows is not None:
        x = _pick(x, rows, cols, channels_last)
    if kept is not None:
        x = x * kept.unsqueeze(-1 if channels_last else 1).to(x.dtype)
    return _mixup(x, y, settings.mixup, generator, classes) if settings.mixup else (x, y)


def _indices(
    n: int, height: int, width: int, settings: AugmentSection, generator: torch.Generator, device: torch.device
) -> tuple[Tensor | None, Tensor, Tensor | None]:
    """Source rows ``(n, height)`` and columns ``(n, width)`` of each pixel, and which pixels are kept ``(n, height, width)``.

    None where nothing is to be done. One gather then serves flip and shift, one multiplication padding and cutout.
    """
    rows = torch.arange(height, device=device).expand(n, height)
    cols = torch.arange(width, device=device).expand(n, width)
    inside = None

    def draw(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (n, 1), generator=generator, device=device)

    down, right = round(settings.shift * height), round(settings.shift * width)
    moved = settings.flip or down > 0 or right > 0
    if settings.flip:
        cols = torch.where(draw(0, 2).bool(), width - 1 - cols, cols)
    if down or right:
        rows, cols = rows + draw(-down, down + 1), cols + draw(-right, right + 1)
        row_inside, col_inside = (rows >= 0) & (rows < height), (cols >= 0) & (cols < width)
        inside = row_inside[:, :, None] & col_inside[:, None, :]
        rows, cols = rows.clamp(0, height - 1), cols.clamp(0, width - 1)
    if settings.cutout:
        tall, wide = (_band(length, settings.cutout, draw(0, length)) for length in (height, width))
        hole = tall[:, :, None] & wide[:, None, :]
        inside = ~hole if inside is None else inside & ~hole
    return (rows if moved else None), cols, inside


def _band(length: int, share: float, centre: Tensor) -> Tensor:
    """``(n, length)``: the positions that a hole of that share covers; its centre is a pixel, its ends may lie outside."""
    side = max(1, round(share * length))
    position = torch.arange(length, device=centre.device)
    start = centre - side // 2
    return (position >= start) & (position < start + side)


def _pick(x: Tensor, rows: Tensor, cols: Tensor, channels_last: bool) -> Tensor:
    """Each image's pixels at its own rows ``(N, H)`` and columns ``(N, W)``."""
    n = torch.arange(len(x), device=x.device)
    if channels_last:
        return x[n[:, None, None], rows[:, :, None], cols[:, None, :]]
    channel = torch.arange(x.shape[1], device=x.device)
    return x[n[:, None, None, None], channel[:, None, None], rows[:, None, :, None], cols[:, None, None, :]]


def _mixup(x: Tensor, y: Tensor, alpha: float, generator: torch.Generator, classes: int | None) -> tuple[Tensor, Tensor]:
    """Zhang et al. 2018 (arXiv 1710.09412): each image mixed with another of the batch, weight ~ Beta(alpha, alpha)."""
    if not y.is_floating_point():
        if classes is None:
            raise ValueError("mixup of integer labels needs the number of classes")
        y = torch.nn.functional.one_hot(y, classes).float()
    other = torch.randperm(len(x), generator=generator, device=x.device)
    weight = _beta(alpha, len(x), generator, x.device)
    image_weight = weight[:, None, None, None]
    x = x.float() if x.dtype == torch.uint8 else x
    return torch.lerp(x[other], x, image_weight.to(x.dtype)), torch.lerp(y[other], y, weight[:, None].to(y.dtype))


def _beta(alpha: float, n: int, generator: torch.Generator, device: torch.device, tries: int = 24) -> Tensor:
    """``(n,)`` draws of Beta(alpha, alpha), alpha <= 1, by Jöhnk's rejection in logarithms, without waiting for the device.

    u^(1/a) / (u^(1/a) + v^(1/a)) is kept where the denominator is at most 1: at least every second try, so that all 24 fail
    once in 16 million; the first try then serves.
    """
    u, v = (1 - torch.rand((2, n, tries), generator=generator, device=device)).log() / max(alpha, 1e-3)
    accepted = torch.logaddexp(u, v) <= 0
    first = accepted.int().argmax(1, keepdim=True)
    return torch.sigmoid((u - v).gather(1, first)).squeeze(1)
