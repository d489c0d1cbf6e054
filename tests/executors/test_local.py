from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time

import pytest

from sgabench.executors.local import Quiet


def test_alone_waits_until_the_others_stand_still() -> None:
    quiet = Quiet(multiprocessing.get_context("spawn"), 2)
    trace: list[str] = []
    started = threading.Event()

    def worker() -> None:
        with quiet.busy(1):
            started.set()
            for _ in range(20):
                trace.append("step")
                time.sleep(0.01)
                quiet.give_way(1)
        trace.append("end")

    thread = threading.Thread(target=worker)
    thread.start()
    started.wait()
    with quiet.busy(0), quiet.alone(0) as alone:
        assert alone
        before = len(trace)
        time.sleep(0.1)
        assert len(trace) == before
        assert "end" not in trace
    thread.join()
    assert trace[-1] == "end"
    assert trace.count("step") == 20


def test_two_can_want_to_be_alone() -> None:
    quiet = Quiet(multiprocessing.get_context("spawn"), 2)
    inside: list[int] = []
    most: list[int] = []

    def worker(number: int) -> None:
        with quiet.busy(number):
            for _ in range(5):
                with quiet.alone(number) as alone:
                    assert alone
                    inside.append(number)
                    most.append(len(inside))
                    time.sleep(0.005)
                    inside.remove(number)
                quiet.give_way(number)

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
        assert not thread.is_alive()
    assert most == [1] * 10


def hold_and_die(quiet: Quiet, alone: bool) -> None:
    with quiet.busy(1):
        if alone:
            with quiet.alone(1):
                os.kill(os.getpid(), signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("alone", [False, True], ids=["training", "timing"])
def test_what_a_dead_worker_held_is_free_again(alone: bool) -> None:
    context = multiprocessing.get_context("spawn")
    quiet = Quiet(context, 2)
    process = context.Process(target=hold_and_die, args=(quiet, alone))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    quiet.bury(1)
    with quiet.busy(0), quiet.alone(0) as is_alone:
        assert is_alone
