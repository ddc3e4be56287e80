"""Petridish's search task: which candidate shortcuts help a parent?

Either the alphas are learned together with the candidates for a few steps and compared by |alpha|, or (``method: gradient``)
nothing is learned and the alphas are compared by |mean gradient of the loss|, their first step from zero.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from archsearch.arch import Edge
from archsearch.arch.build import Network
from archsearch.jobs import Context, Interrupted, NonFinite
from archsearch.train.batches import Batches, Resident, reseed
from archsearch.train.candidates import Candidates
from archsearch.train.checkpoint import optimizer_tensors, pack, part, restore_optimizer, unpack
from archsearch.train.compute import counting
from archsearch.train.optimizers import AdamW
from archsearch.train.section import MOST_RANKED, WeakLearnerSection


@dataclass(frozen=True)
class Learned:
    """``ranked[cell]`` lists the ``MOST_RANKED`` strongest ``[source, operation, alpha]``, the best first, diverged ones last.

    ``seconds`` are of all attempts, ``cpu_before`` the processor's in earlier ones; ``steps_madds`` multiply-adds of all steps.
    """

    candidates: Candidates
    ranked: dict[str, list[list[str | float]]]
    diverged: frozenset[tuple[str, str]]  # (cell, edge key)
    seconds: float
    cpu_before: float
    steps_madds: int


def learn(parent: Network, data: Resident, section: WeakLearnerSection, context: Context, owner: str) -> Learned:
    """Attach all candidates to a trained parent and rank them.

    The parent is frozen and in evaluation mode, or with ``train_parent`` learns on. It is changed in place only then.

    Raises:
        Interrupted: as ``context.report`` raised it; a checkpoint was written before.
        NonFinite: the parent's loss is not finite (a candidate never reaches it).
    """
    return _Learning(parent, data, section, context, owner).run()


def rank(edges: Sequence[Edge], alphas: Sequence[float], diverged: Sequence[bool]) -> list[list[str | float]]:
    """``[source, operation, alpha]`` by falling |alpha|, equal ones in their order, those that diverged last.

    By magnitude: a strong negative alpha is as useful as a positive one.
    """
    order = sorted(range(len(edges)), key=lambda i: (diverged[i], -abs(alphas[i])))
    return [[edges[i].source, edges[i].op, alphas[i]] for i in order]


def contain(
    loss: Tensor, alpha_gradients: Sequence[Tensor], gradients: Sequence[Tensor], owners: Tensor, limit: float
) -> tuple[Tensor, bool]:
    """Clip the gradient of each candidate's weights by itself, and put to zero, in place, those of a candidate with any value
    that is not finite: one candidate must hold back neither the others nor the parent.

    Args:
        alpha_gradients: those of all candidates in order, in pieces.
        gradients: of the weights; ``owners[i]`` is the number of the candidate that ``gradients[i]`` belongs to.
        limit: the largest norm.

    Returns:
        Which candidates are finite, and whether the loss is. The device is waited for once.
    """
    alphas = torch.cat(list(alpha_gradients))
    squares = torch.zeros_like(alphas)
    if gradients:
        squares.index_add_(0, owners, torch.stack(torch._foreach_norm(list(gradients))).square())
    finite = torch.isfinite(squares) & torch.isfinite(alphas)
    ok, calm = torch.stack([torch.isfinite(loss.detach()), (finite & (squares <= limit**2)).all()]).tolist()
    if not calm:
        scale = torch.where(finite, (limit / squares.sqrt().clamp_min(1e-12)).clamp_max(1.0), 0.0)
        for gradient, index in zip(gradients, owners.tolist(), strict=True):
            gradient.nan_to_num_(0.0, 0.0, 0.0).mul_(scale[index])
        for gradient, own in zip(alpha_gradients, torch.split(finite, [len(g) for g in alpha_gradients]), strict=True):
            gradient.masked_fill_(~own, 0.0)
    return finite, ok


class _Learning:
    def __init__(self, parent: Network, data: Resident, section: WeakLearnerSection, context: Context, owner: str) -> None:
        assert section.primitives is not None  # the work fills it in
        self.parent, self.section, self.context, self.owner = parent, section, context, owner
        self.batches = Batches(data, section.batch_size, section.augment, context.job.seed)
        self.candidates = Candidates(parent, section.primitives, context.job.seed).to(context.device)
        self.candidates.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parent.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        # With method gradient nothing takes a step: the parent then needs no gradients, in whichever mode it is.
        parent.requires_grad_(section.train_parent and section.method == "alphas").train(section.train_parent)
        self.alphas = list(self.candidates.alphas.values())
        weights = self.candidates.weights()
        if section.method == "gradient":
            self.candidates.cells.requires_grad_(False)
            weights = [[] for _ in weights]
        self.weights = [weight for group in weights for weight in group]
        owners = [i for i, group in enumerate(weights) for _ in group]
        self.owners = torch.tensor(owners, dtype=torch.int64, device=context.device)
        self.diverged = torch.zeros(len(weights), dtype=torch.bool, device=context.device)
        self.means = [torch.zeros_like(alpha) for alpha in self.alphas]  # with method gradient: sums of gradients
        groups = [
            {"params": self.alphas, "lr": section.alpha_lr, "weight_decay": 0.0},
            {"params": self.weights, "lr": section.lr, "weight_decay": section.weight_decay},
        ]
        if section.train_parent:
            groups.append({"params": list(parent.parameters()), "lr": section.lr, "weight_decay": section.weight_decay})
        self.optimizer = AdamW([group for group in groups if group["params"]], fused=True)
        self.step = 0
        self.earlier = self.cpu_before = 0.0  # seconds spent before this attempt, and those of the processor
        self.started = self.saved = time.monotonic()
        self.cpu_started = time.process_time()
        self.step_madds = 0  # of one step; known after the first
        self._restore()

    def run(self) -> Learned:
        section = self.section
        with torch.random.fork_rng(devices=[self.context.device] if self.context.device.startswith("cuda") else []):
            while self.step < section.steps:
                self._learn_step()
                self.step += 1
                every = section.checkpoint_every
                if every is not None and time.monotonic() - self.saved >= every and self.step < section.steps:
                    self._checkpoint()
                try:
                    self.context.report(step=self.step, steps=section.steps)
                except Interrupted:
                    self._checkpoint()
                    raise
        return self._ranked()

    # ------------------------------------------------------------------------------------------------------------ steps
    def _learn_step(self) -> None:
        section = self.section
        x, y = self.batches.at(self.step)
        x = x.contiguous(memory_format=torch.channels_last)
        reseed(self.context.job.seed, self.step, self.context.device)
        self.candidates.follow(self.step)
        with nullcontext() if self.step_madds else counting(self.parent, self.candidates) as counted:
            logits = self.candidates(self.parent, x)
        if counted is not None:
            self.step_madds = counted.madds
        loss = F.cross_entropy(logits, y, label_smoothing=section.label_smoothing)
        if section.method == "gradient":
            gradients = torch.autograd.grad(loss, self.alphas)
            self._contain(loss, list(gradients), [])
            for mean, gradient in zip(self.means, gradients, strict=True):
                mean.add_(gradient)
            return
        penalty = torch.cat(self.alphas).abs().sum()
        self.optimizer.zero_grad()
        (loss + section.l1_alphas * penalty).backward()  # type: ignore[no-untyped-call]
        self._contain(loss, [gradient_of(alpha) for alpha in self.alphas], [gradient_of(weight) for weight in self.weights])
        if section.train_parent and section.grad_clip:
            nn.utils.clip_grad_norm_(self.parent.parameters(), section.grad_clip)
        self.optimizer.step()

    def _contain(self, loss: Tensor, alpha_gradients: list[Tensor], gradients: list[Tensor]) -> None:
        finite, ok = contain(loss, alpha_gradients, gradients, self.owners, self.section.grad_clip or math.inf)
        if not ok:
            raise NonFinite(f"the parent's loss at step {self.step + 1} of the search task is {loss.item()}")
        self.diverged |= ~finite

    def _ranked(self) -> Learned:
        values: list[Tensor] = [alpha.detach() for alpha in self.alphas]
        if self.section.method == "gradient":  # a step against the gradient, from alphas of zero
            values = [-mean / self.section.steps for mean in self.means]
        flags = torch.split(self.diverged, [len(value) for value in values])
        ranked, diverged = {}, set()
        for (name, edges), alphas, bad in zip(self.candidates.edges.items(), values, flags, strict=True):
            ranked[name] = rank(edges, alphas.tolist(), bad.tolist())[:MOST_RANKED]
            diverged |= {(name, edge.key) for edge, flag in zip(edges, bad.tolist(), strict=True) if flag}
        madds = self.step_madds * self.section.steps
        return Learned(self.candidates, ranked, frozenset(diverged), self._seconds(), self.cpu_before, madds)

    # ------------------------------------------------------------------------------------------------------ checkpoints
    def _seconds(self) -> float:
        return self.earlier + time.monotonic() - self.started

    def _state(self) -> dict[str, Tensor]:
        """Live tensors that make up the state, besides the optimizer's."""
        state = {f"candidates.{name}": tensor for name, tensor in self.candidates.state_dict().items()}
        if self.section.train_parent:
            state |= {f"parent.{name}": tensor for name, tensor in self.parent.state_dict().items()}
        return state | {f"means.{i}": mean for i, mean in enumerate(self.means)} | {"diverged": self.diverged}

    def _checkpoint(self) -> None:
        tensors = {**self._state(), **optimizer_tensors(self.optimizer, "optimizer.")}
        meta = {
            "step": self.step,
            "seconds": self._seconds(),
            "cpu_seconds": self.cpu_before + time.process_time() - self.cpu_started,
            "step_madds": self.step_madds,
        }
        self.context.save_checkpoint(pack(tensors, meta, self.owner))
        self.saved = time.monotonic()

    def _restore(self) -> None:
        found = unpack(self.context.load_checkpoint(), self.owner)
        if found is None:
            return
        tensors, meta = found
        own = self._state()
        if any(name not in tensors or tensors[name].shape != tensor.shape for name, tensor in own.items()):
            return
        with torch.no_grad():
            for name, tensor in own.items():
                tensor.copy_(tensors[name])
        restore_optimizer(self.optimizer, part(tensors, "optimizer."), "")
        self.step, self.earlier = meta["step"], meta["seconds"]
        self.cpu_before, self.step_madds = meta["cpu_seconds"], meta["step_madds"]


def gradient_of(parameter: nn.Parameter) -> Tensor:
    """The gradient that a backward pass left; zeros if none did (an alpha whose candidates reach no output)."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad
