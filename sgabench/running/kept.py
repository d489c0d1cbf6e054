"""Files of pruned networks: where they are, and the measurements beside them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgabench.suite.plan import CellPlan, TrialPlan

if TYPE_CHECKING:
    from torch import nn

    from sgabench.training.data import Data


@dataclass(frozen=True)
class Kept:
    """Where pruned networks are written, and in which formats besides that of `load_network`."""

    folder: Path
    program: bool = False
    onnx: bool = False


def path_of(folder: Path, trial: TrialPlan, cell: CellPlan) -> Path:
    """The path of a pruned network: its name with characters safe for file systems, and six digits of its key."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{trial.name}/{cell.name}").strip("-")
    return folder / f"{name[:120]}-{cell.key[:6]}.safetensors"


def write_kept(
    kept: Kept, network: nn.Module, trial: TrialPlan, cell: CellPlan, data: Data, result: dict[str, Any]
) -> None:
    """Write a pruned network and its measurements."""
    from sgabench.models.exported import export_onnx, export_program
    from sgabench.models.saved import load_network, save_network

    path = path_of(kept.folder, trial, cell)
    about = {
        "normalization": {"mean": data.mean.tolist(), "std": data.std.tolist()},
        "trial": trial.labels(),
        "pruner": {**cell.description(), "label": cell.pruner.label},
        "measured": {name: result[name] for name in ("top1", "sparsity", "params", "nonzero_params", "macs")},
    }
    save_network(network, path, trial.model.name, trial.model.options, data.spec, about)
    if kept.program or kept.onnx:
        loaded = load_network(path)
        if kept.program:
            export_program(loaded, path.with_suffix(".pt2"), data.spec)
        if kept.onnx:
            export_onnx(loaded, path.with_suffix(".onnx"), data.spec)
