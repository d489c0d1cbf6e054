"""The unit of work of executors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sgabench.running.kept import Kept
from sgabench.store.files import Files
from sgabench.store.store import Record
from sgabench.suite.plan import TrialPlan
from sgabench.suite.tables import Measurement


@dataclass(frozen=True)
class Task:
    """A trial as it is given to an executor.

    Attributes:
        trial: with only what is left to do.
        trained: the record of the training, if it is stored already.
        measurement: what to measure of a network.
        files: of weights and snapshots.
        data_dir: folder of the data sets.
        download: whether a missing data set may be fetched.
        device: ``cpu`` or ``cuda``.
        threads: threads on the CPU.
        snapshot_seconds: time between two snapshots of a training; 0: only when the process is asked to stop.
        kept: where to write the pruned networks; None: nowhere.
    """

    trial: TrialPlan
    trained: Record | None
    measurement: Measurement
    files: Files
    data_dir: Path
    download: bool
    device: str
    threads: int
    snapshot_seconds: float = 0.0
    kept: Kept | None = None
