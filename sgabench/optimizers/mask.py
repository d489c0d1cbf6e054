"""Random numbers without a state: a counter, hashed.

The 32 bits of an element are a pure function of (seed, step, position), where the position counts
the elements of an optimizer's parameters in their order (row-major inside a parameter): parameter
k's element i has the position ``numel(0) + ... + numel(k - 1) + i``. Nothing else enters: not the
device, the memory layout, the order of execution, nor which parameters have a gradient. A resumed
training therefore draws what an uninterrupted one would have drawn, and no two elements of a
network share a number by construction, which keys per parameter could not promise.

The algorithm, in unsigned 32-bit arithmetic unless said otherwise:

1. Key, in unsigned 64-bit arithmetic. ``mix64`` is the finalizer of SplitMix64 (Steele, Lea & Flood,
   OOPSLA 2014): ``z ^= z >> 30; z *= 0xBF58476D1CE4E5B9; z ^= z >> 27; z *= 0x94D049BB133111EB;
   z ^= z >> 31``. With G = 0x9E3779B97F4A7C15, ``key = mix64(mix64(seed + G) + step * G)``;
   k0 is its low and k1 its high half.
2. Element. ``x = position * 0x9E3779B9 + k0``;
   ``x ^= x >> 16; x = x * 0xED5AD4BB + k1;``
   ``x ^= x >> 11; x *= 0xAC4C1B51;``
   ``x ^= x >> 15; x *= 0x31848BAB``
   which has the multipliers of Wellons' triple32, and the second half of the key injected after the
   first round: without that, two steps would read two windows of one and the same sequence.

Read as a signed number b in [-2**31, 2**31), the bits give

- Bernoulli(s): 1 where ``b < round(s * 2**32) - 2**31``;
- a standard normal: ``sqrt(2) * erfinv(((b >> 8) + 0.5) / 2**23)`` in float32 (``>>`` arithmetic),
  symmetric, at most 5.4 away from zero.

Positions count modulo 2**32. Bits and Bernoulli draws are the same on every device; normals to the
rounding of its erfinv.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_LONG = 0xFFFFFFFFFFFFFFFF
_GOLDEN = 0x9E3779B97F4A7C15
# On the CPU the scratch must stay in the cache; elsewhere every chunk costs a dozen kernel launches.
_CHUNK_ON_CPU = 1 << 16
_CHUNK = 1 << 20


def key(seed: int, step: int) -> tuple[int, int]:
    """The two words that select a step's sequence.

    Args:
        seed: any integer; taken modulo 2**64.
        step: how many draws came before.
    """
    mixed = _mix64(_mix64(seed + _GOLDEN) + step * _GOLDEN)
    return mixed & _WORD, mixed >> 32


def threshold(rate: float) -> int:
    """What the bits of an element, as a signed number, must be below for it to be kept; 2**31 keeps all."""
    return round(rate * 2**32) - 2**31


def random_bits(seed: int, step: int, start: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Bits of the positions ``start`` to ``start + count - 1``.

    Returns:
        int32 (count,): the 32 bits of each element, uniform over all int32 values.
    """
    out = torch.empty(count, dtype=torch.int32, device=device)

    def put(bits: Tensor, to: Tensor) -> None:
        if to.device.type == "cpu":
            np.copyto(to.numpy(), bits.numpy())
        else:
            to.copy_(bits)

    _hash(seed, step, start, out, put)
    return out


def bernoulli(seed: int, step: int, start: int, count: int, rate: float, device: torch.device | str = "cpu") -> Tensor:
    """Ω of StochGradAdam: 1 with probability ``rate``, else 0, independently.

    Args:
        rate: in (0, 1], to a resolution of 2**-32; 1 gives ones only.

    Returns:
        float32 (count,), to be multiplied with what is sampled.
    """
    below = threshold(rate)
    if below == 2**31:
        return torch.ones(count, dtype=torch.float32, device=device)
    out = torch.empty(count, dtype=torch.float32, device=device)

    def put(bits: Tensor, to: Tensor) -> None:
        if to.device.type == "cpu":
            np.less(bits.numpy(), np.int32(below), out=to.numpy(), casting="unsafe")
        else:
            torch.lt(bits, below, out=to)

    _hash(seed, step, start, out, put)
    return out


