"""Top-1, top-5 and loss of a network on images that it was not trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sgabench.training.data import Data, Images, batches

EVALUATION_BATCH = 500
TOP5_FROM = 20  # classes: with ten, half of them would count as correct


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision for bf16, nothing for fp32."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


class Evaluation(NamedTuple):
    """How good a network is on some images.

    Attributes:
        top1: fraction of images classified correctly.
        loss: mean cross-entropy.
        top5: fraction with the correct class among the first five; None with fewer than `TOP5_FROM` classes.
    """

    top1: float
    loss: float
    top5: float | None

    def numbers(self) -> dict[str, float]:
        """The fields for a record."""
        found = {"top1": self.top1, "loss": self.loss}
        return found if self.top5 is None else {**found, "top5": self.top5}


def evaluate(
    network: nn.Module,
    data: Data,
    split: Images,
    precision: str,
    change: Callable[[Tensor, int], Tensor] | None = None,
) -> Evaluation:
    """Evaluate a network on a split, or on its images transformed by `change`, as in `batches`."""
    return evaluate_batches(network, batches(data, split, EVALUATION_BATCH, change), precision)


def evaluate_batches(network: nn.Module, of: Iterable[tuple[Tensor, Tensor]], precision: str) -> Evaluation:
    """Evaluate a network on normalized batches; correct answers are counted, then divided once."""
    network.eval()
    correct: Tensor | int = 0
    among: Tensor | int | None = None
    loss: Tensor | float = 0.0
    number = 0
    with torch.inference_mode():
        for images, labels in of:
            with autocast(images.device.type, precision):
                logits = network(images)
            correct += (logits.argmax(1) == labels).sum()
            if logits.shape[1] >= TOP5_FROM:
                found = (logits.topk(5, dim=1).indices == labels[:, None]).sum()
                among = found if among is None else among + found
            loss += F.cross_entropy(logits.float(), labels, reduction="sum")
            number += len(labels)
    return Evaluation(int(correct) / number, float(loss) / number, None if among is None else int(among) / number)
