"""The command in this process, for what would cost a second of imports each time in one of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from trials import AtTheFirstStep

from sgabench.cli import main
from sgabench.plugins import optimizers
from sgabench.suite.resolving import Suite

Load = Callable[..., Suite]
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """Exit code and what was said of ``sgabench tune quick.toml --output tuned.toml ...``."""
    monkeypatch.chdir(tmp_path)

    def tune(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["tune", "quick.toml", "--output", "tuned.toml", "--device", "cpu", *arguments])
        captured = capsys.readouterr()
        assert isinstance(stop.value.code, int)
        return stop.value.code, captured.out, captured.err

    return tune


def test_the_same_command_gives_the_same_file_without_training(suite: Load, call: Call, tmp_path: Path) -> None:
    suite()
    code, out, errors = call("--tries", "3")
    assert (code, errors.count("validation top-1")) == (0, 3)
    assert "sgd: lr from 0.0001 to 0.1, weight_decay from 1e-05 to 0.1 or 0" in errors
    assert (
        "1 optimizer with 3 tries of 1 training each, on cpu; held out for validation: 144 images of digits" in errors
    )
    text = (tmp_path / "tuned.toml").read_text()
    assert call("--tries", "3")[0] == 2
    code, again, errors = call("--tries", "3", "--force")
    assert (code, errors.count(", stored\n"), again) == (0, 3, out)
    assert (tmp_path / "tuned.toml").read_text() == text
    assert call("--tries", "4", "--force", "--quiet") == (0, "", "")


def test_a_training_that_raises_is_reported_in_a_line(suite: Load, call: Call, tmp_path: Path) -> None:
    class Bad(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            raise ValueError("no step today")

    @optimizers.register("bad")
    def bad(parameters: Any, *, lr: float = 0.01) -> torch.optim.Optimizer:
        """Raise at the first step."""
        return Bad(parameters, lr=lr)

    suite('[[optimizers]]\nname = "bad"')
    message = "failed: optimizer 'bad', try 1 (lr 0.01): ValueError: no step today\n"
    assert call("--quiet") == (1, "", message)
    assert not (tmp_path / "tuned.toml").exists()


def test_what_a_reader_should_doubt_is_said(suite: Load, call: Call) -> None:
    suite('[[optimizers]]\nname = "sgd"\nlr = 1e-6\n[[optimizers]]\nname = "fixed"\n')
    code, out, _ = call("--tries", "6", "--lr-factors", "1", "100", "--results", "my results")
    assert code == 0
    assert "next: sgabench run tuned.toml --results 'my results'" in out
    assert "fixed: has no lr and no weight_decay to set; left as it is" in out
    assert "is at an end of the searched range; widen it with --lr-factors" in out
    suite('[[optimizers]]\nname = "exploding"')
    code, out, errors = call("--tries", "2", "--lr-factors", "1", "10", "--force")
    assert errors.count("validation top-1 10.0 %, 1 diverged") == 2
    assert "exploding: diverged in every try" in out


def test_several_seeds_are_a_mean(suite: Load, call: Call) -> None:
    suite()
    code, _, errors = call("--tries", "1", "--seed", "5", "--seed", "6")
    assert code == 0
    assert "1 try of 2 trainings each" in errors


def test_ctrl_c_keeps_what_is_finished(suite: Load, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    suite()

    @optimizers.register("stopped")
    def stopped(parameters: Any, *, lr: float = 0.01) -> torch.optim.Optimizer:
        """Be stopped by the user where the learning rate is not the given one."""

        def begins() -> None:
            if lr != 0.01:
                raise KeyboardInterrupt

        return AtTheFirstStep(parameters, lr, begins)

    suite('[[optimizers]]\nname = "stopped"')
    code, _, errors = call("--tries", "3")
    assert code == 130
    assert errors.endswith("stopped: every finished try is stored; run the same command to continue\n")
    assert "try 1/3: lr 0.01" in errors
