"""What options say of a cluster, and what is refused."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sgabench.errors import InputError
from sgabench.running import resources
from sgabench.running.executors.processes import Processes
from sgabench.running.executors.ray_cluster import ClusterRequest, fits
from sgabench.running.options import Options
from sgabench.running.resources import cluster_request, device_of, threads_of
from sgabench.suite.plan import Plan

Run = Callable[..., Any]


@pytest.mark.parametrize(
    ("device", "cpus", "gpus", "expected"),
    [
        ("auto", None, None, ("cpu", 1)),
        ("cpu", 4, None, ("cpu", 4)),
        ("cuda", 2, None, ("cuda", 2)),
        ("auto", None, 0.25, ("cuda", 1)),
        ("cuda", None, 2.0, ("cuda", 1)),
    ],
)
def test_a_trial_on_ray_computes_with_what_it_gets(
    device: str, cpus: int | None, gpus: float | None, expected: tuple[str, int]
) -> None:
    options = Options(device=device, ray=cluster_request("ray", device, 1, "auto", cpus, gpus))
    assert (device_of(options), threads_of(options)) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("slurm", "auto", 1, None, None, None), "--executor slurm: must be local or ray"),
        (("local", "auto", 1, "auto", None, None), "--address auto: is for Ray clusters; add --executor ray"),
        (("local", "auto", 1, None, 2, None), "--trial-cpus 2: is for Ray clusters"),
        (("ray", "auto", 2, None, None, None), "--jobs 2: on Ray, --trial-cpus and --trial-gpus say"),
        (("ray", "auto", 1, None, 0, None), "--trial-cpus 0: must be an integer, at least 1"),
        (("ray", "auto", 1, None, None, 1.5), "--trial-gpus 1.5: must be a fraction of 1, or an integer"),
        (("ray", "auto", 1, None, None, float("nan")), "--trial-gpus nan: must be a fraction of 1"),
        (("ray", "cpu", 1, None, None, 1.0), "--trial-gpus 1: conflicts with --device cpu"),
        (("ray", "cuda", 1, None, None, 0.0), "--trial-gpus 0: conflicts with --device cuda"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError) as refused:
        cluster_request(*arguments)
    assert str(refused.value).startswith(message)


@pytest.mark.parametrize(
    ("cluster", "trials"),
    [
        (ClusterRequest(None, 1), 16),
        (ClusterRequest(None, 5), 3),
        (ClusterRequest(None, 1, 1), 4),
        (ClusterRequest(None, 1, 2), 2),
        (ClusterRequest(None, 1, 0.25), 16),
        (ClusterRequest(None, 1, 0.3), 12),  # three on each GPU
        (ClusterRequest(None, 32), 0),
    ],
)
def test_a_node_takes_as_many_trials_as_all_of_them_fit(cluster: ClusterRequest, trials: int) -> None:
    assert fits({"CPU": 16.0, "GPU": 4.0}, cluster) == trials


def test_without_the_extra_ray_is_refused(sgabench: Run, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    done = sgabench("run", tiny, "--executor", "ray")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --executor ray needs the extra: pip install 'sgabench[ray]'\n",
    )


def test_ray_is_imported_only_if_it_is_asked_for(tiny: Path, sgabench: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Asking:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            asked.append(name)

    monkeypatch.delitem(sys.modules, "ray", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Asking, *sys.meta_path])
    assert sgabench("run", tiny, "--only", "*/adam/0", "-q").returncode == 0
    assert "ray" not in asked
    with contextlib.suppress(ImportError):
        importlib.import_module("ray")
    assert "ray" in asked


@pytest.mark.parametrize(
    ("visible", "number", "named"),
    [
        (None, 2, ["0", "1"]),
        ("", 0, ["0"]),
        ("3", 1, ["3"]),
        ("2, GPU-8f, 5", 3, ["2", "GPU-8f", "5"]),
        ("0,1,-1,2", 2, ["0", "1"]),  # CUDA sees none after the first that is not there
        ("0", 2, ["0", "1"]),  # was changed after CUDA had read it
    ],
)
def test_workers_are_divided_among_the_gpus_that_are_visible(
    tmp_path: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch, visible: str | None, number: int, named: list[str]
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: number)
    monkeypatch.setattr(resources, "choose_device", lambda device: "cuda")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr("sgabench.running.sharing.best_number", lambda work, device, limit: 2)
    auto = Options(results=tmp_path, device="cuda", jobs="auto")
    assert resources.certain_jobs(auto) == len(named)
    trials = plan.trials * 4  # two at once on each are fastest
    executor = resources.make_executor(trials, auto)
    assert isinstance(executor, Processes)
    assert (executor.room(), executor._gpus) == (2 * len(named), named if len(named) > 1 else [])
