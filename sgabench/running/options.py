"""How a suite is run."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sgabench.running.executors.ray_cluster import ClusterRequest

SNAPSHOT_MINUTES = 5.0


@dataclass(frozen=True)
class Options:
    """How to run a suite; nothing here enters a key.

    Attributes:
        results: folder of the store.
        data_dir: where data sets are looked for; default: ``SGABENCH_DATA``, else ``data``.
        download: fetch a data set that is not there.
        device: ``auto``, ``cpu`` or ``cuda``.
        jobs: trials at the same time.
        only: glob over trial names.
        plugins: plugin files, which every worker loads.
        snapshot_minutes: between two snapshots of a training; 0: only when the process is asked to stop.
        retry_failed: take up what is recorded as failed, and nothing else.
        trial_minutes: a trial that takes longer fails; None: none does.
        shard: the number of a part of the trials, from 1 on, and how many parts there are; None: all.
        storage: folder or URL that weights and snapshots are kept in; None: the results folder.
        ray: the cluster of Ray that trials run on; None: they run on this machine.
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
