"""Fetching the files of torchvision's sets: only where ``data.download`` asks for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from archsearch.jobs import InputError

#: Name here -> name of the class in ``torchvision.datasets``, which is asked for its addresses and never made.
_CLASSES = {
    "mnist": "MNIST",
    "fashion_mnist": "FashionMNIST",
    "kmnist": "KMNIST",
    "cifar10": "CIFAR10",
    "cifar100": "CIFAR100",
    "svhn": "SVHN",
    "stl10": "STL10",
}


def download(name: str, root: Path) -> None:
    """Fetch a set's files with torchvision's own addresses and MD5 sums; its classes are not made, since some unpickle.

    Raises:
        InputError: no torchvision, one that does not fit the installed torch, or a download that failed.
    """
    try:
        from torchvision import datasets
        from torchvision.datasets.utils import download_and_extract_archive, download_url
    except ImportError as error:
        raise InputError(
            f"data.download: torchvision is needed to fetch {name} and is not installed ({error}): "
            f"pip install -e '.[torchvision]', or put the files into {root} yourself."
        ) from error
    except Exception as error:  # its compiled part fails with a RuntimeError beside another build of torch
        raise InputError(
            f"data.download: torchvision is installed but cannot be imported ({error}). It must be the build that fits the "
            f"installed torch (CPU or CUDA); install both from one index, or put the files of {name} into {root} yourself."
        ) from error
    known = getattr(datasets, _CLASSES[name])
    try:
        for folder, addresses, file, md5 in _sources(known):
            for address in addresses:
                fetch = download_and_extract_archive if file.endswith(".tar.gz") else download_url
                try:
                    fetch(address, os.fspath(root / folder), filename=file, md5=md5)
                    break
                except (OSError, RuntimeError):
                    if address == addresses[-1]:
                        raise
    except Exception as error:
        raise InputError(
            f"data.download: {name} could not be fetched into {root}: {error}. Try again, or put the files there yourself."
        ) from error


def _sources(known: Any) -> list[tuple[str, list[str], str, str]]:
    """For each file: folder below the root, addresses to try, name, MD5 sum."""
    if hasattr(known, "resources"):
        return [
            (f"{known.__name__}/raw", [mirror + file for mirror in known.mirrors], file, md5) for file, md5 in known.resources
        ]
    if hasattr(known, "split_list"):
        return [("", [address], file, md5) for address, file, md5 in (known.split_list[split] for split in ("train", "test"))]
    return [("", [known.url], known.filename, known.tgz_md5)]
