"""Each test in a process of its own: what is imported stays imported."""

from __future__ import annotations

import copy
import importlib
import pickle
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import TINY, WARM, called_here
from torch import Tensor, nn

from sgabench.models.cifar_resnet import CifarResNet
from sgabench.plugins import optimizers
from sgabench.suite.choices import Choice
from sgabench.training import dynamo
from sgabench.training.building import build_optimizer
from sgabench.training.dynamo import NAME, postpone_dynamo


def imported() -> bool:
    """Whether the real one is."""
    return f"{NAME}.eval_frame" in sys.modules


def train(name: str = "adam", steps: int = 3) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A training of some steps, with an optimizer as trials have it."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    network = CifarResNet(8, 1, 10, width=4)
    options = optimizers[name].resolve({"lr": 0.01})
    optimizer = build_optimizer(Choice(name, name, options), network, 0)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.randn(8, 1, 8, 8)), torch.arange(8)).backward()
        optimizer.step()
    return network, optimizer


def weights(network: nn.Module) -> list[Any]:
    return [parameter.tolist() for parameter in network.parameters()]


def compiles() -> bool:
    """Whether `torch.compile` finds a graph in each of two parts of a function, between which an optimizer steps."""
    graphs = []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph

    weight = nn.Parameter(torch.ones(3))
    optimizer = torch.optim.SGD([weight], lr=0.5)

    @torch.compile(backend=backend)
    def step(x: Tensor) -> Tensor:
        loss = (weight * x).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return weight * x

    return bool(step(torch.ones(3)).tolist() == [0.5, 0.5, 0.5] and len(graphs) >= 2)


# What runs in the processes; each gives what has to be true.


def trainings() -> dict[str, bool]:
    _, optimizer = train()
    again = copy.deepcopy(optimizer)
    pickled = pickle.loads(pickle.dumps(optimizer))
    optimizer.load_state_dict(again.state_dict())
    weight = nn.Parameter(torch.ones(()))
    differentiable = torch.optim.SGD([weight], lr=0.1, differentiable=True)
    x = torch.tensor(2.0, requires_grad=True)
    inner = weight.clone()
    differentiable.param_groups[0]["params"] = [inner]
    inner.grad = x * 3
    differentiable.step()
    (of_x,) = torch.autograd.grad(inner, x)
    return {
        "not imported": not imported(),
        "copied": str(again.state_dict()) == str(optimizer.state_dict()),
        "pickled": str(pickled.state_dict()) == str(optimizer.state_dict()),
        "differentiable": of_x.item() == pytest.approx(-0.3),
    }


def running(folder: Path) -> dict[str, bool]:
    """A whole run, of which no part needs a compiler."""
    (folder / "tiny.toml").write_text(TINY.replace("epochs = 1", "epochs = 1\ndeterministic = true"))
    done = called_here(folder, ["run", "tiny.toml"], {})
    return {
        "exit code": done.returncode == 0,
        "not imported": not imported(),
        "no compiler of torch": "torch._inductor" not in sys.modules,
        "nor what times": not {"torch.utils.benchmark", "setuptools"} & sys.modules.keys(),
    }


def numbers() -> list[Any]:
    return [weights(train(name)[0]) for name in ("adam", "sgd", "stochgradadam")]


def compiling() -> dict[str, bool]:
    before = numbers()
    functions = [getattr(torch.optim.Optimizer, name).__wrapped__ for name in ("add_param_group", "zero_grad")]
    given = [getattr(function, "__dynamo_disable", None) is function for function in functions]
    return {
        "given": all(given),
        "not imported": not imported(),
        "compiles": compiles(),
        "imported": imported(),
        "exports": exports(),
        "the same numbers": numbers() == before,
        "disabled": all(function.__dynamo_disable._torchdynamo_disable for function in functions),
    }


def exports() -> bool:
    network, images = CifarResNet(8, 1, 10, width=4).eval(), torch.randn(2, 1, 8, 8)
    exported = torch.export.export(network, (torch.zeros(2, 1, 8, 8),)).module()
    return torch.allclose(exported(images), network(images), atol=1e-6)


def submodule() -> dict[str, bool]:
    train()
    before = sys.modules[NAME]
    config = importlib.import_module(f"{NAME}.config")
    real = sys.modules[NAME]
    return {
        "another": real is not before and type(real) is type(sys),
        "the same": real.config is config is sys.modules[f"{NAME}.config"] is before.config,
        "its own spec": config.__spec__.loader is config.__loader__ and config.__spec__.origin == config.__file__,
        "once": real.eval_frame.config is config,
        "an attribute": torch._dynamo is real,
        "nothing left": not [finder for finder in sys.meta_path if type(finder).__module__ == dynamo.__name__],
        "held": before.graph_break is real.graph_break and before.disable is real.disable,
    }


def threads() -> dict[str, bool]:
    """Several that need it at the same time."""
    train()
    package, found = sys.modules[NAME], []

    def look(name: str) -> None:
        found.append(getattr(package, name))

    several = [threading.Thread(target=look, args=(name,)) for name in ("config", "optimize", "OptimizedModule")]
    for thread in several:
        thread.start()
    for thread in several:
        thread.join()
    return {"found": len(found) == 3, "imported": imported()}


def another_torch() -> dict[str, bool]:
    """Where it is not known how torch keeps what it was given, nothing is in its way."""
    torch._disable_dynamo = lambda function, recursive=True: function
    postpone_dynamo()
    return {"absent": NAME not in sys.modules}


def _send(connection: Any, function: Callable[..., Any], *arguments: Any) -> None:
    assert NAME not in sys.modules
    connection.send(function(*arguments))


def forked(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process that has imported torch, and not `torch._dynamo`."""
    receiver, sender = WARM.Pipe(duplex=False)
    process = WARM.Process(target=_send, args=(sender, function, *arguments))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    finally:
        process.join()


def test_a_run_imports_nothing_to_compile_with(tmp_path: Path) -> None:
    found = forked(running, tmp_path)
    assert found == dict.fromkeys(found, True)


@pytest.mark.parametrize("function", [trainings, compiling, submodule, threads, another_torch])
def test_dynamo_is_imported_when_it_is_needed(function: Callable[[], dict[str, bool]]) -> None:
    found = forked(function)
    assert found == dict.fromkeys(found, True)
