"""The column of what is compared: optimizers, checkpoints, or trainings where there are both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support import TINY, fill

from sgabench.cli import main
from sgabench.evidence.leaderboard import make_tables
from sgabench.store.store import Record, Store
from sgabench.suite.plan import Plan, make_plan
from sgabench.suite.resolving import load_suite

ARM = "stochgradadam"


def brought(tmp_path: Path, *, every: bool) -> Plan:
    """The tiny suite, in which files stand for one or for both of the optimizers; they hold nothing."""
    start, end = TINY.index("[[optimizers]]"), TINY.index("[[pruners]]")
    kept = "" if every else TINY[start : TINY.index("[[optimizers]]", start + 1)]
    files = [(label, seed) for label in (("adam", ARM) if every else (ARM,)) for seed in (0, 1)]
    for label, seed in files:
        (tmp_path / f"{label}{seed}.pt").write_text(f"{label}{seed}")
    tables = [f'[[checkpoints]]\nlabel = "{label}"\nweights = "{label}{seed}.pt"\n' for label, seed in files]
    (tmp_path / "tiny.toml").write_text(TINY[:start] + kept + "\n".join(tables) + TINY[end:])
    return make_plan(load_suite(tmp_path / "tiny.toml"), tmp_path)


def report(store: Store, form: str, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit, match="0"):
        main(["report", "--results", str(store.folder), "--format", form])
    return capsys.readouterr().out


def fill_brought(store: Store, plan: Plan) -> None:
    """Known numbers; `fill` knows trials by the names of their optimizers, and a checkpoint has none."""
    named = [replace(t, optimizer=replace(t.optimizer, name=t.optimizer.label)) for t in plan.trials]
    fill(store, Plan(plan.suite, tuple(named)))


@pytest.mark.parametrize(("every", "word"), [(True, "checkpoint"), (False, "training")])
def test_every_format_calls_them_what_they_are(
    tmp_path: Path, store: Store, every: bool, word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = brought(tmp_path, every=every)
    fill_brought(store, plan)
    first = next(iter(store.records("trial")))
    labels = {**first.labels, "probe": "mine"}
    store.put(
        Record("f" * 32, "probe", first.key, "done", labels, {"name": "mine"}, first.environment, {"number": 1.0})
    )
    assert make_tables(store, plan).arm == make_tables(store).arm == word
    assert f"| pruner | ratio | {word} | n |" in report(store, "markdown", capsys)
    assert f"| probe | number | data set | model | pruner | ratio | {word} | n |" in report(store, "markdown", capsys)
    assert f"{word} & n & " in report(store, "latex", capsys)
    table = report(store, "table", capsys)
    assert table.splitlines()[1].startswith(f"{word} ")
    assert f"at least 3 seeds are needed of each {word}." in " ".join(table.split())
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit, match="0"):
        main(["report", "--results", str(store.folder), "--format", "html", "--output", str(page)])
    text = page.read_text()
    assert f"a row per pruning and {word}" in text
    assert "an optimizer" not in text
    assert f"{word.capitalize()}s are ranked" in text
    assert report(store, "csv", capsys).startswith("dataset,model,pruner,of,ratio,optimizer,"), (
        "names for programs stay"
    )


def test_optimizers_stay_optimizers(store: Store, plan: Plan) -> None:
    fill(store, plan)
    assert make_tables(store, plan).arm == make_tables(store).arm == "optimizer"
    assert make_tables(store, replace(plan, trials=())).arm == "optimizer"
