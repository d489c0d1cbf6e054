"""The parts of a pruner beside its score, as written in suites: which weights go together, and how much goes where."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sgabench.errors import InputError, shorten

ALLOCATIONS = ("global", "layer", "erk", "lamp")
MAX_GROUP = 1024  # weights in a row of N:M, rows and columns of a block
MAX_NAMES = 100  # of an allocation
_N_OF_M = re.compile(r"([0-9]{1,4}):([0-9]{1,4})")


@dataclass(frozen=True)
class Pattern:
    """Which weights go together.

    Attributes:
        kind: ``weights``: each alone; ``n:m``: of every m in a row at most n stay; ``block``; ``filters``.
        sizes: n and m; rows and columns of a block; empty for the others.
    """

    kind: str
    sizes: tuple[int, int] = (1, 1)

    @property
    def least(self) -> float:
        """The smallest ratio at which the whole network can have the pattern."""
        return 1 - self.sizes[0] / self.sizes[1] if self.kind == "n:m" else 0.0


def read_pattern(written: Any) -> Pattern:
    """Parse a pattern: ``"weights"``, ``"2:4"``, ``{block = [4, 4]}`` or ``"filters"``.

    Raises:
        ValueError: it is none of these.
    """
    if written in ("weights", "filters"):
        return Pattern(written)
    if written == "channels":
        raise ValueError("channels are removed by 'structured' and 'tp:NAME'; 'filters' sets whole ones to zero")
    if isinstance(written, str) and (match := _N_OF_M.fullmatch(written)):
        n, m = int(match[1]), int(match[2])
        if not 1 <= n < m <= MAX_GROUP:
            raise ValueError(f"'N:M' keeps N of M weights: 1 <= N < M <= {MAX_GROUP}, got {written!r}")
        return Pattern("n:m", (n, m))
    if isinstance(written, Mapping) and list(written) == ["block"]:
        sizes = written["block"]
        if isinstance(sizes, list | tuple) and len(sizes) == 2 and all(type(size) is int for size in sizes):
            if not all(1 <= size <= MAX_GROUP for size in sizes) or max(sizes) == 1:
                raise ValueError(f"block has from 1 to {MAX_GROUP} rows and columns, and not 1 of both, got {sizes}")
            return Pattern("block", (sizes[0], sizes[1]))
    valid = "'weights', 'N:M' such as '2:4', {block = [ROWS, COLUMNS]} or 'filters'"
    raise ValueError(f"must be {valid}, got {shorten(written)}")


def check_pattern(written: Any) -> Any:
    """The pattern in its canonical form, which enters keys.

    Raises:
        ValueError: as `read_pattern`.
    """
    pattern = read_pattern(written)
    if pattern.kind == "n:m":
        return "{}:{}".format(*pattern.sizes)
    return {"block": list(pattern.sizes)} if pattern.kind == "block" else pattern.kind


def check_allocation(written: Any) -> Any:
    """Check an allocation: a name, or a table of ratios by names of layers.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(written, str) and written in ALLOCATIONS:
        return written
    if not isinstance(written, Mapping):
        valid = ", ".join(map(repr, ALLOCATIONS))
        raise ValueError(f"must be {valid} or a table of ratios by layer names, got {shorten(written)}")
    if not 1 <= len(written) <= MAX_NAMES:
        raise ValueError(f"a table of ratios has 1 to {MAX_NAMES} names, got {len(written)}")
    for name, ratio in written.items():
        if type(ratio) not in (int, float) or not 0 <= ratio < 1:
            raise ValueError(f"the ratio of {shorten(name)} must be in [0, 1), got {shorten(ratio)}")
    return {str(name): float(ratio) for name, ratio in written.items()}


def check_ratios(pattern: Pattern, allocation: Any, ratios: tuple[float, ...]) -> None:
    """Refuse ratios at which a network cannot have the pattern.

    Raises:
        InputError: names the smallest possible ratio.
    """
    if not pattern.least:
        return
    kept, size = pattern.sizes
    message = f"pattern '{kept}:{size}' sets at least {pattern.least:g} of the weights to zero"
    for ratio in ratios:
        if 0 < ratio < pattern.least:
            raise InputError(f"ratios: {message}: {ratio:g} is impossible; give this entry ratios of its own")
    for name, ratio in allocation.items() if isinstance(allocation, Mapping) else ():
        if 0 < ratio < pattern.least:
            raise InputError(f"allocation: {message}: {ratio:g} of {name!r} is impossible; 0 leaves a layer unchanged")
