"""A training step up to its gradients: draw a batch, augment it, forward and backward pass.

The input of a step is copied into tensors with fixed addresses, so that the same work can be repeated each time, or
captured once as a CUDA graph and replayed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from sgabench.datasets import augmentation
from sgabench.suite.tables import Recipe
from sgabench.system.seeds import derive_seed
from sgabench.training.data import Data
from sgabench.training.distillation import Teacher
from sgabench.training.evaluation import autocast


def batch_order(seed: int, epoch: int, images: int, batch_size: int) -> Tensor:
    """Which images each step of an epoch sees: int64 (steps, batch_size), a function of seed and epoch."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "batch order", epoch))
    steps = images // batch_size
    return torch.randperm(images, generator=generator)[: steps * batch_size].view(steps, batch_size)


_TRIES = 10  # boxes drawn for each image


@dataclass(frozen=True)
class Draws:
    """All randomness in the batches of an epoch: a function of seed and epoch, the same on every device.

    Attributes:
        order: the images: int64 (steps, batch_size).
        offsets: of their crops: int64 (steps, batch_size, 2); empty (steps, 0) without crops.
        flips: whether they are mirrored: bool (steps, batch_size); empty (steps, 0) without flips.
        holes: centres of their black squares, as fractions of height and width: float32 (steps, batch_size, 2); empty
            (steps, 0) without cutout.
        partners: the images that they are mixed with: int64 (steps, batch_size); empty (steps, 0) without mixup.
        boxes: that are cut out and resized, as for `augmentation.resized_crop`: float32 (steps, batch_size, 4); empty
            (steps, 0) without resized crops.
        shares: of the image itself in the mixture: float32 (steps, batch_size), the same within a batch; likewise.
    """

    order: Tensor
    offsets: Tensor
    flips: Tensor
    holes: Tensor
    partners: Tensor
    shares: Tensor
    boxes: Tensor

    @classmethod
    def of(cls, recipe: Recipe, seed: int, epoch: int, images: int, device: str) -> Draws:
        """Draw an epoch for a number of images."""
        order = batch_order(seed, epoch, images, recipe.batch_size)
        generator = torch.Generator().manual_seed(derive_seed(seed, "augmentation", epoch))
        offsets = torch.randint(0, 2 * recipe.crop_padding + 1, (*order.shape, 2), generator=generator)
        flips = torch.rand(order.shape, generator=generator) < 0.5
        holes = torch.rand((*order.shape, 2), generator=generator)
        partners, shares = _mixtures(order, recipe.mixup, derive_seed(seed, "mixup", epoch))
        return cls(
            order.to(device),
            (offsets if "crop" in recipe.augmentation else offsets[:, :0]).to(device),
            (flips if "flip" in recipe.augmentation else flips[:, :0]).to(device),
            (holes if "cutout" in recipe.augmentation else holes[:, :0]).to(device),
            partners.to(device),
            shares.to(device),
            _boxes(recipe, order, derive_seed(seed, "resized crop", epoch)).to(device),
        )

    def __getitem__(self, step: int) -> Draws:
        """The draws of one step."""
        return Draws(*(drawn[step] for drawn in vars(self).values()))

    def copy_(self, other: Draws) -> None:
        """Copy the values of another object of the same shapes."""
        for drawn, value in zip(vars(self).values(), vars(other).values(), strict=True):
            drawn.copy_(value)

    def augment(self, images: Tensor, recipe: Recipe, size: tuple[int, int] | None = None) -> Tensor:
        """Augment the uint8 batch (N, C, H, W) of a step; resized crops have the given size, or that of the images."""
        if self.boxes.numel():
            height, width = images.shape[2:]
            images = augmentation.resized_crop(images, self.boxes, size or (height, width))
        if self.offsets.numel():
            images = augmentation.pad_and_crop(images, self.offsets, recipe.crop_padding)
        if self.flips.numel():
            images = augmentation.flip(images, self.flips)
        return augmentation.cut_out(images, self.holes, recipe.cutout_size) if self.holes.numel() else images


def _boxes(recipe: Recipe, order: Tensor, seed: int) -> Tensor:
    """Boxes of random area and shape as in torchvision's RandomResizedCrop: the first of ten that fits, or all."""
    if "resized-crop" not in recipe.augmentation:
        return torch.empty(len(order), 0)
    generator = torch.Generator().manual_seed(seed)
    steps, images = order.shape
    area = recipe.crop_scale + (1 - recipe.crop_scale) * torch.rand((_TRIES, steps, images), generator=generator)
    aspect = torch.exp(math.log(4 / 3) * (2 * torch.rand((_TRIES, steps, images), generator=generator) - 1))
    sides = torch.stack([(area / aspect).sqrt(), (area * aspect).sqrt()], dim=-1)
    places = torch.rand((steps, images, 2), generator=generator)
    box = torch.ones(steps, images, 2)
    for sides_of_try in reversed(sides):
        fits = (sides_of_try <= 1).all(dim=-1, keepdim=True)
        box = torch.where(fits, sides_of_try, box)
    return torch.cat([box, places], dim=-1)


