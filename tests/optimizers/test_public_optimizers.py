"""What `sgabench.optimizers` offers to loops of one's own."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import sgabench.optimizers
from sgabench.optimizers import Proximal, Sampled, StochGradAdam


def test_they_step_as_torch_optimizers_do() -> None:
    parameter = torch.nn.Parameter(torch.ones(4))
    for optimizer in (
        StochGradAdam([parameter], lr=0.1),
        Sampled(torch.optim.SGD([parameter], lr=0.1)),
        Proximal(torch.optim.SGD([parameter], lr=0.1), l1=0.1),
    ):
        assert isinstance(optimizer, torch.optim.Optimizer)
        before = parameter.detach().clone()
        parameter.grad = torch.ones(4)
        optimizer.step()
        assert not torch.equal(parameter, before)


def test_nothing_else_is_offered() -> None:
    with pytest.raises(AttributeError, match="Adan"):
        sgabench.optimizers.Adan  # noqa: B018


def test_torch_is_imported_on_use() -> None:
    code = "import sys, sgabench.optimizers; assert 'torch' not in sys.modules; sgabench.optimizers.Sampled"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
