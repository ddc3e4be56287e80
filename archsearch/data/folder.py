"""A user's own pictures: folders named by class, of PNG and JPEG files. Decoded by Pillow, within its limits."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from archsearch.data.dataset import Dataset, Images, Labels, share_count, stratified_split
from archsearch.jobs import InputError, derive_seed

if TYPE_CHECKING:
    from PIL.Image import Image

    from archsearch.data.section import DataSection

_SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
_LITTER = ("Thumbs.db", "desktop.ini")  # that file managers leave; names with a leading dot are passed over as well

Files = Mapping[str, list[Path]]  # the images of each class


def load(section: DataSection) -> Dataset:
    """``train/CLASS/*.png`` and ``test/CLASS/*.jpg``, or one level ``CLASS/*.png``; classes by sorted folder name.

    With one level, ``test_share`` of all becomes the test split. ``val_share`` of the training images becomes the validation
    split, unless there is ``val/CLASS/*``. With ``data.size`` an image is scaled and its middle cut out square. Photos are
    turned as their camera says, transparent parts are white, and where one image has colours all have three channels.
    JPEG decoders differ in the last bit: a set of JPEG files may have another hash with another Pillow.

    Raises:
        InputError: whatever is wrong with a folder or an image, by its path.
    """
    root = Path(section.path or "").expanduser().absolute()
    splits = _splits(root)
    names = list(splits["train"])
    order = {name: label for label, name in enumerate(names)}
    files = {split: [file for group in found.values() for file in group] for split, found in splits.items()}
    x = dict(zip(files, _read(list(files.values()), section.size), strict=True))
    y = {
        split: np.repeat([order[name] for name in found], [len(group) for group in found.values()]).astype(np.int64)
        for split, found in splits.items()
    }
    seed = section.seed
    if "test" not in splits:
        x["train"], y["train"], x["test"], y["test"] = _part(root, x["train"], y["train"], section.test_share, seed, "test")
    if "val" not in splits:
        x["train"], y["train"], x["val"], y["val"] = _part(root, x["train"], y["train"], section.val_share, seed, "val")
    return Dataset.of("folder", (x["train"], y["train"]), (x["val"], y["val"]), (x["test"], y["test"]), names)


def _part(root: Path, x: Images, y: Labels, share: float, seed: int, name: str) -> tuple[Images, Labels, Images, Labels]:
    try:
        rest, part = stratified_split(y, share_count(y, share), derive_seed(seed, "folder", name))
    except InputError as error:
        raise InputError(f"{root}: the images cannot be split for {name} (data.{name}_share): {error}") from error
    return x[rest], y[rest], x[part], y[part]


# --------------------------------------------------------------------------------------------------------------- the files
def _splits(root: Path) -> dict[str, Files]:
    """The image files of each split there is, ``train`` first, by class."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "does not exist"
        raise InputError(f"data.path: {root} {what}. Give a folder with train/CLASS/ and test/CLASS/, or with CLASS/ alone.")
    top = _folders(root, root)
    if "train" not in top or not any(entry.is_dir() for entry in _entries(root, top["train"])):
        splits = {"train": _classes(root, root)}
    else:
        if "test" not in top:
            raise InputError(
                f"{root}: train/ is there but test/ is not. Add it, or put the folders of train/ into {root.name}/."
            )
        if unknown := sorted(top.keys() - {"train", "val", "test"}):
            raise InputError(f"{root}: {unknown[0]}/ stands beside train/; expected train/, test/ and, if you like, val/.")
        splits = {split: _classes(root, top[split]) for split in ("train", "val", "test") if split in top}
    known = splits["train"]
    if len(known) < 2:
        raise InputError(f"{root}: {len(known)} folder of a class ({', '.join(known) or 'none'}); at least two are needed.")
    for split, found in splits.items():
        if split != "train" and (new := sorted(found.keys() - known.keys())):
            raise InputError(f"{top[split] / new[0]}: there is no such class in train/. It has {', '.join(known)}.")
        if not any(found.values()):
            raise InputError(f"{top[split]}: no image in it.")
        for name, group in found.items():
            if split == "train" and len(group) < 2:
                raise InputError(
                    f"{(top['train'] if len(splits) > 1 else root) / name}: a class needs two images at least, one to train on "
                    f"and one to validate; this has {len(group)}."
                )
    return splits


def _classes(root: Path, place: Path) -> Files:
    return {name: _images(root, folder) for name, folder in _folders(root, place).items()}


def _folders(root: Path, place: Path) -> dict[str, Path]:
    """The folders in ``place`` by sorted name. Files such as a README may stand beside them; images may not."""
    folders = {}
    for entry in _entries(root, place):
        if entry.is_dir():
            folders[entry.name] = entry
        elif entry.suffix.lower() in _SUFFIXES:
            raise InputError(f"{entry}: an image outside a folder of its class; expected {place}/CLASS/{entry.name}.")
    return folders


def _images(root: Path, folder: Path) -> list[Path]:
    images = []
    for entry in _entries(root, folder):
        if entry.suffix.lower() not in _SUFFIXES or not entry.is_file():
            what = "a folder in the folder of a class" if entry.is_dir() else "not a .png, .jpg or .jpeg file"
            raise InputError(f"{entry}: {what}. Put each image into CLASS/ itself, and everything else elsewhere.")
        images.append(entry)
    return images


def _entries(root: Path, place: Path) -> list[Path]:
    """What lies in ``place``, sorted by name: the order of the images must not hang on the file system."""
    try:
        with os.scandir(place) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"{place} cannot be read: {error.strerror or error}.") from error
    kept = [entry for entry in entries if not entry.name.startswith(".") and entry.name not in _LITTER]
    for entry in kept:
        if entry.is_symlink() and not Path(os.path.realpath(entry.path)).is_relative_to(os.path.realpath(root)):
            raise InputError(f"{entry.path}: a symbolic link that leaves {root}. Copy what it names into the folder.")
    return [Path(entry.path) for entry in kept]


# -------------------------------------------------------------------------------------------------------------- the pixels
def _read(splits: list[list[Path]], size: int | None) -> list[Images]:
    """The images of each split (N, H, W, C), all of one height, width and number of channels."""
    import PIL.Image

    colour, first = False, None
    pixels: list[list[Images]] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error", PIL.Image.DecompressionBombWarning)
        for files in splits:
            pixels.append([])
            for file in files:
                image = _decode(file, size)
                first = first or (image.size, file)
                if image.size != first[0]:
                    raise InputError(
                        f"{file} is {image.width}x{image.height} pixels but {first[1]} is {first[0][0]}x{first[0][1]}. "
                        "Set data.size to the side, in pixels, to which all are to be scaled."
                    )
                colour = colour or image.mode == "RGB"
                pixels[-1].append(np.asarray(image))
    assert first is not None
    width, height = first[0]
    arrays = [np.empty((len(images), height, width, 3 if colour else 1), np.uint8) for images in pixels]
    for array, images in zip(arrays, pixels, strict=True):
        for i, image_pixels in enumerate(images):
            array[i] = image_pixels if image_pixels.ndim == 3 else image_pixels[..., None]
    return arrays


def _decode(file: Path, size: int | None) -> Image:
    """One image as ``L`` or ``RGB``."""
    import PIL.Image
    from PIL.ImageOps import exif_transpose, fit

    try:
        payload = file.read_bytes()
        formats = sorted(set(_SUFFIXES.values()))  # never a decoder that the suffix does not promise
        with PIL.Image.open(BytesIO(payload), formats=formats) as image:
            image.verify()  # a PNG's checksums; they are not compared when it is loaded
        with PIL.Image.open(BytesIO(payload), formats=formats) as image:
            plain = _plain(exif_transpose(image))
            return fit(plain, (size, size)) if size is not None and plain.size != (size, size) else plain
    except (PIL.Image.DecompressionBombWarning, PIL.Image.DecompressionBombError) as error:
        raise InputError(f"{file}: too many pixels to be decoded safely: {error} Scale it down, or take it out.") from error
    except MemoryError:
        raise
    except Exception as error:  # a damaged file fails anywhere in Pillow, in a dozen ways
        what = str(error) if isinstance(error, OSError) and error.strerror is None else f"{type(error).__name__}: {error}"
        raise InputError(f"{file} cannot be read as an image ({what}). Write it anew, or take it out.") from error


def _plain(image: Image) -> Image:
    import PIL.Image

    if image.has_transparency_data:
        over = image.convert("RGBA")
        white = PIL.Image.new("RGBA", image.size, "white")
        return PIL.Image.alpha_composite(white, over).convert("L" if image.mode in ("1", "L", "LA") else "RGB")
    if image.mode.startswith("I"):  # 16 bits a pixel: the upper eight, as Pillow itself does with colours
        return PIL.Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return image.convert("L" if image.mode in ("1", "L") else "RGB")
