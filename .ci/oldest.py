"""Print the oldest versions that pyproject.toml allows, as constraints of pip.

    python .ci/oldest.py [--but NAME]... > oldest.txt

The dependencies of the package and of the extras test and tune; what has no lower bound is left out.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

BOUND = re.compile(r"(?P<name>[A-Za-z0-9._-]+)>=(?P<version>[0-9.]+)")


def oldest(project: Path, but: list[str]) -> list[str]:
    """``name==version`` of every lower bound."""
    table = tomllib.loads(project.read_text(encoding="utf-8"))["project"]
    extras = table["optional-dependencies"]
    bounds = [BOUND.match(entry) for entry in (*table["dependencies"], *extras["test"], *extras["tune"])]
    return [f"{bound['name']}=={bound['version']}" for bound in bounds if bound and bound["name"] not in but]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--but", action="append", default=[], metavar="NAME", help="as new as pip takes it")
    print("\n".join(oldest(Path(__file__).parents[1] / "pyproject.toml", parser.parse_args().but)))
