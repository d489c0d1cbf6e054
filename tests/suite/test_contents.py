"""What plugins of every kind read enters their keys, if it is declared."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support import variant

from sgabench.errors import InputError
from sgabench.plugins.registry import load_plugin_file, models, optimizers
from sgabench.suite.plan import Plan, keys_of, make_plan
from sgabench.suite.resolving import load_suite

FILES = """
from sgabench.plugins import {kind}s

@{kind}s.register("reader", files=["weights.pt", "sub/more.bin"]{more})
def reader():
    ...
"""
OF = {
    "dataset": ('name = "digits"', 'name = "reader"'),
    "model": ('name = "resnet8"\nwidth = 4', 'name = "reader"'),
    "optimizer": ('name = "adam"\nlr = 0.01', 'name = "reader"'),
    "pruner": ('name = "magnitude"', 'name = "reader"'),
    "probe": ("[[pruners]]", '[[probes]]\nname = "reader"\n\n[[pruners]]'),
}
# of 4 trials, 4 cells and, by default, a probe of each trial
DEPEND = {"dataset": 12, "model": 12, "optimizer": 6, "pruner": 4, "probe": 4}


def planned(suite: Path, data: Path = Path("data")) -> Plan:
    return make_plan(load_suite(suite), data)


@pytest.mark.parametrize("kind", list(OF))
def test_the_content_of_files_that_a_plugin_declares_enters_the_keys(tiny: Path, tmp_path: Path, kind: str) -> None:
    (tmp_path / "plugins" / "sub").mkdir(parents=True)
    weights, more = tmp_path / "plugins" / "weights.pt", tmp_path / "plugins" / "sub" / "more.bin"
    weights.write_bytes(b"1")
    more.write_bytes(b"1")
    (tmp_path / "plugins" / "reader.py").write_text(FILES.format(kind=kind, more=""))
    load_plugin_file(tmp_path / "plugins" / "reader.py")
    suite = variant(tiny, *OF[kind])
    before = keys_of(planned(suite))
    more.write_bytes(b"2")
    changed = keys_of(planned(suite))
    assert len(before - changed) == DEPEND[kind]
    more.write_bytes(b"1")
    assert keys_of(planned(suite)) == before
    weights.unlink()
    with pytest.raises(InputError, match=rf"{kind} 'reader': weights.pt, which it declares: No such file"):
        planned(suite)


def test_a_fingerprint_of_a_plugin_that_is_no_data_set_enters_the_keys(tiny: Path, tmp_path: Path) -> None:
    contents = ["one"]

    def fingerprint(data_dir: Path, options: dict[str, Any]) -> Any:
        assert (data_dir, options) == (tmp_path, {"path": "a.pt"})
        return contents[0]

    models.register("read", fingerprint=fingerprint)(lambda spec, *, path="a.pt": None)
    suite = variant(tiny, *(part.replace("reader", "read") for part in OF["model"]))
    first = keys_of(planned(suite, tmp_path))
    contents[0] = "two"
    assert not keys_of(planned(suite, tmp_path)) & first
    contents[0] = 3  # type: ignore[call-overload]
    with pytest.raises(InputError, match="model 'read': its fingerprint is 3, not a text"):
        planned(suite, tmp_path)


@pytest.mark.parametrize("files", ["weights.pt", [1], Path("weights.pt")])
def test_files_that_are_no_list_of_paths_are_refused(files: Any) -> None:
    with pytest.raises(InputError, match="optimizer 'odd': files must be a list of paths, got"):
        optimizers.register("odd", files=files)(lambda parameters: None)
