"""The update of StochGradAdam by torch's own operations: what runs everywhere, and what defines the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.adam import adam

from sgabench.optimizers.sampling import Drawn, Group

State = dict[str, Tensor]


def single_tensor(drawn: Drawn, state: State) -> None:
    """Update one parameter of any floating type and layout: the reference."""
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
    state["step"] += 1
    step_size, root = step_size_and_root(float(state["step"]), group)
    root_of_second = torch.sqrt(second, out=None if phi is drawn.gradient else phi)
    value.addcdiv_(moment, root_of_second.div_(root).add_(group["eps"]), value=-step_size)
    if value is not parameter:
        parameter.copy_(value)


def multi_tensor(items: list[Drawn], states: list[State]) -> None:
    """The same for parameters of one group, device and type, which is that of their moments."""
    group = items[0].group
    parameters = [drawn.parameter for drawn in items]
    phis = [drawn.gradient for drawn in items]
    decay = group["weight_decay"]
    if group["maximize"]:
        phis = list(torch._foreach_neg(phis))
    if decay and group["decoupled_weight_decay"]:
        torch._foreach_mul_(parameters, 1 - float(group["lr"]) * decay)
        decay = 0
    if decay and group["mask_weight_decay"]:
        phis = list(torch._foreach_add(phis, parameters, alpha=decay))
    masked = {index: drawn.factor for index, drawn in enumerate(items) if drawn.factor is not None}
    if masked:
        products = _products([phis[index] for index in masked], list(masked.values()))
        for index, product in zip(masked, products, strict=True):
            phis[index] = product
    if decay and not group["mask_weight_decay"]:
        phis = list(torch._foreach_add(phis, parameters, alpha=decay))
    _adam(parameters, phis, states, group)


def step_size_and_root(step: float, group: Group) -> tuple[float, float]:
    """lr / (1 - β1ᵗ) and √(1 - β2ᵗ); lr and 1 without bias correction."""
    lr = float(group["lr"])
    if not group["bias_correction"]:
        return lr, 1.0
    beta1, beta2 = group["betas"]
    return lr / (1 - beta1**step), float((1 - beta2**step) ** 0.5)


def memory_layout(parameter: Tensor) -> tuple[int, int] | None:
    """How the order in memory leads to the row-major position, of which the mask is a function.

    Returns:
        (1, 1) for row-major; (C, elements per channel) for channels last; None for any other.
    """
    if parameter.is_contiguous():
        return 1, 1
    for dimensions, last in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if parameter.dim() == dimensions and parameter.is_contiguous(memory_format=last):
            channels = parameter.shape[1]
            return channels, parameter.numel() // (parameter.shape[0] * channels)
    return None


def laid_out_as(parameter: Tensor, values: Tensor) -> Tensor:
    """The values in the memory layout of the parameter, which kernels that walk through memory rely on."""
    if values.stride() == parameter.stride():
        return values
    return torch.empty_like(parameter, dtype=values.dtype).copy_(values)


def _products(phis: list[Tensor], factors: list[Tensor]) -> list[Tensor]:
    """φ in the memory of the factors where types and layouts allow: fresh memory costs more than the product."""
    if all(f.dtype == phi.dtype and f.stride() == phi.stride() for f, phi in zip(factors, phis, strict=True)):
        torch._foreach_mul_(factors, phis)
        return factors
    return list(torch._foreach_mul(phis, factors))


def _adam(parameters: list[Tensor], phis: list[Tensor], states: list[State], group: Group) -> None:
    """Adam's step on φ; on the CPU torch's fused one makes one pass over memory rather than ten."""
    moments = [state["exp_avg"] for state in states]
    seconds = [state["exp_avg_sq"] for state in states]
    steps = [state["step"] for state in states]
    (beta1, beta2), eps = group["betas"], group["eps"]
    fused = group["bias_correction"] and all(p.device.type == "cpu" and memory_layout(p) for p in parameters)
    if fused:  # which ignores strides
        options: dict[str, Any] = {"beta1": beta1, "beta2": beta2, "lr": float(group["lr"]), "eps": eps}
        options |= {"amsgrad": False, "weight_decay": 0.0, "maximize": False}
        phis = [laid_out_as(parameter, phi) for parameter, phi in zip(parameters, phis, strict=True)]
        adam(parameters, phis, moments, seconds, [], steps, fused=True, **options)
        return
    torch._foreach_add_(steps, 1)
    torch._foreach_lerp_(moments, phis, 1 - beta1)
    torch._foreach_mul_(seconds, beta2)
    torch._foreach_addcmul_(seconds, phis, phis, 1 - beta2)
    sizes = [step_size_and_root(step, group) for step in torch.stack(steps).tolist()]
    denominators = torch._foreach_sqrt(seconds)
    torch._foreach_div_(denominators, [root for _, root in sizes])
    torch._foreach_add_(denominators, eps)
    torch._foreach_addcdiv_(parameters, moments, denominators, [-size for size, _ in sizes])
