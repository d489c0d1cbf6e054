"""The probe of corruptions: what it does to images, and that it is the same images wherever and however they are."""

from __future__ import annotations

import colorsys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import TINY, variant
from torch import Tensor
from trials import by_kind, run_one, tasks

from sgabench.cli import main
from sgabench.datasets.streamed import Streamed
from sgabench.errors import InputError
from sgabench.probes import ALL_KINDS, ALL_STRENGTHS
from sgabench.probes.corruptions import CONSTANTS, corrupted
from sgabench.training.building import load_data

GREY = torch.full((2, 3, 64, 64), 128, dtype=torch.uint8)


def some_images(channels: int = 3) -> Tensor:
    return torch.randint(0, 256, (6, channels, 12, 10), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_every_kind_has_five_strengths() -> None:
    assert tuple(CONSTANTS) == ALL_KINDS
    assert all(len(values) == len(ALL_STRENGTHS) for values in CONSTANTS.values())


@pytest.mark.parametrize("kind", ALL_KINDS)
@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_corrupted_alike_in_any_batch(kind: str, channels: int) -> None:
    images = some_images(channels)
    whole = corrupted(images, 10, kind, 5)
    parts = [
        corrupted(images[:1], 10, kind, 5),
        corrupted(images[1:4], 11, kind, 5),
        corrupted(images[4:], 14, kind, 5),
    ]
    assert torch.equal(whole, torch.cat(parts))
    assert whole.shape == images.shape
    assert not torch.equal(whole, images)


@pytest.mark.parametrize("kind", ["gaussian_noise", "shot_noise", "impulse_noise"])
def test_other_images_and_strengths_have_other_noise(kind: str) -> None:
    first, second = corrupted(GREY, 0, kind, 3)
    assert not torch.equal(first, second)
    assert not torch.equal(corrupted(GREY, 0, kind, 4)[0], first)


def test_noise_is_as_strong_as_said() -> None:
    white = torch.full((1, 3, 64, 64), 255, dtype=torch.uint8)
    for strength in ALL_STRENGTHS:
        noise = corrupted(GREY, 0, "gaussian_noise", strength).double() / 255
        assert noise.std().item() == pytest.approx(CONSTANTS["gaussian_noise"][strength - 1], rel=0.03)
        photons = corrupted(GREY, 0, "shot_noise", strength).double() / 255
        assert photons.mean().item() == pytest.approx(0.5, abs=0.01)
        spread = (128 / 255 / CONSTANTS["shot_noise"][strength - 1]) ** 0.5
        assert photons.std().item() == pytest.approx(spread, rel=0.03)
        hit = corrupted(GREY, 0, "impulse_noise", strength)
        share = CONSTANTS["impulse_noise"][strength - 1]
        assert (hit == 0).double().mean().item() == pytest.approx(share / 2, rel=0.3)
        assert (hit == 255).double().mean().item() == pytest.approx(share / 2, rel=0.3)
        assert (corrupted(white, 0, "impulse_noise", strength) == 0).double().mean().item() < share


def test_brightness_is_added_to_the_value_of_hsv() -> None:
    image = some_images()[:1]
    image[0, :, 0, 0] = 0
    brighter = corrupted(image, 0, "brightness", 2)
    for pixel, found in zip(image[0].flatten(1).T.tolist(), brighter[0].flatten(1).T.tolist(), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*(number / 255 for number in pixel))
        wanted = [255 * number for number in colorsys.hsv_to_rgb(hue, saturation, min(value + 0.1, 1))]
        assert np.allclose(found, wanted, atol=1), pixel


def test_contrast_is_less_of_the_distance_from_the_mean_of_a_colour() -> None:
    image = torch.tensor([0, 200], dtype=torch.uint8).repeat(1, 3, 4, 2)
    image[:, 1] = 50
    found = corrupted(image, 0, "contrast", 4)
    assert found[0, 0, 0].tolist() == [70, 130, 70, 130]
    assert (found[0, 1] - 50).abs().max() <= 1


def test_blur_is_a_gaussian_within_each_colour() -> None:
    image = torch.zeros(1, 3, 9, 9, dtype=torch.uint8)
    image[0, 1, 4, 4] = 255
    found = corrupted(image, 0, "gaussian_blur", 5)
    kernel = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    kernel /= kernel.sum()
    assert np.allclose(found[0, 1].numpy(), 255 * np.outer(kernel, kernel), atol=1)
    assert not found[0, [0, 2]].any()


def test_jpeg_takes_grey_and_colours_only() -> None:
    with pytest.raises(InputError, match="jpeg_compression: needs images of 1 or 3 channels, not 2; leave it out of k"):
        corrupted(some_images(2), 0, "jpeg_compression", 1)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    variant(path, "[[pruners]]", '[[probes]]\nname = "corruptions"\nstrengths = [1, 5]\n\n[[pruners]]')
    return variant(path, 'name = "digits"\n', 'name = "digits"\ntest_size = 50\n')


def test_dense_and_pruned_networks_are_looked_at(suite: Path, tmp_path: Path) -> None:
    task = tasks(suite, tmp_path)[0]
    records = run_one(task)
    found = by_kind(records, "probe")
    assert [record.parent for record in found] == [by_kind(records, kind)[0].key for kind in ("trial", "cell")]
    for record in found:
        assert set(record.result) == {"mean", *ALL_KINDS}
        for kind in ALL_KINDS:
            of_kind = record.detail["by_strength"][kind]
            assert list(of_kind) == ["1", "5"]
            assert record.result[kind] == sum(of_kind.values()) / 2
        assert record.result["mean"] == pytest.approx(sum(record.result[kind] for kind in ALL_KINDS) / len(ALL_KINDS))
    accuracies = [record.result["mean"] for record in found]
    assert accuracies[0] != accuracies[1]


def test_streamed_images_give_the_same(suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = tasks(suite, tmp_path)[0]
    resident = by_kind(run_one(task), "probe")

    def streamed(*arguments: Any) -> Any:
        data = load_data(*arguments)
        assert isinstance(data.test.images, Tensor)
        return replace(data, test=replace(data.test, images=Streamed(data.test.images)))

    monkeypatch.setattr("sgabench.running.trial.load_data", streamed)
    monkeypatch.setattr("sgabench.training.evaluation.EVALUATION_BATCH", 7)
    again = by_kind(run_one(task), "probe")
    # other batches may round logits otherwise; the images are the same
    assert [record.result for record in again] == [pytest.approx(record.result, abs=0.021) for record in resident]


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        ('kinds = ["fog"]', "(corruptions): kinds 1: input should be 'gaussian_noise', 'shot_noise', "),
        ("strengths = [6]", "(corruptions): strengths 1: input should be less than or equal to 5, got 6"),
        ("strengths = []", "(corruptions): strengths: the list is empty"),
        ("strengths = [1, 1]", "(corruptions): strengths: one is named twice"),
    ],
)
def test_wrong_options_are_a_line(suite: Path, option: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    variant(suite, "strengths = [1, 5]", option)
    with pytest.raises(SystemExit, match="2"):
        main(["plan", str(suite)])
    errors = capsys.readouterr().err
    assert problem in errors
    assert errors.count("\n") == 1
