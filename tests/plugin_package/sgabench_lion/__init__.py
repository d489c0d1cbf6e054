"""Lion (arXiv 2302.06675) as a plugin: what another project's package looks like."""

import torch


class Lion(torch.optim.Optimizer):
    def __init__(self, parameters, lr, beta):
        super().__init__(parameters, {"lr": lr, "beta": beta})

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                update = momentum.lerp(parameter.grad, 1 - group["beta"])
                parameter.sub_(group["lr"] * update.sign())
                momentum.lerp_(parameter.grad, 1 - group["beta"])


def lion(parameters, *, lr: float = 1e-4, beta: float = 0.9):
    """Lion: the sign of the momentum."""
    return Lion(parameters, lr, beta)
