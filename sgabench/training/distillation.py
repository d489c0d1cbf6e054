"""Distillation: learning from another network in addition to the labels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812


@dataclass(frozen=True)
class Teacher:
    """A trained network whose softened probabilities another one learns (Hinton et al. 2015, arXiv 1503.02531).

    Attributes:
        network: in evaluation mode; it is not changed.
        weight: share of the loss that comes from it.
        temperature: divides the logits of both.
    """

    network: nn.Module
    weight: float
    temperature: float

    def mix(self, loss: Tensor, logits: Tensor, images: Tensor) -> Tensor:
        """(1 - weight) x loss + weight x temperature^2 x the Kullback-Leibler divergence from the teacher.

        Args:
            loss: on the labels.
            logits: of the learning network (N, classes).
            images: of the batch, as a network sees them.
        """
        with torch.no_grad():
            taught = F.log_softmax(self.network(images).float() / self.temperature, dim=1)
        found = F.log_softmax(logits.float() / self.temperature, dim=1)
        divergence = F.kl_div(found, taught, reduction="batchmean", log_target=True)
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * divergence
