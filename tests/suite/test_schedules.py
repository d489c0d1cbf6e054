"""Schedules and distillation in a suite: what is refused, what enters the keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sgabench.errors import InputError
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite, resolve

BASE: dict[str, Any] = {
    "seeds": [0],
    "training": {"epochs": 3},
    "datasets": [{"name": "digits"}],
    "models": [{"name": "resnet8"}],
    "optimizers": [{"name": "sgd"}],
}


def key(**entry: Any) -> str:
    entry = {"name": "magnitude", **entry}
    (trial,) = make_plan(resolve({**BASE, "pruners": [entry]}, Path("suite.toml")), Path("data")).trials
    (cell,) = trial.cells
    return cell.key


def test_every_part_of_a_schedule_that_has_an_effect_is_in_the_key() -> None:
    schedules: list[dict[str, Any]] = [
        {"kind": "iterative", "steps": 3, "epochs": 1},
        {"kind": "iterative", "steps": 4, "epochs": 1},
        {"kind": "iterative", "steps": 3, "epochs": 0},
        {"kind": "iterative", "steps": 3, "epochs": 1, "lr": 0.1},
        {"kind": "gradual", "epochs": 1},
        {"kind": "gradual", "epochs": 1, "steps": 5},
        {"kind": "rewind"},
        {"kind": "rewind", "to": 1},
        {"kind": "rewind", "steps": 2},
        {"kind": "rewind", "restore": "rates"},
    ]
    keys = {key(), *(key(schedule=schedule) for schedule in schedules)}
    assert len(keys) == 1 + len(schedules)


def test_what_has_no_effect_is_not_in_the_key() -> None:
    assert key(schedule={"kind": "one-shot"}) == key()
    still = {"kind": "iterative", "steps": 3, "epochs": 0}
    assert key(schedule={**still, "lr": 0.1}) == key(schedule=still)
    assert key(schedule={"kind": "gradual", "epochs": 1, "steps": 10}) == key(schedule={"kind": "gradual", "epochs": 1})


def test_distillation_is_in_the_key() -> None:
    plain, taught = {"epochs": 1}, {"epochs": 1, "distill": {}}
    assert (
        len({key(finetune=plain), key(finetune=taught), key(finetune={"epochs": 1, "distill": {"weight": 0.5}})}) == 3
    )
    assert key(finetune=taught) == key(finetune={"epochs": 1, "distill": {"weight": 0.9, "temperature": 4.0}})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"schedule": {"kind": "slow"}},
            r"pruners 1 \(magnitude\): schedule: .*'slow'.*'iterative', 'gradual', 'rewind'",
        ),
        ({"schedule": {"steps": 2}}, r"pruners 1 \(magnitude\): schedule: .*'kind'"),
        ({"schedule": {"kind": "iterative", "steps": 1, "epochs": 1}}, "steps: .* greater than or equal to 2, got 1"),
        ({"schedule": {"kind": "iterative", "steps": 2}}, "epochs: is required"),
        ({"schedule": {"kind": "gradual", "epochs": 1, "to": 1}}, "to: unknown key"),
        (
            {"schedule": {"kind": "rewind", "to": 3}},
            r"schedule.to: must be below the epochs of optimizer 'sgd' \(3\), got 3",
        ),
        (
            {"name": "structured", "schedule": {"kind": "gradual", "epochs": 1}},
            "schedule: 'structured' prunes in one step",
        ),
        ({"finetune": {"epochs": 1, "distill": {"weight": 0.0}}}, "finetune.distill.weight: .* greater than 0, got 0"),
    ],
    ids=str,
)
def test_what_cannot_be_is_one_line(entry: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        key(**entry)


def test_schedules_are_swept_and_set(tmp_path: Path) -> None:
    sweep = {"schedule": [{"kind": "one-shot"}, {"kind": "gradual", "epochs": 1}]}
    suite = resolve({**BASE, "pruners": [{"name": "magnitude", "sweep": sweep}]}, Path("suite.toml"))
    assert [choice.label for choice in suite.pruners] == [
        "magnitude schedule={kind = one-shot}",
        "magnitude schedule={kind = gradual, epochs = 1}",
    ]
    path = tmp_path / "suite.toml"
    path.write_text(
        'seeds = [0]\ndatasets = [{name = "digits"}]\nmodels = [{name = "resnet8"}]\noptimizers = [{name = "sgd"}]\n'
        'pruners = [{name = "magnitude"}]\n'
    )
    overrides = ["pruners.magnitude.schedule.kind=gradual", "pruners.magnitude.schedule.epochs=2"]
    (choice,) = load_suite(path, overrides).pruners
    assert choice.settings["schedule"] == {"kind": "gradual", "epochs": 2, "steps": 10, "lr": None}
