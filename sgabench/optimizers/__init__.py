"""Optimizers that a suite can name.

An optimizer is a function of the network's named parameters and a seed for random numbers. It returns a
torch.optim.Optimizer whose learning rates are the base of the schedule. Options have the names and defaults of
torch.optim, unless stated otherwise.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from sgabench.plugins import TrainingContext, optimizers
from sgabench.system.environment import register_fact

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from sgabench.optimizers.proximal import Proximal
    from sgabench.optimizers.sampled import Sampled
    from sgabench.optimizers.stoch_grad_adam import StochGradAdam
    from sgabench.optimizers.two_passes import SAM, CrAM
else:
    Optimizer = Any  # the registry evaluates annotations, and must not import torch for it

__all__ = ["SAM", "CrAM", "Proximal", "Sampled", "StochGradAdam"]

NamedParameters = list[tuple[str, Any]]

LearningRate = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Betas = tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]]
Epsilon = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Decay = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(gt=0, le=1)]
Radius = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@optimizers.register("adam")
def adam(
    parameters: NamedParameters,
    *,
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: Decay = 0.0,
    amsgrad: bool = False,
) -> Optimizer:
    """Adam (arXiv 1412.6980); weight decay is added to the gradient."""
    from sgabench.optimizers.sources import build

    options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
    return build("Adam", parameters, options)


@optimizers.register("adamw")
def adamw(
    parameters: NamedParameters,
    *,
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: Decay = 0.01,
    amsgrad: bool = False,
) -> Optimizer:
    """Adam with decoupled weight decay (arXiv 1711.05101)."""
    from sgabench.optimizers.sources import build

    options = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad}
    return build("AdamW", parameters, options)


@optimizers.register("sgd")
def sgd(
    parameters: NamedParameters,
    *,
    lr: LearningRate = 0.1,
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9,
    dampening: Annotated[float, Field(ge=0, le=1)] = 0.0,
    weight_decay: Decay = 0.0,
    nesterov: bool = False,
) -> Optimizer:
    """Stochastic gradient descent; lr 0.1 and momentum 0.9 unless set, as is usual for ResNets."""
    from sgabench.optimizers.sources import build

    options = {"lr": lr, "momentum": momentum, "dampening": dampening}
    return build("SGD", parameters, {**options, "weight_decay": weight_decay, "nesterov": nesterov})


@optimizers.register("stochgradadam")
def stochgradadam(
    parameters: NamedParameters,
    seed: int,
    *,
    lr: LearningRate = 1e-3,
    betas: Betas = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: Decay = 0.0,
    sampling_rate: Rate = 0.8,
    decoupled_weight_decay: bool = False,
    bias_correction: bool = True,
    rescale: bool = False,
    mask_weight_decay: bool = True,
    exclude: tuple[str, ...] = (),
) -> Optimizer:
    """Adam on a Bernoulli-sampled gradient (arXiv 2310.17042)."""
    from sgabench.optimizers.stoch_grad_adam import StochGradAdam

    return StochGradAdam(
        parameters,
        lr,
        betas,
        eps,
        weight_decay,
        sampling_rate=sampling_rate,
        seed=seed,
        decoupled_weight_decay=decoupled_weight_decay,
        bias_correction=bias_correction,
        rescale=rescale,
        mask_weight_decay=mask_weight_decay,
        exclude=exclude,
    )


@optimizers.register("grda")
def grda(
    parameters: NamedParameters,
    *,
    lr: LearningRate = 0.1,
    c: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.005,
    mu: Annotated[float, Field(gt=0, lt=1)] = 0.7,
) -> Optimizer:
    """gRDA, directional pruning (arXiv 2006.09358): a positive control, whose networks are sparse by themselves."""
    from sgabench.optimizers.proximal import GRDA

    return GRDA(parameters, lr, c, mu)


def _names(module: str, function: str) -> Callable[[], list[str]]:
    """A function for the names of a source, for suggestions."""
    return lambda: getattr(importlib.import_module(f"{__name__}.{module}"), function)()


@optimizers.register_source("torch", names=_names("sources", "optimizer_names"))
def from_torch(name: str, parameters: NamedParameters, /, **options: Any) -> Optimizer:
    """Any class of torch.optim with its own options, e.g. torch:RMSprop."""
    from sgabench.optimizers.sources import build

    return build(name, parameters, options)


@optimizers.register_source("timm", names=_names("packages", "timm_names"))
def from_timm(name: str, parameters: NamedParameters, /, **options: Any) -> Optimizer:
    """Any optimizer of timm's factory with its own options, e.g. timm:lamb or timm:muon."""
    from sgabench.optimizers.packages import build_timm

    return build_timm(name, parameters, options)


@optimizers.register_source(
    "pytorch_optimizer", packages=("pytorch_optimizer",), names=_names("packages", "pytorch_optimizer_names")
)
def from_pytorch_optimizer(
    name: str, parameters: NamedParameters, seed: int, context: TrainingContext, /, **options: Any
) -> Optimizer:
    """Any of the package pytorch_optimizer with its own options, e.g. pytorch_optimizer:soap; extra optimizers."""
    from sgabench.optimizers.packages import build_pytorch_optimizer

    return build_pytorch_optimizer(name, parameters, context, options)


