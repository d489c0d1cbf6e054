"""sgabench prune: from a suite that was run to networks in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support import variant

from sgabench import load_network
from sgabench.models.layers import prunable_weights


def test_pruned_networks_are_kept(sgabench: Any, tiny: Path, tmp_path: Path) -> None:
    variant(tiny, "seeds = [0, 1]", "seeds = [0]")
    tiny.write_text(tiny.read_text() + 'finetune = { epochs = 1 }\n[[pruners]]\nname = "structured"\n')
    early = sgabench("prune", tiny, "--output", "kept")
    assert (early.returncode, early.stdout) == (2, "")
    assert "does not exist; run a suite first" in early.stderr
    assert sgabench("run", tiny, "--quiet", "--only", "*/adam/*").returncode == 0
    done = sgabench("prune", tiny, "--output", "kept", "--only", "*/adam/*")
    assert done.returncode == 0, done.stderr
    files = sorted(path.name for path in (tmp_path / "kept").iterdir())
    assert [name.rpartition("-")[0] for name in files[::2]] == [
        "digits-resnet8-adam-0-magnitude-0.5",
        "digits-resnet8-adam-0-structured-0.5",
    ]
    assert [Path(name).suffix for name in files] == [".json", ".safetensors"] * 2
    listed = json.loads(sgabench("report", tiny, "--format", "json").stdout)["cells"]
    for name in files[1::2]:
        description = json.loads((tmp_path / "kept" / name).with_suffix(".json").read_text())
        network = load_network(tmp_path / "kept" / name)
        cell = next(
            row for row in listed if row["pruner"] == description["pruner"]["label"] and row["optimizer"] == "adam"
        )
        assert description["measured"]["top1"] == pytest.approx(cell["pruned_top1"])
        assert description["measured"]["params"] == sum(parameter.numel() for parameter in network.parameters())
        if description["pruner"]["name"] == "magnitude":
            weights = prunable_weights(network, {"conv1", "fc"}).values()
            zeros = sum(int((weight == 0).sum()) for weight in weights)
            assert zeros == round(0.5 * sum(weight.numel() for weight in weights))
        assert network(torch.zeros(1, 1, 8, 8)).shape == (1, 10)
    again = sgabench("prune", tiny, "--output", "kept", "--only", "*/adam/*")
    assert again.returncode == 2
    assert ".json: already exists; name another folder" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--only", "*/9/*"], "--only */9/*: matches no network (dataset/model/optimizer/seed/pruner/ratio)"),
        ([], "digits/resnet8/adam/0: not trained yet; run the suite first: sgabench run"),
    ],
)
def test_what_cannot_be_kept_is_one_line(
    arguments: list[str], message: str, sgabench: Any, tiny: Path, tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    done = sgabench("prune", tiny, "--output", "kept", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not list((tmp_path / "kept").iterdir())
