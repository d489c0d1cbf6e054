from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from support import Remembering
from trials import AtTheFirstStep

from sgabench.errors import InputError
from sgabench.plugins import optimizers
from sgabench.plugins.registry import load_plugin_file
from sgabench.suite.resolving import Suite
from sgabench.tuning.search import STUDIES, Try, TryFailed, Tuned, suggest

Load = Callable[..., Suite]
Tune = Callable[..., list[Tuned]]

# More than the tries that Optuna makes at random, so that suggestions depend on what was found.
MANY = 14


def results(tries: list[Try] | tuple[Try, ...]) -> list[Try]:
    return [replace(attempt, stored=False) for attempt in tries]


def test_a_tuning_that_is_stopped_goes_on_as_if_it_was_not(suite: Load, tune: Tune) -> None:
    (whole,) = tune(suite(), MANY, results="undisturbed")
    assert len({str(attempt.values) for attempt in whole.tries}) == MANY
    for stop in (1, 6, 13):
        with pytest.raises(KeyboardInterrupt):
            tune(suite(), MANY, Remembering(stop_before=stop))
    listener = Remembering()
    (stopped,) = tune(suite(), MANY, listener)
    assert [attempt.stored for attempt in listener.tries] == [True] * 12 + [False] * 2
    assert results(stopped.tries) == results(whole.tries)


def test_nothing_is_trained_twice_and_more_tries_go_on(suite: Load, tune: Tune) -> None:
    trained: list[float] = []

    @optimizers.register("counting")
    def counting(parameters: Any, *, lr: float = 0.01) -> torch.optim.Optimizer:
        """Remember each learning rate that a network is trained with."""
        return AtTheFirstStep(parameters, lr, lambda: trained.append(lr))

    text = '[[optimizers]]\nname = "counting"'
    (five,) = tune(suite(text), 5)
    assert len(trained) == 5
    (three,) = tune(suite(text, name="renamed.toml"), 3)
    assert len(trained) == 5
    assert results(three.tries) == results(five.tries[:3])
    (seven,) = tune(suite(text + '\nlabel = "another"'), 7)
    assert trained == [attempt.values["lr"] for attempt in seven.tries]
    assert len(trained) == 7


@pytest.mark.parametrize("change", ["training.epochs=2", "optimizers.1.lr=0.02", "datasets.1.train_size=96"])
def test_what_changes_a_result_is_another_search(suite: Load, tune: Tune, change: str) -> None:
    tune(suite(), 1)
    listener = Remembering()
    tune(suite("", change), 1, listener)
    assert [attempt.stored for attempt in listener.tries] == [False]


@pytest.mark.parametrize("declares", ["files", "fingerprint"])
def test_another_content_of_what_an_optimizer_reads_is_another_search(
    suite: Load, tune: Tune, tmp_path: Path, declares: str
) -> None:
    (tmp_path / "rate.txt").write_text("1")
    tags = {"files": 'files=["rate.txt"]', "fingerprint": "fingerprint=lambda data, options: RATE.read_text()"}
    (tmp_path / "mine.py").write_text(f"""
from pathlib import Path
import torch
from sgabench.plugins import optimizers

RATE = Path(__file__).with_name("rate.txt")

@optimizers.register("mine", {tags[declares]})
def mine(parameters, *, lr: float = 0.01):
    return torch.optim.SGD(parameters, lr=lr)
""")
    load_plugin_file(tmp_path / "mine.py")
    listener = Remembering()
    for content in ("1", "1", "2"):
        (tmp_path / "rate.txt").write_text(content)
        tune(suite('[[optimizers]]\nname = "mine"'), 1, listener)
    assert [attempt.stored for attempt in listener.tries] == [False, True, False]


@pytest.mark.parametrize(
    "settings", [{"seeds": (7,)}, {"validation_size": 200}, {"lr_factors": (0.1, 2.0)}, {"weight_decays": (1e-4, 0.1)}]
)
def test_another_way_of_searching_is_another_search(suite: Load, tune: Tune, settings: dict[str, Any]) -> None:
    tune(suite(), 1)
    listener = Remembering()
    tune(suite(), 1, listener, **settings)
    assert [attempt.stored for attempt in listener.tries] == [False]


def test_every_optimizer_gets_as_many_tries_at_the_same_places(suite: Load, tune: Tune) -> None:
    text = '[[optimizers]]\nname = "sgd"\nlr = 0.1\n[[optimizers]]\nname = "adam"\nlr = 0.001'
    sgd, adam = tune(suite(text), 6)
    assert len(sgd.tries) == len(adam.tries) == 6
    for one, other in zip(sgd.tries, adam.tries, strict=True):
        assert one.values["lr"] / 0.1 == pytest.approx(other.values["lr"] / 0.001, rel=0.02)
        assert one.values["weight_decay"] == other.values["weight_decay"]


def test_the_given_values_come_first_and_nothing_worse_is_chosen(suite: Load, tune: Tune) -> None:
    text = "".join(f'[[optimizers]]\nname = "sgd"\nlr = {lr}\n' for lr in (0.0123456, 0.05))
    (tuned,) = tune(suite(text), 5)
    assert [attempt.values["lr"] for attempt in tuned.tries[:2]] == [0.0123456, 0.05]
    assert tuned.chosen.top1 == max(attempt.top1 for attempt in tuned.tries) >= tuned.tries[0].top1
    assert all(0 <= attempt.top1 <= 1 for attempt in tuned.tries)


