"""Our optimizers are torch's, number for number, without torch's compiler."""

from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch

from archsearch.train.loop import make_optimizer
from archsearch.train.section import TrainSection


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_and_state_are_those_of_torch(name):
    section = TrainSection.model_validate({"optimizer": name, "lr": 0.05, "momentum": 0.9, "weight_decay": 0.01})
    torch.manual_seed(3)
    first = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    second = copy.deepcopy(first)
    ours = make_optimizer(list(first.parameters()), section)
    kind = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]
    assert isinstance(ours, kind) and type(ours) is not kind
    theirs = kind(second.parameters(), **{key: ours.defaults[key] for key in ours.defaults if key != "decoupled_weight_decay"})
    for step in range(6):
        images = torch.randn(8, 5)
        for model, optimizer in ((first, ours), (second, theirs)):
            optimizer.zero_grad()
            model(images).square().sum().backward()
            optimizer.step()
        if step == 3:  # through a checkpoint and back
            for optimizer in (ours, theirs):
                optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    assert all(torch.equal(mine, other) for mine, other in zip(first.parameters(), second.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in first.parameters()) and torch.is_grad_enabled()


def test_a_training_does_not_load_the_compiler():
    """Each process that trains would pay for it with a second and 70 MB."""
    code = (
        "import sys, torch\n"
        "from archsearch.train.loop import make_optimizer\nfrom archsearch.train.section import TrainSection\n"
        "model = torch.nn.Linear(3, 2)\noptimizer = make_optimizer(list(model.parameters()), TrainSection())\n"
        "model(torch.ones(1, 3)).sum().backward()\noptimizer.step()\nprint('torch._dynamo' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"
