"""StochGradAdam's step on CUDA as one Triton kernel, over all parameters of a group in one launch."""

from __future__ import annotations

from functools import lru_cache

import torch
import triton
import triton.language as tl
from torch import Tensor

from sgabench.optimizers import mask
from sgabench.optimizers.sampling import Placed
from sgabench.optimizers.updates import State, laid_out_as, memory_layout, step_size_and_root

INTERPRETED = bool(triton.knobs.runtime.interpret)
_BLOCK = 1024
_ADDRESSES = tl.constexpr(9)  # words of an item: four addresses, size, position, channels, pixels, sampled


@triton.jit(do_not_specialize=["key_low", "key_high", "below"])  # type: ignore[untyped-decorator]
def _kernel(  # type: ignore[no-untyped-def]  # Triton takes annotations for globals
    items,
    scalars,
    blocks,
    key_low,
    key_high,
    below,
    kept,
    shrink,
    decay,
    weight1,
    beta2,
    weight2,
    eps,
    sign,
    near: tl.constexpr,
    mask_decay: tl.constexpr,
    block_size: tl.constexpr,
):
    block = blocks + 2 * tl.program_id(0)
    index = tl.load(block)
    item = items + index * _ADDRESSES
    size = tl.load(item + 4)
    offsets = tl.load(block + 1).to(tl.int64) * block_size + tl.arange(0, block_size)
    inside = offsets < size
    parameter = tl.load(item).to(tl.pointer_type(tl.float32)) + offsets
    gradient = tl.load(item + 1).to(tl.pointer_type(tl.float32)) + offsets
    moment = tl.load(item + 2).to(tl.pointer_type(tl.float32)) + offsets
    second = tl.load(item + 3).to(tl.pointer_type(tl.float32)) + offsets

    channels = tl.load(item + 6).to(tl.uint32)
    pixels = tl.load(item + 7).to(tl.uint32)
    position = offsets.to(tl.uint32)
    if channels > 1:
        row = position // channels
        outer = row // pixels
        position = (outer * channels + position % channels) * pixels + row % pixels
    x = (position + tl.load(item + 5).to(tl.uint32)) * 0x9E3779B9 + key_low.to(tl.uint32, bitcast=True)
    x ^= x >> 16
    x = x * 0xED5AD4BB + key_high.to(tl.uint32, bitcast=True)
    x ^= x >> 11
    x *= 0xAC4C1B51
    x ^= x >> 15
    x *= 0x31848BAB
    factor = tl.where(x.to(tl.int32, bitcast=True) < below, kept, 0.0)
    factor = tl.where(tl.load(item + 8) != 0, factor, 1.0)

    value = tl.load(parameter, mask=inside) * shrink
    phi = tl.load(gradient, mask=inside) * sign
    phi = (phi + decay * value) * factor if mask_decay else phi * factor + decay * value
    m = tl.load(moment, mask=inside)
    far = phi - m
    if near:
        m += weight1 * far
    else:
        m = phi - far * (1 - weight1)
    v = tl.load(second, mask=inside) * beta2 + weight2 * phi * phi
    step_size = tl.load(scalars + 2 * index)
    root = tl.load(scalars + 2 * index + 1)
    tl.store(moment, m, mask=inside)
    tl.store(second, v, mask=inside)
    tl.store(parameter, value - step_size * m / (tl.sqrt_rn(v) / root + eps), mask=inside)


def takes(parameter: Tensor) -> bool:
    """Whether the kernel can update it: dense float32 on CUDA, or on the CPU under Triton's interpreter."""
    device = parameter.device.type
    return (
        parameter.dtype == torch.float32
        and (device == "cuda" or (device == "cpu" and INTERPRETED))
        and memory_layout(parameter) is not None
    )


def step(items: list[Placed], states: list[State]) -> None:
    """Update parameters of one group and device that `takes` accepts."""
    group, device = items[0].group, items[0].parameter.device
    below = mask.threshold(group["sampling_rate"])
    rows: list[list[int]] = []
    alive = []  # copies of gradients must outlive the launch
    for item, state in zip(items, states, strict=True):
        layout = memory_layout(item.parameter)
        assert layout is not None
        alive.append(laid_out_as(item.parameter, item.gradient))
        tensors = (item.parameter, alive[-1], state["exp_avg"], state["exp_avg_sq"])
        sampled = item.sampled and below < 2**31
        addresses = [tensor.data_ptr() for tensor in tensors]
        rows.append([*addresses, item.parameter.numel(), item.position, *layout, sampled])
    steps = [state["step"] for state in states]
    torch._foreach_add_(steps, 1)
    sizes = [step_size_and_root(value, group) for value in torch.stack(steps).tolist()]
    blocks = _blocks(tuple(row[4] for row in rows), device)
    if not len(blocks):
        return
    decay = group["weight_decay"]
    coupled = not group["decoupled_weight_decay"]
    key = mask.key(group["seed"], group["sampling_step"])
    with torch.cuda.device(device if device.type == "cuda" else -1):
        _kernel[(len(blocks),)](
            _on(device, torch.tensor(rows, dtype=torch.int64, device="cpu")),
            _on(device, torch.tensor(sizes, dtype=torch.float32, device="cpu")),
            blocks,
            *(mask.signed(word) for word in key),
            min(below, 2**31 - 1),
            1 / group["sampling_rate"] if group["rescale"] else 1.0,
            1.0 if coupled else 1 - float(group["lr"]) * decay,
            float(decay) if coupled else 0.0,
            1 - group["betas"][0],
            group["betas"][1],
            1 - group["betas"][1],
            group["eps"],
            -1.0 if group["maximize"] else 1.0,
            near=1 - group["betas"][0] < 0.5,
            mask_decay=bool(group["mask_weight_decay"]),
            block_size=_BLOCK,
        )


@lru_cache(maxsize=16)
def _blocks(sizes: tuple[int, ...], device: torch.device) -> Tensor:
    """Which part of which item each program of the kernel updates: int32 (programs, 2)."""
    counts = torch.tensor([-(-size // _BLOCK) for size in sizes], device="cpu")
    index = torch.repeat_interleave(torch.arange(len(sizes), device="cpu"), counts)
    part = torch.arange(len(index), device="cpu") - (counts.cumsum(0) - counts)[index]
    return torch.stack([index, part], 1).to(device, torch.int32)


def _on(device: torch.device, table: Tensor) -> Tensor:
    """Without waiting for the device, which a copy from pageable memory would."""
    return table.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else table
