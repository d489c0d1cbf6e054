"""The command line: parse, call, print; a module per theme, which registers its commands when it is imported."""

# ruff: noqa: I001 - imported in the order in which the help lists the commands
from sgabench.system.collecting import uncollected

with uncollected():
    from sgabench.cli import running, scoring, keeping, reporting, gate, data, machine, stores  # noqa: F401
    from sgabench.cli.app import app, main

__all__ = ["app", "main"]
