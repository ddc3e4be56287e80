"""Folders of pictures: what is taken, and what is refused by name. Every picture here is a real file."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pydantic import ValidationError

from archsearch.data import DataSection, Dataset, load
from archsearch.jobs import InputError

CLASSES = ("ant", "bee", "cow")


def picture(seed: int, shape: tuple[int, ...] = (6, 5, 3)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def save(file: Path, pixels: np.ndarray | PIL.Image.Image, **options: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    image = pixels if isinstance(pixels, PIL.Image.Image) else PIL.Image.fromarray(pixels)
    image.save(file, **options)
    return file


def fill(place: Path, count: int, *, first: int = 0, shape: tuple[int, ...] = (6, 5, 3)) -> None:
    for label, name in enumerate(CLASSES):
        for i in range(count):
            save(place / name / f"{i:02d}.png", picture(first + 100 * label + i, shape))


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """train/ with 10 pictures of each of three classes, test/ with 4."""
    fill(tmp_path / "pets" / "train", 10)
    fill(tmp_path / "pets" / "test", 4, first=5000)
    return tmp_path / "pets"


def read(folder: Path, **keys: Any) -> Dataset:
    return load(DataSection(name="folder", path=str(folder), **keys))


def pairs(data: Dataset, *splits: str) -> set[tuple[bytes, int]]:
    found = [
        (x.tobytes(), int(y)) for s in splits for x, y in zip(getattr(data, f"x_{s}"), getattr(data, f"y_{s}"), strict=True)
    ]
    assert len(found) == len(set(found))
    return set(found)


def test_pixels_arrive_as_they_are_under_their_class(pets: Path) -> None:
    data = read(pets)
    assert (data.shape, data.classes, data.class_names) == ((3, 6, 5), 3, CLASSES)
    assert pairs(data, "train", "val") == {(picture(100 * k + i).tobytes(), k) for k in range(3) for i in range(10)}
    assert pairs(data, "test") == {(picture(5000 + 100 * k + i).tobytes(), k) for k in range(3) for i in range(4)}
    assert np.bincount(data.y_val).tolist() == [2, 2, 2]
    assert read(pets, val_share=0.5).y_val.shape == (15,) and read(pets, seed=1).hash != data.hash == read(pets).hash
    assert len(read(pets, max_train=6).y_train) == 6


def test_a_validation_folder_is_used_whole(pets: Path) -> None:
    fill(pets / "val", 3, first=9000)
    data = read(pets)
    assert (len(data.y_train), len(data.y_val), len(data.y_test)) == (30, 9, 12)
    assert pairs(data, "val") == {(picture(9000 + 100 * k + i).tobytes(), k) for k in range(3) for i in range(3)}


def test_one_level_is_split_by_test_share(tmp_path: Path) -> None:
    fill(tmp_path, 10)
    (tmp_path / "README.md").write_text("about")
    data = read(tmp_path, test_share=0.3)
    assert np.bincount(data.y_test).tolist() == [3, 3, 3]
    assert pairs(data, "train", "val", "test") == {(picture(100 * k + i).tobytes(), k) for k in range(3) for i in range(10)}
    (tmp_path / "bee").rename(tmp_path / "train")  # a class of that name
    assert read(tmp_path).class_names == ("ant", "cow", "train")


def test_order_of_the_file_system_and_litter_do_not_count(pets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(pets).hash
    for name in (".DS_Store", "Thumbs.db"):
        (pets / "train" / "ant" / name).write_bytes(b"x")
    scandir = os.scandir

    class Backwards(list[Any]):
        def __init__(self, path: Any) -> None:
            super().__init__(sorted(scandir(path), key=lambda entry: entry.name, reverse=True))

        def __enter__(self) -> Backwards:
            return self

        def __exit__(self, *_error: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Backwards)
    assert read(pets).hash == before


def test_images_that_differ_in_size_need_a_size(pets: Path) -> None:
    wide = np.zeros((8, 24, 3), np.uint8)
    wide[:, 8:16] = 200  # the middle
    odd = save(pets / "test" / "cow" / "99.png", wide)
    with pytest.raises(InputError, match=rf"{odd} is 24x8 pixels but .*00\.png is 5x6.*data\.size"):
        read(pets)
    data = read(pets, size=4)
    assert data.shape == (3, 4, 4) and (data.x_test[-1] > 180).all(), "the middle, not the whole squeezed"


def test_every_way_to_store_a_picture(tmp_path: Path) -> None:
    def stored(pixels: Any, name: str = "a.png", **options: Any) -> np.ndarray:
        for k, place in enumerate(CLASSES[:2]):
            for i in range(4):
                save(tmp_path / place / f"{i}.png", np.full((6, 5), 9 * k + i, np.uint8))
        file = save(tmp_path / "ant" / name, pixels, **options)
        data = read(tmp_path)
        file.unlink()
        every = np.concatenate([data.x_train, data.x_val, data.x_test])
        labels = np.concatenate([data.y_train, data.y_val, data.y_test])
        plain = {bytes([value] * 30 * every.shape[3]) for value in (*range(4), *range(9, 13))}
        (odd,) = [x for x, y in zip(every, labels, strict=True) if x.tobytes() not in plain and y == 0]
        return odd

    grey, colour = picture(1, (6, 5)), picture(2)
    assert np.array_equal(stored(grey), grey[..., None]), "all grey: one channel"
    assert np.array_equal(stored(colour), colour)
    assert np.array_equal(stored((grey.astype(np.uint16) << 8) + 255), grey[..., None]), "16 bits"
    assert set(stored(PIL.Image.fromarray(grey > 99)).ravel().tolist()) == {0, 255}
    few = PIL.Image.fromarray(colour).quantize(8)
    assert np.array_equal(stored(few), np.asarray(few.convert("RGB")))
    clear = np.dstack([colour, np.full((6, 5), 255, np.uint8)])
    clear[0, 0, 3] = 0
    assert stored(clear)[0, 0].tolist() == [255] * 3 and np.array_equal(stored(clear)[1:], colour[1:])
    flat = PIL.Image.new("RGB", (5, 6), (10, 200, 30))
    assert np.allclose(stored(flat, "a.JPG", quality=95), (10, 200, 30), atol=4)
    exif = PIL.Image.Exif()
    exif[0x0112] = 3  # upside down
    assert np.array_equal(stored(colour, exif=exif), colour[::-1, ::-1])


def flipped(pets: Path) -> Path:
    file = pets / "train" / "bee" / "03.png"
    data = bytearray(file.read_bytes())
    data[data.index(b"IDAT") + 12] ^= 1
    file.write_bytes(data)
    return file


def changed_checksum(pets: Path) -> Path:
    """Pixels changed by somebody who left the chunk's checksum: zlib alone would not mind."""
    file = pets / "train" / "bee" / "03.png"
    data = file.read_bytes()
    at = data.index(b"IDAT")
    length = int.from_bytes(data[at - 4 : at], "big")
    pixels = zlib.decompress(data[at + 4 : at + 4 + length])
    new = zlib.compress(bytes([pixels[0], pixels[1] ^ 1]) + pixels[2:])
    file.write_bytes(data[: at - 4] + len(new).to_bytes(4, "big") + b"IDAT" + new + data[at + 4 + length :])
    return file


