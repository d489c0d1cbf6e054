"""What a suite can name, and the message if it names something else."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from sgabench.errors import InputError
from sgabench.optimizers.sampled import Sampled
from sgabench.optimizers.stoch_grad_adam import StochGradAdam
from sgabench.plugins import TrainingContext, optimizers

PLAIN = ["adam", "adamw", "sgd", "stochgradadam"]


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 36, 5))


def build(name: str, options: dict[str, Any], model: nn.Module, seed: int = 0) -> torch.optim.Optimizer:
    plugin = optimizers[name]
    checked = plugin.resolve(options)
    return plugin.build(list(model.named_parameters()), seed, TrainingContext(10, 5, {}), **checked)  # type: ignore[no-any-return]


def weights_after(make: Any, steps: int = 5) -> list[torch.Tensor]:
    """After steps along gradients that are given, so that rounding in one step is not what the next one follows."""
    model = network()
    optimizer = make(model)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in model.parameters()]


def test_naming_an_optimizer_does_not_import_torch() -> None:
    code = (
        "import sys; from sgabench.plugins.registry import optimizers as o; "
        "[p.parameters for p in o.plugins()]; o['torch:AdamW'].resolve({'lr': 1}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_everything_is_described() -> None:
    assert set(PLAIN) <= {plugin.name for plugin in optimizers.plugins()}
    assert {"torch", "sampled", "noisy"} <= {source.name for source in optimizers.sources()}
    for plugin in [*optimizers.plugins(), *optimizers.sources()]:
        assert plugin.description.endswith(".")


@pytest.mark.parametrize(
    ("name", "options", "same"),
    [
        ("adam", {}, lambda p: torch.optim.Adam(p)),
        ("adam", {"lr": 0.01, "betas": [0.8, 0.9]}, lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.9))),
        ("adam", {"weight_decay": 0.1, "amsgrad": True}, lambda p: torch.optim.Adam(p, weight_decay=0.1, amsgrad=True)),
        ("adamw", {}, lambda p: torch.optim.AdamW(p)),
        ("sgd", {}, lambda p: torch.optim.SGD(p, 0.1, 0.9)),
        ("sgd", {"nesterov": True, "weight_decay": 0.1}, lambda p: torch.optim.SGD(p, 0.1, 0.9, 0, 0.1, True)),
        ("stochgradadam", {"sampling_rate": 1}, lambda p: torch.optim.Adam(p)),
        ("stochgradadam", {"lr": 0.01}, lambda p: StochGradAdam(p, 0.01, seed=0)),
        ("torch:RMSprop", {"lr": 0.01}, lambda p: torch.optim.RMSprop(p, 0.01)),
        ("torch:AdamW", {"betas": [0.8, 0.9]}, lambda p: torch.optim.AdamW(p, betas=(0.8, 0.9))),
        ("sampled:Adam", {"lr": 0.01}, lambda p: StochGradAdam(p, 0.01, seed=0)),
        ("sampled:SGD", {"sampling_rate": 1}, lambda p: torch.optim.SGD(p)),
        ("sampled:SGD", {"mask": "update"}, lambda p: Sampled(torch.optim.SGD(p), mask="update")),
        ("noisy:SGD", {}, lambda p: Sampled(torch.optim.SGD(p), distribution="gaussian")),
    ],
)
def test_a_name_builds_the_optimizer_that_it_says(name: str, options: dict[str, Any], same: Any) -> None:
    named = weights_after(lambda model: build(name, options, model))
    direct = weights_after(lambda model: same(list(model.parameters())))
    for one, other in zip(named, direct, strict=True):
        # Five steps, which change a weight by at most a few, each of about ten operations in float32.
        torch.testing.assert_close(one, other, rtol=0, atol=5 * 10 * 2**-24 * max(1.0, other.abs().max().item()))


@pytest.mark.parametrize("name", ["stochgradadam", "sampled:SGD", "noisy:SGD"])
def test_the_seed_chooses_what_is_drawn(name: str) -> None:
    one, again, other = (weights_after(lambda model, s=seed: build(name, {"lr": 0.1}, model, s)) for seed in (1, 1, 2))
    assert torch.equal(one[0], again[0])
    assert not torch.equal(one[0], other[0])


@pytest.mark.parametrize("name", ["stochgradadam", "sampled:Adam", "noisy:Adam"])
def test_patterns_exclude_parameters_by_name(name: str) -> None:
    masked = weights_after(lambda model: build(name, {"exclude": ["1.*"]}, model), 1)
    plain = weights_after(lambda model: build("adam", {}, model), 1)
    torch.testing.assert_close(masked[1], plain[1])
    assert not torch.allclose(masked[0], plain[0], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("adm", {}, "did you mean 'adam'"),
        ("adam", {"lr": 0}, "lr: .*greater than 0"),
        ("adam", {"lr": float("inf")}, "lr: "),
        ("adam", {"betas": [0.9, 1.0]}, "betas 2: "),
        ("adam", {"eps": 0}, "eps: "),
        ("adam", {"weight_decay": -1}, "weight_decay: "),
        ("sgd", {"momentum": 1}, "momentum: "),
        ("stochgradadam", {"sampling_rate": 0}, "sampling_rate: "),
        ("stochgradadam", {"sampling_rate": 1.01}, "sampling_rate: "),
        ("stochgradadam", {"samplingrate": 0.5}, "did you mean 'sampling_rate'"),
        ("sampled:SGD", {"mask": "weights"}, "mask: "),
        ("torch:Adamw", {}, "did you mean .*'AdamW'"),
        ("torch:Optimizer", {}, "torch.optim has no optimizer 'Optimizer'"),
        ("torch:SparseAdam", {}, "cannot be used: it only takes sparse gradients"),
        ("torch:SGD", {"momentun": 0.9}, "momentun: SGD has no such option; did you mean 'momentum'"),
        ("torch:SGD", {"sampling_rate": 0.5}, "sampling_rate: SGD has no such option; it accepts lr, momentum, "),
        ("torch:SGD", {"params": []}, "params: SGD has no such option"),
        ("torch:SGD", {"seed": 1}, "seed: SGD has no such option"),
        ("sampled:SGD", {"seed": 1}, "seed: SGD has no such option"),
        ("sampled:SGD", {"samplingrate": 0.5}, "samplingrate: SGD has no such option; did you mean 'sampling_rate'"),
        ("noisy:SGD", {"mask": "update"}, "mask: SGD has no such option"),
        ("torch:SGD", {"lr": -1}, "torch.optim.SGD refuses its options: .*-1"),
        ("torch:SGD", {"lr": "high"}, "torch.optim.SGD refuses its options"),
        ("torch:Muon", {}, "torch.optim.Muon takes matrices only; timm:muon leaves all else to AdamW"),
        ("sampled:SGD", {"mask": "update", "mask_weight_decay": False}, "mask_weight_decay"),
    ],
)
def test_what_cannot_be_built_is_explained_in_one_line(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build(name, options, network())
    assert "\n" not in str(caught.value)
