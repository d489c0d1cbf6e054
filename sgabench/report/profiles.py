"""Performance profiles as text."""

from __future__ import annotations

from typing import Any

import pandas as pd

from sgabench.evidence.ranks import Profiles
from sgabench.report.display import interval, percent

SHOWN = (0.5, 0.7, 0.9)  # accuracies whose shares are in the table
NOTE = (
    "A run is a trained network, its score the mean of its pruned top-1 over all pruners and ratios that all "
    "compared ones have. The interquartile mean is that of the middle half of all runs; shares weight each data set "
    "and model equally. Intervals: 95 %, by a bootstrap of seeds within data sets and models; not corrected for the "
    "number of comparisons, so they decide nothing: verdicts do."
)


def profile_table(profiles: Profiles, arm: str) -> pd.DataFrame:
    """Interquartile means, best first, and the share of runs above some accuracies; ``arm``: what is compared."""
    rows = []
    for i in sorted(range(len(profiles.optimizers)), key=lambda i: -profiles.interquartile[i]):
        shares = {
            f"runs above {100 * level:g} %": percent(profiles.share[i][abs(profiles.levels - level).argmin()]) + " %"
            for level in SHOWN
        }
        rows.append(
            {
                arm: profiles.optimizers[i],
                "runs": str(profiles.runs),
                "interquartile mean %": percent(profiles.interquartile[i]),
                "95 % interval": interval(profiles.interquartile_low[i], profiles.interquartile_high[i]),
                **shares,
            }
        )
    return pd.DataFrame(rows)


def profiles_in_words(profiles: Profiles, arm: str) -> str:
    """Which optimizer has the highest interquartile mean, over which blocks; which are left out."""
    best = sorted(range(len(profiles.optimizers)), key=lambda i: -profiles.interquartile[i])
    means = ", ".join(f"{profiles.optimizers[i]} {percent(profiles.interquartile[i])} %" for i in best)
    left_out = ", ".join(profiles.left_out)
    missing = f" Left out, because a data set or model is missing: {left_out}." if left_out else ""
    return (
        f"Interquartile means over {profiles.blocks} pairs of data set and model, {profiles.runs} runs of each "
        f"{arm}: {means}.{missing}"
    )


def profile_records(profiles: Profiles | None) -> dict[str, Any] | None:
    """All numbers for JSON."""
    if profiles is None:
        return None
    names = ("share", "share_low", "share_high", "interquartile", "interquartile_low", "interquartile_high")
    numbers = {name: getattr(profiles, name) for name in names}
    return {
        "blocks": profiles.blocks,
        "runs": profiles.runs,
        "levels": profiles.levels.tolist(),
        "optimizers": [
            {"optimizer": label, **{name: values[i].tolist() for name, values in numbers.items()}}
            for i, label in enumerate(profiles.optimizers)
        ],
        "left_out": list(profiles.left_out),
    }