def cut(pets: Path, suffix: str) -> Path:
    file = save(pets / "test" / "ant" / f"77{suffix}", picture(3))
    file.write_bytes(file.read_bytes()[:-40])
    return file


def other_format(pets: Path) -> Path:
    return save(pets / "train" / "cow" / "50.png", picture(4), format="GIF")


def written(file: Path, payload: bytes = b"") -> Path:
    file.write_bytes(payload)
    return file


def linked(file: Path, target: Path) -> Path:
    file.symlink_to(target)
    return file


def emptied(folder: Path, keep: int = 0) -> Path:
    for file in sorted(folder.iterdir())[keep:]:
        file.unlink()
    return folder


def piped(file: Path) -> Path:
    os.mkfifo(file)
    return file


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


BAD: dict[str, tuple[Callable[[Path], Path], str]] = {
    "flipped byte": (flipped, "cannot be read as an image"),
    "checksum": (changed_checksum, "cannot be read as an image"),
    "cut png": (lambda p: cut(p, ".png"), "cannot be read as an image"),
    "cut jpeg": (lambda p: cut(p, ".jpg"), "cannot be read as an image"),
    "empty file": (lambda p: written(p / "train" / "ant" / "z.jpeg"), "cannot be read as an image"),
    "another format": (other_format, "cannot be read as an image"),
    "text": (lambda p: written(p / "train" / "ant" / "notes.txt"), r"not a \.png"),
    "folder in a class": (lambda p: made(p / "train" / "ant" / "more"), "a folder in the folder of a class"),
    "a pipe": (lambda p: piped(p / "test" / "ant" / "z.png"), r"not a \.png"),
    "lost link": (lambda p: linked(p / "test" / "ant" / "z.png", p / "gone.png"), r"not a \.png"),
    "image beside classes": (lambda p: save(p / "train" / "z.png", picture(0)), "outside a folder of its class"),
    "link that leaves": (
        lambda p: linked(p / "train" / "ant" / "z.png", save(p.parent / "out.png", picture(0))),
        "symbolic link that leaves",
    ),
    "class link that leaves": (lambda p: linked(p / "train" / "dog", made(p.parent / "dog")), "symbolic link that leaves"),
    "unknown class": (
        lambda p: save(p / "test" / "dog" / "a.png", picture(0)).parent,
        "no such class in train/.*ant, bee, cow",
    ),
    "unknown split": (lambda p: made(p / "valid"), "valid/ stands beside train/"),
    "empty class": (lambda p: made(p / "train" / "dog"), "this has 0"),
    "one image": (lambda p: emptied(p / "train" / "bee", keep=1), "this has 1"),
}


