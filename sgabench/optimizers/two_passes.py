"""Optimizers with two passes over a batch: the second gradient is taken at perturbed weights.

They need a closure, which forgets the gradients, does forward and backward again on the same batch, and returns the
loss. The gradients of the batch at the present weights are there before the step, as for any other optimizer.
"""

from __future__ import annotations

from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sgabench.optimizers.mask import random_bits
from sgabench.optimizers.wrapping import Wrapper

_TINY = 1e-12  # beside a norm, so that a gradient of zero moves nothing

Perturbed = list[tuple[dict[str, Any], Tensor, Tensor]]


class _TwoPasses(Wrapper):
    """What SAM and CrAM share: perturb, look again, go back, step.

    A subclass defines `perturb` and may define `combine`.
    """

    needs_closure = True

    def check_group(self, group: dict[str, Any]) -> None:
        """Refuse a negative radius."""
        if not 0 <= group["rho"] < float("inf"):
            raise ValueError(f"Invalid rho: {group['rho']}; it must be 0 or more")

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Let the base step from the present weights on the gradient of the second pass.

        Args:
            closure: forgets the gradients, does forward and backward again, and returns the loss.

        Returns:
            The loss at the perturbed weights.

        Raises:
            RuntimeError: there is no closure.
        """
        if closure is None:
            raise RuntimeError(f"{type(self).__name__} needs a second pass over the batch: call step(closure)")
        first = [(g, p, p.grad) for g in self.param_groups for p in g["params"] if p.grad is not None]
        before = [parameter.detach().clone() for _, parameter, _ in first]
        seen = self.perturb(first)
        for _, parameter, _ in first:
            parameter.grad = None
        try:
            with torch.enable_grad():
                loss = closure()
        finally:
            for (_, parameter, _), values in zip(first, before, strict=True):
                parameter.copy_(values)
        self.combine(first, seen)
        self.base.step()
        return loss

    def perturb(self, first: Perturbed) -> Any:
        """Move the weights to where the second gradient is taken.

        Args:
            first: group, parameter and gradient of the first pass, for every parameter that has one.

        Returns:
            What `combine` needs.
        """
        # Without a move, the second pass would be the first once more, at twice the cost, and nothing would show it.
        raise NotImplementedError

    def combine(self, first: Perturbed, seen: Any) -> None:
        """Make of the second gradients, in ``.grad``, those that the base sees."""


class SAM(_TwoPasses):
    """Sharpness-aware minimization (Foret et al., ICLR 2021, arXiv 2010.01412, Algorithm 1).

    The base steps from w on the gradient at w + ρ g / ‖g‖, where g is the gradient at w and the norm is over all
    parameters. Adaptive (ASAM, Kwon et al., ICML 2021, arXiv 2102.11600): at w + ρ T² g / ‖T g‖ with T = diag(|w|),
    which does not depend on the scale of the weights.

    Args:
        base: an optimizer over the parameters; from now on step the wrapper, never the base.
        rho: ρ, 0 or more; may differ between parameter groups.
        adaptive: whether the neighbourhood has the scale of the weights; ρ is then ten times as large or more.

    Raises:
        ValueError: ρ is negative or not finite.
    """

    def __init__(self, base: Optimizer, *, rho: float = 0.05, adaptive: bool = False) -> None:
        self.adaptive = adaptive
        super().__init__(base, {"rho": rho})

    def perturb(self, first: Perturbed) -> None:
        """Climb to w + e."""
        scaled = [grad * parameter.abs() if self.adaptive else grad for _, parameter, grad in first]
        norm = _norm(scaled)
        for (group, parameter, _), grad in zip(first, scaled, strict=True):
            direction = grad * parameter.abs() if self.adaptive else grad
            parameter.add_(direction * (group["rho"] / (norm.to(grad) + _TINY)))

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "adaptive": self.adaptive}


class CrAM(_TwoPasses):
    """The compression-aware minimizer (Peste et al., ICLR 2023, arXiv 2207.14200), for pruning by magnitude.

    The second gradient is taken at C(w + ρ g), where C keeps the largest weights: of all parameters of two or more
    dimensions together, a share 1 - s of them, with s drawn anew from a list at each step. CrAM steps on it; CrAM+
    (equation 6) on its sum with g, so that the dense network stays good, too.

    Args:
        base: an optimizer over the parameters; from now on step the wrapper, never the base.
        rho: ρ, 0 or more; may differ between parameter groups. The authors' script for ResNet-20 has 0.2.
        sparsities: what s is drawn from, each in [0, 1), all equally likely.
        seed: which draws; with the number of steps it determines them.
        plus: CrAM+ rather than CrAM.
        sparse_gradient: whether the second gradient is masked as the weights were, as in the authors' best results.
        normalize: divide the perturbation by the norm of g, as in SAM.
        exclude: fnmatch patterns of names of parameters that C does not prune.

    Raises:
        ValueError: a value is out of range, or ``exclude`` is given for parameters without names.
    """

    def __init__(
        self,
        base: Optimizer,
        *,
        rho: float = 0.05,
        sparsities: tuple[float, ...] = (0.5, 0.7, 0.9),
        seed: int = 0,
        plus: bool = True,
        sparse_gradient: bool = True,
        normalize: bool = False,
        exclude: tuple[str, ...] = (),
    ) -> None:
        if not sparsities or not all(0 <= sparsity < 1 for sparsity in sparsities):
            raise ValueError(f"Invalid sparsities: {sparsities}; they must be numbers in [0, 1), one or more")
        self.sparsities = tuple(sparsities)
        self.seed = seed
        self.plus = plus
        self.sparse_gradient = sparse_gradient
        self.normalize = normalize
        self.exclude = tuple(exclude)
        super().__init__(base, {"rho": rho, "cram_step": 0})

    def check_group(self, group: dict[str, Any]) -> None:
        """Refuse a negative radius, and patterns where there are no names."""
        super().check_group(group)
        if self.exclude and "param_names" not in group:
            raise ValueError("exclude needs named parameters: pass model.named_parameters() to the optimizer")

    def perturb(self, first: Perturbed) -> list[Tensor | None]:
        """Climb to w + ρ g and prune; which weights are left, None where there was no pruning."""
        norm = _norm([grad for _, _, grad in first]) + _TINY if self.normalize else None
        for group, parameter, grad in first:
            parameter.add_(grad * (group["rho"] if norm is None else group["rho"] / norm.to(grad)))
        sparsity = self._draw()
        excluded = self._excluded()
        prunable = [p.ndim >= 2 and id(p) not in excluded for _, p, _ in first]
        magnitudes = [p.abs().flatten() for (_, p, _), pruned in zip(first, prunable, strict=True) if pruned]
        together = torch.cat(magnitudes) if magnitudes else torch.empty(0)
        number = round(sparsity * len(together))
        if not number:
            return [None] * len(first)
        threshold = together.topk(number, largest=False, sorted=False).values.max()
        kept: list[Tensor | None] = []
        for (_, parameter, _), pruned in zip(first, prunable, strict=True):
            mask = parameter.abs() > threshold if pruned else None
            if mask is not None:
                parameter.mul_(mask)
            kept.append(mask)
        return kept

    def combine(self, first: Perturbed, seen: list[Tensor | None]) -> None:
        """Mask the second gradient, and add the first one."""
        for (_, parameter, grad), kept in zip(first, seen, strict=True):
            if parameter.grad is not None and kept is not None and self.sparse_gradient:
                parameter.grad.mul_(kept)
            if self.plus:
                parameter.grad = grad if parameter.grad is None else parameter.grad.add_(grad)

    def _draw(self) -> float:
        """The sparsity of this step: a function of the seed and the number of steps before."""
        step = self.param_groups[0]["cram_step"]
        for group in self.param_groups:
            group["cram_step"] = step + 1
        uniform = int(random_bits(self.seed, step, 0, 1)) + 2**31
        return self.sparsities[uniform * len(self.sparsities) >> 32]

    def _excluded(self) -> set[int]:
        if not self.exclude:
            return set()
        named = [pair for g in self.param_groups for pair in zip(g["param_names"], g["params"], strict=True)]
        return {id(p) for name, p in named if any(fnmatchcase(name, pattern) for pattern in self.exclude)}

    def __getstate__(self) -> dict[str, Any]:
        names = ("sparsities", "seed", "plus", "sparse_gradient", "normalize", "exclude")
        return {**super().__getstate__(), **{name: getattr(self, name) for name in names}}


def _norm(tensors: list[Tensor]) -> Tensor:
    """The Euclidean norm of all of them together."""
    if not tensors:
        return torch.zeros(())
    norms = [torch.linalg.vector_norm(tensor) for tensor in tensors]
    total: Tensor = torch.linalg.vector_norm(torch.stack([norm.to(norms[0].device) for norm in norms]))
    return total
