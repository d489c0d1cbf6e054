"""Archives after mishaps and of malice: refused in a line with nothing taken, or what was exported."""

from __future__ import annotations

import hashlib
import json
import random
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from damage import FULL, damaged, everything, fill_whole
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import TINY

from sgabench.errors import InputError
from sgabench.evidence.leaderboard import make_tables
from sgabench.report.formats import render
from sgabench.store.archive import export, import_archive
from sgabench.store.store import Record, Store
from sgabench.suite.plan import make_plan
from sgabench.suite.resolving import load_suite

COUNT = 2000 if FULL else 15


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Record]]:
    """An archive with weights, and what is in it."""
    folder = tmp_path_factory.mktemp("exported")
    (folder / "tiny.toml").write_text(TINY)
    with Store(folder / "results", create=True) as store:
        fill_whole(store, make_plan(load_suite(folder / "tiny.toml"), Path("data")))
        records = everything(store)
    export(folder / "whole.zip", folder / "results", None, weights=True)
    return folder / "whole.zip", records


@pytest.mark.parametrize("seed", range(COUNT))
def test_a_damaged_archive(exported: tuple[Path, dict[str, Record]], tmp_path: Path, seed: int) -> None:
    whole, records = exported
    file = tmp_path / "damaged.zip"
    chance = random.Random(seed)
    content = whole.read_bytes()
    # Half of the mishaps near the end, where the directory is, which all else depends on.
    start = 0 if seed % 2 else len(content) - 1500
    file.write_bytes(content[:start] + damaged(content[start:], chance))
    try:
        import_archive(file, tmp_path / "results")
    except InputError as error:
        assert str(error).startswith(f"{file}: ")
        assert not (tmp_path / "results").exists()
        return
    with Store(tmp_path / "results") as store:
        assert everything(store) == records


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The place of every value inside a JSON value."""
    yield path
    children = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    for name, child in children:
        yield from leaves(child, (*path, name))


odd = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["", "\x1b[2J", "\ud800", "../x", "<b>", 10**400, 1e308, -0.0, "0" * 32, "done", "trial"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(
    max_examples=COUNT, deadline=None, derandomize=not FULL, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_record_that_was_made_up(exported: tuple[Path, dict[str, Record]], data: st.DataObject) -> None:
    with zipfile.ZipFile(exported[0]) as archive:
        lines = [json.loads(line) for line in archive.read("records.jsonl").splitlines()]
    number = data.draw(st.integers(0, len(lines) - 1), "line")
    path = data.draw(st.sampled_from([path for path in leaves(lines[number]) if path]), "place")
    parent: Any = lines[number]
    for name in path[:-1]:
        parent = parent[name]
    if isinstance(parent, dict) and data.draw(st.booleans(), "remove"):
        del parent[path[-1]]
    else:
        parent[path[-1]] = data.draw(odd, "value")
    with tempfile.TemporaryDirectory() as folder:
        file, results = Path(folder) / "odd.zip", Path(folder) / "results"
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        with zipfile.ZipFile(file, "w") as archive:
            files = {"records.jsonl": hashlib.sha256(content).hexdigest()}
            archive.writestr("records.jsonl", content)
            archive.writestr("manifest.json", json.dumps({"format": 1, "sgabench": "0", "files": files}))
        try:
            import_archive(file, results)
        except InputError as error:
            assert "\n" not in str(error)
            assert not results.exists()
            return
        with Store(results) as store:
            assert len(everything(store)) + 3 >= len(lines)
            for form in ("table", "markdown", "csv", "json"):
                try:
                    render(make_tables(store), form).encode()
                except InputError:
                    continue
