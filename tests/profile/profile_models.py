"""Models that the measuring processes of these tests load by name, and a stand-in for such a process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from archsearch.profile.models import Model
from archsearch.profile.settings import Settings

HERE = Path(__file__).parent
SHORT = Settings(launches=2, rounds=2, runs=12, seconds=0.0, warmup=0.2, memory_runs=1, repeats=0, patience=0.0, width=10.0)


def named(function: str) -> Model:
    return Model("function", f"profile_models:{function}", function, str(HERE))


def small():
    return _convolutions(4)


def large():
    """Needs 96 MiB while it is loaded, and gives them back."""
    import torch

    assert torch.ones(24 << 20).sum() > 0
    return _convolutions(48)


def hungry():
    """Needs 64 MiB while it runs, and nothing to be loaded."""
    import torch

    class Hungry(torch.nn.Module):
        def forward(self, x):
            return x + torch.ones(16 << 20).mean()

    return Hungry(), torch.zeros(1)


def deadly():
    """Ends its process when it is run."""
    import torch

    class Deadly(torch.nn.Module):
        def forward(self, x):
            os.kill(os.getpid(), signal.SIGKILL)

    return Deadly(), torch.zeros(1)


def raising():
    raise RuntimeError("these weights are lost")


def placed():
    """Says where it would run."""
    import torch

    raise RuntimeError(f"on {sorted(os.sched_getaffinity(0))} with {torch.get_num_threads()} threads")


def shapeless():
    return "no module"


def deciding():
    """Its code decides by a value: it runs, but cannot be followed."""
    import torch

    class Deciding(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = torch.nn.Linear(4, 4)

        def forward(self, x):
            return self.linear(x) if x.sum() > 0 else x

    return Deciding(), torch.ones(1, 4)


def endless():
    time.sleep(600)


def talking():
    print("this is no answer of the protocol")
    return small()


def many_kinds():
    """A model of many kinds of operations, on maps (1, 3, 12, 12)."""
    import torch
    from torch import nn

    class Many(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1, groups=8)
            self.last = nn.Linear(16, 6)

        def forward(self, x):
            x = torch.max_pool2d(torch.sigmoid(self.first(x)), 2)
            y = torch.exp(-self.second(x)) - 0.5
            z = torch.cat([torch.maximum(x, y), x[:, :, 1:, 1:].mean((2, 3), keepdim=True) * y], dim=1)
            return torch.softmax(self.last(z.mean((2, 3), keepdim=True).flatten(1)), dim=1)

    return Many(), torch.randn(1, 3, 12, 12)


def _convolutions(channels: int):
    import torch
    from torch import nn

    depthwise = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
    layers = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1), nn.ReLU(), depthwise, nn.Conv2d(channels, channels, 3, padding=1)
    )
    return layers, torch.ones(1, 3, 24, 24)


def stand_in(folder: Path, body: str) -> list[str]:
    """The command of a process that speaks the protocol as ``body`` has it: it gets ``request`` and ``say(event, **data)``."""
    script = folder / "stand_in.py"
    script.write_text(
        "import json, os, random, sys, time\n"
        "request = json.loads(sys.stdin.readline())\n"
        "def say(event, **data):\n"
        "    print(json.dumps({'event': event, **data}), flush=True)\n" + body
    )
    return [sys.executable, str(script)]


#: Answers every task as it should be; ``times(number)`` gives its runs in ms, ``waited(number)`` how long others held cores.
FLAWLESS = """
def time_all(times, waited=lambda number: 0.0, energy=None):
    for number in request["numbers"]:
        say("begin", subject=number)
        say("ready", subject=number, build_seconds=0.1, file_size=7, deviation=0.0, warmup_runs=10, warmup_settled=True)
    for _ in range(request["settings"]["rounds"]):
        for number in request["numbers"]:
            say("begin", subject=number)
            say("block", subject=number, ms=times(number), energy_mj=energy, seconds=1.0, waited=waited(number), clock_mhz=None,
                temperature=None)
    say("load", others=0.01)
if request["task"] == "memory":
    say("memory", subject=request["numbers"][0], baseline=1000, load=2000, run=1500 + os.getpid() % 3, apart=True)
    say("done")
    sys.exit()
"""
