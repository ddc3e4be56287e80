"""A user's own file: what is taken, and what is refused by name. Every file here is a real one."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from archsearch.data import DataSection, Dataset, load
from archsearch.jobs import InputError


def arrays(n: int = 30, m: int = 12, shape: tuple[int, ...] = (6, 5, 3), classes: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(0, 256, (n, *shape), dtype=np.uint8),
        "y_train": np.arange(n) % classes,
        "x_test": rng.integers(0, 256, (m, *shape), dtype=np.uint8),
        "y_test": np.arange(m) % classes,
    }


def section(path: Path, **keys: Any) -> DataSection:
    return DataSection(name="npz", path=str(path), **keys)


def read(folder: Path, content: dict[str, Any], **keys: Any) -> Dataset:
    np.savez(folder / "mine.npz", **content)
    return load(section(folder / "mine.npz", **keys))


def test_images_and_labels_arrive_as_they_are(tmp_path: Path) -> None:
    content = arrays()
    data = read(tmp_path, content)
    assert (data.shape, data.classes, data.class_names) == ((3, 6, 5), 3, ("0", "1", "2"))
    assert np.array_equal(data.x_test, content["x_test"]) and np.array_equal(data.y_test, content["y_test"])
    assert len(data.y_val) == 6 and np.bincount(data.y_val).tolist() == [2, 2, 2]
    given = {(x.tobytes(), y) for x, y in zip(content["x_train"], content["y_train"], strict=True)}
    assert given == {
        (x.tobytes(), y)
        for s in ("train", "val")
        for x, y in zip(getattr(data, f"x_{s}"), getattr(data, f"y_{s}"), strict=True)
    }
    assert all(x.flags.c_contiguous and x.dtype == np.uint8 for x in (data.x_train, data.x_val, data.x_test))


def test_grey_compressed_foreign_and_extra_keys(tmp_path: Path) -> None:
    content = arrays(shape=(6, 5))
    plain = read(tmp_path, content)
    assert plain.shape == (1, 6, 5)
    other = {key: np.asfortranarray(value) for key, value in content.items()} | {"y_train": content["y_train"].astype(">u2")}
    np.savez_compressed(tmp_path / "other.npz", **other, note=np.array("kept out"))
    assert load(section(tmp_path / "other.npz")).hash == plain.hash


def test_test_labels_need_not_cover_and_seed_and_share_count(tmp_path: Path) -> None:
    data = read(tmp_path, arrays() | {"y_test": np.zeros(12, np.int64)})
    assert data.classes == 3
    assert read(tmp_path, arrays(), seed=1).hash != read(tmp_path, arrays()).hash
    assert len(read(tmp_path, arrays(), val_share=0.5).y_val) == 15
    assert len(read(tmp_path, arrays(), max_train=9).y_train) == 9


def with_value(array: np.ndarray, index: Any, value: Any, dtype: Any = None) -> np.ndarray:
    array = array.astype(dtype or array.dtype)
    array[index] = value
    return array


BAD: dict[str, tuple[Callable[[dict[str, np.ndarray]], dict[str, Any]], str]] = {
    "missing key": (lambda a: {k: a[k] for k in a if k != "y_test"}, r"no y_test\. Expected .*found x_train, y_train, x_test"),
    "two missing keys": (lambda a: {"x_train": a["x_train"], "y_train": a["y_train"]}, "no x_test and no y_test"),
    "fewer labels": (lambda a: {"y_train": a["y_train"][:-1]}, "x_train has 30 images but y_train has 29 labels"),
    "fewer test images": (lambda a: {"x_test": a["x_test"][:-2]}, "x_test has 10 images but y_test has 12 labels"),
    "other channels": (
        lambda a: {"x_test": a["x_test"][..., :1]},
        r"x_train are \(6, 5, 3\) but those of x_test are \(6, 5, 1\)",
    ),
    "grey test": (lambda a: {"x_test": a["x_test"][..., 0]}, r"x_train are \(6, 5, 3\) but those of x_test are \(6, 5, 1\)"),
    "other size": (lambda a: {"x_test": a["x_test"][:, :, :4]}, r"x_test are \(6, 4, 3\)"),
    "float images": (lambda a: {"x_train": a["x_train"] / 255}, r"x_train is float64, expected uint8.*astype\('uint8'\)"),
    "NaN image": (lambda a: {"x_train": with_value(a["x_train"], (7, 2, 2, 1), np.nan, "f4")}, r"x_train\[7\] holds NaN"),
    "infinite image": (
        lambda a: {"x_test": with_value(a["x_test"], (3, 0, 0, 0), -np.inf, "f8")},
        r"x_test\[3\] holds NaN or inf",
    ),
    "int images": (lambda a: {"x_test": a["x_test"].astype("i8")}, "x_test is int64, expected uint8"),
    "bool images": (lambda a: {"x_train": a["x_train"] > 9, "x_test": a["x_test"] > 9}, "x_train is bool, expected uint8"),
    "flat images": (lambda a: {"x_train": a["x_train"].reshape(30, -1)}, r"x_train has shape \(30, 90\), expected"),
    "no pixels": (lambda a: {k: a[k][:, :0] if k[0] == "x" else a[k] for k in a}, r"x_train has shape \(30, 0, 5, 3\)"),
    "one number": (lambda a: {"x_train": np.uint8(3)}, r"x_train has shape \(\), expected"),
    "channels first": (
        lambda a: {"x_train": np.zeros((30, 3, 8, 8), np.uint8)},
        r"channels come last.*transpose\(0, 2, 3, 1\)",
    ),
    "float labels": (lambda a: {"y_train": a["y_train"].astype("f8")}, "y_train is float64, expected integers"),
    "NaN label": (lambda a: {"y_train": with_value(a["y_train"], 4, np.nan, "f8")}, r"y_train\[4\] is nan.*expected integers"),
    "text labels": (lambda a: {"y_test": a["y_test"].astype(str)}, "y_test is <U21, expected integers"),
    "bool labels": (lambda a: {"y_train": a["y_train"] > 0}, "y_train is bool, expected integers"),
    "one-hot labels": (
        lambda a: {"y_train": np.eye(3, dtype=int)[a["y_train"]]},
        r"y_train has shape \(30, 3\), expected \(N,\)",
    ),
    "label column": (lambda a: {"y_test": a["y_test"][:, None]}, r"y_test has shape \(12, 1\)"),
    "label number": (lambda a: {"y_test": np.int64(1)}, r"y_test has shape \(\)"),
    "negative label": (lambda a: {"y_train": with_value(a["y_train"], 5, -1)}, r"y_train\[5\] is -1, out of range"),
    "negative test label": (lambda a: {"y_test": with_value(a["y_test"], 2, -7)}, r"y_test\[2\] is -7, out of range"),
    "label too large": (lambda a: {"y_test": with_value(a["y_test"], 6, 3)}, r"y_test\[6\] is 3, out of range: .*0\.\.2"),
    "unsigned label": (
        lambda a: {"y_train": with_value(a["y_train"], 8, 2**64 - 1, "u8")},
        r"y_train\[8\] is 18446744073709551615",
    ),
    "huge label": (
        lambda a: {"y_train": with_value(a["y_train"], 9, 10**15)},
        r"no image in y_train has label 3, .*\(y_train\[9\]\)",
    ),
    "labels from 1": (lambda a: {"y_train": a["y_train"] + 1, "y_test": a["y_test"] + 1}, "no image in y_train has label 0"),
    "class missing in train": (lambda a: {"y_train": a["y_train"] // 2 * 2}, "no image in y_train has label 1"),
    "one class": (lambda a: {"y_train": a["y_train"] * 0, "y_test": a["y_test"] * 0}, "one class only"),
    "empty test": (lambda a: {"x_test": a["x_test"][:0], "y_test": a["y_test"][:0]}, "x_test and .*y_test are empty"),
    "empty train": (lambda a: {"x_train": a["x_train"][:0], "y_train": np.array([])}, "x_train and .*y_train are empty"),
    "too few to split": (
        lambda a: {"y_train": with_value(a["y_train"] % 2, 0, 2)},
        "y_train cannot be split.*class 2 has 1 sample",
    ),
    "objects": (lambda a: {"y_train": a["y_train"].astype(object)}, "y_train cannot be read.*Object arrays cannot be loaded"),
    "half a validation split": (lambda a: {"x_val": a["x_test"]}, "x_val is there alone"),
    "other validation size": (
        lambda a: {"x_val": a["x_test"][:, :4], "y_val": a["y_test"]},
        r"those of x_val are \(4, 5, 3\)",
    ),
    "unknown validation label": (lambda a: {"x_val": a["x_test"], "y_val": a["y_test"] + 1}, r"y_val\[2\] is 3, out of range"),
    "structured": (lambda a: {"y_train": np.zeros(30, [("a", "i4")])}, "y_train is .*expected integers"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arrays_are_refused_by_name(tmp_path: Path, name: str) -> None:
    change, message = BAD[name]
    content = arrays()
    changed = change(content)
    whole = changed if "missing key" in name else content | changed
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path, whole)
    assert str(tmp_path / "mine.npz") in str(caught.value)


def test_bad_files_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.npz does not exist"):
        load(section(tmp_path / "absent.npz"))
    with pytest.raises(InputError, match="is a folder"):
        load(section(tmp_path))
    (tmp_path / "text.npz").write_text("x_train: 1")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "single.npy", np.zeros(3))
    for name in ("text.npz", "empty.npz", "single.npy"):
        with pytest.raises(InputError, match=rf"{name} cannot be read as an \.npz file"):
            load(section(tmp_path / name))
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        for key in arrays():
            archive.writestr(f"{key}.npy", b"not an array")
    with pytest.raises(InputError, match="x_train cannot be read"):
        load(section(tmp_path / "zip.npz"))


class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: str) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.mark, "w")


def test_nothing_in_a_file_is_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Object arrays"):
        read(tmp_path, arrays() | {"x_train": np.array([Trap(str(tmp_path / "mark"))], dtype=object)})
    stream = io.BytesIO()
    np.save(stream, np.array([Trap(str(tmp_path / "mark"))], dtype=object), allow_pickle=True)
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as archive:
        for key in arrays():
            archive.writestr(f"{key}.npy", stream.getvalue())
    with pytest.raises(InputError, match="Object arrays"):
        load(section(tmp_path / "raw.npz"))
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_a_damaged_file_is_refused_or_gives_the_same_data(tmp_path: Path, save: Callable[..., None]) -> None:
    """Every cut is refused. A flipped bit is refused unless it hit a byte that carries nothing (a date, a version)."""
    good = tmp_path / "good.npz"
    save(good, **arrays(n=8, m=4, shape=(3, 3), classes=2))
    content, expected = good.read_bytes(), load(section(good)).hash
    rng = np.random.default_rng(1)
    bad = tmp_path / "bad.npz"
    for length in rng.integers(0, len(content), 60):
        bad.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"bad\.npz"):
            load(section(bad))
    refused = 0
    for bit in rng.integers(0, 8 * len(content), 500):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << (bit % 8)
        bad.write_bytes(damaged)
        try:
            assert load(section(bad)).hash == expected, f"bit {bit} changed the data unseen"
        except InputError as error:
            assert "bad.npz" in str(error)
            refused += 1
    assert refused > 250


def test_a_header_that_promises_less_than_there_is_is_refused(tmp_path: Path) -> None:
    content = arrays()
    np.savez(tmp_path / "mine.npz", **content)
    with zipfile.ZipFile(tmp_path / "mine.npz") as source, zipfile.ZipFile(tmp_path / "short.npz", "w") as target:
        for name in source.namelist():
            target.writestr(name, source.read(name) + (b"\0" if name == "x_test.npy" else b""))
    with pytest.raises(InputError, match="x_test is damaged: it holds more bytes"):
        load(section(tmp_path / "short.npz"))
