"""Tries that are judged after pruning."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from support import Remembering

from sgabench import run
from sgabench.cli import main
from sgabench.errors import InputError
from sgabench.models.cifar_resnet import CifarResNet
from sgabench.running.options import Options
from sgabench.store.store import weights_path
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import Suite, load_suite
from sgabench.training.evaluation import evaluate
from sgabench.tuning.objective import Objective
from sgabench.tuning.search import Tuned
from sgabench.tuning.validation import prepare_validation

Load = Callable[..., Suite]
Tune = Callable[..., list[Tuned]]
SMALL = "models=[{name='resnet8', width=4}]"


@pytest.mark.parametrize(("text", "ratio"), [("dense", None), ("pruned@0.8", 0.8), ("pruned@.5", 0.5)])
def test_objectives_are_read(text: str, ratio: float | None) -> None:
    assert Objective.parse(text) == Objective(ratio)
    assert Objective.parse(str(Objective(ratio))) == Objective(ratio)


@pytest.mark.parametrize("text", ["", "pruned", "pruned@", "pruned@0", "pruned@1", "pruned@nan", "dense@0.5", "sparse"])
def test_what_is_no_objective_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^--objective .* must be dense, or pruned@RATIO"):
        Objective.parse(text)


def test_a_try_is_worth_what_the_pruned_network_of_a_run_is_on_the_validation_split(tiny: Path, tmp_path: Path) -> None:
    """Pruned here by hand: the smallest 60 % of the weights of all convolutions but the first."""
    text = tiny.read_text().replace("seeds = [0, 1]", "seeds = [7]").replace("epochs = 1", "epochs = 4")
    tiny.write_text(text.replace("train_size = 256", "train_size = 256\nvalidation_size = 100"))
    suite = load_suite(tiny)
    options = Options(tmp_path / "results", tmp_path, device="cpu")
    run(suite, results=options.results, data_dir=tmp_path, device="cpu")
    validation = prepare_validation(suite, (7,), None, options, Objective(0.6))
    trial = make_plan(suite, tmp_path).trials[0]
    data = validation.data[trial.dataset.label]
    (top1,) = validation.top1(trial.optimizer, lambda trial, progress: None).values()

    network = CifarResNet(8, data.spec.channels, data.spec.classes, width=trial.model.options["width"])
    network.load_state_dict(safetensors.torch.load_file(weights_path(options.results, trial.key)))
    weights = [m.weight for m in network.modules() if isinstance(m, torch.nn.Conv2d)][1:]
    with torch.no_grad():
        magnitudes = torch.cat([weight.abs().flatten() for weight in weights])
        smallest = magnitudes.sort().values[round(0.6 * len(magnitudes)) - 1]
        for weight in weights:
            weight[weight.abs() <= smallest] = 0
    assert top1 == evaluate(network, data, data.validation, "fp32").top1
    (dense,) = (
        prepare_validation(suite, (7,), None, options).top1(trial.optimizer, lambda trial, progress: None).values()
    )
    assert top1 != dense


def test_each_objective_has_its_own_tries(suite: Load, tune: Tune) -> None:
    stored = []
    for objective in (Objective(), Objective(0.8), Objective(0.9), Objective(0.8)):
        listener = Remembering()
        tune(suite("", SMALL), 1, listener, objective=objective)
        stored += [attempt.stored for attempt in listener.tries]
    assert stored == [False, False, False, True]


def test_the_command_says_what_it_judges_by_and_so_does_the_suite(
    suite: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    suite("", "description=Quick.")
    source = tmp_path / "quick.toml"
    source.write_text('name = "quick"\ndescription = "Quick."\n' + source.read_text())

    def call(*arguments: Any) -> tuple[Any, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["tune", "quick.toml", "--output", "tuned.toml", "--device", "cpu", "--set", SMALL, *arguments])
        said = capsys.readouterr()
        return stop.value.code, said.out, said.err

    code, out, errors = call("--tries", "1", "--objective", "pruned@0.8")
    assert code == 0
    judged = "top-1 after magnitude pruning of 80 % of the weights"
    assert f"judged by {judged}\n" in errors
    assert judged in " ".join(out.split())
    text = (tmp_path / "tuned.toml").read_text()
    assert f"chosen by the mean {judged} on images held out of the training split:\n" in text
    written = tomllib.loads(text)
    assert written["name"] == "quick-tuned-pruned-0.8"
    assert written["description"] == "Quick. Learning rates and weight decays are tuned for pruned@0.8."
    code, _, errors = call("--force", "--objective", "pruned@2")
    assert (code, errors.startswith("error: --objective pruned@2: must be")) == (2, True), errors
