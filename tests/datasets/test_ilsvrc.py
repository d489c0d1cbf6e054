"""ImageNet and Tiny ImageNet, as their archives are laid out, with a handful of images."""

from __future__ import annotations

import hashlib
import shutil
import threading
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from sgabench.datasets import ilsvrc
from sgabench.datasets.base import Dataset
from sgabench.errors import InputError
from sgabench.plugins import datasets

CLASSES = {"n01443537": (255, 0, 0), "n01629819": (0, 255, 0), "n01641577": (0, 0, 255)}


def save(path: Path, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (64, 64), colour).save(path, "JPEG")


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three classes of two images, and four images in the validation split; test images have no labels."""
    root = tmp_path / "tiny-imagenet-200"
    for wnid, colour in CLASSES.items():
        for number in range(2):
            save(root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG", colour)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text("")
    lines = []
    for number, wnid in enumerate(["n01641577", "n01443537", "n01629819", "n01443537"]):
        save(root / "val" / "images" / f"val_{number}.JPEG", CLASSES[wnid])
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(lines))
    save(root / "test" / "images" / "test_0.JPEG", (9, 9, 9))
    monkeypatch.setattr(ilsvrc, "TINY_COUNTS", {"classes": 3, "train": 6, "val": 4})
    return root


def load(name: str, data_dir: Path, **options: object) -> Dataset:
    dataset = datasets[name].build(data_dir, False, **datasets[name].resolve(options))
    assert isinstance(dataset, Dataset)
    return dataset


def test_tiny_imagenet_is_tested_on_its_validation_split(tiny: Path) -> None:
    for data_dir in (tiny.parent, tiny):
        dataset = load("tiny_imagenet", data_dir)
        assert dataset.classes == tuple(CLASSES)
        assert dataset.train_images.shape == (6, 3, 64, 64)
        assert dataset.train_labels.tolist() == [0, 0, 1, 1, 2, 2]
        assert dataset.test_labels.tolist() == [2, 0, 1, 0]
        assert dataset.test_images[slice(4)].float().mean((2, 3)).argmax(1).tolist() == [2, 0, 1, 0]
    assert load("tiny_imagenet", tiny.parent, image_size=32).spec.height == 32


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda root: (root / "val" / "images" / "val_2.JPEG").unlink(), "val_annotations.txt: line 3: no such image"),
        (
            lambda root: (root / "val" / "val_annotations.txt").write_text("val_0.JPEG\tn1\t0\n"),
            "line 1: no such image, or no such class",
        ),
        (lambda root: (root / "val" / "val_annotations.txt").write_text("../x\tn01443537\n"), "line 1: no such image"),
        (lambda root: (root / "val" / "val_annotations.txt").unlink(), "val_annotations.txt: No such file"),
        (
            lambda root: (root / "train" / "n01443537" / "images" / "n01443537_0.JPEG").unlink(),
            "has 3 classes, 5 training and 4 validation images, not 3 classes, 6 training",
        ),
        (lambda root: shutil.rmtree(root / "train" / "n01443537" / "images"), "images: No such file or directory"),
    ],
)
def test_what_is_not_as_it_was_published_is_one_line(tiny: Path, harm: Callable[[Path], object], message: str) -> None:
    harm(tiny)
    with pytest.raises(InputError, match=message):
        load("tiny_imagenet", tiny.parent)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server of this machine, which gives what is in the folder `served`."""
    (tmp_path / "served").mkdir()
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        urllib.request.install_opener(None)
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_the_archive_is_fetched_and_unpacked(
    tiny: Path, served: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a server of this machine; first with a wrong checksum, then with one that passes for the published one."""
    archive = Path(shutil.make_archive(str(tmp_path / "served" / "tiny"), "zip", tiny.parent, tiny.name))
    monkeypatch.setattr(ilsvrc, "TINY_URL", f"{served}/tiny.zip")
    data_dir = tmp_path / "elsewhere"
    with pytest.raises(
        InputError, match=r"cannot download to .*(corrupted|integrity).*; unpack tiny-imagenet-200\.zip there by hand"
    ):
        datasets["tiny_imagenet"].build(data_dir, True, image_size=64)
    monkeypatch.setattr(ilsvrc, "TINY_MD5", hashlib.md5(archive.read_bytes()).hexdigest())
    dataset = datasets["tiny_imagenet"].build(data_dir, True, image_size=64)
    assert isinstance(dataset, Dataset)
    assert dataset.test_labels.tolist() == [2, 0, 1, 0]
    assert [path.name for path in data_dir.iterdir()] == ["tiny-imagenet-200"]


def test_imagenet_and_its_parts_are_folders(tmp_path: Path) -> None:
    for wnid, colour in CLASSES.items():
        save(tmp_path / "few" / "train" / wnid / f"{wnid}_1.JPEG", colour)
        save(tmp_path / "few" / "val" / wnid / "ILSVRC2012_val_00000001.JPEG", colour)
    dataset = load("imagenet", tmp_path, path="few")
    assert dataset.train_images.shape == dataset.test_images.shape == (3, 3, 224, 224)
    assert dataset.classes == tuple(CLASSES)
    fingerprint = datasets["imagenet"].tags["fingerprint"]
    before = fingerprint(tmp_path, {"path": "few"})
    (tmp_path / "few").rename(tmp_path / "imagenet")
    assert fingerprint(tmp_path, {"path": "imagenet"}) == before
    assert len(load("imagenet", tmp_path, image_size=8).train_labels) == 3
    (tmp_path / "imagenet" / "val" / "n01443537").rename(tmp_path / "imagenet" / "val" / "other")
    with pytest.raises(InputError, match=r"'imagenet': .*class 'n01443537' is in train but not in val"):
        load("imagenet", tmp_path)
    with pytest.raises(InputError, match=r"'imagenet': no few in .*; it cannot be downloaded: ask image-net\.org"):
        load("imagenet", tmp_path, path="few")
