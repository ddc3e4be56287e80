"""What runtimes run instead of a PyTorch module, made once by a process of its own, long before any clock starts.

Writing a module as ONNX or circle takes seconds and hundreds of megabytes. It is done once for a model; the processes that
measure are given a folder with the file, the inputs and the reference's output, and never import PyTorch. Folders lie under
``models`` of the cache folder, named by a hash of all that they were made from. One that was damaged is made again; of many
those stay that were used last.

The reference of a module is PyTorch's own output; that of an ONNX file is onnxruntime's, as a whole and unoptimised.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from archsearch.jobs import InputError
from archsearch.places import cache_folder
from archsearch.profile import environment as machine
from archsearch.profile.kept import note_use, thin_out
from archsearch.profile.models import Loaded, Model
from archsearch.profile.onnx_files import check_onnx, files_of, inputs_of, reference_outputs
from archsearch.profile.process import Child, ChildFault
from archsearch.profile.runtimes.face import Arrays, Runtime
from archsearch.profile.settings import Failed, Settings, Subject

#: Their versions decide what is made of a model.
MAKERS = ("circle-schema", "numpy", "onnx", "onnxruntime", "onnxscript", "tico", "torch")

#: Models that are kept beside those of the last hour: others may be measuring these.
MOST, IDLE = 64, 3600.0

#: What a model's folder is called while it is made, and seconds after which nobody makes it any more.
MAKING, GIVEN_UP = "making-", 86400.0

#: What of a folder says that its other files are as they were made.
SEAL = "sha256"

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
        InputError: there is no place for what is made.
        ChildFault: processes do not even start.
    """
    if not used.form:
        return model
    words: list[Any] = [model.to_json(), used.form, settings.batch]
    said = json.dumps(words, sort_keys=True)
    folder = _made.get(said) if model.kind == "function" else cache() / _key(model, words)
    if folder is None or not _whole(folder):
        made = _make(model, used, settings)
        if isinstance(made, Failed):
            return made
        folder = _keep(made, folder or cache() / _content(made))
        if model.kind == "function":
            _made[said] = folder
    note_use(folder)
    return replace(model, kind="prepared", value=str(folder))


def cache() -> Path:
    """Where prepared models lie."""
    return cache_folder() / "models"


def reference_of(model: Loaded, pytorch: Callable[[], Runtime]) -> Arrays:
    """What a model's output is to be; ``pytorch`` gives that runtime, if it comes to that."""
    if model.reference is not None:
        return model.reference
    if model.module is None:
        assert model.file is not None
        return reference_outputs(model.file, model.inputs)
    plain = pytorch().compile(model, None)
    return plain.fetch(plain.run(plain.load(model.inputs)))


def _key(model: Model, words: list[Any]) -> str:
    """A hash of all that decides what is made of an architecture or an ONNX file: its content, or the code that builds it and
    writes it down."""
    if model.kind == "onnx":
        return _hash(words, files_of(Path(str(model.value))))
    here = Path(__file__).parent
    return _hash(words, [*sorted((here.parent / "arch").rglob("*.py")), *sorted(here.rglob("*.py"))])


def _hash(words: list[Any], files: Sequence[Path]) -> str:
    found = hashlib.sha256(json.dumps([words, {name: machine.installed(name) for name in MAKERS}], sort_keys=True).encode())
    for path in files:
        with path.open("rb") as file:
            found.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:32]


def _make(model: Model, used: Runtime, settings: Settings) -> Path | Failed:
    """A new folder with what the model's process has made."""
    try:
        cache().mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=MAKING, dir=cache()))
    except OSError as error:
        raise InputError(
            f"models are kept in {cache()}, which cannot be written ({error.strerror}): set ARCHSEARCH_CACHE to a folder that "
            "can be"
        ) from error
    request = {
        "task": "prepare",
        "subjects": [Subject(model, used.name).to_json()],
        "numbers": [0],
        "settings": settings.to_json(),
        "cores": machine.choose_cores(settings.threads),
        "folder": str(folder),
    }
    failed: Failed | None = None
    done = False
    try:
        with Child(request, settings.threads, settings.limit) as child:
            for answer in child.answers():
                done |= answer["event"] == "prepared"
                if answer["event"] == "failed":
                    failed = Failed(answer["kind"], answer["message"])
        if not (failed or done):
            failed = Failed("garbage", "the process that prepares a model did not say what became of it")
    except ChildFault as error:
        if error.subject is None:
            raise
        failed = Failed(error.kind, str(error))
    finally:
        if not done:
            shutil.rmtree(folder, ignore_errors=True)
    return failed or folder


def _keep(made: Path, folder: Path) -> Path:
    """Give a new folder its name, unless another process was first."""
    (made / SEAL).write_text(_content(made))
    if not _whole(folder):
        shutil.rmtree(folder, ignore_errors=True)  # damaged, if it is there
        with suppress(OSError):  # another process was first
            made.rename(folder)
    shutil.rmtree(made, ignore_errors=True)
    thin_out(cache(), MOST, IDLE)
    thin_out(cache(), 0, GIVEN_UP, f"{MAKING}*")  # by processes that were killed
    return folder


def _whole(folder: Path) -> bool:
    """Whether all of a folder's files are there, and as they were made."""
    with suppress(OSError):
        return (folder / SEAL).read_text() == _content(folder)
    return False


def _content(folder: Path) -> str:
    return _hash([], sorted(path for path in folder.iterdir() if path.name != SEAL))
