"""Timings: what they consist of, and that they leave no trace. How fast a machine is is not tested."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer
from torch.utils.benchmark.utils import timer as timer_module

from sgabench.measuring import timing as module
from sgabench.measuring.timing import time_inference, time_interleaved


class Clock:
    """Stands still but for what is said to take time."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


CLOCK = Clock()


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch's timer, and ours, read the clock that the tests turn: no machine is too busy for them."""
    CLOCK.now = 0.0
    monkeypatch.setattr(timer_module, "timer", CLOCK)
    monkeypatch.setattr("torch.utils.benchmark.Timer", partial(Timer, timer=CLOCK))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=CLOCK))


class Sleeper(nn.Module):
    """Takes as long as it is told, and remembers how it was called."""

    def __init__(self, seconds: float = 0.005) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.seconds = seconds
        self.calls: list[tuple[bool, bool, int, torch.dtype]] = []

    def forward(self, images: Tensor) -> Tensor:
        CLOCK.now += self.seconds
        output: Tensor = self.linear(images)
        state = (self.training, torch.is_inference_mode_enabled(), torch.get_num_threads(), output.dtype)
        self.calls.append(state)
        return output


@pytest.fixture
def threads() -> Iterator[int]:
    """An unusual number of threads, which torch's timer would replace by one."""
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    yield before + 1
    torch.set_num_threads(before)


def test_seconds_are_those_of_one_pass() -> None:
    timing = time_inference(Sleeper(0.005), torch.zeros(3, 4), precision="fp32", min_run_time=0.1)
    assert [timing.q1_s, timing.median_s, timing.q3_s] == pytest.approx([0.005] * 3), "a block is not a pass"
    assert timing.batch_size == 3
    assert timing.images_per_s == pytest.approx(3 / timing.median_s)
    assert timing.runs >= 2, "or else there are no quartiles"


def test_it_lasts_as_long_as_asked_and_not_for_ever() -> None:
    network = Sleeper(0.01)
    time_inference(network, torch.zeros(1, 4), precision="fp32", min_run_time=0.1)
    assert CLOCK.now == pytest.approx(0.01 * len(network.calls))
    assert 0.1 <= CLOCK.now < 1


def test_passes_run_as_in_an_evaluation(threads: int) -> None:
    network = Sleeper(0.001)
    timing = time_inference(network, torch.zeros(1, 4), precision="fp32", min_run_time=0.005)
    assert set(network.calls) == {(False, True, threads, torch.float32)}
    assert timing.num_threads == threads


def test_bf16_runs_under_autocast() -> None:
    network = Sleeper(0.001)
    time_inference(network, torch.zeros(1, 4), precision="bf16", min_run_time=0.005)
    assert {dtype for _, _, _, dtype in network.calls} == {torch.bfloat16}
    assert network.linear.weight.dtype == torch.float32


def test_there_is_a_pass_before_the_timed_ones() -> None:
    network = Sleeper(0.001)
    timing = time_inference(network, torch.zeros(1, 4), precision="fp32", min_run_time=0.001)
    assert len(network.calls) > timing.runs


def test_no_trace_is_left(threads: int) -> None:
    network = Sleeper(0.001).train()
    network.linear.eval()
    images = torch.zeros(1, 4)
    time_inference(network, images, precision="bf16", min_run_time=0.005)
    assert network.training
    assert not network.linear.training
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert not torch.is_autocast_enabled("cpu")
    network(images).sum().backward()


def test_no_trace_is_left_by_a_network_that_fails(threads: int) -> None:
    network = Sleeper(0.001).train()
    with pytest.raises(RuntimeError):
        time_inference(network, torch.zeros(1, 5), precision="fp32", min_run_time=0.005)
    assert network.training
    assert torch.get_num_threads() == threads
    assert torch.is_grad_enabled()


def test_functions_take_turns_and_none_is_left_out() -> None:
    called: list[str] = []

    def sleeper(name: str, seconds: float) -> Callable[[], None]:
        def call() -> None:
            called.append(name)
            CLOCK.now += seconds

        return call

    functions = {"short": sleeper("short", 0.001), "long": sleeper("long", 0.004)}
    times = time_interleaved(functions, "cpu", rounds=3, block_s=0.008)
    assert {name: len(values) for name, values in times.items()} == {"short": 3, "long": 3}
    assert times["short"] == pytest.approx([0.001] * 3)
    assert times["long"] == pytest.approx([0.004] * 3)
    turns = [name for index, name in enumerate(called) if index == 0 or called[index - 1] != name]
    assert turns == ["short", "long", "short", "long", "short", "long"]
    assert gc.isenabled()
