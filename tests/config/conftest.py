"""Sections of their own for these tests, so that they hold whatever the rooms' sections become."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, model_validator

from archsearch import registry
from archsearch.config import Duration, Section
from archsearch.jobs import InputError


class Augment(Section):
    flip: bool = False
    shift: float = Field(0.0, ge=0, le=0.5)


class Train(Section):
    epochs: int = Field(3, ge=1, le=1000, description="passes over the data")
    lr: float = Field(0.1, gt=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    widths: int | list[Annotated[int, Field(ge=1)]] = 8
    augment: Augment = Augment()
    limit: Annotated[Duration, Field(gt=0)] | None = None
    token: str | None = None
    labels: dict[str, str] = {}  # noqa: RUF012 - pydantic copies it

    @model_validator(mode="after")
    def _bounded(self) -> Train:
        if self.optimizer == "adamw" and self.lr > 1:
            raise ValueError("adamw diverges with lr above 1; give a smaller lr")
        return self


class Data(Section):
    path: str = Field(description="where the data lie")
    seed: int = 0


class Petridish(Section):
    name: Literal["petridish"] = "petridish"
    eps: float = Field(0.1, ge=0)


class Growth(Section):
    name: Literal["growth"] = "growth"
    rounds: int = 1


class Search:
    @classmethod
    def models(cls) -> dict[str, type[BaseModel]]:
        return {"petridish": Petridish, "growth": Growth}

    @classmethod
    def model_for(cls, raw: dict[str, Any]) -> type[BaseModel]:
        name = raw.get("name", "petridish")
        if name not in cls.models():
            raise InputError(f"no searcher is called {name!r}.")
        return cls.models()[name]


@pytest.fixture(autouse=True)
def sections(monkeypatch: pytest.MonkeyPatch) -> None:
    own: registry.Registry[Any] = registry.Registry("section")
    for name, section in {"train": Train, "data": Data, "search": Search}.items():
        own.register(name)(section)
    monkeypatch.setattr(registry, "SECTIONS", own)


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a file into a new working directory and gives its name back."""
    monkeypatch.chdir(tmp_path)

    def do(text: str, name: str = "conf.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return name

    return do


@pytest.fixture
def refused() -> Callable[..., str]:
    """Calls something that must raise InputError and gives the text back."""

    def do(call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
        with pytest.raises(InputError) as caught:
            call(*args, **kwargs)
        return str(caught.value)

    return do
