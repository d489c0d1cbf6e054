"""Trials on a real cluster of Ray, of one node; more nodes, which die, too: tests/torture/test_nodes.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from contents import contents
from ray_nodes import PLUGIN, ray_cluster
from support import variant

ray = pytest.importorskip("ray", reason="needs the extra: pip install 'sgabench[ray]'")

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with ray_cluster(2) as cluster:
        yield cluster.address


@pytest.fixture
def plugin(tmp_path: Path, tiny: Path) -> Path:
    """In place of Adam, one to which something can happen."""
    variant(tiny, 'name = "adam"', 'name = "careful"')
    path = tmp_path / "careful.py"
    path.write_text(PLUGIN)
    return path


@pytest.fixture
def needy(plugin: Path) -> Path:
    """The same with a module and a file beside it, and something to say."""
    text = plugin.read_text().replace("import os,", "import logging, os, rates\nimport").lstrip()
    text = text.replace('register("careful")', 'register("careful", files=["data/rate.txt"])')
    text = text.replace(
        "    class Careful",
        """    text = pathlib.Path(__file__).with_name("data").joinpath("rate.txt").read_text()
    logging.getLogger("sgabench").warning("rate %g", rates.scaled(float(text)))
    class Careful""",
    )
    plugin.write_text(text)
    plugin.with_name("rates.py").write_text("def scaled(rate):\n    return 2 * rate\n")
    (plugin.parent / "data").mkdir()
    (plugin.parent / "data" / "rate.txt").write_text("21")
    return plugin


def test_records_and_weights_are_those_of_a_run_without_ray_though_a_worker_is_stopped(
    sgabench: Run,
    tiny: Path,
    needy: Path,
    tmp_path: Path,
    address: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    arguments = ("run", tiny, "--plugin", needy, "--device", "cpu", "--only", "*/0")
    on_ray = (*arguments, "--executor", "ray", "--address", address)
    assert sgabench(*arguments, "--results", "local").returncode == 0
    caplog.clear()
    monkeypatch.setenv("SGABENCH_TEST", f"stop worker:{tmp_path / 'mark'}")
    done = sgabench(*on_ray)
    assert done.returncode == 0, done.stderr
    assert "2 trainings and 2 prunings to run on cpu, Ray: 1 node, 2 CPUs" in done.stderr
    assert done.stderr.count(": finished") == 2
    assert re.search(r"digits/resnet8/careful/0: started on [0-9.]+ cpu\n", done.stderr)
    assert "rate 42" in caplog.messages, "what workers warn of is not shown"
    assert not ray.is_initialized()
    records, weights, interruptions = contents(tmp_path / "results")
    expected, expected_weights, _ = contents(tmp_path / "local")
    assert (records, weights) == (expected, expected_weights)
    assert interruptions == 1, "what was stopped did not go on from its snapshot"
    assert not list((tmp_path / "results" / "snapshots").iterdir())
    # What is added to a trial needs its weights, which are sent to where it runs.
    variant(tiny, "ratios = [0.5]", "ratios = [0.5, 0.7]")
    more = sgabench(*on_ray, "--only", "*/careful/0")
    assert (more.returncode, "dense top-1" in more.stderr) == (0, False), more.stderr
    assert len(contents(tmp_path / "results")[0]) == len(expected) + 1


@pytest.mark.parametrize("nowhere", ["127.0.0.1:1", "127.0.0.1:99999"])
def test_an_address_where_nothing_answers_is_refused(sgabench: Run, tiny: Path, nowhere: str) -> None:
    done = sgabench("run", tiny, "--executor", "ray", "--address", nowhere)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: --address {nowhere}: nothing answers there (")


def test_a_file_that_does_not_come_along_is_refused(
    sgabench: Run, tiny: Path, needy: Path, tmp_path: Path, address: str
) -> None:
    (tmp_path / "deeper").mkdir()
    for name in ("careful.py", "rates.py"):
        (tmp_path / name).rename(tmp_path / "deeper" / name)
    moved = tmp_path / "deeper" / "careful.py"
    moved.write_text(moved.read_text().replace('"data/rate.txt"', '"../data/rate.txt"', 1))
    moved.write_text(moved.read_text().replace('with_name("data")', 'parents[1].joinpath("data")', 1))
    done = sgabench("run", tiny, "--plugin", moved, "--executor", "ray", "--address", address)
    assert done.returncode == 2
    assert "careful declares ../data/rate.txt, which is outside the plugin's folder and is not sent" in done.stderr


def test_what_no_node_has_is_refused(sgabench: Run, tiny: Path, address: str) -> None:
    done = sgabench("run", tiny, "--executor", "ray", "--address", address, "--trial-cpus", "3")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --trial-cpus 3: no node of the cluster has that many CPUs; the maximum is 2\n",
    )
    assert not ray.is_initialized()
