"""The task ``classification``: one label an image, trained by the work ``train``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from overrides import overrides

from archsearch.arch import Architecture, seed_architecture
from archsearch.data import DataSection, Dataset, load
from archsearch.jobs import JSON, InputError
from archsearch.recipes.ingredient import Ingredient, Slot, made
from archsearch.recipes.kinds import OPTIMIZER_KEYS, TRAINING_KEYS
from archsearch.recipes.prepared import Prepared, own
from archsearch.recipes.recipe import Recipe
from archsearch.recipes.task import Refer, Task
from archsearch.train.export_section import ExportSection
from archsearch.train.section import TrainSection


class Classification(Task):
    """Slots: a model, data, a training with its optimizer and augmentation, perhaps the weights of a parent and an exporter."""

    slots: ClassVar[Mapping[str, Slot]] = {
        "model": Slot(("architecture", "cell_family")),
        "data": Slot(("data",)),
        "training": Slot(("training",)),
        "weights": Slot(("parent_weights",), optional=True, empty="the network is trained from scratch"),
        "export": Slot(("exporter",), optional=True, empty="no files for other programs are written"),
    }
    work: ClassVar[str] = "train"
    metric: ClassVar[str] = "val_error"
    standard_error: ClassVar[str] = "val_standard_error"

    @overrides
    def load(self, recipe: Recipe) -> Dataset:
        data = filled(recipe, "data")
        kept = own()
        found = kept.dataset(data.sha256) if kept is not None and data.sha256 is not None else None
        if found is None:
            found = load(DataSection.model_validate(data.parameters))
        if data.sha256 not in (None, found.hash):
            raise InputError(
                f"data: {data.name} is not what the recipe was made with (hash {found.hash[:12]}, was "
                f"{str(data.sha256)[:12]}): put the old data back. Other data make another recipe: leave its sha256 out."
            )
        return found

    @overrides
    def pinned(self, recipe: Recipe, data: Dataset) -> Recipe:
        model, given = filled(recipe, "model"), filled(recipe, "data")
        if model.kind == "cell_family":
            arch = seed_architecture(data.shape, data.classes, **model.parameters)
            model = architecture(arch, model.name)
        else:
            arch = Architecture.from_json(model.parameters)
            if (tuple(arch.input), arch.classes) != (data.shape, data.classes):
                raise InputError(
                    f"model: {model.name} takes images of shape {tuple(arch.input)} (C, H, W) and {arch.classes} classes, but "
                    f"{given.name} has {data.shape} and {data.classes}. Choose a model for these data, or a cell_family."
                )
        section = train_section(recipe)
        if recipe.slots["weights"] is not None and section.warm_start == "none":
            raise InputError(
                "weights: training.warm_start is none, so they would not be used. Set it to parent, or empty the slot."
            )
        train = training(section, filled(recipe, "training").name, names_in(recipe))
        slots = {**recipe.slots, "model": model, "data": replace(given, sha256=data.hash), "training": train}
        if (export := recipe.slots.get("export")) is not None:
            settings = ExportSection.model_validate(export.to_json()["parameters"])
            slots["export"] = made("exporter", export.name, settings.model_dump(mode="json"))
        return replace(recipe, slots=slots)

    @overrides
    def spec(self, recipe: Recipe, refer: Refer) -> JSON:
        weights = recipe.slots["weights"]
        inherit: dict[str, JSON] | None = None
        if weights is not None:
            inherit = weights.to_json()["parameters"]
            for name in ("weights", "candidates"):
                if inherit.get(name) is not None:
                    inherit[name] = refer(inherit[name]["sha256"], inherit[name]["size"]).to_json()
        spec = {"arch": filled(recipe, "model").to_json()["parameters"], "inherit": inherit}
        spec["train"] = train_section(recipe).model_dump(mode="json") | {"tensorwatch_stats": False}  # nobody's table here
        return spec | ({"rungs": list(recipe.rungs)} if recipe.rungs else {})

    @overrides
    def keep(self, data: Dataset, prepared: Prepared) -> None:
        prepared.keep_dataset(data)

    @overrides
    def shortest(self, recipe: Recipe, data: Dataset) -> tuple[Recipe, Dataset]:
        """One epoch of two steps, of one image each, or of two where a batch norm needs them, and one validation image."""
        from torch.nn.modules.batchnorm import _BatchNorm

        from archsearch.arch.build import build

        network = build(Architecture.from_json(filled(recipe, "model").parameters))
        size = 2 if any(isinstance(module, _BatchNorm) for module in network.modules()) else 1
        short: dict[str, Any] = {"epochs": 1, "batch_size": size, "eval_every": 1}
        if recipe.slots["weights"] is not None:
            short["warm_start"] = "parent"
        section = train_section(recipe).model_copy(update=short)
        train = training(section, filled(recipe, "training").name, names_in(recipe))
        few = Dataset.of(
            data.name,
            (data.x_train[: 2 * size], data.y_train[: 2 * size]),
            (data.x_val[:1], data.y_val[:1]),
            (data.x_test[:1], data.y_test[:1]),
            data.class_names,
        )
        return replace(recipe, slots={**recipe.slots, "training": train}, rungs=()), few


CLASSIFICATION = Classification()


def filled(recipe: Recipe, path: str) -> Ingredient:
    """What is in a slot.

    Raises:
        InputError: nothing is.
    """
    found = recipe.at(path)
    if found is None:
        raise InputError(f"{path} is empty. Fill it: archsearch recipe fill.")
    return found


def train_section(recipe: Recipe) -> TrainSection:
    """The settings of the training as the work takes them."""
    parts = [filled(recipe, path).to_json()["parameters"] for path in ("training", "training.optimizer")]
    augment = filled(recipe, "training.augmentation").to_json()["parameters"]
    return TrainSection.model_validate({**parts[0], **parts[1], "augment": augment})


def names_in(recipe: Recipe) -> tuple[str, str]:
    """Names of optimizer and augmentation."""
    return filled(recipe, "training.optimizer").name, filled(recipe, "training.augmentation").name


def training(section: TrainSection, name: str, names: tuple[str, str]) -> Ingredient:
    """The ingredient of a training with all its settings; ``names``: of its optimizer and its augmentation."""
    values = section.model_dump(mode="json")
    return made(
        "training",
        name,
        {key: values[key] for key in TRAINING_KEYS},
        optimizer=made("optimizer", names[0], {key: values[key] for key in OPTIMIZER_KEYS}),
        augmentation=made("augmentation", names[1], values["augment"]),
    )


def architecture(arch: Architecture, name: str | None = None) -> Ingredient:
    return made("architecture", name or f"arch-{arch.hash[:12]}", arch.to_json())


def data(section: DataSection, sha256: str, **changed: Any) -> Ingredient:
    """The ingredient of a data set whose hash is known."""
    values = section.model_copy(update=changed).model_dump(mode="json", exclude_defaults=True)
    return made("data", section.name, {"name": section.name, **values}, sha256)
