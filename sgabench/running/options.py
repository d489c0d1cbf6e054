"""Options of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sgabench.running.executors.ray_cluster import ClusterRequest

SNAPSHOT_MINUTES = 5.0


@dataclass(frozen=True)
class Options:
    """How a suite is run; nothing here enters a key.

    Attributes:
        results: folder of the store.
        data_dir: folder of the data sets; default: ``SGABENCH_DATA``, else ``data``.
        download: fetch data sets that are missing.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: trials at the same time.
        only: glob over trial names.
        plugins: plugin files, which every worker loads.
        snapshot_minutes: between two snapshots of a training; 0: only when the process is asked to stop.
        retry_failed: run only what is recorded as failed.
        trial_minutes: a trial that takes longer fails; None: no limit.
        shard: number of a part of the trials, counted from 1, and number of parts; None: all.
        storage: folder or URL of weights and snapshots; None: the results folder.
        ray: the Ray cluster that trials run on; None: this machine.
    """

    results: Path = Path("results")
    data_dir: Path | None = None
    download: bool = True
    device: str = "auto"
    jobs: int | Literal["auto"] = 1
    only: str | None = None
    plugins: tuple[Path, ...] = field(default=())
    snapshot_minutes: float = SNAPSHOT_MINUTES
    retry_failed: bool = False
    trial_minutes: float | None = None
    storage: str | None = None
    shard: tuple[int, int] | None = None
    ray: ClusterRequest | None = None

    @property
    def data(self) -> Path:
        """The data folder."""
        return self.data_dir or Path(os.environ.get("SGABENCH_DATA") or "data")
