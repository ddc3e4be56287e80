"""AdamW and SGD as torch has them, less the compiler that torch loads with the first optimizer of a process: over a second of
its start and 70 MB, and nothing is compiled here.

torch keeps TorchDynamo out of an optimizer's methods by wrappers, which import it; here the methods stand as they were written.
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

import torch
from torch.optim import Optimizer


class _Uncompiled(Optimizer):
    add_param_group: Any = unwrap(Optimizer.add_param_group)
    load_state_dict: Any = unwrap(Optimizer.load_state_dict)
    state_dict: Any = unwrap(Optimizer.state_dict)
    zero_grad: Any = unwrap(Optimizer.zero_grad)


class AdamW(_Uncompiled, torch.optim.AdamW):
    step: Any = torch.no_grad()(unwrap(torch.optim.AdamW.step))


class SGD(_Uncompiled, torch.optim.SGD):
    step: Any = torch.no_grad()(unwrap(torch.optim.SGD.step))
