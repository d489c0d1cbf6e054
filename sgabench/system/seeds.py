"""Randomness: every generator of a trial is seeded through `derive_seed`."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


def derive_seed(seed: int, *purpose: str | int) -> int:
    """Derive an independent seed for one purpose of a trial.

    The same (seed, purpose) gives the same result on every machine and version. Different purposes
    have unrelated streams, so that drawing more numbers for one never changes another.

    Args:
        seed: the trial's seed.
        purpose: what the numbers are for, e.g. ``"initial weights"`` or ``"batch order", epoch``.

    Returns:
        An integer in [0, 2**63).
    """
    text = "\x1f".join([str(seed), *(str(part) for part in purpose)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and NumPy for a while; some optimizers of packages use them."""
    import numpy as np

    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def state_of_globals() -> tuple[Any, ...]:
    """The state of these generators, as numbers and strings."""
    import numpy as np

    kind, key, *rest = np.random.get_state(legacy=True)
    return random.getstate(), (kind, np.asarray(key).tolist(), *rest)


def restore_globals(state: tuple[Any, ...]) -> None:
    """Restore their state."""
    import numpy as np

    random.setstate(state[0])
    np.random.set_state(state[1])
