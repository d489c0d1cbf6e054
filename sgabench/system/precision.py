"""Whether bfloat16 is faster on this machine: measured once per processor, and kept."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sgabench.errors import InputError
from sgabench.system.native import Unavailable, cache_folder
from sgabench.system.processor import instructions, processor

if TYPE_CHECKING:
    from torch import Tensor, nn

VARIABLE = "SGABENCH_PRECISION"
WORTH = 1.1  # times as fast as fp32: less is not worth the loss of precision
_BATCH, _ROUNDS = 128, 7
_LAYERS = ((16, 32), (32, 16), (64, 8))  # channels, and height and width, of a CIFAR ResNet's 3 x 3 convolutions


def uses_bf16(device: str) -> bool:
    """Whether a recipe that allows bf16 uses it on a device, ``cpu`` or ``cuda``.

    If it is set, ``SGABENCH_PRECISION`` decides: ``bf16`` or ``fp32``. Otherwise a GPU with bf16 instructions uses it,
    and a processor with such instructions if they are at least `WORTH` times as fast as fp32.

    Raises:
        InputError: ``SGABENCH_PRECISION`` is something else.
    """
    requested = os.environ.get(VARIABLE, "auto") or "auto"
    if requested not in ("auto", "bf16", "fp32"):
        raise InputError(f"{VARIABLE}={requested}: must be auto, bf16 or fp32")
    if requested != "auto":
        return requested == "bf16"
    import torch

    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if not has_bf16_instructions():
        return False
    speedup = speedup_on_cpu()
    return speedup is None or speedup >= WORTH


def precision_here() -> str:
    """The effect of ``precision = "bf16"`` on this processor, to be appended to a sentence; empty without bf16."""
    if not has_bf16_instructions() or (speedup := speedup_on_cpu()) is None:
        return ""
    used = "bf16" if uses_bf16("cpu") else "fp32"
    return f', bf16 {speedup:.2f} times as fast as fp32: precision = "bf16" trains in {used}'


def speedup_on_cpu() -> float | None:
    """The speed of training convolutions in bf16 relative to fp32, with one thread; measured the first time.

    Returns:
        None if there is no safe place to keep the answer: processes that measured it again might disagree.
    """
    import torch

    from sgabench.system.convolution import implementation

    facts = (torch.__version__, platform.machine(), processor(), instructions(), implementation("cpu"))
    name = f"bf16-{hashlib.sha256(repr(facts).encode()).hexdigest()[:20]}.json"
    try:
        kept = cache_folder() / name
    except Unavailable:
        return None
    found = _read(kept)
    if found is None:
        _keep(kept, _measure())
        found = _read(kept)
    return found


def has_bf16_instructions() -> bool:
    """Whether the processor has bfloat16 instructions, rather than emulating them."""
    import torch

    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if supported is not None and supported():
        return True
    return platform.machine() in ("arm64", "aarch64") and "bf16" in instructions()


def _read(kept: Path) -> float | None:
    try:
        return float(json.loads(kept.read_text())["speedup"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _keep(kept: Path, speedup: float) -> None:
    """Keep the speedup; of several processes at the same time, the first one decides."""
    try:
        with tempfile.TemporaryDirectory(dir=kept.parent) as beside:
            made = Path(beside) / kept.name
            made.write_text(json.dumps({"speedup": round(speedup, 3)}))
            if _read(kept) is None:
                kept.unlink(missing_ok=True)  # it is damaged
            os.link(made, kept)
    except OSError:
        return  # another process was faster, or the disk is full


def _measure() -> float:
    """The median over rounds in which both precisions take turns."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            layers = [_layer(channels, size) for channels, size in _LAYERS]
        ratios = []
        for number in range(_ROUNDS + 1):
            seconds = {half: _pass(layers, half) for half in (False, True)}
            ratios += [seconds[False] / seconds[True]] if number else []  # the first round is a warm-up
        return statistics.median(ratios)
    finally:
        torch.set_num_threads(threads)


def _layer(channels: int, size: int) -> tuple[nn.Module, Tensor]:
    import torch

    from sgabench.system.convolution import Conv3x3

    layer = Conv3x3(channels, channels).to(memory_format=torch.channels_last)
    images = torch.randn(_BATCH, channels, size, size).to(memory_format=torch.channels_last)
    return layer, images.requires_grad_()


def _pass(layers: list[tuple[nn.Module, Tensor]], half: bool) -> float:
    """Seconds of a forward and a backward pass of all layers."""
    import torch

    started = time.perf_counter()
    with torch.enable_grad():
        for layer, images in layers:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                out = layer(images)
            out.backward(torch.ones_like(out))
    return time.perf_counter() - started
