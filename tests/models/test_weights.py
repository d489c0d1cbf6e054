"""Weights that belong to no convolution or linear layer: recurrent ones and attention's packed projections."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn

from sgabench.measuring.measurement import measure_size
from sgabench.models.layers import input_and_classifier, prunable_weights, weights_left_out
from sgabench.models.operations import count_operations
from sgabench.plugins import ImageSpec, PruningContext, models, pruners
from sgabench.training.finetuning import FixedSparsity

SPEC = ImageSpec(1, 8, 8, 10)
IMAGE = torch.zeros(1, 1, 8, 8)


class Attending(nn.Module):
    """Rows as tokens, with a table of positions, attention, and a recurrent cell that reads its result."""

    def __init__(self) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(8, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.other = nn.MultiheadAttention(8, 2, batch_first=True, kdim=4, vdim=4)
        self.cell = nn.GRUCell(8, 6)
        self.head = nn.Linear(6, 10)

    def forward(self, images: Tensor) -> Tensor:
        tokens = images[:, 0] + self.position
        attended, _ = self.attention(query=tokens, key=tokens, value=tokens, need_weights=False)
        attended, _ = self.other(attended, attended[..., :4], attended[..., 4:], need_weights=False)
        logits: Tensor = self.head(self.cell(attended.mean(1)))
        return logits


def lstm() -> nn.Module:
    network: nn.Module = models["lstm"].build(SPEC, hidden=6, layers=2)
    return network


def test_they_have_names_of_their_own() -> None:
    assert list(prunable_weights(lstm())) == [
        *("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1"),
        "fc",
    ]
    assert list(prunable_weights(Attending())) == [
        *("attention.in_proj_weight", "attention.out_proj"),
        *("other.q_proj_weight", "other.k_proj_weight", "other.v_proj_weight", "other.out_proj"),
        *("cell.weight_ih", "cell.weight_hh", "head"),
    ]
    assert list(prunable_weights(nn.LSTM(2, 3, proj_size=2))) == ["weight_ih_l0", "weight_hh_l0", "weight_hr_l0"]


def test_a_weight_or_its_module_can_be_excluded() -> None:
    assert next(iter(prunable_weights(lstm(), {"rnn.weight_ih_l0", "fc"}))) == "rnn.weight_hh_l0"
    assert list(prunable_weights(lstm(), {"rnn"})) == ["fc"]


def test_what_no_pruner_acts_on_is_named() -> None:
    assert weights_left_out(lstm()) == []
    assert weights_left_out(Attending()) == ["position"]
    assert weights_left_out(nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2), nn.BatchNorm1d(2))) == ["0.weight"]


def test_of_a_recurrent_network_the_input_weights_see_the_image() -> None:
    assert input_and_classifier(lstm(), IMAGE) == ({"rnn.weight_ih_l0"}, {"fc"})
    both = nn.Sequential(nn.Flatten(2), nn.Flatten(0, 1), nn.LSTM(64, 4, bidirectional=True))
    both.append(_First()).append(nn.Linear(8, 10))
    assert input_and_classifier(both, IMAGE)[0] == {"2.weight_ih_l0", "2.weight_ih_l0_reverse"}


class _First(nn.Module):
    def forward(self, of: tuple[Tensor, object]) -> Tensor:
        return of[0]


def test_attention_that_is_called_by_names_is_seen() -> None:
    inputs, classifier = input_and_classifier(Attending(), IMAGE)
    assert inputs == {"attention.in_proj_weight"}
    assert classifier == {"head"}


@pytest.mark.parametrize("make", [lstm, Attending])
@pytest.mark.parametrize("name", ["magnitude", "random"])
def test_they_are_pruned_and_counted(make: Callable[[], nn.Module], name: str) -> None:
    network = make().eval()
    inputs, classifier = input_and_classifier(network, IMAGE)
    excluded = inputs | classifier
    pruned = pruners[name].build(network, 0.75, PruningContext(SPEC, 0, lambda: iter(()), excluded))
    size = measure_size(pruned, IMAGE, excluded)
    assert size.sparsity == pytest.approx(0.75, abs=0.01)
    assert size.layer_sparsity.keys() == prunable_weights(network).keys()
    assert any(0 < size.layer_sparsity[weight] < 1 for weight in size.layer_sparsity if ".weight_" in weight)
    assert size.nonzero_macs < 0.8 * size.macs


def test_multiply_adds_of_a_recurrent_network_are_those_of_its_matrices() -> None:
    macs = count_operations(lstm(), IMAGE)
    assert macs.total == 8 * 4 * 6 * (8 + 6 + 6 + 6) + 6 * 10
    assert macs.follow_from_parameters
    assert {weight for _, weights in macs.operators for weight in weights} == {
        *("rnn.weight_ih_l0", "rnn.weight_hh_l0", "rnn.weight_ih_l1", "rnn.weight_hh_l1", "fc.weight")
    }


def test_they_stay_zero_while_fine_tuned() -> None:
    network = lstm()
    with torch.no_grad():
        for weight in prunable_weights(network).values():
            weight[: len(weight) // 2] = 0
    fixed = FixedSparsity(network, {"fc"})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 1
    fixed.apply()
    zeros = {name: int((weight == 0).sum()) for name, weight in prunable_weights(network).items()}
    assert zeros == {
        name: 0 if name == "fc" else weight.numel() // 2 for name, weight in prunable_weights(network).items()
    }


def test_torchvisions_vit_is_pruned_in_its_packed_projections() -> None:
    network = torchvision.models.VisionTransformer(8, 4, 1, 2, 8, 16, num_classes=3)
    weights = prunable_weights(network)
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" in weights
    assert weights_left_out(network) == ["class_token", "encoder.pos_embedding"]
