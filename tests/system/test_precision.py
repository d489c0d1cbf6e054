"""Where bf16 is used: what the user says, else what was measured on this machine, once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import variant

from sgabench.errors import InputError
from sgabench.store.store import Store
from sgabench.system import precision
from sgabench.system.precision import VARIABLE, precision_here, speedup_on_cpu, uses_bf16


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A processor with bf16 instructions, that nothing was measured on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: True)
    return tmp_path / "sgabench"


def measured(monkeypatch: pytest.MonkeyPatch, speedup: float) -> list[float]:
    calls: list[float] = []
    monkeypatch.setattr(precision, "_measure", lambda: calls.append(speedup) or speedup)
    return calls


@pytest.mark.parametrize(("speedup", "pays"), [(0.6, False), (1.05, False), (1.1, True), (3.0, True)])
def test_bf16_is_used_where_it_is_faster(
    speedup: float, pays: bool, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured(monkeypatch, speedup)
    assert uses_bf16("cpu") is pays
    assert f"bf16 {speedup:.2f} times as fast" in precision_here()


def test_it_is_measured_once(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = measured(monkeypatch, 2.0)
    assert speedup_on_cpu() == speedup_on_cpu() == 2.0
    assert len(calls) == 1
    (file,) = kept.iterdir()
    file.write_text("damaged")
    assert speedup_on_cpu() == 2.0
    assert len(calls) == 2


def test_of_processes_at_once_the_first_decides(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slow() -> float:
        monkeypatch.setattr(precision, "_measure", lambda: 3.0)
        assert speedup_on_cpu() == 3.0  # another process, faster than this one
        return 0.5

    monkeypatch.setattr(precision, "_measure", slow)
    assert speedup_on_cpu() == 3.0
    assert [json.loads(file.read_text()) for file in kept.iterdir()] == [{"speedup": 3.0}]


def test_a_processor_is_measured(kept: Path) -> None:
    speedup = speedup_on_cpu()
    assert speedup is not None
    assert 0.01 < speedup < 100


def test_the_user_decides(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_measure", lambda: pytest.fail("measured"))
    for wanted, pays in {"bf16": True, "fp32": False}.items():
        monkeypatch.setenv(VARIABLE, wanted)
        assert uses_bf16("cpu") is pays
    monkeypatch.setenv(VARIABLE, "fp16")
    with pytest.raises(InputError, match="SGABENCH_PRECISION=fp16: must be auto, bf16 or fp32"):
        uses_bf16("cpu")


def test_without_instructions_or_a_place_to_keep_it_nothing_is_measured(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "_measure", lambda: pytest.fail("measured"))
    kept.parent.chmod(0o777)  # everybody may write
    assert uses_bf16("cpu")
    monkeypatch.setattr(precision, "has_bf16_instructions", lambda: False)
    assert not uses_bf16("cpu")


@pytest.mark.parametrize("wanted", ["bf16", "fp32"])
def test_the_command_line_overrides_and_the_record_says_what_ran(
    wanted: str, sgabench: Callable[..., Any], tiny: Path, tmp_path: Path
) -> None:
    suite = variant(tiny, "epochs = 1", 'epochs = 1\nprecision = "bf16"')
    done = sgabench("run", suite, "--precision", wanted, "--only", "*/adam/0", "--results", tmp_path / "results")
    assert done.returncode == 0, done.stderr
    with Store(tmp_path / "results") as store:
        records = list(store.records("trial"))
        assert [record.environment["precision"] for record in records] == [wanted]
        assert [record.result["precision"] for record in records] == [wanted]
