"""StochGradAdam: Adam on a gradient of which every element is kept with probability s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT, StateDict

from sgabench.optimizers import compiled
from sgabench.optimizers.implementations import Implementation, check, moment_dtype, suited
from sgabench.optimizers.sampling import Group, Placed, check_sampling, draw_runs, place
from sgabench.optimizers.updates import State, multi_tensor, single_tensor


class StochGradAdam(Optimizer):
    """StochGradAdam (arXiv 2310.17042, Algorithm 1).

    With Ω drawn anew at each step, every element 1 with probability s and else 0:
    φ = Ω ⊙ g, m ← β1 m + (1 - β1) φ, v ← β2 v + (1 - β2) φ², θ ← θ - lr m̂ / (√v̂ + ε), where m̂ and v̂
    are m and v divided by 1 - β1ᵗ and 1 - β2ᵗ. With s = 1 it is torch.optim.Adam.

    Moments are float32 for bfloat16 and float16 parameters, and of the parameter's type otherwise; a
    parameter of low precision is itself rounded at every step, so that small updates are lost.
    All options but ``implementation`` may differ between parameter groups.

    Args:
        params: parameters, named parameters or groups, as torch.optim takes them.
        lr: learning rate, > 0 or 0.
        betas: decay of the two moments, each in [0, 1).
        eps: added to the root of the second moment, > 0.
        weight_decay: strength of the decay, >= 0.
        sampling_rate: s, in (0, 1].
        seed: which masks; with the number of steps it determines them (see `sgabench.optimizers.mask`).
        decoupled_weight_decay: shrink the weights as AdamW does, never masked, rather than add the
            decay to the gradient as Adam does.
        bias_correction: divide the moments by 1 - βᵗ. The papers print it; the third mechanism of
            arXiv 2312.16020 rests on it.
        rescale: divide what the mask keeps by s, so that φ is g in expectation. The papers do not.
        mask_weight_decay: whether the mask also covers a coupled decay, φ = Ω ⊙ (g + λθ), as public
            implementations do, or φ = Ω ⊙ g + λθ. The papers have no decay.
        exclude: fnmatch patterns of names of parameters that are never masked, e.g. ``"*bn*"``.
        maximize: ascend.
        implementation: ``single`` (tensor by tensor, the reference), ``foreach`` (several tensors at
            once), ``compiled`` (C++, for the CPU), ``triton`` (for CUDA), or ``auto``: the fastest
            that there is. Default: the environment variable SGABENCH_IMPLEMENTATION, else ``auto``.
            They differ in the rounding of the last bits only. Parameters that it does not take
            (``compiled`` and ``triton``: all but dense float32) are updated tensor by tensor.

    Raises:
        ValueError: a value is out of range, a parameter is complex, or ``exclude`` is given for
            parameters without names.
        InputError: the implementation is unknown, or this machine does not have it.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        sampling_rate: float = 0.8,
        seed: int = 0,
        decoupled_weight_decay: bool = False,
        bias_correction: bool = True,
        rescale: bool = False,
        mask_weight_decay: bool = True,
        exclude: tuple[str, ...] = (),
        maximize: bool = False,
        implementation: Implementation | None = None,
    ) -> None:
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "sampling_rate": sampling_rate,
            "seed": seed,
            "sampling_step": 0,
            "decoupled_weight_decay": decoupled_weight_decay,
            "bias_correction": bias_correction,
            "rescale": rescale,
            "mask_weight_decay": mask_weight_decay,
            "exclude": exclude,
            "maximize": maximize,
        }
        self._implementation = check(implementation)
        super().__init__(params, defaults)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group, whose options stand over the optimizer's own; see the class for what is raised."""
        super().add_param_group(param_group)
        try:
            _check(self.param_groups[-1])
        except ValueError:
            del self.param_groups[-1]
            raise

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient.

        Args:
            closure: evaluates the model again and returns the loss.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        alike: dict[tuple[str, int, torch.device, torch.dtype], list[Placed]] = {}
        for item in place(self.param_groups, "StochGradAdam"):
            parameter = item.parameter
            kind = suited(self._implementation, parameter)
            alike.setdefault((kind, id(item.group), parameter.device, parameter.dtype), []).append(item)
        for (kind, *_), items in alike.items():
            self._update(kind, items)
        return loss

    def _update(self, kind: str, items: list[Placed]) -> None:
        """Update parameters of one group, device and type."""
        states = {item.parameter: self.state[item.parameter] or self._start(item.parameter) for item in items}
        if kind == "compiled":
            compiled.step(items, list(states.values()))
        elif kind == "triton":
            from sgabench.optimizers import triton_step

            triton_step.step(items, list(states.values()))
        else:
            for run in draw_runs(items):
                if kind == "foreach":
                    multi_tensor(run, [states[drawn.parameter] for drawn in run])
                else:
                    for drawn in run:
                        single_tensor(drawn, states[drawn.parameter])

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue where a state dict was taken, bit for bit."""
        super().load_state_dict(state_dict)
        # torch has cast the moments to the parameters' type, which loses bits of those in float32, and a
        # file may have laid them out in another way than the parameters, whose layout kernels rely on.
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, parameter in zip(saved, parameters, strict=True):
            for name in ("exp_avg", "exp_avg_sq") if index in state_dict["state"] else ():
                moment = torch.empty_like(parameter, dtype=moment_dtype(parameter))
                self.state[parameter][name] = moment.copy_(state_dict["state"][index][name])

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_implementation": self._implementation}

    def _start(self, parameter: Tensor) -> State:
        state: State = self.state[parameter]
        state["step"] = torch.tensor(0.0, dtype=torch.float32, device="cpu")
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = torch.zeros_like(parameter, dtype=moment_dtype(parameter))
        return state


def _check(group: Group) -> None:
    for name in ("lr", "weight_decay"):
        if not group[name] >= 0:
            raise ValueError(f"Invalid {name}: {group[name]}; it must not be negative")
    if not group["eps"] > 0:
        raise ValueError(f"Invalid eps: {group['eps']}; it must be positive")
    if len(group["betas"]) != 2 or not all(0 <= beta < 1 for beta in group["betas"]):
        raise ValueError(f"Invalid betas: {group['betas']}; they must be two numbers in [0, 1)")
    check_sampling(group)
    if any(parameter.is_complex() for parameter in group["params"]):
        raise ValueError("StochGradAdam does not support complex parameters; use torch.view_as_real")