@pytest.mark.parametrize("what", BAD)
def test_what_cannot_be_used_is_refused_by_name(what: str, pets: Path) -> None:
    spoil, said = BAD[what]
    name = spoil(pets)
    with pytest.raises(InputError, match=said) as error:
        read(pets)
    assert (str(name) if what != "unknown split" else str(pets)) in str(error.value)


def test_what_is_missing_is_said(pets: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist\. Give a folder"):
        read(tmp_path / "nowhere")
    with pytest.raises(InputError, match="is a file, not a folder"):
        read(written(tmp_path / "file"))
    with pytest.raises(InputError, match=r"0 folder of a class \(none\)"):
        read(made(tmp_path / "bare"))
    for name in CLASSES:
        emptied(pets / "test" / name)
    with pytest.raises(InputError, match=r"pets/test: no image"):
        read(pets)
    for name in CLASSES:
        (pets / "test" / name).rmdir()
    (pets / "test").rmdir()
    with pytest.raises(InputError, match="train/ is there but test/ is not"):
        read(pets)
    fill(tmp_path / "small", 2)
    with pytest.raises(InputError, match=r"small: the images cannot be split for val \(data\.val_share\)"):
        read(tmp_path / "small")


def test_a_link_within_the_folder_is_followed(pets: Path) -> None:
    linked(pets / "train" / "ant" / "10.png", pets / "test" / "ant" / "00.png")
    assert len(read(pets).y_train) + len(read(pets).y_val) == 31


@pytest.mark.parametrize("limit", [4000, 8000], ids=["twice the limit", "above the limit"])
def test_pillows_limit_on_pixels_is_kept(pets: Path, limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred bytes of PNG may stand for gigabytes of pixels."""
    bomb = save(pets / "train" / "ant" / "bomb.png", np.zeros((100, 90), np.uint8))
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", limit)
    with pytest.raises(InputError, match=r"bomb\.png: too many pixels") as error:
        read(pets, size=6)
    assert str(bomb) in str(error.value)


def test_the_section_says_what_is_missing() -> None:
    with pytest.raises(ValidationError, match=r"data\.path is not set; give the folder"):
        DataSection(name="folder")
    with pytest.raises(ValidationError, match="have a size of their own"):
        DataSection(name="digits", size=8)
