"""Multiply-adds of every kind of layer that torch has, against formulas written here."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from sgabench.models.operations import count_macs

ROWS, STEPS, WIDTH = 2, 3, 8


class _Layer(nn.Module):
    def __init__(self, layer: nn.Module, call: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.call = layer, call

    def forward(self, x: Tensor) -> Any:
        return self.call(self.layer, x)


def once(layer: Any, x: Tensor) -> Any:
    return layer(x)


def recurrent(gates: int, inputs: int, hidden: int, output: int | None = None) -> int:
    """Of a layer in one direction: gates read the input and the last output, which may be projected."""
    projection = 0 if output is None else hidden * output
    return ROWS * STEPS * (gates * hidden * (inputs + (output or hidden)) + projection)


def attention(queries: int, keys: int) -> int:
    """Of all heads: four projections, scores and sums."""
    return ROWS * (2 * (queries + keys) * WIDTH**2 + 2 * queries * keys * WIDTH)


SEQUENCE = (ROWS, STEPS, WIDTH)
FORWARD = ROWS * STEPS * 2 * WIDTH * 16  # of a transformer's layer with 16 hidden units
CASES: list[tuple[nn.Module, tuple[int, ...], Callable[[Any, Tensor], Any], int]] = [
    (nn.Linear(WIDTH, 5), SEQUENCE, once, ROWS * STEPS * WIDTH * 5),
    (nn.Bilinear(WIDTH, 3, 5), (ROWS, WIDTH), lambda m, x: m(x, x[:, :3]), ROWS * WIDTH * 3 * 5),
    (nn.RNN(WIDTH, 4, batch_first=True), SEQUENCE, once, recurrent(1, WIDTH, 4)),
    (nn.GRU(WIDTH, 4, batch_first=True), SEQUENCE, once, recurrent(3, WIDTH, 4)),
    (nn.LSTM(WIDTH, 4, batch_first=True), SEQUENCE, once, recurrent(4, WIDTH, 4)),
    (nn.LSTM(WIDTH, 4, batch_first=True, proj_size=2), SEQUENCE, once, recurrent(4, WIDTH, 4, 2)),
    (
        nn.LSTM(WIDTH, 4, 2, batch_first=True, bidirectional=True),
        SEQUENCE,
        once,
        2 * (recurrent(4, WIDTH, 4) + recurrent(4, 2 * 4, 4)),
    ),
    (nn.RNNCell(WIDTH, 4), (ROWS, WIDTH), once, ROWS * 4 * (WIDTH + 4)),
    (nn.GRUCell(WIDTH, 4), (ROWS, WIDTH), once, ROWS * 3 * 4 * (WIDTH + 4)),
    (nn.LSTMCell(WIDTH, 4), (ROWS, WIDTH), once, ROWS * 4 * 4 * (WIDTH + 4)),
    (
        nn.MultiheadAttention(WIDTH, 2, batch_first=True),
        SEQUENCE,
        lambda m, x: m(x, x, x),
        attention(STEPS, STEPS),
    ),
    (
        nn.MultiheadAttention(WIDTH, 2, batch_first=True),
        SEQUENCE,
        lambda m, x: m(x[:, :1], x, x, need_weights=False),
        attention(1, STEPS),
    ),
    (nn.TransformerEncoderLayer(WIDTH, 2, 16, batch_first=True), SEQUENCE, once, attention(STEPS, STEPS) + FORWARD),
    (
        nn.TransformerDecoderLayer(WIDTH, 2, 16, batch_first=True),
        SEQUENCE,
        lambda m, x: m(x, x),
        2 * attention(STEPS, STEPS) + FORWARD,
    ),
    (
        nn.Transformer(WIDTH, 2, 1, 1, 16, batch_first=True),
        SEQUENCE,
        lambda m, x: m(x, x),
        3 * attention(STEPS, STEPS) + 2 * FORWARD,
    ),
]
for _dims, (_conv, _transposed) in enumerate(
    [(nn.Conv1d, nn.ConvTranspose1d), (nn.Conv2d, nn.ConvTranspose2d), (nn.Conv3d, nn.ConvTranspose3d)], start=1
):
    for _groups in (1, 2, 4):
        _options = {"kernel_size": 3, "stride": 2, "groups": _groups}
        _weights = 4 * 8 // _groups * 3**_dims
        _shape = (ROWS, 4, *[5] * _dims)
        # each place of the output reads the kernel once; of a transposed convolution each place of the input
        CASES.append((_conv(4, 8, **_options), _shape, once, ROWS * 2**_dims * _weights))
        CASES.append((_transposed(4, 8, **_options), _shape, once, ROWS * 5**_dims * _weights))

# Layers with weights of two or more dimensions in which nothing is multiplied and added.
LOOKUPS = {"Embedding", "EmbeddingBag"}


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case[0]).partition("\n")[0])
def test_multiply_adds_of_a_layer(case: Any) -> None:
    layer, shape, call, expected = case
    network = _Layer(layer, call)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert count_macs(network, x) == (expected, expected)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    total, nonzero = count_macs(network, x)
    assert total == expected
    assert nonzero < expected


def test_every_layer_of_torch_that_has_matrices_is_among_them() -> None:
    tried = {type(module).__name__ for case in CASES for module in case[0].modules()}
    arguments: dict[str, Any] = {"num_embeddings": 4, "embedding_dim": 4, "num_features": 4, "num_channels": 4}
    arguments |= {"num_groups": 2, "normalized_shape": 4, "num_parameters": 4}
    for name, kind in inspect.getmembers(nn, inspect.isclass):
        if (
            not issubclass(kind, nn.Module)
            or name in tried
            or any(w in name for w in ("Lazy", "Loss", "Base", "Container"))
        ):
            continue
        wanted = inspect.signature(kind).parameters
        needed = [n for n, p in wanted.items() if p.default is p.empty and n not in ("args", "kwargs", "modules")]
        try:
            layer = kind(**{n: arguments.get(n, 4) for n in needed})
        except (TypeError, ValueError, AttributeError, RuntimeError, AssertionError):
            continue  # containers of layers, and layers of others
        has_matrices = any(parameter.dim() > 1 for parameter in layer.parameters())
        assert not has_matrices or name in LOOKUPS, f"nn.{name} is not counted by any test"


def test_recurrent_network_with_a_head() -> None:
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 10)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(self.lstm(images[:, 0])[0][:, -1])  # type: ignore[no-any-return]

    assert count_macs(Rows(), torch.zeros(1, 1, 8, 8))[0] == 41_280


def test_zeros_of_computed_weights_are_those_that_are_multiplied_by() -> None:
    """A norm of the whole weight keeps its zeros; standardization makes other numbers of them."""
    x = torch.randn(1, 16)
    normed = parametrizations.weight_norm(nn.Linear(16, 8, bias=False))
    with torch.no_grad():
        normed.parametrizations.weight.original1[:, :4] = 0  # type: ignore[union-attr, index]
    assert count_macs(normed, x) == (128, 96)
    network: Any = timm.create_model("nf_resnet26", num_classes=5).stages[0][0].conv2
    places = torch.zeros(1, 64, 2, 2)
    with torch.no_grad():
        network.weight.view(-1)[::3] = 0
        network.weight[0] = 0
    total, nonzero = count_macs(network, places)
    assert total == 4 * 64 * 64 * 9
    assert nonzero == 4 * 63 * 64 * 9, "zeros among other numbers are no zeros any more when their mean is subtracted"


def test_zeros_that_a_network_makes_of_its_weights_on_the_way_are_no_zero_weights() -> None:
    """A table of positions goes through layers, as in Swin v2: nobody pruned what ReLU makes zero there."""

    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.linspace(-1, 1, 12).reshape(4, 3))
            self.first, self.second = nn.Linear(3, 8), nn.Linear(8, 5, bias=False)

        def forward(self, images: Tensor) -> Tensor:
            return images + self.second(self.first(self.table).relu())  # type: ignore[no-any-return]

    network, images = Positions(), torch.randn(4, 5)
    total = 4 * (3 * 8 + 8 * 5)
    assert count_macs(network, images) == (total, total)
    with torch.no_grad():
        network.second.weight[0] = 0
    assert count_macs(network, images) == (total, total - 4 * 8)
