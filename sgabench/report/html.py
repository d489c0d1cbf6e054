"""The leaderboard as one self-contained HTML page."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from sgabench.leaderboard import Tables
from sgabench.report.display import LEFT, NOTE, environment_lines, failure_lines, sections
from sgabench.suite import Suite


def html(tables: Tables, suite: Suite | None = None) -> str:
    """One page without anything from outside it; every text is escaped."""
    environment = Environment(
        loader=PackageLoader("sgabench", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    parts = {title: (list(frame.columns), frame.to_numpy().tolist()) for title, frame in sections(tables).items()}
    return environment.get_template("page.html").render(
        suite=suite,
        sections=parts,
        left=LEFT,
        note=NOTE,
        failures=failure_lines(tables),
        environments=environment_lines(tables),
    )
