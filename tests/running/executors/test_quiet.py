from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from sgabench.running.executors import quiet as module
from sgabench.running.executors.quiet import Quiet


def test_alone_waits_until_the_others_stand_still(tmp_path: Path) -> None:
    quiet, other = Quiet(tmp_path), Quiet(tmp_path)
    trace: list[str] = []
    started, enough = threading.Event(), threading.Event()

    def worker() -> None:
        with other.busy():
            while not enough.is_set():
                trace.append("step")
                started.set()
                other.give_way()
        trace.append("end")

    thread = threading.Thread(target=worker)
    thread.start()
    try:
        started.wait()
        with quiet.busy(), quiet.alone() as alone:
            assert alone
            before = len(trace)
            time.sleep(0.1)
            assert len(trace) == before
        while len(trace) == before:  # it goes on
            assert thread.is_alive()
            time.sleep(0.001)
    finally:
        enough.set()
        thread.join()
    assert trace[-1] == "end"


def test_a_process_that_begins_to_compute_waits_for_one_that_is_alone(tmp_path: Path) -> None:
    quiet, other = Quiet(tmp_path), Quiet(tmp_path)
    trace: list[str] = []

    def worker() -> None:
        with other.busy():
            trace.append("computed")

    thread = threading.Thread(target=worker)
    with quiet.busy():
        with quiet.alone() as alone:
            assert alone
            thread.start()
            time.sleep(0.1)
            assert trace == []
        thread.join(timeout=300)
    assert trace == ["computed"]


def test_two_can_want_to_be_alone(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def worker(number: int) -> None:
        quiet = Quiet(tmp_path)
        with quiet.busy():
            for _ in range(5):
                with quiet.alone() as alone:
                    assert alone
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.005)
                    inside.remove(number)
                quiet.give_way()

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
        assert not thread.is_alive()
    assert most == [1] * 10


def test_a_process_that_is_not_left_alone_knows_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_TIMEOUT", 0.1)
    quiet, stubborn = Quiet(tmp_path), Quiet(tmp_path)
    with quiet.busy(), stubborn.busy():
        with quiet.alone() as alone:
            assert not alone
        stubborn.give_way()  # for nobody
    with quiet.busy(), quiet.alone() as alone:
        assert alone


def hold_and_die(results: Path, alone: bool) -> None:
    quiet = Quiet(results)
    with quiet.busy():
        if alone:
            with quiet.alone():
                os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("alone", [False, True], ids=["training", "timing"])
def test_what_a_dead_process_held_is_free_again(tmp_path: Path, alone: bool) -> None:
    process = multiprocessing.get_context("spawn").Process(target=hold_and_die, args=(tmp_path, alone))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    quiet = Quiet(tmp_path)
    with quiet.busy(), quiet.alone() as is_alone:
        assert is_alone
