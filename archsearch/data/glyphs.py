"""A generated data set: characters in many faces, warped, coloured, cluttered and noisy, as hard as wanted.

The same seed gives the same bytes on every machine: draws are raw PCG64 output (a stream that NumPy never changes),
arithmetic is in integers, sines come from a table of rounded values, and the outlines are integers (``outlines.py``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from archsearch.data.dataset import Dataset, Images, Labels, permutation
from archsearch.data.outlines import CHARACTERS, FACES, masks
from archsearch.jobs import derive_seed

if TYPE_CHECKING:
    from archsearch.data.section import DataSection, GlyphsSection

Ints = NDArray[np.int64]

_BLOCK = 64  # images made at once; a block has a seed of its own, so that more images never change the first ones
_ONE = 4096  # fixed-point 1.0
_DEGREE = 4  # steps of an angle in a degree
_COS, _SIN = (
    np.array([round(f(math.radians(k / _DEGREE)) * _ONE) for k in range(360 * _DEGREE)], np.int64) for f in (math.cos, math.sin)
)


def load(section: DataSection) -> Dataset:
    """Images (N, size, size, 3), classes as even as the counts allow. Splits share the faces and no image."""
    knobs = section.glyphs
    splits = []
    for split, count in (("train", knobs.train), ("val", knobs.val), ("test", knobs.test)):
        seed = derive_seed(section.seed, "glyphs", split)
        x, y = images(knobs, count, seed)
        order = permutation(derive_seed(seed, "order"), count)
        splits.append((x[order], y[order]))
    train, val, test = splits
    return Dataset.of("glyphs", train, val, test, list(CHARACTERS[: knobs.classes]))


def images(knobs: GlyphsSection, count: int, seed: int) -> tuple[Images, Labels]:
    """``count`` images and their labels 0, 1, ..., classes - 1, 0, 1, ...: a prefix of what a greater count gives."""
    made = []
    for block in range(-(-count // _BLOCK)):
        labels = (np.arange(_BLOCK) + block * _BLOCK) % knobs.classes
        made.append(_draw_block(labels, knobs, Draws(derive_seed(seed, block))))
    return np.concatenate(made)[:count], np.arange(count, dtype=np.int64) % knobs.classes


class Draws:
    """Integers from the raw output of PCG64."""

    def __init__(self, seed: int) -> None:
        self._raw = np.random.PCG64(seed)

    def integers(self, low: int, high: int, *shape: int) -> Ints:
        """From ``low`` to ``high``, both included; ranges below 2**30."""
        high_bits: Ints = (self._raw.random_raw(math.prod(shape)) >> np.uint64(34)).astype(np.int64)
        return (low + (high_bits * (high - low + 1) >> 30)).reshape(shape)

    def bell(self, *shape: int) -> Ints:
        """Roughly normal around 0 with standard deviation 147.8: the sum of four bytes less 510."""
        count = math.prod(shape)
        raw: NDArray[Any] = np.atleast_1d(self._raw.random_raw(-(-count // 2))).astype("<u8").view(np.uint8)
        sums: Ints = raw.reshape(-1, 4).sum(axis=1, dtype=np.int64)
        return sums[:count].reshape(shape) - 510


def _draw_block(labels: Labels, knobs: GlyphsSection, draws: Draws) -> Images:
    """One image ``(size, size, 3)`` per label: background, clutter under the character, the character, strokes, noise."""
    n, size, hard = len(labels), knobs.size, knobs.difficulty

    def knob(easy: float, difficult: float) -> int:
        return math.floor(easy + (difficult - easy) * hard + 0.5)

    ground = draws.integers(0, 255, n, 3)
    canvas: Ints = ground[:, None, None] + _texture(draws.integers(-knob(8, 48), knob(8, 48), n, 5, 5, 3), size)

    def inks(low: int, high: int) -> Ints:
        """Colours (n, 3) that stand out from the ground by about ``low`` to ``high`` levels."""
        gap = draws.integers(low, high, n) * np.where(ground.sum(axis=1) < 3 * 128, 1, -1)
        colours: Ints = np.clip(ground + gap[:, None] + draws.integers(-40, 40, n, 3), 0, 255)
        return colours

    for _ in range(knob(0, 4)):  # pieces of other characters at the border, each there in two images of three
        ink = inks(knob(110, 30), knob(200, 110))
        along, across = draws.integers(-8 * size, 8 * size, n), draws.integers(7 * size, 10 * size, n) * _signs(draws, n)
        upright = draws.integers(0, 1, n) == 1
        place = np.where(upright, along, across), np.where(upright, across, along)
        turn = draws.integers(-45 * _DEGREE, 45 * _DEGREE, n)
        strength = draws.integers(140, 220, n) * (draws.integers(0, 2, n) > 0)
        other = draws.integers(0, knobs.classes - 1, n)
        cover = _characters(other, knobs, draws, turn, draws.integers(-_ONE // 8, _ONE // 8, n), place, knob(4, 16))
        _paint(canvas, cover * strength[:, None, None] >> 8, ink)

    ink = inks(knob(110, 48), knob(200, 110))
    turn = draws.integers(-knob(4, 30) * _DEGREE, knob(4, 30) * _DEGREE, n)
    shear = draws.integers(-knob(150, 1600), knob(150, 1600), n)
    reach = knob(size / 2, 2 * size)  # sixteenths of a pixel: 1/32 to 1/8 of the side
    place = draws.integers(-reach, reach, n), draws.integers(-reach, reach, n)
    _paint(canvas, _characters(labels, knobs, draws, turn, shear, place, knob(4, 24)), ink)

    for _ in range(knob(0, 2)):  # strokes over the character, each there in every second image
        ink = inks(knob(60, 0), knob(160, 110))
        strength = 255 * draws.integers(0, 1, n)
        _paint(canvas, _strokes(size, draws, n) * strength[:, None, None] >> 8, ink)

    canvas += draws.bell(n, size, size, 3) * knob(6, 44) >> 8
    final: Images = np.clip(canvas, 0, 255).astype(np.uint8)
    return final


def _signs(draws: Draws, n: int) -> Ints:
    return draws.integers(0, 1, n) * 2 - 1


def _paint(canvas: Ints, cover: Ints, ink: Ints) -> None:
    """Lay a colour ``(n, 3)`` over the canvas ``(n, size, size, 3)`` where ``cover`` ``(n, size, size)`` says, 0..255."""
    canvas += ((ink[:, None, None] - canvas) * cover[..., None] + 127) // 255


def _texture(lattice: Ints, size: int) -> Ints:
    """A lattice ``(n, k, k, 3)`` spread smoothly over ``(n, size, size, 3)``."""
    position = np.arange(size) * (lattice.shape[1] - 1) * 256 // size
    cell, part = position >> 8, position & 255
    rows: Ints = lattice[:, cell] * (256 - part)[:, None, None] + lattice[:, cell + 1] * part[:, None, None]
    spread: Ints = rows[:, :, cell] * (256 - part)[:, None] + rows[:, :, cell + 1] * part[:, None]
    return spread >> 16


def _strokes(size: int, draws: Draws, n: int) -> Ints:
    """Coverage ``(n, size, size)`` of one straight stroke each, at any angle, at most a third of the side off the middle."""
    angle = draws.integers(0, 360 * _DEGREE - 1, n)
    away = draws.integers(-size * _ONE // 3, size * _ONE // 3, n)
    half = draws.integers(size * _ONE // 64, size * _ONE // 32, n)
    line = 2 * np.arange(size) + 1 - size  # twice the distance from the middle
    distance = (_COS[angle][:, None, None] * line + _SIN[angle][:, None, None] * line[:, None]) // 2 - away[:, None, None]
    return np.clip(half[:, None, None] + _ONE // 2 - np.abs(distance), 0, _ONE) * 255 // _ONE


def _characters(
    labels: Labels, knobs: GlyphsSection, draws: Draws, turn: Ints, shear: Ints, place: tuple[Ints, Ints], stretch: int
) -> Ints:
    """Coverage 0..255 ``(n, size, size)`` of one character each, in a face drawn at random.

    ``turn`` is in steps of an angle, ``shear`` in 1/4096, ``place`` (right, down) in sixteenths of a pixel from the middle;
    width and height each shrink or grow by up to ``stretch`` percent.
    """
    n, size = len(labels), knobs.size
    table = masks(knobs.classes, size * 3 // 5)
    side = table.shape[-1]
    which = draws.integers(0, len(FACES) - 1, n) * knobs.classes + labels
    # From a pixel of the image back to the mask: turn, shear, then stretch, in fixed point.
    cos, sin = _COS[turn % (360 * _DEGREE)], _SIN[turn % (360 * _DEGREE)]
    limit = _ONE * stretch // 100
    wide, tall = (_ONE + draws.integers(-limit, limit, n) for _ in range(2))
    matrix = ((wide, cos - (shear * sin >> 12), sin + (shear * cos >> 12)), (tall, -sin, cos))
    grid = 16 * np.arange(size) + 8 - 8 * size
    right, down = grid - place[0][:, None], grid - place[1][:, None]
    across, along = (
        ((scale * a >> 12)[:, None, None] * right[:, None, :] + (scale * b >> 12)[:, None, None] * down[:, :, None] >> 4)
        + (side - 1) * _ONE // 2
        for scale, a, b in matrix
    )
    # Bilinear; what lies outside falls on the mask's border, which is empty.
    column, row = np.clip(across >> 12, 0, side - 2), np.clip(along >> 12, 0, side - 2)
    x, y = across >> 4 & 255, along >> 4 & 255
    flat = table.reshape(-1)
    first = (which * side * side)[:, None, None] + row * side + column
    corner = [flat.take(first + step).astype(np.int64) for step in (0, 1, side, side + 1)]
    top, bottom = corner[0] * (256 - x) + corner[1] * x, corner[2] * (256 - x) + corner[3] * x
    cover: Ints = top * (256 - y) + bottom * y
    return cover >> 16
