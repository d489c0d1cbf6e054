"""Optimizers that train at other weights than those to be evaluated: schedule-free ones, for example."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.optim import Optimizer

from sgabench.models.statistics import reestimate_batch_norm
from sgabench.optimizers.declared import has_modes, switch
from sgabench.training.data import Data, batches, calibration


class Modes:
    """Switches a network, and an optimizer that has modes, from training to evaluation and back.

    The statistics of BatchNorm belong to the weights used in training. For the others they are re-estimated, on at most
    5000 images of the training split.

    Args:
        network: of the optimizer's parameters.
        optimizer: with or without modes.
        data: for re-estimation.
        batch_size: of re-estimation.
        seed: selects the images.
        moved: called after weights have been exchanged, e.g. to keep pruned ones at zero.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        data: Data,
        batch_size: int,
        seed: int,
        moved: Callable[[], None],
    ) -> None:
        self._network = network
        self._optimizer = optimizer
        self._data = data
        self._batch_size = batch_size
        self._seed = seed
        self._moved = moved
        self._exchanges = has_modes(optimizer)

    def train(self) -> None:
        """Switch to the weights for training."""
        self._network.train()
        if self._exchanges:
            switch(self._optimizer, "train")
            self._moved()

    def evaluate(self) -> None:
        """Switch to the weights for evaluation, with statistics of their own."""
        if self._exchanges:
            switch(self._optimizer, "eval")
            self._moved()
            images = calibration(self._data, self._seed)
            reestimate_batch_norm(self._network, batches(self._data, images, self._batch_size))
        self._network.eval()

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """As `evaluate`, for a while; then training's statistics are restored, and its weights by the next `train`."""
        kept = [(buffer, buffer.clone()) for buffer in self._network.buffers()] if self._exchanges else []
        self.evaluate()
        yield
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
