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
from collections.abc import Iterator

import torch
from torch import Tensor

_WORD = 0xFFFFFFFF
_LONG = 0xFFFFFFFFFFFFFFFF
_GOLDEN = 0x9E3779B97F4A7C15
# On the CPU the scratch must stay in the cache; elsewhere every chunk costs a dozen kernel launches.
_CHUNK_ON_CPU = 1 << 16
_CHUNK = 1 << 23


def key(seed: int, step: int) -> tuple[int, int]:
    """The two words that select a step's sequence.

    Args:
        seed: any integer; taken modulo 2**64.
        step: how many draws came before.
    """
    mixed = _mix64(_mix64(seed + _GOLDEN) + step * _GOLDEN)
    return mixed & _WORD, mixed >> 32


def random_bits(seed: int, step: int, start: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Bits of the positions ``start`` to ``start + count - 1``.

    Returns:
        int32 (count,): the 32 bits of each element, uniform over all int32 values.
    """
    out = torch.empty(count, dtype=torch.int32, device=device)
    for part, bits in _chunks(seed, step, start, count, out.device):
        out[part] = bits
    return out


def bernoulli(seed: int, step: int, start: int, count: int, rate: float, device: torch.device | str = "cpu") -> Tensor:
    """Ω of StochGradAdam: 1 with probability ``rate``, else 0, independently.

    Args:
        rate: in (0, 1], to a resolution of 2**-32; 1 gives ones only.

    Returns:
        float32 (count,), to be multiplied with what is sampled.
    """
    below = round(rate * 2**32) - 2**31
    if below == 2**31:
        return torch.ones(count, dtype=torch.float32, device=device)
    out = torch.empty(count, dtype=torch.float32, device=device)
    for part, bits in _chunks(seed, step, start, count, out.device):
        torch.lt(bits, below, out=out[part])
    return out


def normal(seed: int, step: int, start: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Independent standard normal numbers.

    Returns:
        float32 (count,).
    """
    out = torch.empty(count, dtype=torch.float32, device=device)
    for part, bits in _chunks(seed, step, start, count, out.device):
        out[part] = bits.bitwise_right_shift_(8)
    return out.add_(0.5).mul_(2.0**-23).erfinv_().mul_(math.sqrt(2))


def _chunks(seed: int, step: int, start: int, count: int, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    """Which elements, and their bits in a buffer that the next chunk overwrites."""
    k0, k1 = key(seed, step)
    size = min(count, _CHUNK_ON_CPU if device.type == "cpu" else _CHUNK)
    counter = torch.arange(size, dtype=torch.int32, device=device)
    buffer, scratch = torch.empty_like(counter), torch.empty_like(counter)
    # torch.add(a, b, alpha=c) is a + b * c in one pass over b
    injected = torch.tensor(_signed(k1), dtype=torch.int32, device="cpu")
    for first in range(0, count, size or 1):
        part = slice(first, min(first + size, count))
        x, t = buffer[: part.stop - first], scratch[: part.stop - first]
        offset = torch.tensor(_signed((start + first) * 0x9E3779B9 + k0), dtype=torch.int32, device="cpu")
        torch.add(offset, counter[: part.stop - first], alpha=_signed(0x9E3779B9), out=x)
        _xor_shift(x, 16, t)
        torch.add(injected, x, alpha=_signed(0xED5AD4BB), out=x)
        _xor_shift(x, 11, t)
        x.mul_(_signed(0xAC4C1B51))
        _xor_shift(x, 15, t)
        x.mul_(_signed(0x31848BAB))
        yield part, x


def _xor_shift(x: Tensor, places: int, scratch: Tensor) -> None:
    """``x ^= x >> places`` with zeros shifted in: torch has no such shift of int32, hence the ``and``."""
    torch.bitwise_right_shift(x, places, out=scratch)
    x.bitwise_xor_(scratch.bitwise_and_(_WORD >> places))


def _mix64(z: int) -> int:
    z &= _LONG
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & _LONG
    z = (z ^ z >> 27) * 0x94D049BB133111EB & _LONG
    return z ^ z >> 31


def _signed(word: int) -> int:
    """The int32 with the same low 32 bits."""
    return (word + 2**31 & _WORD) - 2**31
