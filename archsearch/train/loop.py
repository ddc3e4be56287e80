"""The training loop. What it does at a step depends on (weights, optimizer state, seed, step) and on nothing else, so that an
interrupted and resumed training ends with the same weights, bit for bit, as an undisturbed one (same CPU type and threads).
"""

from __future__ import annotations

import math
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archsearch.jobs import JSON, Context, Interrupted, NonFinite
from archsearch.train.batches import Batches, Resident, Split, generator, reseed
from archsearch.train.checkpoint import optimizer_tensors, pack, part, restore_optimizer, unpack
from archsearch.train.compute import counting
from archsearch.train.evaluate import Score, evaluate
from archsearch.train.optimizers import SGD, AdamW
from archsearch.train.recorded import RECORDERS, RecordedStep, Step
from archsearch.train.schedule import learning_rate
from archsearch.train.section import TrainSection

#: Steps between two looks at the losses. Each look waits for the device.
LOOK_EVERY = 100


@dataclass(frozen=True)
class Trained:
    """What a training ends with. ``initial`` is the validation score before the first step, ``val`` that of the kept weights.

    ``curve`` has a row ``[epoch, mean training loss, validation error]`` for each evaluation; epochs count from 1. ``rungs``
    is what was reported after the epochs where a search may stop the training early.
    ``seconds`` are of all attempts, ``cpu_before`` the processor's in earlier ones; ``steps_madds`` multiply-adds of all steps.
    """

    initial: Score
    val: Score
    train: Score
    curve: list[list[float]]
    rungs: list[dict[str, JSON]]
    best_epoch: int
    seconds: float
    cpu_before: float
    steps_madds: int


@dataclass(frozen=True)
class Rungs:
    """Epochs after which a training says where it stands, whatever ``eval_every`` is. ``image_madds``: of a forward pass."""

    epochs: frozenset[int] = frozenset()
    image_madds: int = 0


def fit(
    model: nn.Module, data: Resident, section: TrainSection, context: Context, owner: str, rungs: Rungs = Rungs()
) -> Trained:
    """Train a network in place; a checkpoint of the same ``owner`` (see ``checkpoint.fingerprint``) is continued.

    The network is on ``context.device`` and holds its initial weights; ``model.drop_path`` is set as the training goes, and
    with ``section.auxiliary`` it returns ``(logits, auxiliary logits)`` while it trains. Each report carries all rungs so far,
    those before a resume included, so that none is missed when a report is lost.

    Raises:
        Interrupted: as ``context.report`` raised it; a checkpoint was written before.
        NonFinite: a loss is not finite.
    """
    return _Training(model, data, section, context, owner, rungs).run()


def make_optimizer(parameters: list[nn.Parameter], section: TrainSection, *, recorded: bool = False) -> torch.optim.Optimizer:
    """The section's optimizer, as one fused kernel over all parameters. One that is recorded reads its rate from a tensor, in
    single precision, as CUDA's fused kernels want it."""
    device = parameters[0].device
    lr = torch.tensor(section.lr, dtype=torch.float32, device=device) if recorded else section.lr
    if section.optimizer == "adamw":
        betas, capturable = (section.momentum, 0.999), recorded and device.type == "cuda"
        return AdamW(parameters, lr=lr, betas=betas, weight_decay=section.weight_decay, fused=True, capturable=capturable)
    return SGD(
        parameters,
        lr=lr,
        momentum=section.momentum,
        weight_decay=section.weight_decay,
        nesterov=section.momentum > 0,
        fused=True,
    )