def _mixtures(order: Tensor, mixup: float, seed: int) -> tuple[Tensor, Tensor]:
    """Partners in the same batch, and a share for each batch (Zhang et al. 2017, arXiv 1710.09412)."""
    if not mixup:
        return order[:, :0], torch.empty(len(order), 0)
    random = np.random.RandomState(seed % 2**32)  # the legacy generator's stream is frozen
    shares = torch.from_numpy(random.beta(mixup, mixup, len(order))).float()
    places = torch.rand(order.shape, generator=torch.Generator().manual_seed(seed)).argsort(dim=1)
    return order.gather(1, places), shares[:, None].expand(order.shape).contiguous()


class Replayed(Protocol):
    """Captured work that can be repeated."""

    def replay(self) -> None:
        """Repeat it with the present values of its input tensors."""


class GradientStep:
    """The forward and backward pass of one batch.

    Args:
        network: in training mode, on the data's device.
        data: has the training split.
        recipe: batch size, augmentation, label smoothing.
        precision: fp32 or bf16.
        micro_batches: parts that a batch is cut into, whose gradients are added up: each needs its share of the memory,
            and BatchNorm sees a part at a time.
        teacher: that the network learns from in addition to the labels.

    Attributes:
        totals: float64 (2,): loss and top-1, added up over the steps since it was last set to zero.
        number: passes of whole batches, replayed ones included.
        replayed: replayed instead of the passes; None: the passes are executed.
    """

    def __init__(
        self,
        network: nn.Module,
        data: Data,
        recipe: Recipe,
        precision: str,
        micro_batches: int = 1,
        teacher: Teacher | None = None,
    ) -> None:
        self.network = network
        self.totals = torch.zeros(2, dtype=torch.float64, device=data.device)
        self.replayed: Replayed | None = None
        self.number = 0
        self._parameters = list(network.parameters())  # to search the modules in every step takes long
        self._data = data
        self._recipe = recipe
        self._precision = precision
        self._micro_batches = micro_batches
        self._teacher = teacher
        self._device = data.device.type
        self._drawn = Draws.of(recipe, 0, 0, recipe.batch_size, self._device)[0]

    def __call__(self, drawn: Draws) -> None:
        """Compute the gradients of a batch in the network's parameters, and add to ``totals``."""
        self._drawn.copy_(drawn)
        self.number += 1
        if self.replayed is not None:
            self.replayed.replay()
            return
        self.forget_gradients()
        self.passes()

    @torch.enable_grad()
    def again(self) -> Tensor:
        """Repeat both passes of the current batch at the present weights: an optimizer's closure.

        The augmentation is the same. Totals and buffers (statistics of BatchNorm) stay as after the first passes. What
        the network draws itself, such as dropout, is drawn again.

        Returns:
            The loss; the gradients are in the network's parameters.
        """
        kept = [*self.network.buffers(), self.totals]
        before = [tensor.clone() for tensor in kept]
        self.forget_gradients()
        loss = self.passes()
        self.number += 1
        with torch.no_grad():
            for tensor, value in zip(kept, before, strict=True):
                tensor.copy_(value)
        return loss

    def forget_gradients(self) -> None:
        """Drop the gradients of the previous step."""
        for parameter in self._parameters:
            parameter.grad = None

    def passes(self) -> Tensor:
        """Forward and backward pass; returns the loss. The same work whatever is drawn, so that it can be captured."""
        parts = self._micro_batches
        losses = []
        for part in range(parts):
            drawn = self._part(part)
            labels = self._data.train.labels[drawn.order]
            images = self._seen(drawn, drawn.order)
            if drawn.partners.numel():
                images = torch.lerp(self._seen(drawn, drawn.partners), images, drawn.shares[:, None, None, None])
            with autocast(self._device, self._precision):
                logits = self.network(images)
            loss = self._loss(logits, labels, drawn)
            if self._teacher is not None:
                with autocast(self._device, self._precision):
                    loss = self._teacher.mix(loss, logits, images)
            share = len(labels) / self._recipe.batch_size
            losses.append(loss if parts == 1 else loss * share)
            losses[-1].backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                row = torch.stack([loss.detach(), (logits.argmax(1) == labels).float().mean()])
                self.totals += row if parts == 1 else row * share
        if self._recipe.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self._recipe.clip_norm)
        return losses[0].detach() if parts == 1 else torch.stack(losses).detach().sum()

    def _seen(self, drawn: Draws, which: Tensor) -> Tensor:
        """Training images as the network sees them; images mixed with each other are augmented alike."""
        spec = self._data.spec
        images = drawn.augment(self._data.train.pixels(which), self._recipe, (spec.height, spec.width))
        return self._data.normalize(images)

    def _loss(self, logits: Tensor, labels: Tensor, drawn: Draws) -> Tensor:
        smoothing = self._recipe.label_smoothing
        loss = F.cross_entropy(logits.float(), labels, label_smoothing=smoothing)
        if not drawn.partners.numel():
            return loss
        of_partners = F.cross_entropy(
            logits.float(), self._data.train.labels[drawn.partners], label_smoothing=smoothing
        )
        return torch.lerp(of_partners, loss, drawn.shares[0])

    def _part(self, part: int) -> Draws:
        if self._micro_batches == 1:
            return self._drawn
        cut = [tensor.tensor_split(self._micro_batches)[part] for tensor in vars(self._drawn).values()]
        return Draws(*cut)
