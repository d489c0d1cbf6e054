"""Which way of training leaves a network that survives pruning?

From Python::

    from sgabench import load_suite, run

    tables = run(load_suite("suites/quickstart.toml"))
    print(tables.leaderboard)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgabench.evidence.leaderboard import Tables
    from sgabench.models.saved import load_network
    from sgabench.report.own_training import trial_from
    from sgabench.report.run import run
    from sgabench.suite.resolving import load_suite

__all__ = ["Tables", "load_network", "load_suite", "run", "trial_from"]


def __getattr__(name: str) -> Any:
    # Imported on use, so that the command line starts without what it does not need.
    if name == "load_suite":
        from sgabench.suite.resolving import load_suite

        return load_suite
    if name == "load_network":
        from sgabench.models.saved import load_network

        return load_network
    if name == "run":
        from sgabench.report.run import run

        return run
    if name == "trial_from":
        from sgabench.report.own_training import trial_from

        return trial_from
    if name == "Tables":
        from sgabench.evidence.leaderboard import Tables

        return Tables
    if name == "__version__":
        import importlib.metadata

        return importlib.metadata.version("sgabench")
    raise AttributeError(f"module 'sgabench' has no attribute {name!r}")