def test_among_equals_the_earliest_is_chosen(suite: Load, tune: Tune) -> None:
    (tuned,) = tune(suite(), 1)
    equal = replace(tuned, tries=(tuned.tries[0], replace(tuned.tries[0], number=2, values={"lr": 9.0})))
    assert equal.chosen is equal.tries[0]


def test_suggestions_are_in_their_ranges_and_short() -> None:
    ranges = {"lr": (0.000123456, 0.123456), "weight_decay": (1e-5, 0.1)}
    suggested = [suggest([], ranges, seed) for seed in range(60)]
    rates = [values["lr"] for values in suggested]
    decays = [values["weight_decay"] for values in suggested]
    assert all(0.000123456 <= rate <= 0.123456 and float(f"{rate:.3g}") == rate for rate in rates)
    assert all(decay == 0 or 1e-5 <= decay <= 0.1 for decay in decays)
    assert 15 < decays.count(0.0) < 45
    assert min(rates) < 0.001 < 0.02 < max(rates)
    assert suggested[3] == suggest([], ranges, 3)


def test_the_search_finds_what_is_good(suite: Load, tune: Tune) -> None:
    (tuned,) = tune(suite('[[optimizers]]\nname = "sgd"\nlr = 1e-6', "training.epochs=20"), 12, lr_factors=(1.0, 1e6))
    assert tuned.chosen.top1 > tuned.tries[0].top1 + 0.3


def test_a_training_that_diverges_is_worth_a_guess(suite: Load, tune: Tune) -> None:
    (tuned,) = tune(suite('[[optimizers]]\nname = "exploding"'), 8, seeds=(5, 6))
    assert tuned.tries[0] == Try(1, {"lr": 0.001}, 0.1, 2)
    fine = [attempt for attempt in tuned.tries if not attempt.diverged]
    assert fine
    assert tuned.chosen in fine
    (none,) = tune(suite('[[optimizers]]\nname = "exploding"'), 3, lr_factors=(1.0, 10.0))
    assert none.chosen is none.tries[0]


def test_a_training_that_raises_stops_the_tuning_and_keeps_the_tries(suite: Load, tune: Tune) -> None:
    begun: list[float] = []

    @optimizers.register("raising")
    def raising(parameters: Any, *, lr: float = 0.01) -> torch.optim.Optimizer:
        """Raise in the third training."""

        def begins() -> None:
            begun.append(lr)
            if len(begun) == 3:
                raise ArithmeticError("no more")

        return AtTheFirstStep(parameters, lr, begins)

    text = '[[optimizers]]\nname = "raising"'
    with pytest.raises(TryFailed, match=r"^optimizer 'raising', try 3 \(lr [\d.e-]+\): ArithmeticError: no more$"):
        tune(suite(text), 4)
    listener = Remembering()
    tune(suite(text), 4, listener)
    assert [attempt.stored for attempt in listener.tries] == [True, True, False, False]


def test_a_range_that_an_optimizer_refuses_is_found_first(suite: Load, tune: Tune) -> None:
    @optimizers.register("careful")
    def careful(parameters: Any, *, lr: float = 0.01) -> torch.optim.Optimizer:
        """Refuse a large learning rate."""
        if lr > 0.05:
            raise ValueError("lr is too large")
        return torch.optim.SGD(parameters, lr=lr)

    text = '[[optimizers]]\nname = "careful"'
    with pytest.raises(InputError, match=r"optimizer 'careful': ValueError: lr is too large; .* --lr-factors"):
        tune(suite(text), 2)
    assert len(tune(suite(text), 2, lr_factors=(0.01, 5.0))[0].tries) == 2


def test_every_try_is_stored_with_its_context(suite: Load, tune: Tune, tmp_path: Path) -> None:
    tune(suite(), 2, seeds=(3, 4))
    storage = f"sqlite:///{tmp_path / 'results' / STUDIES}"
    (summary,) = optuna.get_all_study_summaries(storage)
    first, _ = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    top1 = first.user_attrs["top1"]
    assert top1.keys() == {"digits/linear/3", "digits/linear/4"}
    assert first.value == pytest.approx(sum(top1.values()) / 2)
    assert first.user_attrs["optimizer"] == "sgd"
    assert first.user_attrs["seconds"] > 0
    assert first.user_attrs["environment"]["packages"]["torch"]


def test_a_file_that_is_something_else_is_refused(suite: Load, tune: Tune, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / STUDIES).write_text("a diary, perhaps, of more than sixteen characters")
    with pytest.raises(InputError, match=r"tuning.sqlite: cannot be used: .*; move it away or fix it"):
        tune(suite(), 1)


def test_a_file_that_breaks_on_the_way_is_reported(suite: Load, tune: Tune, tmp_path: Path) -> None:
    class Breaking(Remembering):
        def tried(self, subject: Any, attempt: Try) -> None:
            with sqlite3.connect(tmp_path / "results" / STUDIES) as database:
                database.execute("DROP TABLE trial_params")

    with pytest.raises(InputError, match=r"tuning.sqlite: cannot be read or written: "):
        tune(suite(), 2, Breaking())


def test_a_results_folder_may_have_any_name(suite: Load, tune: Tune, tmp_path: Path) -> None:
    tune(suite(), 1, results="a ?&#%20=é")
    assert (tmp_path / "a ?&#%20=é" / STUDIES).is_file()
