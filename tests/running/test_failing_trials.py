"""What fails in a trial: it becomes a record, and the rest goes on."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import variant
from torch import nn
from trials import by_kind, run_one, tasks, without_times

from sgabench.plugins import ImageSpec
from sgabench.plugins.registry import load_plugin_file, models, optimizers, probes, pruners
from sgabench.running.trial import run_trial
from sgabench.store.store import Record, Store

pytestmark = pytest.mark.usefixtures("_plugins")


def test_a_cell_that_fails_leaves_the_others_alone(tiny: Path, tmp_path: Path) -> None:
    variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.9]")
    variant(tiny, '[[pruners]]\nname = "magnitude"', '[[pruners]]\nname = "raising"\n\n[[pruners]]\nname = "magnitude"')
    cells = by_kind(run_one(tasks(tiny, tmp_path)[0]), "cell")
    assert [(c.labels["pruner"], c.labels["ratio"], c.status) for c in cells] == [
        ("raising", 0.5, "failed"),
        ("raising", 0.9, "done"),
        ("magnitude", 0.5, "done"),
        ("magnitude", 0.9, "done"),
    ]
    assert cells[0].error.strip().endswith("RuntimeError: no pruning today")
    assert "Traceback" in cells[0].error


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda network: sys.exit(0), "SystemExit: 0"),
        (lambda network: network.register_forward_hook(lambda *_: None), "left hooks on the network"),
    ],
    ids=["exit", "hooks"],
)
def test_a_pruner_that_misbehaves_fails_alone(
    tiny: Path, tmp_path: Path, what: Callable[[nn.Module], object], message: str
) -> None:
    @pruners.register("rude")
    def rude(network: nn.Module) -> nn.Module:
        """Misbehave."""
        what(network)
        return network

    tiny.write_text(tiny.read_text().replace('"magnitude"', '"rude"') + '\n[[pruners]]\nname = "magnitude"\n')
    bad, good = by_kind(run_one(tasks(tiny, tmp_path)[0]), "cell")
    assert (bad.status, good.status) == ("failed", "done")
    assert message in bad.error


@pytest.mark.parametrize(
    ("what", "message"),
    [
        (lambda network: bytearray(1 << 62), "MemoryError"),
        (lambda network: torch.empty(1 << 50), "can't allocate memory"),
    ],
    ids=["python", "torch"],
)
def test_memory_that_is_not_available_is_a_failure_with_its_cause(
    tiny: Path, tmp_path: Path, what: Callable[[nn.Module], object], message: str
) -> None:
    @optimizers.register("greedy")
    def greedy(parameters: Any) -> torch.optim.Optimizer:
        """Want more memory than there is."""
        what(parameters)
        return torch.optim.SGD(parameters, lr=0.1)

    @pruners.register("greedy")
    def greedy_pruner(network: nn.Module) -> nn.Module:
        """Want more memory than there is."""
        what(network)
        return network

    tiny.write_text(tiny.read_text().replace('"magnitude"', '"greedy"') + '\n[[pruners]]\nname = "magnitude"\n')
    bad, good = by_kind(run_one(tasks(tiny, tmp_path)[0]), "cell")
    assert (bad.status, good.status) == ("failed", "done")
    variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "greedy"')
    (training,) = run_one(tasks(tiny, tmp_path)[0])
    assert (training.kind, training.status) == ("trial", "failed")
    for record in (bad, training):
        assert message in record.error
        assert record.error.startswith("Traceback")
        assert record.environment["packages"]["torch"]


def test_a_training_stays_when_its_network_cannot_be_loaded(tiny: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    @models.register("fickle")
    def fickle(spec: ImageSpec) -> nn.Module:
        """Come once, and never again."""
        calls.append(1)
        if len(calls) > 1:
            raise KeyError("layers")
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, spec.classes))

    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "fickle"')
    kept = [record for record in run_one(tasks(tiny, tmp_path)[0]) if record.kind != "cell"]
    assert {record.status for record in kept} == {"done"}
    (again,) = [task for task in tasks(tiny, tmp_path, kept) if task.trained]
    (record,) = run_one(again)
    assert (record.kind, record.key, record.status) == ("cell", again.trial.cells[0].key, "failed")
    assert "KeyError: 'layers'" in record.error


def test_a_cell_stays_when_its_network_cannot_be_made_again_for_a_probe(tiny: Path, tmp_path: Path) -> None:
    calls: list[int] = []

    @pruners.register("fickle")
    def fickle(network: nn.Module) -> nn.Module:
        """Prune once, and never again."""
        calls.append(1)
        if len(calls) > 1:
            raise RuntimeError("not again")
        return network

    first = run_one(tasks(variant(tiny, '"magnitude"', '"fickle"'), tmp_path)[0])
    tiny.write_text(tiny.read_text() + '\n[[probes]]\nname = "spy"\n')
    (again,) = [task for task in tasks(tiny, tmp_path, first) if task.trained]
    (record,) = run_one(again)
    assert (record.kind, record.parent, record.status) == ("probe", again.trial.cells[0].key, "failed")
    assert "not again" in record.error


def test_what_cannot_be_stored_is_no_failure_of_the_trial(tiny: Path, tmp_path: Path) -> None:
    seen: list[Any] = []

    def full(event: Any) -> None:
        seen.append(event)
        if isinstance(event, Record):
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        run_trial(tasks(tiny, tmp_path)[0], full, lambda: contextlib.nullcontext(True))
    assert [event.status for event in seen if isinstance(event, Record)] == ["done"]


def test_a_pruner_that_returns_no_network_is_reported(tiny: Path, tmp_path: Path) -> None:
    (cell,) = by_kind(run_one(tasks(variant(tiny, '"magnitude"', '"nothing"'), tmp_path)[0]), "cell")
    assert "returned NoneType, not a network" in cell.error


def test_divergence_is_a_result_and_nothing_is_pruned(tiny: Path, tmp_path: Path) -> None:
    variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "exploding"')
    (record,) = run_one(tasks(tiny, tmp_path)[0])
    assert (record.kind, record.status) == ("trial", "diverged")
    assert "training loss" in record.error
    assert list((tmp_path / "weights").iterdir()) == []


class Hungry(nn.Module):
    """Needs more memory than there is for so many images."""

    def __init__(self, spec: ImageSpec, too_many: int) -> None:
        super().__init__()
        hidden = (nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU())
        self.layers = nn.Sequential(nn.Flatten(), *hidden, nn.Linear(32, spec.classes))
        self.too_many = too_many

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training and len(images) >= self.too_many:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        logits: torch.Tensor = self.layers(images)
        return logits


def test_what_does_not_fit_is_trained_half_a_batch_at_a_time(
    tiny: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models.register("hungry")(lambda spec, *, too_many=64: Hungry(spec, too_many))
    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "hungry"\nsweep = {too_many = [64, 65]}')
    of_adam = [task for task in tasks(tiny, tmp_path) if task.trial.optimizer.label == "adam" and task.trial.seed == 0]
    halved, whole = map(run_one, of_adam)
    assert {record.status for record in halved} == {"done"}
    assert halved[0].result["micro_batches"] == 2
    assert "micro_batches" not in whole[0].result
    assert halved[0].result["train_loss"] == pytest.approx(whole[0].result["train_loss"])  # no BatchNorm: the same sums
    assert "half a batch" in caplog.text


def test_what_does_not_fit_by_halves_either_is_a_failure(tiny: Path, tmp_path: Path) -> None:
    models.register("hungry")(lambda spec, *, too_many=32: Hungry(spec, too_many))
    (record,) = run_one(tasks(variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "hungry"'), tmp_path)[0])
    assert (record.kind, record.status) == ("trial", "failed")
    assert "OutOfMemoryError: CUDA out of memory" in record.error


def test_a_deterministic_recipe_refuses_what_need_not_give_the_same_bits(tiny: Path, tmp_path: Path) -> None:
    class Putting(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = super().forward(x.flatten(1))
            return logits + torch.zeros_like(logits).put_(torch.tensor([0, 0]), torch.tensor([0.0, 0.0]))

    models.register("putting")(lambda spec: Putting(64, spec.classes))
    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "putting"')
    assert run_one(tasks(tiny, tmp_path)[0])[0].status == "done"
    variant(tiny, "epochs = 1", "epochs = 1\ndeterministic = true")
    record = run_one(tasks(tiny, tmp_path)[0])[0]
    assert record.status == "failed"
    assert "put_ does not have a deterministic implementation" in record.error
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("name", ["unwritable", "vandal"])
def test_a_probe_that_misbehaves_harms_nothing_else(tiny: Path, tmp_path: Path, name: str) -> None:
    @probes.register("unwritable", on="dense")
    def unwritable(network: nn.Module) -> dict[str, Any]:
        """Return what JSON cannot hold."""
        return {"network": network}

    @probes.register("vandal", on="dense")
    def vandal(network: nn.Module) -> dict[str, Any]:
        """Break the network."""
        for parameter in network.parameters():
            parameter.data.zero_()
        raise RuntimeError("broken")

    (expected,) = by_kind(run_one(tasks(tiny, tmp_path)[0]), "cell")
    tiny.write_text(tiny.read_text() + f'\n[[probes]]\nname = "{name}"\n')
    records = run_one(tasks(tiny, tmp_path)[0])
    (probe,) = by_kind(records, "probe")
    assert (probe.status, probe.labels["probe"]) == ("failed", name)
    assert without_times(by_kind(records, "cell")[0]) == without_times(expected)


def test_a_plugin_that_changed_during_the_run_is_refused(tiny: Path, tmp_path: Path) -> None:
    source = "from sgabench.plugins import pruners\n@pruners.register('mine')\ndef mine(network): return network\n"
    path = tmp_path / "mine.py"
    path.write_text(source)
    load_plugin_file(path)
    task = tasks(variant(tiny, '"magnitude"', '"mine"'), tmp_path)[0]
    path.write_text(source + "changed = True\n")
    load_plugin_file(path)
    (record,) = run_one(task)
    assert record.status == "failed"
    assert "pruner 'mine': the plugin was changed during the run" in record.error


def test_a_file_that_a_plugin_reads_and_that_changed_during_the_run_is_refused(tiny: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "from sgabench.plugins import pruners\n"
        "@pruners.register('mine', files=['order.txt'])\ndef mine(network): return network\n"
    )
    (tmp_path / "order.txt").write_text("1")
    load_plugin_file(path)
    task = tasks(variant(tiny, '"magnitude"', '"mine"'), tmp_path)[0]
    (tmp_path / "order.txt").write_text("2")
    (record,) = run_one(task)
    assert "pruner 'mine': what it reads was changed during the run" in record.error


@pytest.mark.parametrize("lr", [torch.tensor(0.01), np.float32(0.01)], ids=["tensor", "numpy"])
def test_a_learning_rate_that_is_no_number_of_python_is_made_one(tiny: Path, tmp_path: Path, lr: Any) -> None:
    optimizers.register("typed")(lambda parameters: torch.optim.Adam(parameters, lr=lr))
    variant(tiny, "epochs = 1", 'epochs = 2\nschedule = "cosine"')
    plain = run_one(tasks(tiny, tmp_path)[0])
    typed = run_one(tasks(variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "typed"'), tmp_path)[0])
    assert [record.status for record in typed] == ["done"] * len(plain)
    rates = [[row["lr"] for row in records[0].detail["history"]] for records in (plain, typed)]
    assert rates[1] == pytest.approx(rates[0])
    assert {type(rate) for rate in rates[1]} == {float}
    with Store(tmp_path / "results", create=True) as store:
        for record in typed:
            store.put(record)


def test_what_cannot_be_stored_is_the_failure_of_its_trial(tiny: Path, tmp_path: Path) -> None:
    @optimizers.register("worded")
    def worded(parameters: Any) -> torch.optim.Optimizer:
        """Have no learning rate that is a number, once it is trained."""

        class Worded(torch.optim.SGD):
            def step(self, closure: Any = None) -> None:
                self.param_groups[0]["lr"] = "0.1 or so"

        return Worded(parameters, lr=0.1)

    (record,) = run_one(tasks(variant(tiny, 'name = "adam"\nlr = 0.01', 'name = "worded"'), tmp_path)[0])
    assert (record.kind, record.status) == ("trial", "failed")
    assert "could not convert string to float" in record.error


def test_an_immense_message_is_cut(tiny: Path, tmp_path: Path) -> None:
    @pruners.register("wordy")
    def wordy(network: nn.Module) -> nn.Module:
        """Say too much."""
        raise RuntimeError("first" + "x" * 10**6 + "last")

    (cell,) = by_kind(run_one(tasks(variant(tiny, '"magnitude"', '"wordy"'), tmp_path)[0]), "cell")
    assert len(cell.error) < 110_000
    assert "first" in cell.error
    assert cell.error.rstrip().endswith("last")
