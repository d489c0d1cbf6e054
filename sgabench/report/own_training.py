"""Networks from the user's own training loop, pruned, measured and stored like any other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgabench.evidence.leaderboard import Tables
from sgabench.report.run import run_and_write
from sgabench.running.listening import Listener
from sgabench.running.options import Options
from sgabench.suite.plan import make_plan
from sgabench.suite.scoring import RATIOS, scoring_suite

if TYPE_CHECKING:
    from torch import nn


def trial_from(
    network: nn.Module | Sequence[nn.Module],
    dataset: str,
    *,
    label: str = "own training",
    seed: int = 0,
    pruners: Sequence[str | Mapping[str, Any]] = ("magnitude",),
    ratios: Sequence[float] = RATIOS,
    normalize: str = "data",
    overrides: Sequence[str] = (),
    results: str | Path = "results",
    data_dir: str | Path | None = None,
    download: bool = True,
    device: str = "auto",
) -> Tables:
    """Prune a network that your own loop has trained, and store the measurements like those of any other trial.

    Args:
        network: a module, or several as replicates: the same network, trained from different seeds. They are not
            changed; weights are kept in the results folder.
        dataset: as in suites, or ``folder:PATH``.
        label: name of the training in tables.
        seed: of the first network; the others have the following ones.
        pruners: names, or tables as in ``[[pruners]]``.
        ratios: of every pruner.
        normalize: as in its training: ``data``, ``pretrained``, or ``MEAN/STD`` for pixels in [0, 1].
        overrides: ``key=value`` settings as for ``--set``, e.g. ``datasets.1.image_size=64``.
        results, data_dir, download, device: as for `sgabench.run`.

    Returns:
        The tables of this network; ``sgabench report`` shows those of all networks together.

    Raises:
        InputError: the data set is missing, a network does not fit it, or the networks differ in architecture.
    """
    from sgabench.running.brought import bring

    options = Options(Path(results), None if data_dir is None else Path(data_dir), download, device)
    networks = list(network) if isinstance(network, Sequence) else [network]
    model, form, files = bring(networks, options.results)
    given = [f'models.1.form="{form}"', *overrides]
    given += [f"checkpoints.{place + 1}.seed={seed + place}" for place in range(len(networks))]
    suite = scoring_suite([f"{label}={file}" for file in files], model, dataset, pruners, ratios, normalize, given)
    return run_and_write(make_plan(suite, options.data), options, Listener())
