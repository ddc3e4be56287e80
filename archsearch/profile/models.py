"""What can be measured: an architecture, an ONNX file, or what a function of a module returns."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from archsearch.arch import Architecture, summary
from archsearch.jobs import JSON, ArchsearchError, InputError
from archsearch.profile.kept import note_use

_FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Model:
    """Names a model. ``value`` is an architecture's JSON, an ONNX file's path or ``module:function``; ``folder`` is where that
    module is looked for first. One that was prepared for a runtime is the folder with what was made (see ``prepared``)."""

    kind: Literal["architecture", "onnx", "function", "prepared"]
    value: JSON
    name: str
    folder: str = ""

    def to_json(self) -> dict[str, JSON]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Model:
        return cls(**data)


@dataclass(frozen=True)
class Loaded:
    """A model to be run: a ``torch.nn.Module`` in evaluation mode or, where ``file`` names one, an ONNX file or one in a
    runtime's own form; and its inputs. ``reference`` is what it makes of them, where that is known already."""

    module: Any
    inputs: tuple[NDArray[Any], ...]
    file: Path | None = None
    reference: tuple[NDArray[Any], ...] | None = None


def architecture_model(data: JSON) -> Model:
    """The model of an architecture's JSON; nothing else is taken, so that stored text cannot run code.

    Raises:
        InputError: it is not an architecture.
    """
    arch = Architecture.from_json(data)
    return Model("architecture", arch.to_json(), f"{summary(arch)} {arch.hash[:8]}")


def read_model(text: str) -> Model:
    """The model that a user names on the command line. Runs nothing of it.

    Raises:
        InputError: there is no such file, or it is not a model; the text says which forms there are.
    """
    path = Path(text)
    if path.suffix == ".onnx":
        from archsearch.profile.onnx_files import check_onnx

        check_onnx(path)
        return Model("onnx", str(path.resolve()), path.name)
    if path.is_file():
        try:
            content = path.read_text()
            data = json.loads(content) if path.suffix == ".json" else None
            return architecture_model(data) if data is not None else _from_yaml(content)
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{path}: this is not an architecture: {error}") from error
    if _FUNCTION.fullmatch(text):
        return Model("function", text, text, str(Path.cwd()))
    raise InputError(
        f"there is no model {text!r}: expected the file of an architecture (.yaml or .json, as in a run's "
        "model_desc_gallery), an .onnx file, or module:function"
    )


def load_model(model: Model, batch: int) -> Loaded:
    """Build the model, with inputs of ``batch`` images. The same weights and inputs at every call.

    A function returns a module with its inputs: a tensor or several.

    Raises:
        InputError: it cannot be built; the text has the reason.
    """
    if model.kind == "prepared":
        return load_prepared(Path(str(model.value)))
    if model.kind == "onnx":
        from archsearch.profile.onnx_files import inputs_of

        path = Path(str(model.value))
        return Loaded(None, inputs_of(path, batch), path)
    if model.kind == "architecture":
        import torch

        from archsearch.arch.build import build

        arch = Architecture.from_json(model.value)
        made: Any = build(arch, seed=0)
        shape = (batch, *arch.input)
        return Loaded(made.eval(), (torch.randn(shape, generator=torch.Generator().manual_seed(0)).numpy(),))
    return _from_function(model)


def save_prepared(folder: Path, file: Path, inputs: Sequence[NDArray[Any]], reference: Sequence[NDArray[Any]]) -> None:
    """Write what `load_prepared` reads. ``file``, the model's, is kept where it is; one in the folder may be moved with it."""
    arrays = {f"input_{i}": each for i, each in enumerate(inputs)} | {f"output_{i}": each for i, each in enumerate(reference)}
    np.savez(folder / "given.npz", **arrays)  # type: ignore[arg-type]
    inside = file.parent == folder
    (folder / "model.json").write_text(json.dumps({"file": file.name if inside else str(file.resolve())}))


def load_prepared(folder: Path) -> Loaded:
    """The file, the inputs and the reference's output of a folder that was prepared."""
    note_use(folder)
    path = folder / json.loads((folder / "model.json").read_text())["file"]
    with np.load(folder / "given.npz", allow_pickle=False) as given:
        inputs, reference = (
            tuple(given[f"{name}_{i}"] for i in range(sum(key.startswith(name) for key in given.files)))
            for name in ("input", "output")
        )
    return Loaded(None, inputs, path, reference)


def _from_yaml(text: str) -> Model:
    return architecture_model(Architecture.from_yaml(text).to_json())


def _from_function(model: Model) -> Loaded:
    import torch

    module, _, name = str(model.value).partition(":")
    if model.folder and model.folder not in sys.path:
        sys.path.insert(0, model.folder)
    try:
        torch.manual_seed(0)
        found = getattr(import_module(module), name)()
    except ArchsearchError:
        raise
    except Exception as error:
        raise InputError(f"the model does not load: {type(error).__name__}: {error}") from error
    made, inputs = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
    tensors = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs) if isinstance(inputs, (tuple, list)) else []
    if not (isinstance(made, torch.nn.Module) and tensors and all(isinstance(each, torch.Tensor) for each in tensors)):
        raise InputError(
            f"expected a torch.nn.Module with its inputs, (module, tensor) or (module, (tensor, ...)), "
            f"got {type(found).__name__}"
        )
    return Loaded(made.eval(), tuple(np.ascontiguousarray(each.detach().cpu().numpy()) for each in tensors))
