"""Layers and probes of one's own in every format, through the command line."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support import variant

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PLUGIN = """
from sgabench.plugins import probes

@probes.register("seen", on="pruned")
def seen(network, context):
    "What a probe is told."
    told = [context.pruner, context.ratio]
    return {"ratio": context.ratio, "share|_of": context.ratio * 2, "told": told, "name": context.pruner, "yes": True}

@probes.register("dense-seen", on="dense")
def dense_seen(network, context):
    "What a probe of a dense network is told."
    assert context.pruner is None and context.ratio is None
    return {"one": 1}
"""


@pytest.fixture
def suite(tiny: Path, tmp_path: Path, sgabench: Run) -> Path:
    """A suite of one optimizer and one seed that has been run with a plugin of probes."""
    (tmp_path / "seen.py").write_text(PLUGIN)
    text = tiny.read_text()
    start, end = text.index('[[optimizers]]\nname = "stoch'), text.index("[[pruners]]")
    tiny.write_text(text[:start] + '[[probes]]\nname = "seen"\n\n[[probes]]\nname = "dense-seen"\n\n' + text[end:])
    variant(tiny, "seeds = [0, 1]", "seeds = [0]")
    done = sgabench("run", tiny, "--plugin", "seen.py", "--quiet")
    assert done.returncode == 0, done.stderr
    return tiny


def test_what_was_run_is_shown_in_every_format(suite: Path, tmp_path: Path, sgabench: Run) -> None:
    def shown(*options: str) -> str:
        done = sgabench("report", suite, "--plugin", "seen.py", *options)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    rows = list(csv.DictReader(io.StringIO(shown("--probes", "--format", "csv"))))
    assert [(row["probe"], row["number"], row["pruner"], float(row["mean"])) for row in rows] == [
        ("dense-seen", "one", "", 1.0),
        ("seen", "share|_of", "magnitude", 1.0),  # ratio is a column of tables already
    ]
    assert json.loads(shown("--format", "json"))["probes"] == json.loads(shown("--probes", "--format", "json"))
    assert "share\\|\\_of" in shown("--format", "markdown")
    assert "share" in shown()
    assert r"share\textbar{}\_of" in shown("--probes", "--format", "latex")
    assert "share|_of" in shown("--format", "html")
    layers = json.loads(shown("--layers", "--format", "json"))
    dense, pruned = ([row for row in layers if row["pruner"] == name] for name in ("", "magnitude"))
    assert [row["channels"] for row in dense] == [row["channels"] for row in pruned]  # masked: none is gone
    assert {row["layer"]: row["channels"] for row in dense}["fc"] == 10
    assert any(row["sparsity"] > 0.3 for row in pruned)
    for form in ("table", "markdown", "csv", "latex"):
        assert "layer1.0.conv1" in shown("--layers", "--format", form)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layers", "--probes"], "--layers and --probes: each is shown instead of the leaderboard"),
        (["--cells", "--layers"], "--cells and --layers: each is shown instead of the leaderboard"),
        (["--layers", "--format", "html"], "--layers: the page has layers and probes in any case"),
    ],
)
def test_one_is_shown_at_a_time(sgabench: Run, options: list[str], message: str) -> None:
    done = sgabench("report", *options)
    assert done.returncode == 2
    assert message in done.stderr
