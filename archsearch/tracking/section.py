"""The ``tracking`` section of a configuration: who follows a run, and how."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, create_model, model_validator

from archsearch.config import Section
from archsearch.jobs import InputError
from archsearch.registry import CALLBACKS
from archsearch.tracking.callback import Callback
from archsearch.tracking.tensorboard import TensorBoardConfig
from archsearch.tracking.tensorwatch import TensorWatchConfig


def class_of(name: str) -> type[Callback]:
    """The callback of that name.

    Raises:
        InputError: no such name, or something else is registered under it.
    """
    found = CALLBACKS.get(name)
    if not (isinstance(found, type) and issubclass(found, Callback)):
        raise InputError(f"the callback {name!r} is {found!r}; expected a class made from archsearch.Callback")
    return found


def _known(name: str) -> str:
    class_of(name)
    return name


def _default(model: type[Section]) -> Any:
    """What stands for settings that nobody gave: the model's defaults, if it has all of them."""
    required = any(field.is_required() for field in model.model_fields.values())
    return Field(description="settings of this callback") if required else Field(default_factory=model)


class TrackingSection(Section):
    """Who follows a run. A resumed run may change it: `resume --set tracking.callbacks=[tensorboard]`."""

    callbacks: list[Annotated[str, AfterValidator(_known)]] = Field(
        default_factory=list,
        description="who follows a run: tensorboard, jsonl (points.jsonl in its folder), tensorwatch (a live stream to "
        "notebooks on this host, off unless named here), or names of installed plug-ins",
    )
    tensorboard: TensorBoardConfig = Field(TensorBoardConfig(), description="settings of tensorboard, if it is named above")
    tensorwatch: TensorWatchConfig = Field(TensorWatchConfig(), description="settings of tensorwatch, if it is named above")

    @model_validator(mode="after")
    def _chosen(self) -> TrackingSection:
        for name in self.callbacks:
            if self.callbacks.count(name) > 1:
                raise ValueError(f"callbacks names {name} more than once")
        idle = sorted(self.model_fields_set - {"callbacks"})
        if idle and "callbacks" not in self.model_fields_set:
            raise ValueError(f"settings of {idle[0]} alone start nothing; add callbacks: [{idle[0]}]")
        return self

    @classmethod
    def model_for(cls, raw: dict[str, Any]) -> type[BaseModel]:
        """This model, with a key for each plug-in that ``callbacks`` names."""
        names = raw.get("callbacks")
        wanted = [name for name in names if isinstance(name, str)] if isinstance(names, list) else []
        others = [name for name in wanted if name in CALLBACKS and name not in cls.model_fields]
        models: dict[str, type[Section]] = {name: class_of(name).Config for name in others}
        if not models:
            return cls
        fields: dict[str, Any] = {name: (model, _default(model)) for name, model in models.items()}
        return create_model(cls.__name__, __base__=cls, **fields)

    def made(self) -> list[Callback]:
        """The callbacks that are named, in that order, with their settings."""
        callbacks = []
        for name in self.callbacks:
            callback = class_of(name)(getattr(self, name, None))
            callback.name = name
            callbacks.append(callback)
        return callbacks
