"""The prunable set, the layers at both ends, BatchNorm statistics, and sparsity that stays."""

from __future__ import annotations

import copy

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from sgabench.models.layers import evaluating, input_and_classifier, prunable_layers
from sgabench.models.statistics import reestimate_batch_norm
from sgabench.training.finetuning import FixedSparsity


def test_only_convolutions_and_linear_layers_are_prunable(convnet: nn.Sequential) -> None:
    network = nn.Sequential(convnet, nn.LayerNorm(5), nn.PReLU(), nn.Embedding(3, 3), nn.ConvTranspose1d(5, 5, 1))
    assert list(prunable_layers(network)) == ["0.0", "0.3", "0.6", "0.10", "0.12", "4"]


def test_an_excluded_module_takes_its_parts_with_it_and_no_namesakes(convnet: nn.Sequential) -> None:
    network = nn.ModuleDict({"a": convnet, "ab": nn.Linear(2, 2)})
    assert list(prunable_layers(network, {"a"})) == ["ab"]
    assert list(prunable_layers(convnet, {"1"})) == list(prunable_layers(convnet))


def test_a_shared_weight_is_one_weight() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4))
    network[1].weight = network[0].weight
    assert list(prunable_layers(network)) == ["0", "2"]
    assert list(prunable_layers(network, {"1"})) == ["2"], "a weight that an excluded layer uses is excluded"


@pytest.mark.parametrize(
    ("make", "size", "inputs", "classifier"),
    [
        (lambda: torchvision.models.resnet18(num_classes=7), 32, {"conv1"}, {"fc"}),
        (lambda: torchvision.models.squeezenet1_1(num_classes=7), 64, {"features.0"}, {"classifier.1"}),
        (
            lambda: timm.create_model(
                "vit_tiny_patch16_224", img_size=16, patch_size=8, depth=1, embed_dim=12, num_classes=7
            ),
            16,
            {"patch_embed.proj"},
            {"head"},
        ),
    ],
    ids=["ResNet", "1x1 convolution as classifier", "ViT"],
)
def test_input_and_classifier(make: object, size: int, inputs: set[str], classifier: set[str]) -> None:
    network = make()  # type: ignore[operator]
    assert input_and_classifier(network, torch.zeros(1, 3, size, size)) == (inputs, classifier)


class _TwoStems(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 3)
        self.right = nn.Conv2d(3, 4, 3)
        self.body = nn.Conv2d(4, 6, 1)
        self.head = nn.Linear(6, 5)
        self.auxiliary = nn.Linear(5, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.body(self.left(images) + self.right(images)).mean((2, 3)))
        self.auxiliary(logits)
        return logits


def test_every_layer_that_reads_the_image_is_an_input_layer() -> None:
    inputs, classifier = input_and_classifier(_TwoStems(), torch.zeros(1, 3, 8, 8))
    assert inputs == {"left", "right"}
    assert classifier == {"head"}, "what runs last does not have to give the logits"


def test_two_heads_are_two_classifiers() -> None:
    network = timm.create_model(
        "deit_tiny_distilled_patch16_224", img_size=16, patch_size=8, depth=1, embed_dim=12, num_classes=7
    )
    found = input_and_classifier(network, torch.zeros(1, 3, 16, 16))
    assert found == ({"patch_embed.proj"}, {"head", "head_dist"})


def test_layers_called_with_keywords_are_seen() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

        def forward(self, images: Tensor) -> Tensor:
            return self.head(input=self.first(input=images).mean((2, 3)))  # type: ignore[no-any-return]

    assert input_and_classifier(Named(), torch.zeros(1, 3, 8, 8)) == ({"first"}, {"head"})


def test_looking_for_the_ends_leaves_the_network_as_it_was(convnet: nn.Sequential, images: Tensor) -> None:
    convnet.train()
    convnet[1].eval()
    before = copy.deepcopy(convnet.state_dict())
    input_and_classifier(convnet, images)
    after = convnet.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert convnet.training
    assert not convnet[1].training
    assert not any(module._forward_hooks for module in convnet.modules())


def test_evaluating_restores_modes_after_an_error(convnet: nn.Sequential) -> None:
    convnet[0].train()
    with pytest.raises(RuntimeError, match="on purpose"), evaluating(convnet):
        raise RuntimeError("on purpose")
    assert convnet[0].training
    assert not convnet[1].training
    assert torch.is_grad_enabled()


def test_batch_norm_statistics_are_those_of_all_images_however_they_are_batched() -> None:
    network = nn.Sequential(nn.BatchNorm2d(2), nn.Dropout(0.9), nn.BatchNorm2d(2))
    network[0].running_mean.fill_(100.0)
    images = torch.randn(10, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    reestimate_batch_norm(network, [(images[:7], None), (images[7:9], None), (images[9:], None)])
    assert torch.allclose(network[0].running_mean, images.mean((0, 2, 3)), atol=1e-6)


def test_batch_norm_statistics_feed_on_each_other_without_dropout(convnet: nn.Sequential, images: Tensor) -> None:
    network = nn.Sequential(nn.Dropout(0.5), convnet).eval()
    reestimate_batch_norm(network, [(images, None)])
    first = copy.deepcopy(network.state_dict())
    reestimate_batch_norm(network, [(images, None)])
    assert all(torch.equal(first[name], value) for name, value in network.state_dict().items())
    assert not any(module.training for module in network.modules())
    assert all(module.momentum == 0.1 for module in network.modules() if isinstance(module, nn.BatchNorm2d))


def test_batch_norm_statistics_of_no_images_are_refused(convnet: nn.Sequential) -> None:
    with pytest.raises(ValueError, match="at least one batch"):
        reestimate_batch_norm(convnet, [])


def test_a_network_without_batch_norm_is_not_run() -> None:
    runs = []

    class Unused(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            runs.append(images)
            return images

    reestimate_batch_norm(Unused(), [(torch.zeros(1, 1), None)])
    assert runs == []


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
def test_pruned_weights_stay_zero_through_momentum_and_weight_decay(
    convnet: nn.Sequential, images: Tensor, optimizer: type[torch.optim.Optimizer]
) -> None:
    optimize = optimizer(convnet.parameters(), lr=0.1, weight_decay=0.1)  # type: ignore[call-arg]
    convnet(images).square().sum().backward()
    optimize.step()  # so that there is momentum for weights that are then pruned
    with torch.no_grad():
        for layer in prunable_layers(convnet).values():
            layer.weight.view(-1)[::2] = 0  # type: ignore[operator, union-attr]
    zeros = {name: layer.weight == 0 for name, layer in prunable_layers(convnet).items()}
    sparsity = FixedSparsity(convnet)
    revived = False
    for _ in range(3):
        optimize.zero_grad()
        convnet(images).square().sum().backward()
        optimize.step()
        revived |= any(bool(layer.weight[zeros[name]].any()) for name, layer in prunable_layers(convnet).items())  # type: ignore[index]
        sparsity.apply()
        for name, layer in prunable_layers(convnet).items():
            assert torch.equal(layer.weight == 0, zeros[name])  # type: ignore[arg-type]
    assert revived, "the test means nothing if the optimizer leaves zeros alone"


def test_zeros_of_excluded_layers_may_grow(convnet: nn.Sequential) -> None:
    with torch.no_grad():
        convnet[12].weight.zero_()
    sparsity = FixedSparsity(convnet, {"12"})
    with torch.no_grad():
        convnet[12].weight.fill_(1.0)
    sparsity.apply()
    assert bool((convnet[12].weight == 1).all())
