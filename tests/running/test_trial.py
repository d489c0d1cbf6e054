"""A trial from data to records."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from PIL import Image
from support import timed, variant
from torch import nn
from trials import by_kind, run_one, tasks, without_times

from sgabench.datasets.base import Dataset
from sgabench.plugins import ImageSpec, PruningContext
from sgabench.plugins.registry import datasets, models, probes, pruners
from sgabench.running import patience
from sgabench.running.part import Part
from sgabench.running.trial import run_trial
from sgabench.store.forms import finite
from sgabench.store.store import Record, weights_path
from sgabench.suite.plan import TrialPlan, make_plan
from sgabench.suite.resolving import load_suite
from sgabench.system.source import code_hash
from sgabench.training.building import initial_network, load_data

pytestmark = pytest.mark.usefixtures("_plugins")


def test_a_trial_gives_a_record_of_everything_that_was_asked(tiny: Path, tmp_path: Path) -> None:
    task = tasks(timed(tiny), tmp_path)[0]
    records = run_one(task)
    assert [(record.kind, record.status) for record in records] == [
        ("trial", "done"),
        ("probe", "done"),
        ("cell", "done"),
    ]
    trial, probe, cell = records
    assert (trial.key, cell.key, cell.parent) == (task.trial.key, task.trial.cells[0].key, trial.key)
    assert trial.result["top1"] > 0.15
    assert trial.result["params"] == 4934
    for name in (
        "loss",
        "train_images_per_s",
        "train_seconds",
        "train_passes",
        "seconds",
        "peak_memory",
        "images_per_s",
        "latency_s",
    ):
        assert trial.result[name] > 0
    assert [row["epoch"] for row in trial.detail["history"]] == [1]
    assert len(trial.detail["normalization"]["mean"]) == 1
    assert trial.environment["packages"]["torch"]
    assert trial.environment["device"] == "cpu"
    assert (trial.environment["code"], trial.environment["precision"]) == (code_hash(), "fp32")
    assert probe.parent == trial.key
    assert cell.result["sparsity"] == pytest.approx(0.5, abs=1e-3)
    assert cell.result["retention"] == pytest.approx(cell.result["top1"] / trial.result["top1"])
    assert cell.result["compression_ratio"] > 1.8
    assert cell.result["theoretical_speedup"] > 1.2
    for name in ("images_per_s", "latency_s", "dense_images_per_s", "dense_latency_s", "latency_speedup"):
        assert cell.result[name] > 0
    dense_batch = cell.result["timing_batch"] / cell.result["dense_images_per_s"]
    assert cell.result["measured_speedup"] == pytest.approx(dense_batch / cell.result["batch_s"])
    assert cell.result["latency_speedup"] == pytest.approx(cell.result["dense_latency_s"] / cell.result["latency_s"])
    assert cell.result["gzip_bytes"] < trial.result["gzip_bytes"]
    assert cell.result["bytes"] == trial.result["bytes"]
    assert set(cell.detail["layer_sparsity"]) == set(trial.detail["layer_sparsity"])


def test_the_same_trial_gives_the_same_numbers_and_bits(tiny: Path, tmp_path: Path) -> None:
    task = tasks(tiny, tmp_path)[2]
    first = run_one(task)
    weights = weights_path(tmp_path, task.trial.key).read_bytes()
    again = run_one(task)
    assert weights_path(tmp_path, task.trial.key).read_bytes() == weights
    assert [without_times(record) for record in again] == [without_times(record) for record in first]


def test_stored_weights_are_pruned_without_training(tiny: Path, tmp_path: Path) -> None:
    first = run_one(tasks(tiny, tmp_path)[0])
    variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.9]")
    (again,) = [task for task in tasks(tiny, tmp_path, first) if task.trained]
    records = run_one(again)
    assert [(record.kind, record.labels["ratio"]) for record in records] == [("cell", 0.9)]
    assert records[0].result["sparsity"] == pytest.approx(0.9, abs=1e-3)


def test_a_cell_of_stored_weights_equals_one_of_fresh_ones(tiny: Path, tmp_path: Path) -> None:
    first = run_one(tasks(tiny, tmp_path)[0])
    kept = [record for record in first if record.kind != "cell"]
    (again,) = [task for task in tasks(tiny, tmp_path, kept) if task.trained]
    (cell,) = run_one(again)
    assert without_times(cell) == without_times(by_kind(first, "cell")[0])


@pytest.mark.parametrize("damage", ["gone", "truncated", "flipped"])
def test_damaged_weights_are_trained_again(tiny: Path, tmp_path: Path, damage: str) -> None:
    first = run_one(tasks(tiny, tmp_path)[0])
    path = weights_path(tmp_path, first[0].key)
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-10] if damage == "truncated" else content[:-1] + bytes([content[-1] ^ 1]))
    kept = [record for record in first if record.kind != "cell"]
    (again,) = [task for task in tasks(tiny, tmp_path, kept) if task.trained]
    records = run_one(again)
    assert [record.kind for record in records] == ["trial", "cell"]
    assert path.read_bytes() == content


def test_a_pruned_network_is_never_saved_over_its_dense_one(tiny: Path, tmp_path: Path) -> None:
    variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.9]")
    trial = run_one(tasks(tiny, tmp_path)[0])[0]
    weights = safetensors.torch.load_file(weights_path(tmp_path, trial.key))
    assert all((value != 0).all() for name, value in weights.items() if name.endswith("conv2.weight"))
    assert list((tmp_path / "weights").iterdir()) == [weights_path(tmp_path, trial.key)]


def test_optimizers_start_from_the_same_weights(tiny: Path, tmp_path: Path) -> None:
    def start(trial: TrialPlan) -> dict[str, torch.Tensor]:
        return dict(initial_network(trial.model, ImageSpec(1, 8, 8, 10), trial.seed).state_dict())

    adam, adam_other_seed, stochgradadam, _ = make_plan(load_suite(tiny), tmp_path).trials
    one, other, third = start(adam), start(stochgradadam), start(adam_other_seed)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(one["conv1.weight"], third["conv1.weight"])


def test_each_part_is_emitted_before_its_record(tiny: Path, tmp_path: Path) -> None:
    events: list[Any] = []
    run_trial(tasks(tiny, tmp_path)[0], events.append, lambda: contextlib.nullcontext(True))
    reported = [event for event in events if isinstance(event, Part | Record)]
    assert [type(event) for event in reported] == [Part, Record] * 3
    assert [event.key for event in reported[::2]] == [event.key for event in reported[1::2]]
    assert [event.what for event in reported[::2]] == ["the training", "probe weights", "cell magnitude/0.5"]


def test_networks_with_shared_weights_are_stored_and_loaded(tiny: Path, tmp_path: Path) -> None:
    @models.register("tied")
    def tied(spec: ImageSpec) -> nn.Module:
        """Two layers with one weight."""
        first, second = nn.Linear(64, 64), nn.Linear(64, 64)
        second.weight = first.weight
        return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.Linear(64, spec.classes))

    variant(tiny, 'name = "resnet8"\nwidth = 4', 'name = "tied"')
    variant(tiny, 'name = "magnitude"', 'name = "magnitude"\ninclude_input = true')
    first = run_one(tasks(tiny, tmp_path)[0])
    assert {record.status for record in first} == {"done"}
    kept = [record for record in first if record.kind != "cell"]
    (again,) = [task for task in tasks(tiny, tmp_path, kept) if task.trained]
    (cell,) = run_one(again)
    assert without_times(cell) == without_times(by_kind(first, "cell")[0])


def test_a_deterministic_recipe_gives_the_bits_of_any_other_on_the_cpu(tiny: Path, tmp_path: Path) -> None:
    losses = [run_one(tasks(tiny, tmp_path)[0])[0].result["loss"]]
    variant(tiny, "epochs = 1", "epochs = 1\ndeterministic = true")
    losses += [run_one(tasks(tiny, tmp_path)[0])[0].result["loss"] for _ in range(2)]
    assert len(set(losses)) == 1


def test_fine_tuning_keeps_what_was_pruned_at_zero(tiny: Path, tmp_path: Path) -> None:
    variant(tiny, "ratios = [0.5]", "ratios = [0.8]")
    variant(tiny, 'name = "magnitude"', 'name = "magnitude"\nfinetune = {epochs = 2}')
    tiny.write_text(tiny.read_text() + '\n[[pruners]]\nname = "random"\n')
    tuned, rough = by_kind(run_one(tasks(tiny, tmp_path)[0]), "cell")
    assert tuned.result["sparsity"] == pytest.approx(0.8, abs=1e-3)
    assert [row["epoch"] for row in tuned.detail["finetuning"]] == [1, 2]
    assert tuned.detail["finetuning"][0]["lr"] == pytest.approx(0.001)
    assert tuned.result["top1"] > rough.result["top1"]


def test_batch_norm_is_estimated_anew_when_asked(tiny: Path, tmp_path: Path) -> None:
    variant(tiny, "ratios = [0.5]", "ratios = [0.0]")
    tiny.write_text(tiny.read_text() + '\n[[pruners]]\nname = "magnitude"\nlabel = "bn"\nreestimate_bn = true\n')
    plain, estimated = by_kind(run_one(tasks(tiny, tmp_path)[0]), "cell")
    assert plain.result["retention"] == 1
    assert estimated.result["loss"] != plain.result["loss"]


def test_probes_of_pruned_networks_see_training_images_and_nothing_is_excluded_in_vain(
    tiny: Path, tmp_path: Path
) -> None:
    tiny.write_text(tiny.read_text() + '\n[[probes]]\nname = "spy"\n')
    records = run_one(tasks(tiny, tmp_path)[0])
    (probe,) = by_kind(records, "probe")
    (cell,) = by_kind(records, "cell")
    assert probe.parent == cell.key
    assert probe.detail["images"] == 256
    assert probe.detail["excluded"] == ["conv1", "fc"]
    assert probe.detail["zeros"] >= 0.5 * cell.result["prunable_weights"]
    assert probe.detail["nan"] is None


def test_pruners_see_training_images_of_all_classes_in_a_folder_too(tiny: Path, tmp_path: Path) -> None:
    @datasets.register("sorted")
    def sorted_digits(data_dir: Path) -> Dataset:
        """Digits in the order of a folder, class by class."""
        digits = datasets["digits"].build(data_dir, False)
        order = digits.train_labels.argsort(stable=True)
        return replace(digits, train_images=digits.train_images[order], train_labels=digits.train_labels[order])

    @probes.register("classes", on="pruned")
    def classes(network: nn.Module, context: PruningContext) -> dict[str, Any]:
        """Look at the labels of the first batch, twice."""
        first, again = (next(context.batches())[1].tolist() for _ in range(2))
        return {"classes": len(set(first)), "same": first == again}

    variant(tiny, 'name = "digits"', 'name = "sorted"')
    tiny.write_text(tiny.read_text() + '\n[[probes]]\nname = "classes"\n')
    (probe,) = by_kind(run_one(tasks(tiny, tmp_path)[0]), "probe")
    assert probe.detail["classes"] >= 8
    assert probe.detail["same"]


def test_a_probe_of_a_stored_cell_leaves_its_record_alone(tiny: Path, tmp_path: Path) -> None:
    first = run_one(tasks(tiny, tmp_path)[0])
    tiny.write_text(tiny.read_text() + '\n[[probes]]\nname = "spy"\n')
    (again,) = [task for task in tasks(tiny, tmp_path, first) if task.trained]
    (record,) = run_one(again)
    assert (record.kind, record.parent) == ("probe", by_kind(first, "cell")[0].key)


def test_changed_data_are_read_again(tiny: Path, tmp_path: Path) -> None:
    def folder(images: int) -> int:
        for split in ("train", "test"):
            for name in ("dark", "light"):
                path = tmp_path / "pictures" / split / name
                path.mkdir(parents=True, exist_ok=True)
                for i in range(images):
                    Image.new("L", (8, 8), (i * 9) % 256).save(path / f"{i}.png")
        task = tasks(tiny, tmp_path)[0]
        return len(load_data(task.trial.dataset, task.data_dir, False, "cpu").train)

    old = 'name = "digits"\ntrain_size = 256'
    variant(tiny, old, 'name = "folder"\npath = "pictures"\nimage_size = 8\nchannels = 1')
    assert (folder(3), folder(5)) == (6, 10)


def test_throughput_can_be_left_out(tiny: Path, tmp_path: Path) -> None:
    trial, _, cell = run_one(tasks(tiny, tmp_path)[0])
    assert "images_per_s" not in trial.result
    assert not {"measured_speedup", "latency_speedup", "dense_latency_s"} & cell.result.keys()


@pytest.mark.parametrize("model", ["resnet8", "heavy"])
def test_cells_are_the_same_however_many_are_measured_together(tiny: Path, tmp_path: Path, model: str) -> None:
    @models.register("heavy")
    def heavy(spec: ImageSpec, *, width: int) -> nn.Module:
        """Evaluated sooner than its file is compressed."""
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, width), nn.ReLU(), nn.Linear(width, spec.classes))
        network.register_buffer("ballast", torch.rand(500_000))
        return network

    variant(tiny, "ratios = [0.5]", "ratios = [0.1, 0.5, 0.9]")
    variant(tiny, '"resnet8"', f'"{model}"')
    tiny.write_text(tiny.read_text() + '\n[[pruners]]\nname = "structured"\nof = "macs"\ninclude_input = true\n')
    first = run_one(tasks(tiny, tmp_path)[0])
    together = by_kind(first, "cell")
    assert len(together) == 6
    (again,) = [task for task in tasks(tiny, tmp_path, first[:1]) if task.trained]
    alone = [
        run_one(replace(again, trial=replace(again.trial, cells=(cell,), probes=()))) for cell in again.trial.cells
    ]
    assert [[without_times(record)] for record in together] == [
        [without_times(r) for r in records] for records in alone
    ]
    assert [record.key for record in together] == [records[0].key for records in alone]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_hold_becomes_none(value: float) -> None:
    make: Callable[[Any], Any] = lambda x: {"a": [1, x, {"b": x}], "c": "text"}  # noqa: E731
    assert finite(make(value)) == make(None)


def test_a_pruner_that_takes_long_gives_a_sign_of_life(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(patience, "PATIENCE", 0.001)

    @pruners.register("slow")
    def slow(network: nn.Module) -> nn.Module:
        """Continue until it was reported."""
        while "digits/resnet8/adam/0: cell slow/0.5 is still being pruned" not in caplog.text:
            pass
        return network

    (cell,) = by_kind(run_one(tasks(variant(tiny, '"magnitude"', '"slow"'), tmp_path)[0]), "cell")
    assert cell.status == "done"
