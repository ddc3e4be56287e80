"""The jobs that are profiled: usual networks on glyphs, run by the works as executors run them, files included."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from overrides import overrides

from archsearch.arch import Architecture, Edge, grow_node, seed_architecture
from archsearch.arch.build import build
from archsearch.data import DataSection, Dataset, GlyphsSection, load
from archsearch.jobs import JSON, ArtifactRef, Context, Job, Stage
from archsearch.train.weights import save_weights

#: The settings of confs/petridish_glyphs.yaml.
TRAIN = {"batch_size": 64, "optimizer": "adamw", "lr": 0.006, "weight_decay": 0.01, "schedule": "one_cycle"}
TRAIN |= {"augment": {"shift": 0.1}, "tensorwatch_stats": False}
LEARN = {"batch_size": 64, "steps": 32}


class FolderContext(Context):
    """Artifacts and the checkpoint are files of one folder."""

    def __init__(self, folder: Path, dataset: Dataset, job: Job) -> None:
        self.folder, self.dataset, self.job, self.device, self.threads = folder, dataset, job, "cpu", 1

    @overrides
    def data(self, *, test: bool = False) -> Dataset:
        return self.dataset

    @overrides
    def load(self, ref: ArtifactRef) -> bytes:
        return (self.folder / ref.key).read_bytes()

    @overrides
    def save(self, name: str, payload: bytes) -> ArtifactRef:
        (self.folder / name).write_bytes(payload)
        return ArtifactRef(name, hashlib.sha256(payload).hexdigest(), len(payload))

    @overrides
    def load_checkpoint(self) -> bytes | None:
        return None

    @overrides
    def save_checkpoint(self, payload: bytes) -> None:
        (self.folder / "checkpoint").write_bytes(payload)

    @overrides
    def report(self, **progress: Any) -> None:
        """Nobody listens."""


def glyphs(train: int) -> Dataset:
    """Glyphs with the shares of confs/petridish_glyphs.yaml: 62 classes, 0.3 validation images for each training image."""
    return load(DataSection(name="glyphs", glyphs=GlyphsSection(train=train, val=train * 3 // 10, test=100)))


def network(dataset: Dataset, channels: int, grown: int) -> Architecture:
    """A seed of three cells, grown by so many nodes (0 to 2) of three edges."""
    arch = seed_architecture(dataset.shape, dataset.classes, cells=3, reductions=1, nodes=1, channels=channels)
    growth = (
        {
            "normal": ["s0 sep_conv_5x5", "s1 dil_conv_3x3", "s1 sep_conv_3x3"],
            "reduction": ["s0 max_pool_3x3", "s1 dil_conv_5x5"],
        },
        {
            "normal": ["s0 dil_conv_5x5", "s1 avg_pool_3x3", "s1 sep_conv_5x5"],
            "reduction": ["s0 sep_conv_5x5", "s1 skip_connect"],
        },
    )
    for chosen in growth[:grown]:
        arch = grow_node(arch, {name: [Edge(*edge.split()) for edge in edges] for name, edges in chosen.items()})
    return arch


def train_job(arch: Architecture, epochs: int) -> tuple[JSON, Job]:
    spec = {"arch": arch.to_json(), "train": {**TRAIN, "epochs": epochs}, "inherit": None}
    return spec, Job(1, Stage.SEED_TRAINED, "train", spec, seed=0)


def search_job(arch: Architecture, folder: Path) -> tuple[JSON, Job]:
    """The search task of a parent whose weights lie in the folder."""
    torch.manual_seed(0)
    payload = save_weights(build(arch, seed=1).state_dict())
    (folder / "parent").write_bytes(payload)
    spec = {"arch": arch.to_json(), "weights": ArtifactRef("parent", "", len(payload)).to_json(), "learner": LEARN}
    return spec, Job(2, Stage.SEED_TRAINED, "petridish", spec, seed=0)
