"""Put what several `sgabench bench ... --format json` printed into one JSON file; part of gpu.sh.

    gather.py PARTS FILE NAME...

For each name, the folder PARTS has NAME.json (what it printed), NAME.err (its errors) and NAME.exit: its exit code, the
seconds that it took, and the seconds that it had. The exit code is 0, or 1 if a part failed.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TIMED_OUT = (124, 137)  # exit codes of `timeout`


def gather(parts: Path, names: Sequence[str]) -> dict[str, Any]:
    """All parts by name, those that failed with the reason in place of their rows."""
    gathered = {name: read(parts, name) for name in names}
    environments = [part.pop("environment") for part in gathered.values() if "environment" in part]
    return {
        "subject": "gpu",
        "failed": [name for name, part in gathered.items() if "error" in part],
        "environment": environments[0] if environments else None,
        "parts": gathered,
    }


def read(parts: Path, name: str) -> dict[str, Any]:
    """What a part measured, or its error."""
    code, seconds, limit = map(int, (parts / f"{name}.exit").read_text().split())
    about = {"exit_code": code, "seconds": seconds}
    if code in TIMED_OUT:
        return {**about, "error": f"stopped after {limit} s"}
    if code == 0:
        try:
            return {**about, **json.loads((parts / f"{name}.json").read_text())}
        except ValueError as error:
            return {**about, "error": f"printed no JSON: {error}"}
    last = (parts / f"{name}.err").read_text(errors="replace").strip().splitlines()
    return {**about, "error": "\n".join(last[-20:])}


def main(parts: str, file: str, *names: str) -> int:
    """Write the file; 1 if a part failed."""
    gathered = gather(Path(parts), names)
    Path(file).parent.mkdir(parents=True, exist_ok=True)
    Path(file).write_text(json.dumps(gathered, indent=1) + "\n")
    for name in gathered["failed"]:
        last = gathered["parts"][name]["error"].splitlines()[-1:]
        print(f"gpu.sh: {name} failed: {''.join(last)}", file=sys.stderr)
    print(f"gpu.sh: wrote {file}", file=sys.stderr)
    return 1 if gathered["failed"] else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
