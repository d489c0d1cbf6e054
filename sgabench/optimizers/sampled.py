"""Gradient sampling around any optimizer of torch, and its controls."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, optim
from torch.optim import Optimizer
from torch.optim.optimizer import StateDict

from sgabench.optimizers.kinds import Kind, draw_kind
from sgabench.optimizers.sampling import Drawn, Group, check_sampling, draw, place
from sgabench.optimizers.shadow import Shadow, rescale_
from sgabench.optimizers.wrapping import Wrapper

# Those known to add the decay to the gradient (unless it is set to be decoupled).
_COUPLED = (
    optim.SGD,
    optim.Adam,
    optim.Adagrad,
    optim.Adadelta,
    optim.Adamax,
    optim.ASGD,
    optim.NAdam,
    optim.RAdam,
    optim.RMSprop,
)


class Sampled(Wrapper):
    """Gradient sampling around an optimizer.

    At each step the base optimizer sees φ = Ω ⊙ g in place of the gradient g, with a new Ω, each
    element 1 with probability s and else 0 (arXiv 2310.17042); `.grad` holds g again afterwards.
    Around torch.optim.Adam this is StochGradAdam.

    Args:
        base: an optimizer over the parameters; from now on step the wrapper, never the base.
        sampling_rate: s, in (0, 1].
        seed: which masks; with the number of steps it determines them (see `sgabench.optimizers.mask`).
        mask: what Ω is applied to. ``gradient``, or ``update``: the base steps on the full gradient,
            its change of the weights (with whatever decay is in it) is kept where Ω is 1 only.
        distribution: ``bernoulli``, or ``gaussian``: instead of Ω a normal number of the same mean s and
            variance s(1 - s), φ = s g + √(s(1 - s)) |g| ξ with ξ ~ N(0, 1) (as ξ is symmetric, g ξ has
            the distribution of |g| ξ), which is noise without sparsity.
        kind: what Ω takes together. ``element``: each element is drawn by itself; ``filter``: each slice along the
            first dimension of a parameter; ``layer``: each parameter as a whole; ``top-k``: the share s of each
            parameter's elements that has the largest gradients; ``cyclic``: each element in turn, so that in n steps it
            is kept s n times, rounded up or down.
        final_sampling_rate: s at the last step, on a straight line from ``sampling_rate``; None: s stays.
        steps: how many there will be, for ``final_sampling_rate``.
        hold: steps that a mask is kept for.
        rescale: divide what Ω keeps by s.
        mask_weight_decay: whether Ω also covers the decay of a base that adds it to the gradient
            (SGD, Adam and most of torch.optim): φ = Ω ⊙ (g + λθ). Bases with a decoupled decay
            (AdamW, Adafactor, Muon) and optimizers from outside torch decay as they always do.
        exclude: fnmatch patterns of names of parameters that are never masked, e.g. ``"*bn*"``.
        step_norm: how long steps are. ``own``: as they come out. ``base``: each is rescaled, over all parameters
            together, to the norm that the base's step from the same weights would have if it had seen whole gradients
            in this step and all before: the direction of the sampled step, the length of the other. It costs a second
            state of the base, and its step.

    All options but ``mask``, ``distribution``, ``kind`` and ``step_norm`` may differ between the base's groups.

    Raises:
        ValueError: a value is out of range, a parameter is complex, or ``exclude`` is given for
            parameters without names.
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        sampling_rate: float = 0.8,
        seed: int = 0,
        mask: Literal["gradient", "update"] = "gradient",
        distribution: Literal["bernoulli", "gaussian"] = "bernoulli",
        kind: Kind = "element",
        final_sampling_rate: float | None = None,
        steps: int = 1,
        hold: int = 1,
        rescale: bool = False,
        mask_weight_decay: bool = True,
        exclude: tuple[str, ...] = (),
        step_norm: Literal["own", "base"] = "own",
    ) -> None:
        if mask not in ("gradient", "update"):
            raise ValueError(f"Invalid mask: {mask!r}; it must be 'gradient' or 'update'")
        if distribution not in ("bernoulli", "gaussian"):
            raise ValueError(f"Invalid distribution: {distribution!r}; it must be 'bernoulli' or 'gaussian'")
        if mask == "update" and not mask_weight_decay:
            raise ValueError("mask='update' covers the decay as well: mask_weight_decay=False is impossible")
        if kind not in get_args(Kind):
            raise ValueError(f"Invalid kind: {kind!r}; it must be one of {', '.join(get_args(Kind))}")
        if kind != "element" and distribution != "bernoulli":
            raise ValueError(f"kind={kind!r} needs distribution='bernoulli'")
        if kind == "top-k" and hold != 1:
            raise ValueError("kind='top-k' follows the gradient of each step: hold must be 1")
        if kind == "cyclic" and final_sampling_rate is not None:
            raise ValueError("kind='cyclic' has turns of a fixed length: final_sampling_rate is impossible")
        if step_norm not in ("own", "base"):
            raise ValueError(f"Invalid step_norm: {step_norm!r}; it must be 'own' or 'base'")
        self.mask = mask
        self.step_norm = step_norm
        self._shadow: Shadow | None = None
        self.distribution = distribution
        self.kind: Kind = kind
        sampling = {
            "sampling_rate": sampling_rate,
            "seed": seed,
            "sampling_step": 0,
            "final_sampling_rate": final_sampling_rate,
            "sampling_steps": steps,
            "hold": hold,
            "rescale": rescale,
            "mask_weight_decay": mask_weight_decay,
            "exclude": exclude,
        }
        super().__init__(base, sampling)

    def check_group(self, group: Group) -> None:
        """Refuse sampling options that mean nothing, and complex parameters."""
        check_sampling(group)
        if any(parameter.is_complex() for parameter in group["params"]):
            raise ValueError("Sampled does not support complex parameters; use torch.view_as_real")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Let the base step on sampled gradients.

        Args:
            closure: evaluates the model again and returns the loss; called once.

        Raises:
            RuntimeError: a gradient is sparse.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        if self.step_norm == "own":
            self._step_sampled()
            return loss
        self._shadow = self._shadow or Shadow(self.base)
        length = self._shadow.step_norm()
        before = [(p, p.detach().clone()) for g in self.param_groups for p in g["params"] if p.grad is not None]
        self._step_sampled()
        rescale_(before, length)
        return loss

    def _step_sampled(self) -> None:
        if self.kind == "element":
            drawn = draw(self.param_groups, "Sampled", self.distribution)
        else:
            drawn = draw_kind(place(self.param_groups, "Sampled"), self.kind)
        if self.mask == "update":
            self._step_on_masked_update(drawn)
        else:
            with self._sampled_gradients(drawn):
                self.base.step()

    def _step_on_masked_update(self, drawn: Iterable[Drawn]) -> None:
        kept = [(d.parameter, d.parameter.detach().clone(), d.factor) for d in drawn if d.factor is not None]
        self.base.step()
        for parameter, before, factor in kept:
            # lerp is exact at both ends: where the factor is 0 or 1 nothing is rounded
            parameter.copy_(before.lerp_(parameter, factor.to(parameter.dtype)))

    @contextmanager
    def _sampled_gradients(self, drawn: Iterable[Drawn]) -> Iterator[None]:
        """Put φ in place of the gradients, and take over the decay where the mask covers it."""
        groups = self.param_groups
        decays = [group.get("weight_decay", 0) if self._masks_decay(group) else 0 for group in groups]
        of_group = {id(group): decay for group, decay in zip(groups, decays, strict=True)}
        kept: list[tuple[Tensor, Tensor]] = []
        try:
            for item in drawn:
                kept.append((item.parameter, item.gradient))
                item.parameter.grad = _phi(item, of_group[id(item.group)])
            for group, decay in zip(groups, decays, strict=True):
                if decay:
                    group["weight_decay"] = 0
            yield
        finally:
            for group, decay in zip(groups, decays, strict=True):
                if decay:
                    group["weight_decay"] = decay
            for parameter, gradient in kept:
                parameter.grad = gradient

    def _masks_decay(self, group: Group) -> bool:
        couples = isinstance(self.base, _COUPLED) and not group.get("decoupled_weight_decay", False)
        return couples and group["mask_weight_decay"]

    def state_dict(self) -> StateDict:
        """That of the base, with its state on whole gradients if step norms are matched."""
        state = super().state_dict()
        return state if self._shadow is None else {**state, "shadow": self._shadow.state_dict()}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Continue where a state dict was taken, bit for bit."""
        super().load_state_dict(state_dict)
        self._shadow = None
        if self.step_norm == "base" and "shadow" in state_dict:
            self._shadow = Shadow(self.base)
            self._shadow.load_state_dict(state_dict["shadow"])

    def __getstate__(self) -> dict[str, Any]:
        own = {name: getattr(self, name) for name in ("mask", "distribution", "kind", "step_norm")}
        return {**super().__getstate__(), **own, "_shadow": self._shadow}


def _phi(drawn: Drawn, decay: float) -> Tensor:
    """(g + λθ) times the factor, laid out in memory as g, as fused optimizers expect it."""
    gradient, factor = drawn.gradient, drawn.factor
    if decay:
        sign = -1 if drawn.group.get("maximize", False) else 1  # the base will negate all of φ
        gradient = torch.add(gradient, drawn.parameter, alpha=sign * decay, out=torch.empty_like(gradient))
    if factor is None:
        return gradient
    if factor.dtype == gradient.dtype and gradient.is_contiguous():
        return factor.mul_(gradient)
    return torch.mul(gradient, factor, out=torch.empty_like(gradient))
