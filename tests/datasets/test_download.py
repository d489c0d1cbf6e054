"""A download is complete or leaves nothing; without a network, it is one line and soon."""

from __future__ import annotations

import socket
import threading
import urllib.request
from pathlib import Path

import pytest

from sgabench.datasets import fashion, locate
from sgabench.errors import InputError
from sgabench.plugins import datasets


def write(beside: Path) -> None:
    (beside / "set").mkdir()
    (beside / "set" / "file").write_text("new")


def test_folder_is_moved_into_place(tmp_path: Path) -> None:
    data_dir = tmp_path / "not yet" / "there"
    folder = locate.fetch("toy", data_dir, "set", write, "how")
    assert folder == data_dir / "set"
    assert (folder / "file").read_text() == "new"
    assert list(data_dir.iterdir()) == [folder]


def test_interrupted_download_leaves_nothing(tmp_path: Path) -> None:
    def interrupted(beside: Path) -> None:
        write(beside)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        locate.fetch("toy", tmp_path, "set", interrupted, "how")
    assert list(tmp_path.iterdir()) == []


def test_the_second_process_takes_what_is_there(tmp_path: Path) -> None:
    def overtaken(beside: Path) -> None:
        write(beside)
        (tmp_path / "set").mkdir()
        (tmp_path / "set" / "file").write_text("first")

    assert (locate.fetch("toy", tmp_path, "set", overtaken, "how") / "file").read_text() == "first"


def test_nowhere_to_write_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"'toy': cannot download to .*file"):
        locate.fetch("toy", tmp_path / "file", "set", write, "how")


@pytest.mark.parametrize("name", ["cifar10", "cifar100", "fashion_mnist", "svhn", "tiny_imagenet"])
def test_without_network_the_answer_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fashion, "DEBIAN_FOLDER", tmp_path / "not installed")
    with pytest.raises(InputError, match=f"'{name}': cannot download to {tmp_path}.*refused.*; .* by hand") as caught:
        datasets[name].build(tmp_path, True)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_silent_server_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def accept_and_say_nothing() -> None:
            with server.accept()[0]:
                done.wait(300)  # to close the connection would be another answer than none

        thread = threading.Thread(target=accept_and_say_nothing, daemon=True)
        thread.start()
        for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{server.getsockname()[1]}")
        urllib.request.install_opener(None)
        with pytest.raises(InputError, match="timed out"):
            datasets["cifar10"].build(tmp_path, True)
        done.set()
        thread.join()
    assert socket.getdefaulttimeout() is None
