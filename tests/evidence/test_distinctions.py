"""How entries with one label differ, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import TINY, fill, variant

from sgabench.evidence.distinctions import distinctions
from sgabench.evidence.leaderboard import make_tables
from sgabench.store.store import Store
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite


def described(epochs: int = 1, **options: Any) -> dict[str, Any]:
    training = {"epochs": epochs, "batch_size": 64}
    return {"dataset": {"name": "digits"}, "optimizer": {"name": "adam", "options": options, "training": training}}


@pytest.mark.parametrize(
    ("descriptions", "texts"),
    [
        ([described(1), described(5)], [" (epochs=1)", " (epochs=5)"]),
        ([described(lr=0.1), described(lr=0.01)], [" (lr=0.1)", " (lr=0.01)"]),
        ([described(), described(nesterov=True)], ["", " (nesterov=true)"]),
        ([described(1, lr=0.1), described(5, lr=0.2)], [" (lr=0.1, epochs=1)", " (lr=0.2, epochs=5)"]),
        ([described(betas=[0.9, 0.99]), described(betas=[0.9, 0.9])], [" (betas=[0.9, 0.99])", " (betas=[0.9, 0.9])"]),
        ([described(), {**described(), "seed": 3}], [" (aaaaaa)", " (bbbbbb)"]),  # nothing that may be said
        ([{}, {}], [" (aaaaaa)", " (bbbbbb)"]),
        (
            [described(1, a=1, b=2, c=3, d=4), described(2, a=2, b=3, c=4, d=5)],
            [" (a=1, b=2, c=3, ..., aaaaaa)", " (a=2, b=3, c=4, ..., bbbbbb)"],
        ),
        (
            [described(path="/a/very/long/path/to/one/file"), described(path="/a/very/long/path/to/one/other")],
            [" (path=a very long path to one…, aaaaaa)", " (path=a very long path to one…, bbbbbb)"],
        ),
        ([described(x="a\nb/c|"), described(x="y")], [" (x=a b c|)", " (x=y)"]),
    ],
)
def test_what_differs_is_said_if_it_is_short_and_enough(descriptions: list[dict[str, Any]], texts: list[str]) -> None:
    keys = ["a" * 32, "b" * 32]
    shown = distinctions(dict(zip(keys, descriptions, strict=True)))
    assert list(shown.values()) == texts
    assert len(set(shown.values())) == 2


def test_names_that_several_tables_have_are_said_with_theirs() -> None:
    first = {"model": {"options": {"width": 1}}, "optimizer": {"options": {"width": 2}}}
    second = {"model": {"options": {"width": 3}}, "optimizer": {"options": {"width": 4}}}
    assert list(distinctions({"a": first, "b": second}).values()) == [
        " (optimizer.width=2, model.width=1)",
        " (optimizer.width=4, model.width=3)",
    ]


def test_a_folder_of_two_recipes_says_which_is_which(store: Store, tmp_path: Path) -> None:
    for epochs in (1, 5):
        suite = tmp_path / f"{epochs}.toml"
        suite.write_text(TINY)
        variant(suite, "epochs = 1", f"epochs = {epochs}")
        if epochs == 5:
            variant(suite, 'name = "magnitude"', 'name = "magnitude"\nscope = "layer"')
        fill(store, make_plan(load_suite(suite), Path("data")))
    tables = make_tables(store)
    names = {f"{name} (epochs={epochs})" for name in ("adam", "stochgradadam") for epochs in (1, 5)}
    assert set(tables.trials["optimizer"]) == set(tables.cells["optimizer"]) == names
    assert set(tables.cells["pruner"]) == {"magnitude (scope=global)", "magnitude (scope=layer)"}
    assert tables.reference.startswith("adam (")
