"""What more power would cost: the procedure of sgabench with other bounds, power beside the worst error.

    python benchmarks/evidence/tradeoff.py [--draws 2000] [--seeds 3,5]

Power is that of three real differences on digits (`magnitude`, among four comparisons), errors are those of the
populations that are hardest on procedures which borrow: whole reports with any wrong verdict.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
import study
from numpy.typing import NDArray
from populations import COLUMNS, PRUNERS, Floats, Population, populations, real
from scipy import special
from study import CHUNK, HERE, truth, wrong

from sgabench.evidence import contrasts
from sgabench.evidence.intervals import log_odds

POWER = "digits: real differences, one pruner"
HARD = (
    "made up: three alike, ratios as one",
    "made up: one ratio, all spread differently",
    "made up: two wide as a whole, three narrow",
    "made up: networks at 30 or 90 %",
    "made up: twenty, from narrow to wide as a whole",
)


@dataclass(frozen=True)
class Variant:
    """Bounds of `sgabench.evidence.contrasts`, and the share of the error rate for curves.

    Attributes:
        weight: degrees of freedom of the other comparisons at most.
        ratios: of the degrees of freedom that ratios lend, what counts.
        center: variances are moderated towards their geometric mean, not towards Smyth's prior.
        least: of its own variance, that a comparison is left with.
        full: borrowed degrees of freedom count in full, however much a comparison spreads itself.
        shipped: the prior is the median spread of the shipped populations, not that of the other comparisons.
        curves: chance of a wrong verdict among curves.
    """

    weight: float = contrasts.MOST
    ratios: float = contrasts.OF_RATIOS
    center: bool = False
    least: float = 0.0
    full: bool = False
    shipped: bool = False
    curves: float = study.CURVES


VARIANTS = {
    "as it is": Variant(),
    "others weigh twice as much": Variant(weight=2 * contrasts.MOST),
    "others weigh without bound": Variant(weight=np.inf),
    "ratios lend in full": Variant(ratios=1.0),
    "the geometric mean instead of Smyth's prior": Variant(center=True),
    "no variance falls below its own": Variant(least=1.0),
    "borrowed degrees of freedom count in full": Variant(full=True),
    "a prior from the shipped populations": Variant(shipped=True),
    "10 % for curves instead of 3.5": Variant(curves=0.1),
    "3.5 % for each of the four curves": Variant(curves=4 * study.CURVES),
}


def usual_variance(table: pd.DataFrame) -> float:
    """Median variance of one seed's difference from SGD in log-odds, over shipped optimizers, pruners, data sets."""
    found = []
    for dataset in sorted(set(table["dataset"])):
        values, images = real(table, dataset)
        for names in PRUNERS.values():
            cells = [COLUMNS.index(name) for name in names]
            odds = {name: log_odds(of[:, cells], images).mean(1) for name, of in values.items()}
            found += [(of - odds["sgd"]).var(ddof=1) for name, of in odds.items() if name != "sgd"]
    return float(np.median(found))


def use(variant: Variant, usual: float) -> None:
    """Put the variant in the place of what sgabench does."""

    def moderated(variance: Floats, freedom: Floats, n: NDArray[np.int64]) -> tuple[Floats, Floats]:
        if len(variance) < 2 and not variant.shipped:
            return variance, freedom
        of_seed = variance * n
        if variant.shipped:
            weight, scale, lent = n - 1.0, usual, 1.0
        else:
            logs = np.log(of_seed) - special.digamma(freedom / 2) + np.log(freedom / 2)
            excess = logs.var(ddof=1) / (1 - contrasts.SHARED) - special.polygamma(1, freedom / 2).mean()
            prior = 2 * contrasts._inverse_trigamma(excess) if excess > 1e-4 else contrasts.FLAT
            scale = np.exp(logs.mean())
            if not variant.center:
                scale *= np.exp(special.digamma(prior / 2) - np.log(prior / 2))
            weight = min(prior, variant.weight)
            others = (len(variance) - 1) / (1 + (len(variance) - 2) * contrasts.SHARED)
            lent = min(1.0, 4 / (1 + 1 / others + 2 * contrasts.SHARED) - 1)
        shared = (weight * scale + freedom * of_seed) / (weight + freedom)
        trust = np.ones_like(shared) if variant.full else np.minimum(1.0, shared / of_seed)
        return np.maximum(shared, variant.least * of_seed) / n, freedom + lent * weight * trust

    contrasts.moderated = moderated
    contrasts.OF_RATIOS = variant.ratios
    study.CURVES = variant.curves


def shares(of: Population, n: int, draws: int, seed: int) -> tuple[float, list[float]]:
    """Reports with a wrong verdict; how often each real difference is found."""
    random = np.random.default_rng(seed)
    curves, ratios = truth(of)
    errors, found = 0, np.zeros(len(curves))
    for start in range(0, draws, CHUNK):
        report = study.judged(of.draw(random, min(CHUNK, draws - start), n), of)
        errors += (wrong(report.outcome, curves).any(1) | wrong(report.detail, ratios).any((1, 2))).sum()
        found += (report.outcome == np.where(curves > 0, "better", "worse")).sum(0)
    is_real = [name not in of.null for name in of.names[1:]] * len(of.pruners)
    return errors / draws, (found[is_real] / draws).tolist()


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--seeds", default="3,5")
    options = parser.parse_args()
    table = pd.read_csv(HERE / "populations.csv")
    numbered = {of.name: (number, of) for number, of in enumerate(populations(table))}
    usual = usual_variance(table)
    print("| what is tried | n | Adam | StochGradAdam | proximal SGD | worst error | where |")
    print("|---|---:|---:|---:|---:|---:|---|")
    for title, variant in VARIANTS.items():
        use(variant, usual)
        for n in map(int, options.seeds.split(",")):
            number, of = numbered[POWER]
            power = shares(of, n, options.draws, 100 * number + n)[1]
            errors = {
                name: shares(numbered[name][1], n, options.draws, 100 * numbered[name][0] + n)[0] for name in HARD
            }
            worst = max(errors, key=lambda name: errors[name])
            columns = " | ".join(f"{100 * each:.0f}" for each in power)
            print(f"| {title} | {n} | {columns} | {100 * errors[worst]:.1f} | {worst} |", flush=True)


if __name__ == "__main__":
    main()
