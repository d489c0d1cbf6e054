"""What torch-pruning must be told to remove channels of sgabench's own layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch_pruning
from torch import nn

from sgabench.models.cifar_resnet import PaddedShortcut


class PaddedShortcutPruner(torch_pruning.BasePruningFunc):  # type: ignore[misc]
    """Removes channels of a `PaddedShortcut`, inputs and outputs independently."""

    def prune_out_channels(self, layer: PaddedShortcut, idxs: Sequence[int]) -> nn.Module:
        """Remove output channels in place."""
        layer.prune_outputs(idxs)
        return layer

    def prune_in_channels(self, layer: PaddedShortcut, idxs: Sequence[int]) -> nn.Module:
        """Remove input channels in place."""
        layer.prune_inputs(idxs)
        return layer

    def get_out_channels(self, layer: PaddedShortcut) -> int:
        """Output channels now."""
        return layer.outputs

    def get_in_channels(self, layer: PaddedShortcut) -> int:
        """Input channels now."""
        return layer.inputs


def customized_pruners() -> dict[type[nn.Module], torch_pruning.BasePruningFunc]:
    """For the argument of this name of `torch_pruning.DependencyGraph` and of its pruners.

    Harmless for networks without such layers, required for the CIFAR ResNets with shortcut A.
    """
    return {PaddedShortcut: PaddedShortcutPruner()}
