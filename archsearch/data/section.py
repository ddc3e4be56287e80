"""The keys of ``data:`` and of ``augment:`` in a configuration."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from archsearch.config import Section
from archsearch.registry import DATASETS

#: Names of ``archsearch.data.torchvision_sets``.
TORCHVISION_SETS = ("cifar10", "cifar100", "fashion_mnist", "kmnist", "mnist", "stl10", "svhn")


class GlyphsSection(Section):
    """Knobs of the generated data set ``glyphs``."""

    classes: int = Field(default=62, ge=2, le=72, description="first so many of 0-9, A-Z, a-z, then ten signs")
    train: int = Field(default=4000, ge=1, description="training images")
    val: int = Field(default=1000, ge=1, description="validation images")
    test: int = Field(default=2000, ge=1, description="test images")
    size: int = Field(default=32, ge=12, le=128, description="side of an image in pixels")
    difficulty: float = Field(default=0.5, ge=0, le=1, description="0: upright and clean; 1: warped, cluttered, noisy, faint")

    @model_validator(mode="after")
    def _every_class_in_every_split(self) -> GlyphsSection:
        for split in ("train", "val", "test"):
            if getattr(self, split) < self.classes:
                raise ValueError(f"{split}: {getattr(self, split)} images cannot hold one of each of {self.classes} classes")
        return self


class DataSection(Section):
    """What is searched on."""

    name: str = Field(
        default="digits", description=f"digits, glyphs, npz, folder, {', '.join(TORCHVISION_SETS)}, or a plug-in's"
    )
    path: str | None = Field(
        default=None,
        description="npz: the file; folder: the folder of images; torchvision's sets: the folder that torchvision calls root; "
        "relative to the working directory",
    )
    download: bool = Field(
        default=False, description="fetch the files of one of torchvision's sets into data.path if they are not there"
    )
    size: int | None = Field(
        default=None, ge=1, le=4096, description="folder: side in pixels to which images are scaled; needed where they differ"
    )
    seed: int = Field(default=0, ge=0, description="of the splits and of generated images; apart from the run's seed")
    val_share: float = Field(
        default=0.2, gt=0, lt=1, description="share of the training images kept for validation (not for glyphs)"
    )
    test_share: float = Field(
        default=0.25, gt=0, lt=1, description="share of all images kept for the test (digits, folder without test/)"
    )
    max_train: int | None = Field(
        default=None, ge=2, description="use at most so many training images, chosen evenly over the classes"
    )
    glyphs: GlyphsSection = Field(default_factory=GlyphsSection)

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in DATASETS:
            DATASETS.get(name)  # raises with the nearest name
        return name

    @model_validator(mode="after")
    def _path_given(self) -> DataSection:
        if self.name == "npz" and not self.path:
            raise ValueError("data.name is npz but data.path is not set; give the path of your .npz file")
        if self.name == "folder" and not self.path:
            raise ValueError("data.name is folder but data.path is not set; give the folder that holds your images")
        if self.name in TORCHVISION_SETS and not self.path:
            raise ValueError(
                f"data.name is {self.name} but data.path is not set; give the folder that holds (or is to hold) it"
            )
        if self.download and self.name not in TORCHVISION_SETS:
            raise ValueError(f"data.download fetches {', '.join(TORCHVISION_SETS)}; {self.name} cannot be downloaded")
        if self.size is not None and self.name in ("digits", "glyphs", "npz", *TORCHVISION_SETS):
            raise ValueError(f"data.size scales the images of a folder; those of {self.name} have a size of their own")
        return self


class AugmentSection(Section):
    """What training batches go through. Lengths are shares of the image's side, so that one setting fits every image size."""

    flip: bool = Field(default=False, description="mirror half of the images left to right; not for characters")
    shift: float = Field(default=0.0, ge=0, le=0.5, description="largest shift as a share of the side (4 of 32 pixels: 0.125)")
    cutout: float = Field(default=0.0, ge=0, le=1, description="side of the hole as a share of the side (16 of 32 pixels: 0.5)")
    mixup: float = Field(
        default=0.0, ge=0, le=1, description="alpha of Beta(alpha, alpha) for mixing pairs of images; 0 is off"
    )
