from __future__ import annotations

import logging
from collections.abc import Callable

import pytest
import torch
from test_training import RECIPE, make_data, make_network, same, sgd
from torch import nn

from sgabench.suite.tables import Recipe
from sgabench.training import capture
from sgabench.training.capture import TIMED_STEPS, WARM_UP_STEPS, Capture, CudaGraph
from sgabench.training.loop import Training, train
from sgabench.training.step import GradientStep, Replayed

LONG = RECIPE.model_copy(update={"epochs": 90})  # of three steps each


class Twin:
    """What a CUDA graph does, done by the passes: writes new gradients into the memory of the captured ones."""

    def __init__(self, step: GradientStep) -> None:
        self._step = step
        step.forget_gradients()
        step.passes()
        self.replays = 0

    def replay(self) -> None:
        self.replays += 1
        parameters = list(self._step.network.parameters())
        captured = [parameter.grad for parameter in parameters]
        self._step.forget_gradients()
        self._step.passes()
        for parameter, gradient in zip(parameters, captured, strict=True):
            assert gradient is not None
            assert parameter.grad is not None
            parameter.grad = gradient.copy_(parameter.grad)


def trained(how: Capture | None, recipe: Recipe = LONG) -> tuple[nn.Module, Training]:
    network = make_network()
    training = train(network, sgd(network), make_data(), recipe, 0, precision="fp32", capture=how)
    return network, training


def history(training: Training) -> list[tuple[float, float]]:
    return [(row["loss"], row["top1"]) for row in training.history]


@pytest.fixture(autouse=True)
def _nothing_captured_yet(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(capture, "_seconds_to_capture", [])
    caplog.set_level(logging.INFO, logger="sgabench")


def test_captured_steps_train_as_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    twins: list[Twin] = []

    def twin(step: GradientStep) -> Replayed:
        twins.append(Twin(step))
        return twins[-1]

    eager, captured = trained(None), trained(twin)
    assert twins[0].replays > TIMED_STEPS
    assert history(captured[1]) == history(eager[1])
    assert same(captured[0], eager[0])
    assert "s captured, " in caplog.text


def test_what_is_slower_captured_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    class Slow(Twin):
        def replay(self) -> None:
            for _ in range(3):
                saved = [buffer.clone() for buffer in (*self._step.network.buffers(), self._step.totals)]
                super().replay()
                for buffer, value in zip((*self._step.network.buffers(), self._step.totals), saved, strict=True):
                    buffer.copy_(value)
            super().replay()

    slow = trained(Slow)
    assert same(slow[0], trained(None)[0])
    assert "not captured: passes take" in caplog.text


def wrong_gradients(step: GradientStep) -> Replayed:
    class Stale(Twin):
        def replay(self) -> None:
            self._step.totals += 1

    return Stale(step)


def no_capture(step: GradientStep) -> Replayed:
    step.passes()
    raise RuntimeError("operation not permitted when stream is capturing")


@pytest.mark.parametrize(
    ("how", "message"),
    [(wrong_gradients, "a replay gives different gradients"), (no_capture, "operation not permitted")],
)
def test_what_goes_wrong_changes_nothing(
    how: Callable[[GradientStep], Replayed], message: str, caplog: pytest.LogCaptureFixture
) -> None:
    network, training = trained(how)
    eager = trained(None)
    assert same(network, eager[0])
    assert history(training) == history(eager[1])
    assert f"steps are not captured: {message}" in caplog.text.replace("RuntimeError: ", "")


def test_a_short_training_is_not_captured(caplog: pytest.LogCaptureFixture) -> None:
    steps = WARM_UP_STEPS + TIMED_STEPS
    trained(no_capture, RECIPE.model_copy(update={"epochs": steps // 3 + 2}))
    assert "not captured: " in caplog.text
    assert "not permitted" not in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_cuda_graph_gives_the_losses_of_eager_steps() -> None:
    results = []
    for how in (None, CudaGraph):
        network, data = make_network().cuda(), make_data()
        on_device = data.__class__(
            data.spec,
            *(
                part.__class__(part.images.cuda(), part.labels.cuda())
                for part in (data.train, data.validation, data.test)
            ),
            data.mean.cuda(),
            data.std.cuda(),
        )
        results.append(train(network, sgd(network), on_device, LONG, 0, precision="fp32", capture=how))
    eager, captured = (torch.tensor(history(result)) for result in results)
    # Rounding shows on the first captured steps, and grows over many.
    first = 12
    torch.testing.assert_close(captured[:first], eager[:first], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(captured[-1, 0], eager[-1, 0], rtol=0.05, atol=0.01)
