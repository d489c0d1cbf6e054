"""Importances of torch-pruning, by the names of their classes there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
import torch_pruning
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from sgabench.errors import InputError, foreign
from sgabench.models.gradients import mean_gradient, squared_gradients, trainable
from sgabench.models.layers import evaluating
from sgabench.plugins import PruningContext
from sgabench.pruners.channels.importance import Importance, rank
from sgabench.pruners.channels.structure import Structure
from sgabench.pruners.importances import check_importance
from sgabench.system.seeds import derive_seed

IMAGES = 256  # with single-image gradients


def ranking_of(
    name: str, options: Mapping[str, Any], context: PruningContext
) -> Callable[[nn.Module, Structure], dict[str, Tensor]]:
    """A function that ranks the channels of a network by a class of ``torch_pruning.importance``.

    The class gets the units of channels that were found here as its groups. Gradients are those of the mean loss of all
    images of the context; squared ones are those of single images; activations are means over batches of what the
    class uses of one. All in evaluation mode.

    Args:
        name: of the class.
        options: of its constructor; ``images``: number of images for squared gradients. ``"none"`` stands for None.
        context: its batches are read when the network is ranked.

    Raises:
        InputError: no such class, or an option that it does not take; from the ranking, that the class cannot score the
            network.
    """
    check_importance(name, options)
    given = {key: None if value == "none" else value for key, value in options.items() if key != "images"}
    importance = getattr(torch_pruning.importance, name)(**given)
    images = options.get("images", IMAGES)

    def ranked(network: nn.Module, structure: Structure) -> dict[str, Tensor]:
        kind = type(network).__name__
        with (
            foreign(f"'tp:{name}' cannot rank the channels of {kind}: "),
            evaluating(network),
            _informed(name, importance, network, context, images) as informed,
        ):
            scores = rank(network, structure, informed)
        if not scores:
            raise InputError(f"'tp:{name}' gives no score for any channel of {kind}; choose another importance")
        return scores

    return ranked


@contextmanager
def _informed(
    name: str, importance: Any, network: nn.Module, context: PruningContext, images: int
) -> Iterator[Importance]:
    """The importance, with the gradients or activations that it needs attached to the network for a while."""
    parameters = list(network.parameters())
    if name == "RandomImportance":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed(context.seed, "random channels"))
            yield importance
    elif name in ("TaylorImportance", "GroupTaylorImportance"):
        with trainable(parameters):
            found = mean_gradient(network, _batches(name, context), parameters)
        with _as_gradients(parameters, found):
            yield importance
    elif name in ("HessianImportance", "GroupHessianImportance"):
        # Not with the class's accumulate_grad: as of 1.6.1 it keeps only those of the last image.
        with trainable(parameters):
            sums, seen = squared_gradients(network, _batches(name, context), parameters, images)
        with _as_gradients(parameters, [total / seen for total in sums]):
            yield importance
    elif name == "OBDCImportance":
        with trainable(parameters):
            sums, _ = squared_gradients(network, _batches(name, context), parameters, images)
        yield _Damage(importance, {id(p): total for p, total in zip(parameters, sums, strict=True)})
    elif name == "ActivationImportance":
        with _with_activations(network, _batches(name, context)):
            yield importance
    else:
        yield importance


def _batches(name: str, context: PruningContext) -> list[tuple[Tensor, Tensor]]:
    batches = list(context.batches())
    if not batches:
        raise InputError(f"'tp:{name}' needs images of the training split, and there are none")
    return batches


@contextmanager
def _as_gradients(parameters: list[nn.Parameter], values: list[Tensor]) -> Iterator[None]:
    before = [parameter.grad for parameter in parameters]
    try:
        for parameter, value in zip(parameters, values, strict=True):
            parameter.grad = value.to(parameter.dtype)
        yield
    finally:
        for parameter, gradient in zip(parameters, before, strict=True):
            parameter.grad = gradient


@contextmanager
def _with_activations(network: nn.Module, batches: list[tuple[Tensor, Tensor]]) -> Iterator[None]:
    """Give layers the attribute that the class reads: mean |input| of convolutions, its sum of linear layers.

    The class's own hooks keep only the last batch, and do not support features that are permuted in memory.
    """
    sums: dict[nn.Module, Tensor] = {}

    def add(layer: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        given = args[0].detach().float().abs()
        if isinstance(layer, nn.Linear):
            found = given.reshape(-1, given.shape[-1]).sum(0)
        else:
            found = given.mean([dim for dim in range(given.dim()) if dim != 1])
        sums[layer] = sums.get(layer, torch.zeros_like(found)) + found

    layers = [layer for layer in network.modules() if isinstance(layer, (_ConvNd, nn.Linear))]
    hooks = [layer.register_forward_hook(add) for layer in layers]
    try:
        for images, _ in batches:
            network(images)
    finally:
        for hook in hooks:
            hook.remove()
    try:
        for layer, total in sums.items():
            layer._importance = total / len(batches)
        yield
    finally:
        for layer in sums:
            del layer._importance


class _Damage:
    """OBD-C: the sum of w^2 F over a channel's weights (Wang et al. 2019, EigenDamage, arXiv 1905.05934, section 3.2).

    F is the diagonal of the Fisher information. torch-pruning's class computes it by unfolding inputs, which works
    neither for groups nor for biases; here it is the sum of squared gradients of single images.
    """

    def __init__(self, importance: Any, fisher: Mapping[int, Tensor]) -> None:
        self._own = importance
        self._fisher = fisher

    @torch.no_grad()
    def __call__(self, group: Any) -> Tensor | None:
        found, places = [], []
        outputs = (torch_pruning.prune_conv_out_channels, torch_pruning.prune_linear_out_channels)
        for item in group:
            layer = item.dep.layer
            if item.dep.pruning_fn in outputs and isinstance(layer, (_ConvNd, nn.Linear)):
                damage = layer.weight**2 * (self._fisher[id(layer.weight)] + self._own.eps)
                if getattr(layer, "transposed", False):
                    damage = damage.reshape(layer.groups, -1, *damage.shape[1:]).transpose(1, 2).flatten(0, 1)
                found.append(damage.flatten(1).sum(1)[item.idxs])
                places.append(item.root_idxs)
        if not found:
            return None
        scores: Tensor = self._own._normalize(self._own._reduce(found, places), self._own.normalizer)
        return scores
