"""Characters from the fonts that matplotlib ships, as masks that are the same on every machine.

Outlines are read from the font files in font units, which are integers: no hinting and no version of FreeType matters.
The rasteriser below uses integers and single IEEE operations only.
"""

from __future__ import annotations

import hashlib
import logging
import warnings
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

#: Classes in their order. With all 62 letters and digits some pairs differ by size or by little: c/C, o/O/0, l/I/1, s/S, v/V...
CHARACTERS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz&%#@?!+=*;"

FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Bold", "-Oblique", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Bold", "-Italic", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Bol", "Italic", "BolIta")),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)

#: What the outlines of all faces and characters hash to, in matplotlib 3.9, 3.10 and 3.11 alike.
OUTLINES_SHA256 = "a6aed15a742e37e1ad5909eb2ad6a3cc2be1604f45fb642e77b34007d62ae35d"

_CURVE_STEPS = 8
_SUB = 8  # sub-rows and sub-columns of a pixel

Points = NDArray[np.float64]  # (n, 2): x and y, y upwards
Lines = NDArray[np.float64]  # (n, 2, 2): start and end of each line


@lru_cache(maxsize=1)
def outlines() -> dict[tuple[str, str], Lines]:
    """Face and character -> the lines of its outline, in font units. Warns if the fonts are not the expected ones."""
    # fontTools, which matplotlib needs itself, gives the numbers in the file; matplotlib.ft2font's vary with its version.
    import matplotlib
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    logging.getLogger("fontTools.ttLib.tables._h_e_a_d").setLevel(logging.ERROR)  # it complains of the cm fonts' dates
    digest = hashlib.sha256()
    found = {}
    for face in FACES:
        with TTFont(folder / f"{face}.ttf", lazy=True) as font:
            glyphs, names = font["glyf"], font.getBestCmap()
            for character in CHARACTERS:
                coordinates, ends, flags = glyphs[names[ord(character)]].getCoordinates(glyphs)
                points, on_curve = np.array(coordinates, np.float64), np.array(flags, np.uint8) & 1 == 1
                digest.update(f"{face} {character} {list(ends)}".encode() + points.astype("<f8").tobytes() + on_curve.tobytes())
                starts = [0, *(end + 1 for end in ends)]
                contours = [slice(a, b) for a, b in pairwise(starts)]
                found[face, character] = np.concatenate([_flatten(points[c], on_curve[c]) for c in contours])
    if digest.hexdigest() != OUTLINES_SHA256:
        warnings.warn(
            f"the fonts of matplotlib {matplotlib.__version__} in {folder} are not those that the glyphs data set was made "
            "with; its images differ from other machines'",
            stacklevel=2,
        )
    return found


def _flatten(points: Points, on_curve: NDArray[np.bool_]) -> Lines:
    """The lines of one TrueType contour: where two control points meet, their middle is implied."""
    implied = np.flatnonzero(~on_curve & ~np.roll(on_curve, -1))
    points = np.insert(points, implied + 1, (points[implied] + np.roll(points, -1, axis=0)[implied]) / 2, axis=0)
    on_curve = np.insert(on_curve, implied + 1, True)
    turn = -int(np.argmax(on_curve))
    points, on_curve = np.roll(points, turn, axis=0), np.roll(on_curve, turn)
    points, on_curve = np.append(points, points[:1], axis=0), np.append(on_curve, True)
    straight = np.flatnonzero(on_curve[:-1] & on_curve[1:])
    control = np.flatnonzero(~on_curve)
    p0, p1, p2 = points[control - 1], points[control], points[control + 1]
    steps = [
        ((_CURVE_STEPS - k) ** 2 * p0 + 2 * k * (_CURVE_STEPS - k) * p1 + k * k * p2) / _CURVE_STEPS**2
        for k in range(_CURVE_STEPS + 1)
    ]
    return np.concatenate([np.stack(pair, axis=1) for pair in [(points[straight], points[straight + 1]), *pairwise(steps)]])


@lru_cache(maxsize=4)
def masks(classes: int, cap: int) -> NDArray[np.uint8]:
    """Coverage 0..255 of each face's characters: ``(faces, classes, side, side)``, side = 2 * cap + 4, the border empty.

    ``cap`` is the height of a capital H in pixels, for every face; so sizes within a face keep their relation and c is not
    C. A character's ink is centred from left to right; up and down, 0.36 capitals above the baseline is the middle.
    """
    table = outlines()
    half = cap + 2
    result = np.zeros((len(FACES), classes, 2 * half, 2 * half), np.uint8)
    for i, face in enumerate(FACES):
        scale = cap / float(table[face, "H"][:, :, 1].max())
        for j, character in enumerate(CHARACTERS[:classes]):
            lines = table[face, character]
            x, y = lines[:, :, 0], lines[:, :, 1]
            middle = (x.min() + x.max()) / 2
            result[i, j] = _rasterise((x - middle) * scale + half, half + 0.36 * cap - y * scale, 2 * half)
    return result


def _rasterise(x: NDArray[np.float64], y: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """Coverage of the inside (non-zero winding) of closed outlines, lines ``(n, 2)`` from and to, in pixels, y downwards."""
    centres = (np.arange(size * _SUB) + 0.5) / _SUB
    above = y[:, :, None] <= centres  # (n, 2, rows)
    line, row = np.nonzero(above[:, 0] != above[:, 1])
    x0, y0, x1, y1 = x[line, 0], y[line, 0], x[line, 1], y[line, 1]
    crossing = x0 + (centres[row] - y0) * ((x1 - x0) / (y1 - y0))
    column = np.clip(np.ceil(crossing * _SUB - 0.5), 0, size * _SUB).astype(np.intp)
    turns = np.zeros((size * _SUB, size * _SUB + 1), np.int8)
    np.add.at(turns, (row, column), np.where(y1 > y0, 1, -1).astype(np.int8))
    inside = np.cumsum(turns, axis=1, dtype=np.int8)[:, :-1] != 0
    covered: NDArray[np.int64] = inside.reshape(size, _SUB, size, _SUB).sum(axis=(1, 3))
    return ((covered * 255 + _SUB * _SUB // 2) // (_SUB * _SUB)).astype(np.uint8)
