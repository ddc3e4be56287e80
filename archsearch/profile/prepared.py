"""What runtimes run instead of a PyTorch module, made once by a process of its own, long before any clock starts.

Writing a module as ONNX takes seconds and hundreds of megabytes. It is done once for a model; the processes that measure are
given a folder with the file, the inputs and the reference's output, and never import PyTorch. Folders lie under ``models`` of
the cache folder, named by a hash of all that they were made
from; what was not asked for in a week is removed when another is added.

The reference of a module is PyTorch's own output; that of an ONNX file is onnxruntime's, as a whole and unoptimised.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from archsearch.jobs import InputError
from archsearch.places import cache_folder
from archsearch.profile import environment as machine
from archsearch.profile.models import Loaded, Model
from archsearch.profile.onnx_files import check_onnx, files_of, inputs_of, reference_outputs
from archsearch.profile.process import Child, ChildFault
from archsearch.profile.runtimes.face import Arrays, Runtime
from archsearch.profile.settings import Failed, Settings, Subject

#: Their versions decide what is made of a model.
MAKERS = ("numpy", "onnx", "onnxruntime", "onnxscript", "torch")
KEPT = 7 * 24 * 3600.0  # seconds

#: Folders made by this process for functions: what these return is known only once their code has run.
_made: dict[str, Path] = {}


def check_model(model: Model, used: Runtime) -> None:
    """See that this runtime takes such a model, that nothing is wrong with an ONNX file, and that inputs can be made for it.
    Starts nothing.

    Raises:
        InputError: it does not, or there is.
    """
    if model.kind == "onnx":
        if used.form != "onnx":
            raise InputError(
                f"{model.name}: the runtime {used.name!r} runs PyTorch's modules, not ONNX files; those are for the runtime "
                "onnxruntime or openvino"
            )
        check_onnx(Path(str(model.value)))
        inputs_of(Path(str(model.value)), 1)


def prepared(model: Model, used: Runtime, settings: Settings) -> Model | Failed:
    """The model as this runtime runs it, made now if it is not there. One that runs modules gets the model itself.

    Raises:
        ChildFault: processes do not even start.
    """
    if not used.form:
        return model
    words: list[Any] = [model.to_json(), used.form, settings.batch]
    said = json.dumps(words, sort_keys=True)
    folder = _made.get(said) if model.kind == "function" else cache() / _key(model, words)
    if folder is None or not folder.is_dir():
        made = _make(model, used, settings)
        if isinstance(made, Failed):
            return made
        folder = _keep(made, cache() / _hash([], sorted(made.iterdir())) if folder is None else folder)
        if model.kind == "function":
            _made[said] = folder
    os.utime(folder)
    return replace(model, kind="prepared", value=str(folder))


def cache() -> Path:
    """Where prepared models lie."""
    return cache_folder() / "models"


def reference_of(model: Loaded, pytorch: Callable[[], Runtime]) -> Arrays:
    """What a model's output is to be; ``pytorch`` gives that runtime, if it comes to that."""
    if model.reference is not None:
        return model.reference
    if model.module is None:
        assert model.onnx is not None
        return reference_outputs(model.onnx, model.inputs)
    plain = pytorch().compile(model, None)
    return plain.fetch(plain.run(plain.load(model.inputs)))


def _key(model: Model, words: list[Any]) -> str:
    """A hash of all that decides what is made of an architecture or an ONNX file."""
    if model.kind == "onnx":
        return _hash(words, files_of(Path(str(model.value))))
    here = Path(__file__).parent
    return _hash(words, [*sorted((here.parent / "arch").rglob("*.py")), here / "models.py", here / "onnx_export.py"])


def _hash(words: list[Any], files: Sequence[Path]) -> str:
    found = hashlib.sha256(json.dumps([words, {name: machine.installed(name) for name in MAKERS}], sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            found.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:32]


def _make(model: Model, used: Runtime, settings: Settings) -> Path | Failed:
    """A new folder with what the model's process has made."""
    cache().mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="making-", dir=cache()))
    request = {
        "task": "prepare",
        "subjects": [Subject(model, used.name).to_json()],
        "numbers": [0],
        "settings": settings.to_json(),
        "cores": machine.choose_cores(settings.threads),
        "folder": str(folder),
    }
    failed: Failed | None = None
    begun = done = False
    try:
        with Child(request, settings.threads, settings.limit) as child:
            for answer in child.answers():
                begun |= answer["event"] == "begin"
                done |= answer["event"] == "prepared"
                if answer["event"] == "failed":
                    failed = Failed(answer["kind"], answer["message"])
        if not (failed or done):
            failed = Failed("garbage", "the process that prepares a model did not say what became of it")
    except ChildFault as error:
        if not begun:
            raise
        failed = Failed(error.kind, str(error))
    finally:
        if not done:
            shutil.rmtree(folder, ignore_errors=True)
    return failed or folder


def _keep(made: Path, folder: Path) -> Path:
    """Give a new folder its name, unless another process was first, and remove what nobody has asked for of late."""
    try:
        made.rename(folder)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
    for other in cache().iterdir():
        with contextlib.suppress(FileNotFoundError):  # another process removes it
            if other != folder and time.time() - other.stat().st_mtime > KEPT:
                shutil.rmtree(other, ignore_errors=True)
    return folder
