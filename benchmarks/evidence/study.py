"""How often verdicts are wrong, and how often they are found: the procedure of sgabench beside others, on populations.

    python benchmarks/evidence/study.py [--draws 5000] [--output benchmarks/evidence/rates.csv]

A draw is a whole report: optimizers against a reference on one or two pruners. Wrong is a claim where there is nothing,
in the wrong direction, or "the same" where the true difference is the resolution or more.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from populations import COLUMNS, Floats, Population, populations
from scipy import special

from sgabench.evidence.contrasts import Contrasts, Sides, contrasts
from sgabench.evidence.decisions import CURVES, DETAILS, RESOLUTION, Decisions, decide, seeds_to_decide
from sgabench.evidence.intervals import log_odds, summarize_accuracy

HERE = Path(__file__).parent
CHUNK = 500
SEEDS = (3, 5, 10, 20)


# --- procedures: claims of each report as signs, shape (reports, pruners, optimizers - 1), 0 for none


def curve_means(accuracy: Floats, of: Population) -> Floats:
    """Differences of log-odds over whole curves: shape (reports, pruners * (optimizers - 1), seeds)."""
    z = log_odds(accuracy, of.images)
    means = np.stack([z[..., cells].mean(-1) for cells in of.pruners], axis=1)
    return (means[:, :, 1:] - means[:, :, :1]).reshape(len(z), -1, z.shape[2])


def holm(p: Floats) -> Floats:
    order = np.argsort(p, axis=1)
    factors = np.arange(p.shape[1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(np.take_along_axis(p, order, 1) * factors, axis=1), 1.0)
    found = np.empty_like(adjusted)
    np.put_along_axis(found, order, adjusted, 1)
    return found


def claimed(p: Floats, mean: Floats) -> Floats:
    return np.sign(mean) * (holm(np.nan_to_num(p, nan=1.0)) <= 0.05)


def student(accuracy: Floats, of: Population) -> Floats:
    d = curve_means(accuracy, of)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = d.mean(2) / (d.std(2, ddof=1) / np.sqrt(d.shape[2]))
    return claimed(2 * special.stdtr(d.shape[2] - 1, -np.abs(t)), d.mean(2))


def smyth(accuracy: Floats, of: Population) -> Floats:
    """Moderated variances, as limma has them."""
    d = curve_means(accuracy, of)
    n, df = d.shape[2], d.shape[2] - 1
    variance = np.maximum(d.var(2, ddof=1), 1e-12)
    e = np.log(variance) - special.digamma(df / 2) + np.log(df / 2)
    excess = e.var(1, ddof=1) - special.polygamma(1, df / 2) if d.shape[1] > 1 else np.full(len(d), -1.0)
    prior = np.where(excess > 1e-4, 2 * _inverse_trigamma(np.maximum(excess, 1e-4)), 1e5)
    scale = np.exp(e.mean(1) + special.digamma(prior / 2) - np.log(prior / 2))
    moderated = ((prior * scale)[:, None] + df * variance) / (prior[:, None] + df)
    total = np.minimum(prior[:, None] + df, d.shape[1] * df)
    t = d.mean(2) / np.sqrt(moderated / n)
    return claimed(2 * special.stdtr(total, -np.abs(t)), d.mean(2))


def _inverse_trigamma(value: Floats) -> Floats:
    y = 0.5 + 1 / value
    for _ in range(30):
        trigamma = special.polygamma(1, y)
        y = y + trigamma * (1 - trigamma / value) / special.polygamma(2, y)
    return np.asarray(y)


def blocks(accuracy: Floats, of: Population) -> Floats:
    """One residual variance, seeds as blocks, for each pruner."""
    z = log_odds(accuracy, of.images)
    p, mean = [], []
    for cells in of.pruners:
        x = z[..., cells].mean(-1)
        optimizers, n = x.shape[1:]
        rest = x - x.mean(2, keepdims=True) - x.mean(1, keepdims=True) + x.mean((1, 2), keepdims=True)
        df = (n - 1) * (optimizers - 1)
        d = (x[:, 1:] - x[:, :1]).mean(2)
        t = d / np.sqrt(2 * (rest**2).sum((1, 2)) / df / n)[:, None]
        p.append(2 * special.stdtr(df, -np.abs(t)))
        mean.append(d)
    return claimed(np.concatenate(p, 1), np.concatenate(mean, 1))


def flips(accuracy: Floats, of: Population) -> Floats:
    """Sign flips: all of them up to 10 seeds, else 2,000."""
    d = curve_means(accuracy, of)
    n = d.shape[2]
    if n <= 10:
        signs = 1.0 - 2 * (np.arange(2 ** (n - 1))[:, None] >> np.arange(n) & 1)
    else:
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (2000, n))
        signs[0] = 1.0
    sums = np.abs(d @ signs.T)
    p = (sums >= sums[..., :1] - 1e-9).mean(2)
    return claimed(p, d.mean(2))


def welch(accuracy: Floats, of: Population) -> Floats:
    z = log_odds(accuracy, of.images)
    n = z.shape[2]
    means = np.stack([z[..., cells].mean(-1) for cells in of.pruners], axis=1)
    variance = means.var(3, ddof=1) / n
    total = variance[:, :, 1:] + variance[:, :, :1]
    df = total**2 / np.maximum((variance[:, :, 1:] ** 2 + variance[:, :, :1] ** 2) / (n - 1), 1e-300)
    d = means.mean(3)[:, :, 1:] - means.mean(3)[:, :, :1]
    p = 2 * special.stdtr(df, -np.abs(d) / np.sqrt(np.maximum(total, 1e-300)))
    return claimed(p.reshape(len(z), -1), d.reshape(len(z), -1))


def former(accuracy: Floats, of: Population) -> Floats:
    """Percentages at every ratio, all pairs of optimizers in one family: a curve counts if any of its ratios does."""
    reports, optimizers, n, _ = accuracy.shape
    pairs = list(combinations(range(optimizers), 2))
    cells = [i for part in of.pruners for i in range(*part.indices(accuracy.shape[3]))]
    d = np.stack([accuracy[:, b][..., cells] - accuracy[:, a][..., cells] for a, b in pairs], axis=1)
    mean, error = d.mean(2), d.std(2, ddof=1) / np.sqrt(n)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = 2 * special.stdtr(n - 1, -np.abs(mean / error))
    p = np.where(error > 1e-12, p, np.where(mean == 0, 1.0, 2 * 0.5**n))
    signs = claimed(p.reshape(reports, -1), mean.reshape(reports, -1)).reshape(reports, len(pairs), -1)
    place, found = 0, []
    for part in of.pruners:
        size = len(range(*part.indices(accuracy.shape[3])))
        of_reference = signs[:, : optimizers - 1, place : place + size]
        strongest = np.abs(of_reference).argmax(2)
        found.append(np.take_along_axis(of_reference, strongest[..., None], 2)[..., 0])
        place += size
    rest = signs[:, optimizers - 1 :].any((1, 2))
    result = np.concatenate(found, 1)
    result[:, 0] = np.where(rest & (result[:, 0] == 0), np.nan, result[:, 0])  # a claim about other pairs
    return result


OTHERS = {
    "former": former,
    "t, log-odds": student,
    "moderated": smyth,
    "one variance": blocks,
    "sign flips": flips,
    "Welch": welch,
}


@dataclass(frozen=True)
class Found:
    """What the procedure of sgabench says of a chunk of reports."""

    outcome: NDArray[np.object_]  # of curves, shape (reports, curves)
    low: Floats
    high: Floats
    marginal: tuple[Floats, Floats]  # 95 % limits of each curve
    detail: NDArray[np.object_]  # of single ratios, shape (reports, curves, ratios); empty text where there is none
    contradictions: int
    curves: tuple[Contrasts, Decisions]

    def more_seeds(self) -> NDArray[np.int64]:
        """Seeds that would decide each curve with an even chance, shape (reports, curves)."""
        return seeds_to_decide(*self.curves)[:, 0].reshape(self.outcome.shape)


def judged(accuracy: Floats, of: Population, seeds: NDArray[np.int64] | None = None, share: float = 1.0) -> Found:
    """The verdicts of sgabench: curves, then ratios, as `sgabench.evidence.comparison.compare` has them.

    Args:
        accuracy: shape (reports, optimizers, seeds, cells).
        of: where it is from.
        seeds: how many each comparison has, the first ones of all, shape (reports, optimizers - 1); default: all.
        share: the part of the error rate that may be spent.
    """
    reports, optimizers, n, _ = accuracy.shape
    others = optimizers - 1
    curves = others * len(of.pruners)
    seeds = np.full((reports, others), n) if seeds is None else seeds
    whole: list[Sides] = []
    single: list[Sides] = []
    family: list[NDArray[np.int64]] = []
    ratio: list[int] = []
    number = 0
    for pruner, cells in enumerate(of.pruners):
        for size in np.unique(seeds):
            block, other = np.nonzero(seeds == size)
            a, b = accuracy[block, 1 + other, :size, cells], accuracy[block, 0, :size, cells]
            place = block * curves + pruner * others + other
            images = np.full(len(place), float(of.images))
            whole.append(Sides(place, block, a, b, images, True))
            for column in range(a.shape[2] if a.shape[2] > 1 else 0):
                at = np.arange(len(place)) + number
                number += len(place)
                single.append(Sides(at, block, a[..., [column]], b[..., [column]], images, True))
                family.append(place)
                ratio.append(column)
    found = contrasts(whole, reports * curves)
    report = np.repeat(np.arange(reports), curves)
    verdicts = decide(found, report, np.full(reports, CURVES * share))
    shape = (reports, curves)
    wrong_rows = _contradictions(verdicts.outcome, verdicts.low, verdicts.high)
    most = max(part.first.shape[2] for part in whole)
    detail = np.full((reports * curves, most), "", dtype=object)
    if single:
        parents = np.concatenate(family)
        differ = np.isin(verdicts.outcome, ("better", "worse")).reshape(shape).all(1)
        budget = (DETAILS + CURVES * differ) * share / curves
        inner = decide(contrasts(single, number), parents, np.repeat(budget, curves), opened=verdicts.decided[parents])
        wrong_rows += _contradictions(inner.outcome, inner.low, inner.high)
        for column, part, of_family in zip(ratio, single, family, strict=True):
            detail[of_family, column] = inner.outcome[part.place]
    return Found(
        verdicts.outcome.reshape(shape),
        verdicts.low.reshape(shape),
        verdicts.high.reshape(shape),
        tuple(side.reshape(shape) for side in found.interval(np.full(len(report), 0.05))),  # type: ignore[arg-type]
        detail.reshape(*shape, most),
        wrong_rows,
        (found, verdicts),
    )


def _contradictions(outcome: NDArray[np.object_], low: Floats, high: Floats) -> int:
    """Rows whose interval says something else than their verdict."""
    excludes = (low > 0) | (high < 0)
    shown = np.isin(outcome, ("better", "worse"))
    return int((excludes & ~shown & ~np.isnan(low)).sum() + (shown & ~excludes).sum())


# --- rates


def truth(of: Population) -> tuple[Floats, Floats]:
    """True differences of accuracy from the reference: of curves (curves,), of ratios (curves, ratios)."""
    others, most = len(of.names) - 1, max(len(range(*part.indices(len(COLUMNS)))) for part in of.pruners)
    curves, ratios = np.zeros(others * len(of.pruners)), np.zeros((others * len(of.pruners), most))
    if of.accuracy is not None:
        for pruner, cells in enumerate(of.pruners):
            d = of.accuracy[1:, cells] - of.accuracy[:1, cells]
            d[[name in of.null for name in of.names[1:]]] = 0.0
            at = slice(pruner * others, (pruner + 1) * others)
            curves[at], ratios[at, : d.shape[1]] = d.mean(1), d
    return curves, ratios


def wrong(outcome: NDArray[np.object_], true: Floats) -> NDArray[np.bool_]:
    """Claims that are not so."""
    signs = np.where(outcome == "better", 1, np.where(outcome == "worse", -1, 0))
    return np.asarray(((signs != 0) & (signs != np.sign(true))) | ((outcome == "same") & (np.abs(true) >= RESOLUTION)))


def rates(of: Population, n: int, draws: int, seed: int, others: bool = True) -> dict[str, float | str | int]:
    """Error and power of the procedure, and of the others beside it, and coverage of the intervals."""
    random = np.random.default_rng(seed)
    curves, ratios = truth(of)
    sums: dict[str, float] = {}
    total = 0
    means = None if of.accuracy is None else of.accuracy

    def add(name: str, value: float) -> None:
        sums[name] = sums.get(name, 0.0) + float(value)

    while total < draws:
        size = min(CHUNK, draws - total)
        accuracy = of.draw(random, size, n)
        total += size
        found = judged(accuracy, of)
        in_curves, in_details = wrong(found.outcome, curves), wrong(found.detail, ratios)
        add("error", (in_curves.any(1) | in_details.any((1, 2))).sum())
        add("contradictions", found.contradictions)
        low, high = found.marginal
        add("difference covered", ((low <= curves) & (curves <= high)).mean(1).sum())
        add("all differences covered", ((found.low <= curves) & (curves <= found.high)).all(1).sum())
        if means is not None:
            for cell in range(means.shape[1]):
                flat = accuracy[..., cell].reshape(-1, n)
                mean = summarize_accuracy(flat, np.full(len(flat), of.images))
                true = np.tile(means[:, cell], size)
                add("mean covered", ((mean.low <= true) & (true <= mean.high)).mean() * size / means.shape[1])
            for number, name in enumerate(of.names[1:]):
                if name not in of.null:
                    right = np.sign(curves[number])
                    is_found = found.outcome[:, number] == ("better" if right > 0 else "worse")
                    add(f"power {name}", is_found.sum())
        for name, procedure in OTHERS.items() if others else ():
            signs = procedure(accuracy, of)
            claims = (np.nan_to_num(signs, nan=9.0) != 0) & (np.nan_to_num(signs, nan=9.0) != np.sign(curves))
            if means is not None:
                claims &= ~np.isnan(signs)  # of other pairs nothing is known to be wrong
            add(f"error {name}", claims.any(1).sum())
            if means is not None:
                for number, label in enumerate(of.names[1:]):
                    if label not in of.null:
                        add(f"power {label}, {name}", (signs[:, number] == np.sign(curves[number])).sum())
    shown = {name: round(value / total, 4) for name, value in sums.items()}
    return {"population": of.name, "n": n, "draws": total, **shown}


def main() -> None:
    """Try all populations and write the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=5000)
    parser.add_argument("--output", type=Path, default=HERE / "rates.csv")
    parser.add_argument("--only", default="", help="populations whose name has this in it")
    parser.add_argument(
        "--keep-others",
        type=Path,
        metavar="RATES",
        help="take the rates of all but sgabench's procedure from a file of as many draws, where it has them",
    )
    options = parser.parse_args()
    table = pd.read_csv(HERE / "populations.csv")
    kept = pd.read_csv(options.keep_others).set_index(["population", "n", "draws"]) if options.keep_others else None
    rows = []
    for number, of in enumerate(populations(table)):
        if options.only not in of.name:
            continue
        for n in SEEDS:
            key = (of.name, n, options.draws)
            known = {} if kept is None or key not in kept.index else dict(kept.loc[key])
            rows.append({**known, **rates(of, n, options.draws, seed=100 * number + n, others=not known)})
            found = {name: value for name, value in rows[-1].items() if "," not in name}
            print(" ".join(f"{name} {value}" for name, value in found.items()), flush=True)
            columns = None if kept is None else [*kept.index.names, *kept]
            pd.DataFrame(rows, columns=columns).to_csv(options.output, index=False)


if __name__ == "__main__":
    main()