def normal(seed: int, step: int, start: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Independent standard normal numbers.

    Returns:
        float32 (count,).
    """
    out = torch.empty(count, dtype=torch.float32, device=device)

    def put(bits: Tensor, to: Tensor) -> None:
        if to.device.type == "cpu":
            np.right_shift(bits.numpy(), 8, out=to.numpy(), casting="unsafe")
        else:
            to.copy_(bits.bitwise_right_shift_(8))

    _hash(seed, step, start, out, put)
    return out.add_(0.5).mul_(2.0**-23).erfinv_().mul_(math.sqrt(2))


def _hash(seed: int, step: int, start: int, out: Tensor, put: Callable[[Tensor, Tensor], object]) -> None:
    """Compute the bits of as many positions as ``out`` has, a chunk at a time, and ``put`` them into it.

    On the CPU ``put`` is called in several threads: it must not use torch, whose own threads would add to them.
    """
    count, words = len(out), key(seed, step)
    if out.device.type != "cpu":
        _hash_by_torch(*words, start, out, put)
        return
    workers = min(torch.get_num_threads(), count // (4 * _CHUNK_ON_CPU))
    if workers <= 1:
        _hash_by_numpy(*words, start, out, put)
        return
    bounds = [count * worker // workers for worker in range(workers + 1)]
    parts = [(start + begin, out[begin:end]) for begin, end in pairwise(bounds)]
    list(_threads(workers).map(lambda part: _hash_by_numpy(*words, part[0], part[1], put), parts))


@lru_cache(maxsize=1)
def _threads(workers: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(workers)


def _hash_by_numpy(k0: int, k1: int, start: int, out: Tensor, put: Callable[[Tensor, Tensor], object]) -> None:
    """NumPy has unsigned integers, lets other threads run, and costs a third of torch per call."""
    counter, buffer, scratch = (np.empty(min(len(out), _CHUNK_ON_CPU), np.uint32) for _ in range(3))
    np.multiply(np.arange(len(counter), dtype=np.uint32), np.uint32(0x9E3779B9), out=counter)
    for first in range(0, len(out), _CHUNK_ON_CPU):
        to = out[first : first + _CHUNK_ON_CPU]
        x, t = buffer[: len(to)], scratch[: len(to)]
        offset = np.uint32((start + first) * 0x9E3779B9 + k0 & _WORD)
        np.add(counter[: len(to)], offset, out=x)
        np.bitwise_xor(x, np.right_shift(x, np.uint32(16), out=t), out=x)
        np.multiply(x, np.uint32(0xED5AD4BB), out=x)
        np.add(x, np.uint32(k1), out=x)
        np.bitwise_xor(x, np.right_shift(x, np.uint32(11), out=t), out=x)
        np.multiply(x, np.uint32(0xAC4C1B51), out=x)
        np.bitwise_xor(x, np.right_shift(x, np.uint32(15), out=t), out=x)
        np.multiply(x, np.uint32(0x31848BAB), out=x)
        put(torch.from_numpy(x.view(np.int32)), to)


def _hash_by_torch(k0: int, k1: int, start: int, out: Tensor, put: Callable[[Tensor, Tensor], object]) -> None:
    counter = torch.arange(min(len(out), _CHUNK), dtype=torch.int32, device=out.device)
    buffer, scratch = torch.empty_like(counter), torch.empty_like(counter)
    # torch.add(a, b, alpha=c) is a + b * c in one pass over b
    injected = torch.tensor(signed(k1), dtype=torch.int32, device="cpu")
    for first in range(0, len(out), _CHUNK):
        to = out[first : first + _CHUNK]
        x, t = buffer[: len(to)], scratch[: len(to)]
        offset = torch.tensor(signed((start + first) * 0x9E3779B9 + k0), dtype=torch.int32, device="cpu")
        torch.add(offset, counter[: len(to)], alpha=signed(0x9E3779B9), out=x)
        _xor_shift(x, 16, t)
        torch.add(injected, x, alpha=signed(0xED5AD4BB), out=x)
        _xor_shift(x, 11, t)
        x.mul_(signed(0xAC4C1B51))
        _xor_shift(x, 15, t)
        x.mul_(signed(0x31848BAB))
        put(x, to)


def _xor_shift(x: Tensor, places: int, scratch: Tensor) -> None:
    """``x ^= x >> places`` with zeros shifted in: torch has no such shift of int32, hence the ``and``."""
    torch.bitwise_right_shift(x, places, out=scratch)
    x.bitwise_xor_(scratch.bitwise_and_(_WORD >> places))


def _mix64(z: int) -> int:
    z &= _LONG
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _LONG
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _LONG
    return z ^ z >> 31


def signed(word: int) -> int:
    """The int32 with the same low 32 bits."""
    return (word + 2**31 & _WORD) - 2**31
