from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sgabench.store.files import Folder
from sgabench.system.interruption import Terminated, terminable
from sgabench.training.snapshot import Snapshots

CONTEXT = {"key": "abc", "threads": 1}
TREE = {
    "network": {"weight": torch.randn(3, 2), "half": torch.ones(2, dtype=torch.bfloat16), "count": torch.tensor(7)},
    "optimizer": {0: {"step": 3, "lr": 0.1 + 0.2}, "betas": (0.9, 0.999), "names": ["a", "b"], "none": None},
    "flags": [True, False],
    "seed": 2**63 - 1,
    "type": torch.bfloat16,
    "empty": torch.zeros(0),
}


def snapshots(path: Path, seconds: float = 0.0, **context: object) -> Snapshots:
    return Snapshots(Folder(path), "snapshots/x.safetensors", {**CONTEXT, **context}, seconds)


def equal(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        assert isinstance(other, torch.Tensor)
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        assert isinstance(other, dict)
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if isinstance(one, list | tuple):
        assert isinstance(other, list | tuple)
        return type(one) is type(other) and all(map(equal, one, other))
    return type(one) is type(other) and one == other


def test_what_is_saved_comes_back_to_the_last_bit(tmp_path: Path) -> None:
    snapshots(tmp_path).save(TREE)
    assert equal(snapshots(tmp_path).load(), TREE)
    assert [path.name for path in (tmp_path / "snapshots").iterdir()] == ["x.safetensors"]


@pytest.mark.parametrize("shape", [(2, 3, 4, 4), (2, 1, 3, 3), (2, 3, 1, 1), (1, 1, 2, 2), (3, 0, 2, 2)])
def test_tensors_lie_in_memory_as_they_did(tmp_path: Path, shape: tuple[int, ...]) -> None:
    image = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    tree = {
        "moment": image,
        "matrix": torch.randn(4, 3).T,
        "view": image[:, :, 1:],
        "expanded": torch.ones(1).expand(3),
    }
    snapshots(tmp_path).save(tree)
    loaded = snapshots(tmp_path).load()
    assert equal(loaded, tree)
    assert loaded["matrix"].stride() == (1, 3)
    sizes = [size > 1 for size in shape]
    pairs = zip(sizes, loaded["moment"].stride(), image.stride(), strict=True)
    assert image.numel() == 0 or all(one == other for matters, one, other in pairs if matters)


def test_there_is_none_before_the_first_and_after_the_last(tmp_path: Path) -> None:
    assert snapshots(tmp_path).load() is None
    snapshots(tmp_path).discard()
    snapshots(tmp_path).save(TREE)
    snapshots(tmp_path).discard()
    assert snapshots(tmp_path).load() is None


@pytest.mark.parametrize("changed", [{"key": "abd"}, {"threads": 2}, {"device": "cuda"}])
def test_a_snapshot_of_something_else_is_not_used(tmp_path: Path, changed: dict[str, object]) -> None:
    snapshots(tmp_path).save(TREE)
    assert snapshots(tmp_path, **changed).load() is None


@settings(max_examples=150)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_snapshot_is_not_used(
    tmp_path_factory: pytest.TempPathFactory, place: int, bit: int, cut: bool
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    snapshots(folder).save(TREE)
    path = folder / "snapshots" / "x.safetensors"
    content = bytearray(path.read_bytes())
    place %= len(content)
    if cut:
        content = content[:place]
    else:
        content[place] ^= 1 << bit
    path.write_bytes(content)
    loaded = snapshots(folder).load()
    assert loaded is None or equal(loaded, TREE)  # a bit of padding or of white space changes nothing


def test_what_cannot_be_saved_stops_nothing(tmp_path: Path) -> None:
    made = snapshots(tmp_path, 1e-9)
    assert made.due()
    made.save({"state": object()})
    assert not made.due()
    assert snapshots(tmp_path).load() is None


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("a file")
    snapshots(tmp_path).save(TREE)
    assert snapshots(tmp_path).load() is None


def test_snapshots_are_due_when_the_time_has_come(tmp_path: Path) -> None:
    assert not snapshots(tmp_path, 0).due()
    assert not snapshots(tmp_path, 3600).due()
    assert snapshots(tmp_path, 1e-9).due()


@pytest.mark.parametrize(
    ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)], ids=["ctrl-c", "term"]
)
def test_a_wish_to_stop_is_granted_at_the_next_step_with_a_snapshot(
    tmp_path: Path, number: signal.Signals, raised: type[BaseException]
) -> None:
    made = snapshots(tmp_path, 3600)
    before = signal.getsignal(number)

    def train() -> None:
        with made.listening():
            assert not made.due()
            os.kill(os.getpid(), number)
            assert made.due()
            made.save(TREE)

    with pytest.raises(raised):
        train()
    assert signal.getsignal(number) is before
    assert equal(snapshots(tmp_path).load(), TREE)


def test_a_second_wish_to_stop_is_granted_at_once(tmp_path: Path) -> None:
    made = snapshots(tmp_path, 3600)

    def train() -> None:
        with made.listening():
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train()


def test_signals_that_are_ignored_stay_ignored(tmp_path: Path) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        made = snapshots(tmp_path, 3600)
        with made.listening():
            os.kill(os.getpid(), signal.SIGINT)
            assert not made.due()
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_listens_to_nothing(tmp_path: Path) -> None:
    made = snapshots(tmp_path, 3600)
    reached = []

    def work() -> None:
        with made.listening(), terminable():
            reached.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert reached == [True]


def test_termination_is_an_exception() -> None:
    with pytest.raises(Terminated), terminable():
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_wish_that_no_step_grants_is_granted_at_the_end(tmp_path: Path, number: signal.Signals) -> None:
    def train() -> None:
        with snapshots(tmp_path, 3600).listening():
            os.kill(os.getpid(), number)

    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else Terminated):
        train()


def test_a_second_termination_does_not_cut_the_snapshot_short(tmp_path: Path) -> None:
    made = snapshots(tmp_path, 3600)

    def train() -> None:
        with made.listening():
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)
            made.save(TREE)

    with pytest.raises(Terminated):
        train()
    assert equal(snapshots(tmp_path).load(), TREE)
