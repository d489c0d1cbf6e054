from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from sgabench.errors import InputError
from sgabench.suite.resolving import Suite
from sgabench.tuning.subjects import Settings, find_subjects

Load = Callable[..., Suite]


def entry(name: str, **options: Any) -> str:
    lines = [f"{key} = {json.dumps(value)}" for key, value in options.items()]
    return "\n".join(["[[optimizers]]", f'name = "{name}"', *lines, ""])


def test_entries_that_differ_in_what_is_tuned_alone_are_one_optimizer(suite: Load) -> None:
    text = entry("adam", lr=0.01) + entry("adam", lr=0.001, weight_decay=0.5) + entry("adam", lr=0.01, amsgrad=True)
    one, other = find_subjects(suite(text), Settings())
    assert (one.label, other.label) == ("adam", "adam amsgrad=True")
    assert (one.positions, other.positions) == ((0, 1), (2,))
    assert one.given == ({"lr": 0.01, "weight_decay": 0.0}, {"lr": 0.001, "weight_decay": 0.5})
    assert one.ranges == {"lr": (0.001 * 0.01, 0.01 * 10), "weight_decay": (1e-5, 0.5)}
    assert other.ranges == {"lr": (0.01 * 0.01, 0.01 * 10), "weight_decay": (1e-5, 0.1)}


def test_every_variant_of_a_sweep_is_tuned_but_a_swept_learning_rate_is_a_start(suite: Load) -> None:
    text = entry("stochgradadam", label="SGA") + "[optimizers.sweep]\nlr = [0.1, 0.01]\nsampling_rate = [0.5, 1.0]\n"
    subjects = find_subjects(suite(text), Settings())
    assert [subject.label for subject in subjects] == ["SGA sampling_rate=0.5", "SGA sampling_rate=1"]
    assert [subject.positions for subject in subjects] == [(0, 2), (1, 3)]
    assert [[values["lr"] for values in subject.given] for subject in subjects] == [[0.1, 0.01], [0.1, 0.01]]


def test_another_recipe_is_another_optimizer(suite: Load) -> None:
    text = entry("adam", label="short") + entry("adam", label="long") + "training = {epochs = 2}\n"
    assert [subject.label for subject in find_subjects(suite(text), Settings())] == ["short", "long"]


@pytest.mark.parametrize(
    ("text", "given"),
    [
        (entry("torch:RMSprop"), {"lr": 0.01, "weight_decay": 0.0}),
        (entry("torch:Rprop"), {"lr": 0.01}),
        (entry("sampled:AdamW", lr=0.5), {"lr": 0.5, "weight_decay": 0.01}),
        (entry("torch:SGD", lr=1), {"lr": 1.0, "weight_decay": 0.0}),
        (entry("exploding"), {"lr": 0.001}),
    ],
)
def test_values_that_nobody_wrote_are_the_optimizers_own(suite: Load, text: str, given: dict[str, float]) -> None:
    (subject,) = find_subjects(suite(text), Settings())
    assert subject.given == (given,)
    assert subject.ranges.keys() == given.keys()


def test_the_learning_rate_of_the_suite_is_given_too(suite: Load) -> None:
    (subject,) = find_subjects(suite(entry("adam"), "training.lr=0.25"), Settings())
    assert subject.given[0]["lr"] == 0.25


def test_what_has_nothing_to_tune_is_left(suite: Load) -> None:
    (subject,) = find_subjects(suite(entry("fixed") + entry("sgd")), Settings())
    assert (subject.label, subject.positions) == ("sgd", (1,))
    with pytest.raises(InputError, match=r"quick.toml: no optimizer has an option lr or weight_decay"):
        find_subjects(suite(entry("fixed")), Settings())


def test_new_values_leave_the_rest(suite: Load) -> None:
    (subject,) = find_subjects(suite(entry("sgd", momentum=0.5)), Settings())
    changed = subject.with_values({"lr": 0.3, "weight_decay": 0.001})
    first = subject.members[0]
    assert changed.options == {**first.options, "lr": 0.3, "weight_decay": 0.001}
    assert changed.options["momentum"] == 0.5
    assert changed.settings == first.settings


def test_tuning_on_a_seed_of_the_suite_is_refused(suite: Load) -> None:
    with pytest.raises(InputError, match=r"--seed 0: is one of the suite's seeds"):
        find_subjects(suite(), Settings(seeds=(1000, 0)))


def test_given_values_must_find_room_in_the_tries(suite: Load) -> None:
    text = entry("adam", lr=0.01) + entry("adam", lr=0.001)
    with pytest.raises(InputError, match=r"--tries 1: optimizer 'adam' is given 2 values.* at least 2"):
        find_subjects(suite(text), Settings(tries=1))


@pytest.mark.parametrize(
    "settings",
    [
        {"lr_factors": (0.0, 1.0)},
        {"lr_factors": (2.0, 3.0)},
        {"lr_factors": (0.1, float("inf"))},
        {"lr_factors": (float("nan"), 2.0)},
        {"weight_decays": (0.0, 1.0)},
        {"weight_decays": (0.1, 0.01)},
        {"seeds": (1, 1)},
        {"seeds": (-1,)},
        {"seeds": (2**63,)},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"^--(lr-factors|weight-decays|seed).* must be"):
        Settings(**settings)
