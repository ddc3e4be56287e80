"""torchvision's sets by name, from small files in each set's own format."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torchvision_files import WRITERS, holds, idx, python2_pickle, read, write_cifar, write_mnist

from archsearch.data import DataSection
from archsearch.data.pickled import Call, read_pickle
from archsearch.data.section import TORCHVISION_SETS
from archsearch.data.torchvision_sets import LAYOUTS
from archsearch.jobs import InputError


def test_every_set_is_registered_and_written_here() -> None:
    assert set(WRITERS) == set(TORCHVISION_SETS) == set(LAYOUTS)


@pytest.mark.parametrize("name", WRITERS)
def test_images_and_labels_arrive_as_they_are(tmp_path: Path, name: str) -> None:
    expected = WRITERS[name](tmp_path)
    data = read(name, tmp_path)
    holds(data, expected)
    classes = 100 if name == "cifar100" else 10
    assert (data.name, data.classes, len(set(data.class_names))) == (name, classes, classes)
    assert data.x_train.dtype == np.uint8 and data.x_train.flags.c_contiguous and data.y_train.dtype == np.int64
    assert len(data.y_val) == (100 if classes == 100 else 10)
    assert set(data.y_val) == set(data.y_train) == set(range(classes))
    again = read(name, tmp_path)
    assert again.hash == data.hash != read(name, tmp_path, seed=1).hash
    assert np.array_equal(again.x_val, data.x_val)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_both_archives_of_cifar_are_the_same_data(tmp_path: Path, name: str) -> None:
    expected = write_cifar(tmp_path / "a", name, binary=True)
    write_cifar(tmp_path / "b", name, binary=False)
    binary, pickled = read(name, tmp_path / "a"), read(name, tmp_path / "b")
    holds(binary, expected)
    assert binary.hash == pickled.hash and binary.class_names == pickled.class_names


def test_packed_files_and_the_folder_itself(tmp_path: Path) -> None:
    plain = write_mnist(tmp_path / "a")
    write_mnist(tmp_path / "b", pack=gzip.compress)
    assert read("mnist", tmp_path / "a").hash == read("mnist", tmp_path / "b").hash
    holds(read("mnist", tmp_path / "a" / "MNIST" / "raw"), plain)


# --------------------------------------------------------------------------------------------------------- what is refused
def test_missing_files_are_named_with_what_to_do(tmp_path: Path) -> None:
    message = r"the files of cifar10 are not all in .*cifar-10-batches-py with data_batch_1.*; or .*cifar-10-batches-bin with"
    with pytest.raises(InputError, match=message + ".*Put them there, or set data.download: true"):
        read("cifar10", tmp_path / "absent")
    assert not (tmp_path / "absent").exists()
    write_cifar(tmp_path, "cifar10", binary=False)
    (tmp_path / "cifar-10-batches-py" / "data_batch_4").unlink()
    with pytest.raises(InputError, match=r"Expected \S*/cifar-10-batches-py with data_batch_4 as well\."):
        read("cifar10", tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"is a file; for data\.name mnist give the folder"):
        read("mnist", tmp_path / "file")


@pytest.mark.parametrize(
    "keys, message",
    [
        ({"name": "cifar10"}, "data.path is not set"),
        ({"name": "mnist", "path": "x", "size": 32}, "data.size scales the images of a folder"),
        ({"name": "npz", "path": "x", "download": True}, "npz cannot be downloaded"),
        ({"name": "cifar"}, "Did you mean 'cifar10'"),
    ],
)
def test_bad_sections_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataSection(**keys)


@pytest.mark.parametrize("name", WRITERS)
def test_every_cut_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path)
    layout = LAYOUTS[name][0]
    for file in layout.files:
        path = tmp_path / layout.folder / file
        content = path.read_bytes()
        for length in (0, 3, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:length])
            if file == "class_names.txt" and length == len(content) - 1:
                continue  # a name without its last letter
            with pytest.raises(InputError, match=rf"{name} cannot be read: .*damaged or not the official ones"):
                read(name, tmp_path)
        path.write_bytes(content)
    read(name, tmp_path)


def test_labels_are_checked(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    labels = tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx(np.array([0, 1, 2, 10, 4, 5, 6, 7, 8, 9, 0, 1])))
    with pytest.raises(InputError, match=r"test image 3 has label 10, expected 0\.\.9"):
        read("mnist", tmp_path)
    labels.write_bytes(idx(np.arange(10)))
    with pytest.raises(InputError, match="12 test images but 10 labels"):
        read("mnist", tmp_path)


# ----------------------------------------------------------------------------------------------------------------- pickles
class Trap:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = str(mark)

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.mark, "w")


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_nothing_in_a_batch_is_run(tmp_path: Path, protocol: int) -> None:
    write_cifar(tmp_path, "cifar10", binary=False)
    bad = pickle.dumps({b"labels": [1], b"data": Trap(tmp_path / "mark")}, protocol)
    (tmp_path / "cifar-10-batches-py" / "data_batch_2").write_bytes(bad)
    with pytest.raises(InputError, match="cifar10 cannot be read"):
        read("cifar10", tmp_path)
    assert not (tmp_path / "mark").exists()
    pickle.loads(bad)[b"data"].close()
    assert (tmp_path / "mark").exists(), "the trap works where a pickle is run"


def test_a_call_is_told_and_not_made() -> None:
    call = read_pickle(pickle.dumps(Trap(Path("/x")), 2))
    assert isinstance(call, Call) and call.name.endswith(" open") and call.arguments == ("/x", "w")


def test_plain_values_come_as_pickle_reads_them() -> None:
    value = {
        "a": [1, -2, 70_000, 2**40, None, True, False, (), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)],
        "b": {},
        "c": [[]],
        "e": ["a"],
    }
    for protocol in (2, 4, 5):
        assert read_pickle(pickle.dumps(value, protocol)) == value


def test_a_damaged_pickle_is_refused_or_read_never_worse() -> None:
    rng = np.random.default_rng(0)
    good = python2_pickle({b"labels": [1, 2, 3], b"data": np.arange(12, dtype=np.uint8).reshape(3, 4), b"filenames": [b"a"]})
    refused = 0
    for bit in rng.permutation(8 * len(good))[:1500]:
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << (bit % 8)
        try:
            read_pickle(bytes(damaged))
        except ValueError:
            refused += 1
    assert refused > 300
