"""Top-1 and loss of a network on images that it was not trained on."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sgabench.training.data import Data, Images, batches

EVALUATION_BATCH = 500


def autocast(device: str, precision: str) -> AbstractContextManager[Any]:
    """Mixed precision: bf16 where it is asked for, else nothing."""
    return torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")


def evaluate(network: nn.Module, data: Data, split: Images, precision: str) -> tuple[float, float]:
    """Top-1 (fraction) and mean cross-entropy of a split."""
    return evaluate_batches(network, batches(data, split, EVALUATION_BATCH), precision)


def evaluate_batches(network: nn.Module, of: Iterable[tuple[Tensor, Tensor]], precision: str) -> tuple[float, float]:
    """Top-1 (fraction) and mean cross-entropy of normalized batches; correct answers are counted, then divided once."""
    network.eval()
    correct: Tensor | int = 0
    loss: Tensor | float = 0.0
    number = 0
    with torch.inference_mode():
        for images, labels in of:
            with autocast(images.device.type, precision):
                logits = network(images)
            correct += (logits.argmax(1) == labels).sum()
            loss += F.cross_entropy(logits.float(), labels, reduction="sum")
            number += len(labels)
    return int(correct) / number, float(loss) / number
