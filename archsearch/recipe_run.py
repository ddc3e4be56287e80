"""Running a recipe: one training in a folder of its own, which goes on from its checkpoint when it is started again.

``FOLDER/recipe.yaml`` is the recipe with nothing left open, ``FOLDER/result.json`` what came of it, ``FOLDER/artifacts`` the
weights. No cluster, no network: the work runs in this process.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from archsearch.cluster.context import AttemptContext, perform
from archsearch.jobs import JSON, ArtifactRef, Failure, FailureKind, InputError, Job, Resources, Stage, StoreDamaged
from archsearch.recipes.points import figure
from archsearch.recipes.prepared import own
from archsearch.recipes.recipe import Recipe, load_recipe
from archsearch.recipes.weights import Source, fetched, start_ref
from archsearch.registry import TASKS
from archsearch.session import processor, stop_on_signals, versions
from archsearch.store import Artifacts
from archsearch.store.durable import TEMPORARY, write_durably
from archsearch.store.lease import FileLock

if TYPE_CHECKING:
    from torch import nn

_ATTEMPT = 1  # one training, one attempt: it goes on from its own checkpoint


@dataclass(frozen=True)
class RecipeRun:
    """What came of running a recipe: ``state`` is done, interrupted or failed, ``reason`` why it is not done; ``result``: what
    ``result.json`` holds, empty unless done."""

    path: Path
    recipe: Recipe
    state: str
    reason: str = ""
    result: Mapping[str, JSON] = field(default_factory=dict)

    def load(self) -> nn.Module:
        """The trained network, in evaluation mode; inputs as for ``Run.load``.

        Raises:
            InputError: the recipe was not run to its end.
            StoreDamaged: the weights are not those that were written.
        """
        from archsearch.arch import Architecture
        from archsearch.arch.build import build
        from archsearch.train.weights import load_weights

        if not self.result:
            raise InputError(f"{self.path} has no result yet ({self.state}): give the same command again to go on")
        model = build(Architecture.from_json(self.recipe.to_json()["slots"]["model"]["parameters"]))
        weights = ArtifactRef.from_json(self.result["weights"])
        model.load_state_dict(load_weights(Artifacts(self.path).load(weights)))
        return model.eval()


def run_recipe(
    recipe: Recipe,
    folder: str | Path,
    *,
    sources: Sequence[Source] = (),
    device: str = "cpu",
    threads: int = 1,
    checkpoint_every: float = 60.0,
    say: Callable[[str], None] = lambda text: None,
    progress: Callable[[Mapping[str, JSON]], None] = lambda data: None,
) -> RecipeRun:
    """Train what a recipe says. The same call again goes on where a killed or interrupted one stood, or reads its result.

    Args:
        sources: where weights are found that it starts from (``weights_of_run``, ``weights_in``), besides those that were
            prepared for work without network (``recipes.offline``).
        threads: of the processor; with as many as the recipe was made with, the same kind of processor gives the same figures.
        checkpoint_every: seconds; a training is only gone on with by a call that says the same.
        progress: is handed step, epoch and validation error as the training goes.

    Raises:
        InputError: the recipe has an empty slot, its data, weights or device are not to be had, or the folder is another one's.
            Nothing was written.
        StoreBusy: another process runs it in that folder.
        StoreDamaged: what the folder holds is not what was written.
    """
    path = Path(folder).expanduser().absolute()
    task = TASKS.get(recipe.task)
    if empty := [finding for finding in recipe.check(load=False) if finding.error]:
        raise InputError(f"the recipe has empty slots: {'; '.join(map(str, empty))}. Fill them: archsearch recipe fill.")
    _refuse_absent(device)
    say("loading the data …")
    data = task.load(recipe)
    recipe = task.pinned(recipe, data)
    earlier = _refuse_another(path, recipe)
    if earlier is not None and earlier.result:
        return earlier
    payloads: dict[ArtifactRef, bytes] = {}
    kept, prepared = Artifacts(path), own()

    def refer(sha256: str, size: int) -> ArtifactRef:
        ref = start_ref(sha256, size)
        if not (earlier is not None and kept.holds(ref)):
            payloads[ref] = fetched(sha256, size, [*sources, *([prepared.weights] if prepared is not None else [])])
        return ref

    spec = task.spec(recipe, refer)
    if "train" in spec:
        spec["train"]["checkpoint_every"] = {"seconds": checkpoint_every}
    path.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path / "lock")
    try:
        earlier = _refuse_another(path, recipe)  # another process may have run it meanwhile
        if earlier is not None and earlier.result:
            return earlier
        for ref, payload in payloads.items():
            kept.put(ref, payload)
        recipe.save(path / "recipe.yaml")  # last: a folder with it has all that it needs
        job = Job(1, Stage.SEED_TRAINED, task.work, spec, recipe.seed, Resources(cpu=threads), attempt=_ATTEMPT)
        return _trained(path, recipe, job, data, kept, device, progress)
    finally:
        lock.release()


def _trained(
    path: Path,
    recipe: Recipe,
    job: Job,
    data: Any,
    kept: Artifacts,
    device: str,
    progress: Callable[[Mapping[str, JSON]], None],
) -> RecipeRun:
    stopping = False

    def request_stop() -> None:
        nonlocal stopping
        stopping = True

    def post(news: Mapping[str, JSON]) -> bool:
        progress(news)
        return stopping

    splits = {False: data.without_test(), True: data}
    context = AttemptContext(job, splits.__getitem__, kept, post, device, int(job.resources.cpu))
    with stop_on_signals(request_stop):
        done = perform(job, context, socket.gethostname())
    if isinstance(done.outcome, Failure):
        return _failed(path, recipe, done.outcome)
    metrics = dict(done.outcome.metrics)
    result = {
        "recipe": recipe.id,
        **figure(metrics, TASKS.get(recipe.task)),
        "seconds": done.seconds,
        "node": done.node,
        "device": device,
        "threads": int(job.resources.cpu),
        "processor": processor(),
        "versions": versions(),
        "weights": done.outcome.artifacts["weights"].to_json(),
        "metrics": metrics,
    }
    write_durably(path / "result.json", json.dumps(result, indent=2).encode())
    kept.drop_checkpoints(job.id)
    return RecipeRun(path, recipe, "done", "", result)


def _failed(path: Path, recipe: Recipe, failure: Failure) -> RecipeRun:
    if failure.kind is FailureKind.INTERRUPTED:
        return RecipeRun(path, recipe, "interrupted", "asked to stop")
    if failure.kind is FailureKind.DAMAGED:
        raise StoreDamaged(f"{path}: {failure.message}")
    return RecipeRun(path, recipe, "failed", f"{failure.kind}: {failure.message}")


def load_recipe_run(folder: str | Path) -> RecipeRun:
    """What is in the folder of a recipe's run.

    Raises:
        InputError: no recipe was run there.
        StoreDamaged: its files are not what was written.
    """
    path = Path(folder).expanduser().absolute()
    if not (path / "recipe.yaml").is_file():
        raise InputError(f"{path} holds no run of a recipe: expected a folder that `archsearch recipe run` made")
    recipe = load_recipe(path / "recipe.yaml")
    try:
        result = json.loads((path / "result.json").read_bytes())
        ArtifactRef.from_json(result["weights"])
    except FileNotFoundError:
        return RecipeRun(path, recipe, "interrupted", "it was stopped or killed")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreDamaged(f"{path / 'result.json'} is not what was written: {error!r}") from error
    if result.get("recipe") != recipe.id:
        raise StoreDamaged(f"{path / 'result.json'} is of recipe {result.get('recipe')}, but recipe.yaml is {recipe.id}")
    return RecipeRun(path, recipe, "done", "", result)


def _refuse_absent(device: str) -> None:
    """
    Raises:
        InputError: this machine has no such device.
    """
    import torch

    if device != "cpu" and not (device.startswith("cuda") and torch.cuda.is_available()):
        raise InputError(f"device {device!r} is not here: expected cpu, or cuda where PyTorch finds a GPU (archsearch doctor)")


def _refuse_another(path: Path, recipe: Recipe) -> RecipeRun | None:
    """What an earlier call with the same recipe left in the folder, or None.

    Raises:
        InputError: the folder holds something else.
    """
    if not path.exists():
        return None
    if not path.is_dir():
        raise InputError(f"{path} is a file: name a folder that is new or empty.")
    if not (path / "recipe.yaml").exists():
        names = {each.name for each in path.iterdir() if not each.name.startswith(TEMPORARY)}
        left = names - {"lock", "artifacts"}  # what a call leaves that was killed before it began to train
        if left:
            raise InputError(
                f"{path} holds something else ({', '.join(sorted(left)[:3])}): name a folder that is new or empty."
            )
        return None
    earlier = load_recipe_run(path)
    if earlier.recipe.id != recipe.id:
        changed = ", ".join(each.path for each in earlier.recipe.diff(recipe)[:5])
        raise InputError(
            f"{path} holds recipe {earlier.recipe.id}, not {recipe.id} (they differ in {changed}): name another folder."
        )
    return earlier