class _Training:
    def __init__(
        self, model: nn.Module, data: Resident, section: TrainSection, context: Context, owner: str, rungs: Rungs
    ) -> None:
        self.model, self.data, self.section, self.context, self.owner = model, data, section, context, owner
        self.rungs = rungs
        self.climbed: list[dict[str, JSON]] = []  # what was found on each rung
        self.cuda = context.device.startswith("cuda")
        if section.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.batches = Batches(data, section.batch_size, section.augment, context.job.seed)
        self.per_epoch = self.batches.per_epoch
        self.total = section.epochs * self.per_epoch
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        recorded = section.cuda_graph and torch.device(context.device).type in RECORDERS and not section.drop_path
        self.optimizer = make_optimizer(self.parameters, section, recorded=recorded)
        self.compute: Step = RecordedStep(self._compute, context.device) if recorded else self._compute
        self.losses = torch.zeros(self.per_epoch, device=context.device)  # of this epoch's steps
        self.looked = 0  # how many of them were seen to be finite
        self.step = 0
        self.curve: list[list[float]] = []
        self.best: dict[str, Tensor] = {}  # with keep: best, the weights of the best epoch so far
        self.initial: Score
        self.kept: Score  # of the weights that would be the result
        self.earlier = self.cpu_before = 0.0  # seconds spent before this attempt, and those of the processor
        self.started = self.saved = time.monotonic()
        self.cpu_started = time.process_time()
        self.step_madds = 0  # of one step; known after the first
        if not self._restore():
            self.initial = self.kept = self._evaluate(data.val)

    def run(self) -> Trained:
        with torch.random.fork_rng(devices=[self.context.device] if self.cuda else []):
            self.model.train()
            while self.step < self.total:
                self._train_step()
                self.step += 1
                if self.step % self.per_epoch == 0:
                    self._end_epoch()
                elif self.step % LOOK_EVERY == 0:
                    self._look(self.step % self.per_epoch)
                if self._checkpoint_due():
                    self._checkpoint()
                self._report()
        if self.best:
            self.model.load_state_dict(self.best)
        if not math.isfinite(self.kept.loss):
            raise NonFinite(f"the validation loss after {self.section.epochs} epochs is {self.kept.loss}")
        best_epoch = min(self.curve, key=lambda row: (row[2], row[0]))[0]
        train, madds = self._train_score(), self.step_madds * self.total
        return Trained(
            self.initial, self.kept, train, self.curve, self.climbed, int(best_epoch), self._seconds(), self.cpu_before, madds
        )

    # ------------------------------------------------------------------------------------------------------------ steps
    def _train_step(self) -> None:
        section, step = self.section, self.step
        x, y = self.batches.at(step)
        if section.channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        reseed(self.context.job.seed, step, self.context.device)
        if section.drop_path:
            self.model.drop_path = section.drop_path * step / self.total  # type: ignore[assignment]
        rate = learning_rate(section, step, self.per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = group["lr"].fill_(rate) if isinstance(group["lr"], Tensor) else rate
        self.losses[step % self.per_epoch] = self.compute(x, y)

    def _compute(self, x: Tensor, y: Tensor) -> Tensor:
        """One step on a batch: nothing that changes from step to step but tensors, and nothing that waits for the device."""
        for parameter in self.parameters:
            parameter.grad = None
        with self._autocast(), nullcontext() if self.step_madds else counting(self.model) as counted:
            output = self.model(x)
            loss = self._loss(output, y)
        if counted is not None:
            self.step_madds = counted.madds
        loss.backward()  # type: ignore[no-untyped-call]
        if self.section.grad_clip:
            nn.utils.clip_grad_norm_(self.parameters, self.section.grad_clip)
        self.optimizer.step()
        return loss.detach()

    def _loss(self, output: Any, y: Tensor) -> Tensor:
        smoothing = self.section.label_smoothing
        if not self.section.auxiliary:
            return F.cross_entropy(output, y, label_smoothing=smoothing)
        logits, auxiliary = output
        main = F.cross_entropy(logits, y, label_smoothing=smoothing)
        return main + self.section.auxiliary * F.cross_entropy(auxiliary, y, label_smoothing=smoothing)

    def _end_epoch(self) -> None:
        self._look(self.per_epoch)
        self.looked = 0
        epoch = self.step // self.per_epoch
        rung = epoch in self.rungs.epochs and epoch < self.section.epochs
        if epoch % self.section.eval_every and epoch != self.section.epochs and not rung:
            return
        score = self._evaluate(self.data.val)
        if self.section.keep == "best" and (not self.curve or score.error < self.kept.error):
            self.kept = score
            self.best = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        elif self.section.keep == "last":
            self.kept = score
        self.curve.append([epoch, float(self.losses.mean()), score.error])
        if rung:
            evaluated = len(self.data.val) * (1 + len(self.curve))
            madds = self.step_madds * self.step + self.rungs.image_madds * evaluated
            self.climbed.append({"epoch": epoch, **score.errors("val"), "compute_madds": madds})

    def _look(self, done: int) -> None:
        """Raise NonFinite for the first of this epoch's ``done`` steps, not looked at before, whose loss is not finite."""
        finite = torch.isfinite(self.losses[self.looked : done])
        if not bool(finite.all()):
            index = self.looked + int(finite.int().argmin())
            step = self.step - done + index + 1
            raise NonFinite(
                f"the loss of step {step} of {self.total} is {float(self.losses[index])}; a lower lr (now "
                f"{self.section.lr:g}), grad_clip or warmup_epochs may help"
            )
        self.looked = done

    def _autocast(self) -> Any:
        return torch.autocast("cuda", torch.bfloat16) if self.cuda and self.section.bf16 else nullcontext()

    def _evaluate(self, split: Split) -> Score:
        with self._autocast():
            return evaluate(self.model, split, self.data.images, self.section.eval_batch_size)

    def _train_score(self) -> Score:
        """Score on as many training images as there are validation images: enough to see overfitting, never a whole epoch."""
        train = self.data.train
        chosen = torch.randperm(len(train), generator=generator(0, "train score"))[: len(self.data.val)].to(train.x.device)
        return self._evaluate(Split(train.x[chosen], train.y[chosen]))

    # ------------------------------------------------------------------------------------------- progress and checkpoints
    def _report(self) -> None:
        progress: dict[str, JSON] = {
            "step": self.step,
            "steps": self.total,
            "epoch": self.step // self.per_epoch,
            "epochs": self.section.epochs,
            "val_error": self.curve[-1][2] if self.curve else None,
            **({"rungs": self.climbed} if self.climbed else {}),
        }
        try:
            self.context.report(**progress)
        except Interrupted:
            self._checkpoint()
            raise

    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self.started

    def _checkpoint_due(self) -> bool:
        every = self.section.checkpoint_every
        if self.step == self.total:
            return False
        if every.seconds is not None and time.monotonic() - self.saved >= every.seconds:
            return True
        return every.epochs is not None and self.step % (every.epochs * self.per_epoch) == 0

    def _checkpoint(self) -> None:
        self._look(self.step % self.per_epoch)
        tensors = {"losses": self.losses, **optimizer_tensors(self.optimizer, "optimizer.")}
        tensors |= {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.items()}
        meta = {
            "step": self.step,
            "curve": self.curve,
            "rungs": self.climbed,
            "initial": asdict(self.initial),
            "kept": asdict(self.kept),
            "seconds": self._seconds(),
            "cpu_seconds": self.cpu_before + time.process_time() - self.cpu_started,
            "step_madds": self.step_madds,
        }
        self.context.save_checkpoint(pack(tensors, meta, self.owner))
        self.saved = time.monotonic()

    def _restore(self) -> bool:
        """Continue from the job's checkpoint; False if there is none that fits."""
        found = unpack(self.context.load_checkpoint(), self.owner)
        if found is None:
            return False
        tensors, meta = found
        state, own = part(tensors, "model."), self.model.state_dict()
        if {name: tensor.shape for name, tensor in state.items()} != {name: tensor.shape for name, tensor in own.items()}:
            return False
        self.model.load_state_dict(state)
        restore_optimizer(self.optimizer, tensors, "optimizer.")
        self.losses.copy_(tensors["losses"])
        self.best = {name: tensor.to(self.losses.device) for name, tensor in part(tensors, "best.").items()}
        self.step, self.curve, self.earlier = meta["step"], meta["curve"], meta["seconds"]
        self.climbed = meta.get("rungs", [])  # a checkpoint from before there were any has none
        self.cpu_before, self.step_madds = meta["cpu_seconds"], meta["step_madds"]
        self.initial, self.kept = Score(**meta["initial"]), Score(**meta["kept"])
        self.looked = self.step % self.per_epoch
        return True
