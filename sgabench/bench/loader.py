"""The training loop that everyone writes."""

from __future__ import annotations

import time

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from sgabench.running.loops import Workload
from sgabench.training.building import initial_network
from sgabench.training.progress import synchronize

# Enough to fill the workers' queues and empty them, few enough to take turns with others.
_STEPS = {"cpu": 8, "cuda": 64}
_WORKERS = 2


class Photographs(Dataset[tuple[Tensor, int]]):
    """Random images, decoded and augmented one by one, as tutorials do it."""

    def __init__(self, number: int) -> None:
        random = np.random.default_rng(0)
        self._images = random.integers(0, 256, (number, 32, 32, 3), dtype=np.uint8)
        self._labels = random.integers(0, 10, number)
        self._transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
            ]
        )

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: Tensor = self._transform(Image.fromarray(self._images[index]))
        return image, int(self._labels[index])


class LoaderLoop:
    """A DataLoader over transforms of PIL images, float32, row-major tensors, torch.optim as it comes."""

    def __init__(self, work: Workload, device: str) -> None:
        self._device = device
        self._network = initial_network(work.model, work.spec, 0).to(device)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=1e-3)
        self._loader = DataLoader(
            Photographs(work.recipe.batch_size * _STEPS[device]),
            work.recipe.batch_size,
            shuffle=True,
            num_workers=_WORKERS,
            persistent_workers=True,
            pin_memory=device == "cuda",
        )

    def block(self, seconds: float) -> float:
        """Train for whole epochs, so that no batch is ready when the clock starts."""
        images = 0
        synchronize(self._device)
        started = time.perf_counter()
        while images == 0 or time.perf_counter() - started < seconds:
            for batch, labels in self._loader:
                batch, labels = batch.to(self._device), labels.to(self._device)
                self._optimizer.zero_grad()
                F.cross_entropy(self._network(batch), labels).backward()  # type: ignore[no-untyped-call]
                self._optimizer.step()
                images += len(labels)
            synchronize(self._device)
        return images / (time.perf_counter() - started)