@optimizers.register_source("schedulefree", packages=("schedulefree",))
def schedule_free(name: str, parameters: NamedParameters, /, **options: Any) -> Optimizer:
    """Schedule-free AdamW, RAdam or SGD (arXiv 2405.15682), e.g. schedulefree:AdamW; needs the extra optimizers."""
    from sgabench.optimizers.packages import build_schedule_free

    return build_schedule_free(name, parameters, options)


@optimizers.register_source("sampled", added=("step_norm", "kind", "final_sampling_rate", "hold"))
def sampled(
    name: str,
    parameters: NamedParameters,
    seed: int,
    context: TrainingContext,
    /,
    *,
    sampling_rate: Rate = 0.8,
    mask: Literal["gradient", "update"] = "gradient",
    kind: Literal["element", "filter", "layer", "top-k", "cyclic"] = "element",
    final_sampling_rate: Rate | None = None,
    hold: Annotated[int, Field(ge=1)] = 1,
    rescale: bool = False,
    mask_weight_decay: bool = True,
    exclude: tuple[str, ...] = (),
    step_norm: Literal["own", "base"] = "own",
    **options: Any,
) -> Optimizer:
    """A random mask on the gradient, or the update, of any class of torch.optim, e.g. sampled:SGD."""
    from sgabench.optimizers.sampled import Sampled
    from sgabench.optimizers.sources import build_around

    return build_around(
        Sampled,
        name,
        parameters,
        options,
        sampling_rate=sampling_rate,
        seed=seed,
        mask=mask,
        kind=kind,
        final_sampling_rate=final_sampling_rate,
        steps=context.steps,
        hold=hold,
        rescale=rescale,
        mask_weight_decay=mask_weight_decay,
        exclude=exclude,
        step_norm=step_norm,
    )


@optimizers.register_source("noisy")
def noisy(
    name: str,
    parameters: NamedParameters,
    seed: int,
    /,
    *,
    sampling_rate: Rate = 0.8,
    rescale: bool = False,
    mask_weight_decay: bool = True,
    exclude: tuple[str, ...] = (),
    **options: Any,
) -> Optimizer:
    """Control of sampled: Gaussian gradient noise with the mask's mean and variance, e.g. noisy:Adam."""
    from sgabench.optimizers.sampled import Sampled
    from sgabench.optimizers.sources import build_around

    return build_around(
        Sampled,
        name,
        parameters,
        options,
        sampling_rate=sampling_rate,
        seed=seed,
        distribution="gaussian",
        rescale=rescale,
        mask_weight_decay=mask_weight_decay,
        exclude=exclude,
    )


@optimizers.register_source("sam", passes=2)
def sam(
    name: str,
    parameters: NamedParameters,
    /,
    *,
    rho: Radius = 0.05,
    adaptive: bool = False,
    **options: Any,
) -> Optimizer:
    """SAM (arXiv 2010.01412) around any class of torch.optim, e.g. sam:SGD; two passes a step."""
    from sgabench.optimizers.sources import build_around
    from sgabench.optimizers.two_passes import SAM

    return build_around(SAM, name, parameters, options, rho=rho, adaptive=adaptive)


@optimizers.register_source("cram", passes=2)
def cram(
    name: str,
    parameters: NamedParameters,
    seed: int,
    /,
    *,
    rho: Radius = 0.05,
    sparsities: Annotated[tuple[Annotated[float, Field(ge=0, lt=1)], ...], Field(min_length=1)] = (0.5, 0.7, 0.9),
    plus: bool = True,
    sparse_gradient: bool = True,
    normalize: bool = False,
    exclude: tuple[str, ...] = (),
    **options: Any,
) -> Optimizer:
    """CrAM+ or CrAM (arXiv 2207.14200) around any class of torch.optim, e.g. cram:SGD; two passes a step."""
    from sgabench.optimizers.sources import build_around
    from sgabench.optimizers.two_passes import CrAM

    return build_around(
        CrAM,
        name,
        parameters,
        options,
        rho=rho,
        sparsities=sparsities,
        seed=seed,
        plus=plus,
        sparse_gradient=sparse_gradient,
        normalize=normalize,
        exclude=exclude,
    )


@optimizers.register_source("prox")
def proximal(
    name: str,
    parameters: NamedParameters,
    /,
    *,
    l1: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1e-3,
    **options: Any,
) -> Optimizer:
    """A proximal L1 step after each step of any class of torch.optim, e.g. prox:SGD: a positive control."""
    from sgabench.optimizers.proximal import Proximal
    from sgabench.optimizers.sources import build

    return Proximal(build(name, parameters, options, ("l1",)), l1=l1)


def _stochgradadam(device: str) -> str:
    from sgabench.optimizers.implementations import on_device

    return on_device(device)


register_fact("stochgradadam", _stochgradadam)


def __getattr__(name: str) -> Any:
    # For the user's own loops; imported on use, because they need torch.
    modules = {"Proximal": "proximal", "Sampled": "sampled", "StochGradAdam": "stoch_grad_adam"}
    modules |= {"CrAM": "two_passes", "SAM": "two_passes"}
    if name not in modules:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{modules[name]}"), name)
