"""Randomness: every generator of a trial is seeded through `derive_seed`."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive an independent seed for one purpose of a trial.

    The same (seed, purpose) gives the same result on every machine and version. Different purposes
    give unrelated streams, so that drawing more numbers for one never changes another.

    Args:
        seed: the trial's seed.
        purpose: what the numbers are for, e.g. ``"initial weights"`` or ``"batch order", epoch``.

    Returns:
        An integer in [0, 2**63).
    """
    text = "\x1f".join([str(seed), *(str(part) for part in purpose)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
