"""The norm of the steps: against a hand calculation, through snapshots, as a record, after the fact."""

from __future__ import annotations

import contextlib
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sgabench import run
from sgabench.plugins import probes
from sgabench.probes.steps import StepNorms
from sgabench.running.task import Task
from sgabench.running.trial import run_trial
from sgabench.store.files import Folder
from sgabench.store.store import Record, Store
from sgabench.suite.plan import make_plan, remaining
from sgabench.suite.resolving import load_suite


def moved(probe: StepNorms, network: nn.Module, by: float, epoch: int) -> None:
    probe.before_step()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += by
    probe.after_step(epoch)


def test_the_norm_is_of_all_weights_together_and_its_mean_of_an_epoch() -> None:
    network = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 4))  # 24 weights of two dimensions
    probe = StepNorms(network)
    for by, epoch in ((0.5, 0), (0.25, 0), (-1.0, 1)):
        moved(probe, network, by, epoch)
    result = probe.result()
    assert result["weights"] == 24
    assert result["step_norm"] == pytest.approx([0.375 * 24**0.5, 24**0.5])


def test_it_goes_on_from_its_state() -> None:
    network = nn.Linear(4, 3)
    probe, other = StepNorms(network), StepNorms(network)
    moved(probe, network, 0.5, 0)
    other.load_state_dict(probe.state_dict())
    moved(other, network, 0.25, 0)
    assert other.result()["step_norm"] == pytest.approx([0.375 * 12**0.5])


@pytest.fixture
def watched(tiny: Path) -> Path:
    tiny.write_text(tiny.read_text().replace("seeds = [0, 1]", "seeds = [0]").replace("epochs = 1", "epochs = 2"))
    tiny.write_text(tiny.read_text() + '\n[[probes]]\nname = "step-norm"\n')
    return tiny


def norms(results: Path) -> dict[str, Any]:
    with Store(results) as store:
        records = [r for r in store.records("probe", detail=True) if r.labels["probe"] == "step-norm"]
    assert {record.status for record in records} == {"done"}
    return {str(record.labels["optimizer"]): record.detail for record in records}


def weights(results: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (results / "weights").iterdir()}


def test_a_training_that_is_stored_is_repeated_for_its_probe_and_stays(watched: Path, tmp_path: Path) -> None:
    first, later, unwatched = tmp_path / "first", tmp_path / "later", tmp_path / "unwatched.toml"
    run(load_suite(watched), results=first, data_dir=tmp_path, device="cpu")
    unwatched.write_text(watched.read_text().replace('\n[[probes]]\nname = "step-norm"\n', "\nprobes = []\n"))
    unwatched.write_text(watched.read_text().replace("step-norm", "weights"))
    run(load_suite(unwatched), results=later, data_dir=tmp_path, device="cpu")
    kept = weights(later)
    with Store(later) as store:
        before = {record.key: record.finished_at for record in store.records("trial")}
    run(load_suite(watched), results=later, data_dir=tmp_path, device="cpu")
    with Store(later) as store:
        assert {record.key: record.finished_at for record in store.records("trial")} == before
    assert norms(later) == norms(first)
    assert weights(later) == weights(first) == kept
    for detail in norms(first).values():
        assert len(detail["step_norm"]) == 2
        assert min(detail["step_norm"]) > 0


def test_the_script_that_compares_them_runs(
    watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "step_norms.py"
    arguments = ["--suite", str(watched), "--results", str(tmp_path / "results"), "--data-dir", str(tmp_path)]
    monkeypatch.setattr("sys.argv", [str(script), *arguments])
    runpy.run_path(str(script), run_name="__main__")
    first, itself, other = capsys.readouterr().out.splitlines()
    assert "step norms in those of adam" in first
    assert len(itself.split(": ")[1].split()) == 2
    assert other.startswith("  stochgradadam, 1 seeds: ")


def events_of(task: Task, stop: Callable[[Any], None] = lambda event: None) -> list[Record]:
    seen: list[Any] = []

    def emit(event: Any) -> None:
        seen.append(event)
        stop(event)

    run_trial(task, emit, lambda: contextlib.nullcontext(True))
    return [event for event in seen if isinstance(event, Record)]


def task_of(suite: Path, folder: Path) -> Task:
    plan = make_plan(load_suite(suite), folder)
    (folder / "weights").mkdir(exist_ok=True, parents=True)
    (trial, *_) = remaining(plan, {})
    return Task(trial, None, plan.suite.measurement, Folder(folder), folder, False, "cpu", 1, snapshot_seconds=1e-9)


def test_a_training_that_goes_on_from_a_snapshot_has_the_same_norms(
    watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = events_of(task_of(watched, tmp_path / "one"))
    task = task_of(watched, tmp_path / "two")
    calls = iter(range(100))
    plain = StepNorms.before_step

    def stopping(self: StepNorms) -> None:
        if next(calls) == 6:
            raise KeyboardInterrupt
        plain(self)

    monkeypatch.setattr(StepNorms, "before_step", stopping)
    with pytest.raises(KeyboardInterrupt):
        events_of(task)
    monkeypatch.setattr(StepNorms, "before_step", plain)
    resumed = events_of(task)

    def found(records: list[Record]) -> Any:
        (record,) = [r for r in records if r.labels.get("probe") == "step-norm"]
        return record.detail

    assert found(resumed) == found(undisturbed)
    assert next(record for record in resumed if record.kind == "trial").result["interruptions"] == 1


def test_what_a_probe_of_a_training_raises_is_its_own_failure(watched: Path, tmp_path: Path) -> None:
    @probes.register("raising-at-once", on="training")
    def at_once(network: nn.Module) -> None:
        """Raise."""
        raise RuntimeError("not today")

    @probes.register("raising-later", on="training")
    def later(network: nn.Module) -> StepNorms:
        """Raise in the second step."""

        class Later(StepNorms):
            def after_step(self, epoch: int) -> None:
                super().after_step(epoch)
                if self._steps[0] == 2:
                    raise RuntimeError("no more")

        return Later(network)

    added = "".join(f'\n[[probes]]\nname = "{name}"\n' for name in ("raising-at-once", "raising-later"))
    watched.write_text(watched.read_text() + added)
    records = {str(r.labels.get("probe", r.kind)): r for r in events_of(task_of(watched, tmp_path))}
    assert {name for name, record in records.items() if record.status == "failed"} == {
        "raising-at-once",
        "raising-later",
    }
    assert "not today" in str(records["raising-at-once"].error)
    assert "no more" in str(records["raising-later"].error)
    assert records["trial"].status == records["step-norm"].status == "done"
