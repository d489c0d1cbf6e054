"""StochGradAdam: Adam on a gradient of which every element is kept with probability s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT, StateDict

from sgabench.optimizers.sampling import Drawn, Group, check_sampling, draw

State = dict[str, Tensor]


class StochGradAdam(Optimizer):
    """StochGradAdam (arXiv 2310.17042, Algorithm 1).

    With Ω drawn anew at each step, every element 1 with probability s and else 0:
    φ = Ω ⊙ g, m ← β1 m + (1 - β1) φ, v ← β2 v + (1 - β2) φ², θ ← θ - lr m̂ / (√v̂ + ε), where m̂ and v̂
    are m and v divided by 1 - β1ᵗ and 1 - β2ᵗ. With s = 1 it is torch.optim.Adam.

    Moments are float32 for bfloat16 and float16 parameters, and of the parameter's type otherwise; a
    parameter of low precision is itself rounded at every step, so that small updates are lost.
    All options but ``foreach`` and ``maximize`` may differ between parameter groups.

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
        foreach: use the multi-tensor implementation; default: for parameters on an accelerator.

    Raises:
        ValueError: a value is out of range, a parameter is complex, or ``exclude`` is given for
            parameters without names.
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
        foreach: bool | None = None,
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
            "foreach": foreach,
        }
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
        several: dict[tuple[int, torch.device, torch.dtype], list[Drawn]] = {}
        for drawn in draw(self.param_groups, "StochGradAdam"):
            parameter = drawn.parameter
            state = self.state[parameter] or self._start(parameter)
            state["step"] += 1
            if _takes_foreach(drawn):
                alike = (id(drawn.group), parameter.device, parameter.dtype)
                several.setdefault(alike, []).append(drawn)
            else:
                _single_tensor(drawn, state)
        for items in several.values():
            _multi_tensor(items, [self.state[drawn.parameter] for drawn in items])
        return loss

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue where a state dict was taken, bit for bit."""
        super().load_state_dict(state_dict)
        # torch has cast the moments to the parameters' type, which loses bits of those in float32.
        saved = [index for group in state_dict["param_groups"] for index in group["params"]]
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, parameter in zip(saved, parameters, strict=True):
            if _moment_dtype(parameter) != parameter.dtype and index in state_dict["state"]:
                for name in ("exp_avg", "exp_avg_sq"):
                    moment = state_dict["state"][index][name]
                    self.state[parameter][name] = moment.to(parameter.device, _moment_dtype(parameter))

    def _start(self, parameter: Tensor) -> State:
        state: State = self.state[parameter]
        state["step"] = torch.tensor(0.0, dtype=torch.float32, device="cpu")
        for name in ("exp_avg", "exp_avg_sq"):
            state[name] = torch.zeros_like(parameter, dtype=_moment_dtype(parameter))
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


def _moment_dtype(parameter: Tensor) -> torch.dtype:
    return torch.promote_types(parameter.dtype, torch.float32)


def _takes_foreach(drawn: Drawn) -> bool:
    parameter, wanted = drawn.parameter, drawn.group["foreach"]
    if wanted is None:
        wanted = parameter.device.type != "cpu"
    return bool(wanted) and _moment_dtype(parameter) == parameter.dtype


def _step_size_and_root(state: State, group: Group) -> tuple[float, float]:
    """lr / (1 - β1ᵗ) and √(1 - β2ᵗ); lr and 1 without bias correction."""
    lr = float(group["lr"])
    if not group["bias_correction"]:
        return lr, 1.0
    beta1, beta2 = group["betas"]
    step = float(state["step"])
    return lr / (1 - beta1**step), float((1 - beta2**step) ** 0.5)


def _single_tensor(drawn: Drawn, state: State) -> None:
    group, parameter, factor = drawn.group, drawn.parameter, drawn.factor
    beta1, beta2 = group["betas"]
    decay = group["weight_decay"]
    moment, second = state["exp_avg"], state["exp_avg_sq"]
    value = parameter.to(moment.dtype)
    phi = drawn.gradient.to(moment.dtype)
    if group["maximize"]:
        phi = -phi
    if decay and group["decoupled_weight_decay"]:
        value.mul_(1 - float(group["lr"]) * decay)
        decay = 0
    if decay and group["mask_weight_decay"]:
        phi = phi.add(value, alpha=decay)
    if factor is not None:
        phi = factor.mul_(phi) if factor.dtype == phi.dtype else phi * factor
    if decay and not group["mask_weight_decay"]:
        phi = phi.add(value, alpha=decay)
    moment.lerp_(phi, 1 - beta1)
    second.mul_(beta2).addcmul_(phi, phi, value=1 - beta2)
    step_size, root = _step_size_and_root(state, group)
    root_of_second = torch.sqrt(second, out=None if phi is drawn.gradient else phi)
    value.addcdiv_(moment, root_of_second.div_(root).add_(group["eps"]), value=-step_size)
    if value is not parameter:
        parameter.copy_(value)


def _multi_tensor(items: list[Drawn], states: list[State]) -> None:
    """The same as `_single_tensor`, for parameters of one group, device and type."""
    group = items[0].group
    parameters = [drawn.parameter for drawn in items]
    phis = [drawn.gradient for drawn in items]
    beta1, beta2 = group["betas"]
    decay = group["weight_decay"]
    moments = [state["exp_avg"] for state in states]
    seconds = [state["exp_avg_sq"] for state in states]
    if group["maximize"]:
        phis = list(torch._foreach_neg(phis))
    if decay and group["decoupled_weight_decay"]:
        torch._foreach_mul_(parameters, 1 - float(group["lr"]) * decay)
        decay = 0
    if decay and group["mask_weight_decay"]:
        phis = list(torch._foreach_add(phis, parameters, alpha=decay))
    masked = {index: drawn.factor for index, drawn in enumerate(items) if drawn.factor is not None}
    if masked:
        products = torch._foreach_mul([phis[index] for index in masked], list(masked.values()))
        for index, product in zip(masked, products, strict=True):
            phis[index] = product
    if decay and not group["mask_weight_decay"]:
        phis = list(torch._foreach_add(phis, parameters, alpha=decay))
    torch._foreach_lerp_(moments, phis, 1 - beta1)
    torch._foreach_mul_(seconds, beta2)
    torch._foreach_addcmul_(seconds, phis, phis, 1 - beta2)
    sizes = [_step_size_and_root(state, group) for state in states]
    denominators = torch._foreach_sqrt(seconds)
    torch._foreach_div_(denominators, [root for _, root in sizes])
    torch._foreach_add_(denominators, group["eps"])
    torch._foreach_addcdiv_(parameters, moments, denominators, [-size for size, _ in sizes])
