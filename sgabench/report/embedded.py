"""Libraries and data embedded in the page."""

from __future__ import annotations

import base64
import gzip
import json
from functools import cache
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

LIBRARIES = (
    ("plotly", "plotly", "plotly/package_data/plotly.min.js"),
    ("datatables", "itables", "itables/html/dt_bundle.js"),
    ("datatables-style", "itables", "itables/html/dt_bundle.css"),
)


@cache
def libraries() -> dict[str, dict[str, str]]:
    """Plotly and DataTables from their packages, compressed to a third of the size."""
    packed = {}
    for name, package, place in LIBRARIES:
        origin = distribution(package)
        content = Path(str(origin.locate_file(place))).read_bytes()
        packed[name] = {
            "packed": base64.b64encode(gzip.compress(content, 6, mtime=0)).decode(),
            "origin": f"{place} of the package {package} {origin.version}, gzip, base64",
        }
    return packed


def script_json(value: Any) -> str:
    """JSON that is safe inside a script element."""
    return (
        json.dumps(value, separators=(",", ":"), allow_nan=False)
        .replace("<", "\\u003c")
        .replace(">", "\\u003e")
        .replace("&", "\\u0026")
    )
