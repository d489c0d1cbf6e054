from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import threading
from multiprocessing import reduction
from pathlib import Path

import pytest

from sgabench.errors import InputError
from sgabench.store import locks
from sgabench.store.locks import Busy, Claims, exclusive, once, shared


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.05)


def test_several_share_a_folder_and_none_has_it_exclusively(tmp_path: Path) -> None:
    with shared(tmp_path), shared(tmp_path), pytest.raises(Busy, match="another run is writing to it"):
        exclusive(tmp_path).__enter__()
    with exclusive(tmp_path):
        pass


def test_nobody_shares_what_is_locked_exclusively(tmp_path: Path, impatient: None) -> None:
    with exclusive(tmp_path), pytest.raises(Busy, match="needs it exclusively"):
        shared(tmp_path).__enter__()
    with shared(tmp_path):
        pass


def test_a_shared_lock_waits_for_a_short_exclusive_one(tmp_path: Path) -> None:
    order: list[str] = []
    alone = exclusive(tmp_path)
    alone.__enter__()

    def leave() -> None:
        order.append("the one alone leaves")
        alone.__exit__(None, None, None)

    end = threading.Timer(0.1, leave)
    end.start()
    with shared(tmp_path):
        order.append("another shares")
    end.join()
    assert order == ["the one alone leaves", "another shares"]


def test_only_the_first_of_those_that_share_is_alone(tmp_path: Path) -> None:
    calls: list[str] = []
    with shared(tmp_path, lambda: calls.append("first")), shared(tmp_path, lambda: calls.append("second")):
        assert calls == ["first"]


def test_a_folder_that_cannot_be_locked_is_reported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none: No such file or directory; name another"):
        exclusive(tmp_path / "none").__enter__()


def test_what_is_done_once_is_done_by_one(tmp_path: Path) -> None:
    made = tmp_path / "made"
    calls: list[int] = []

    def make() -> None:
        calls.append(1)
        made.touch()

    threads = [threading.Thread(target=once, args=(tmp_path, lambda: not made.exists(), make)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert calls == [1]


def test_a_trial_is_claimed_by_one(tmp_path: Path) -> None:
    with Claims(tmp_path) as mine, Claims(tmp_path) as theirs:
        assert mine.take("a")
        assert not theirs.take("a")
        assert theirs.take("b")
        mine.release("a")
        assert theirs.take("a")
    assert list((tmp_path / "claims").iterdir()) == []


def test_a_claim_that_is_released_while_another_waits_for_it_is_not_held_twice(tmp_path: Path) -> None:
    """A process that opened the file before it was removed must not hold a lock that no other sees."""
    holders: list[int] = []
    most: list[int] = []

    def worker(number: int) -> None:
        with Claims(tmp_path) as claims:
            taken = 0
            while taken < 50:
                if claims.take("a"):
                    holders.append(number)
                    most.append(len(holders))
                    holders.remove(number)
                    claims.release("a")
                    taken += 1

    threads = [threading.Thread(target=worker, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 200


def claim_and_die(results: Path) -> None:
    claims = Claims(results)
    assert claims.take("a")
    os._exit(9)


def test_a_claim_of_a_dead_process_lapses(tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=claim_and_die, args=(tmp_path,))
    process.start()
    process.join()
    assert process.exitcode == 9
    assert (tmp_path / "claims" / "a.lock").exists()
    with Claims(tmp_path) as claims:
        assert claims.take("a")


@pytest.mark.skipif(sys.platform == "win32", reason="there, claims are not shared")
def test_a_claim_with_two_holders_lapses_with_the_last(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    first = Claims(tmp_path)
    assert first.take("a")
    with ours, theirs:
        reduction.sendfds(ours, [first.descriptor("a")])
        (share,) = reduction.recvfds(theirs, 1)
    first._held.pop("a").close()  # as when the process is killed
    with Claims(tmp_path) as second:
        assert not second.take("a")
        os.close(share)
        assert second.take("a")
