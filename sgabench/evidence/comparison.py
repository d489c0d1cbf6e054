"""From cells to comparisons of optimizers: whole curves first, then single prunings of the curves that are decided."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sgabench.evidence.contrasts import Contrasts, Sides, contrasts
from sgabench.evidence.cubes import CONTEXT, Cubes
from sgabench.evidence.decisions import (
    CURVES,
    DETAILS,
    FEWEST,
    RESOLUTION,
    Decisions,
    decide,
    seeds_to_decide,
)
from sgabench.evidence.intervals import Floats

DENSE = "(dense)"  # in place of a pruner
OF_DENSE = 0.2  # the dense networks' part of the error rate of details
VERDICT = [
    "n_paired",
    "difference",
    "difference_low",
    "difference_high",
    "p",
    "level",
    "outcome",
    "spread",
    "more_seeds",
    "most_seeds",
    "verdict",
]

Pairs = Literal["reference", "all"]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Question:
    """What is to be decided.

    Attributes:
        reference: the optimizer that the others are compared with.
        pruner: the one that is asked about; the others are judged only once it is decided. None: all at once.
        ratios: of that pruner that are asked about; empty: all.
        resolution: a difference of accuracy that does not matter.
        pairs: each optimizer with the reference, or all pairs.
        interpolated: the cells are not measurements, so single ratios are not judged.
        share: the part of the error rate that this look at the data may spend.
    """

    reference: str = ""
    pruner: str | None = None
    ratios: tuple[float, ...] = ()
    resolution: float = RESOLUTION
    pairs: Pairs = "reference"
    interpolated: bool = False
    share: float = 1.0


@dataclass
class _Gathered:
    """Comparisons, grouped by the shape of their data.

    Attributes:
        places: what each is about: data set, model, pruner, of, ratio, first, second.
        counts: seeds that count, on each side.
        only: the ratio of a curve that has just one, else NaN.
    """

    places: list[tuple[Any, ...]] = field(default_factory=list)
    counts: list[tuple[int, int]] = field(default_factory=list)
    only: list[float] = field(default_factory=list)
    _by_shape: dict[tuple[int, int], list[tuple[NDArray[np.int64], int, Floats, Floats, float]]] = field(
        default_factory=dict
    )

    def add(
        self, places: list[tuple[Any, ...]], block: int, sides: tuple[Floats, Floats], images: float, planned: Flags
    ) -> None:
        """Compare optimizers in one or more places.

        Args:
            places: what each comparison is about.
            block: the number of its data set and model.
            sides: accuracies, shape (places, seeds, ratios) each, NaN where nothing counts.
            images: in the test split.
            planned: seeds that were asked for on both sides, shape (places, seeds).
        """
        numbers = np.arange(len(self.places), len(self.places) + len(places))
        of_first, of_second = (~np.isnan(side).any(2) for side in sides)
        self.places += places
        self.counts += zip((of_first & planned).sum(1).tolist(), (of_second & planned).sum(1).tolist(), strict=True)
        common: Flags = np.logical_and(of_first, of_second)
        ratios = sides[0].shape[2]
        for rows in _alike(common) if ratios else ():
            seeds = common[rows[0]]
            first, second = (side[rows][:, seeds] for side in sides)
            if seeds.any():
                shape = int(seeds.sum()), ratios
                self._by_shape.setdefault(shape, []).append((numbers[rows], block, first, second, images))

    def compared(self) -> Contrasts:
        """All comparisons."""
        parts = [
            Sides(
                np.concatenate([part[0] for part in found]),
                np.repeat([part[1] for part in found], [len(part[0]) for part in found]),
                np.concatenate([part[2] for part in found]),
                np.concatenate([part[3] for part in found]),
                np.repeat([float(part[4]) for part in found], [len(part[0]) for part in found]),
                paired=True,
            )
            for found in self._by_shape.values()
        ]
        return contrasts(parts, len(self.places))


def _alike(masks: Flags) -> list[NDArray[np.intp]]:
    """The numbers of equal rows, group by group."""
    if len(masks) and (masks == masks[0]).all():
        return [np.arange(len(masks))]
    kinds, kind = np.unique(masks, axis=0, return_inverse=True)
    return [np.flatnonzero(kind.ravel() == number) for number in range(len(kinds))]


def compare(found: Cubes, question: Question) -> pd.DataFrame:
    """Compare optimizers on pruned accuracy, paired by seed.

    Args:
        found: what `cubes` gives.
        question: what is to be decided.

    Returns:
        A row per comparison: `CURVE`, ``ratio`` (NaN: the whole curve, a mean over its ratios), ``first``, ``second``,
        and `VERDICT`; ``difference`` is first - second, ``level`` is 1 - confidence of its limits, ``more_seeds`` and
        ``most_seeds`` are the further seeds that would decide a curve's difference like the observed one with
        probability 1/2 and 9/10, ``spread`` is the standard deviation of one seed's difference in log-odds.
        Dense networks have the pruner `DENSE`.
    """
    columns = [*CONTEXT, "first", "second", *VERDICT]
    curves, details, parents = _gather(found, question)
    if not curves.places:
        return pd.DataFrame(columns=columns)
    of_curves = curves.compared()
    asked = np.array([question.pruner is None or place[2] == question.pruner for place in curves.places])
    judged = _judge_curves(of_curves, asked, question)
    parts = [_rows(curves, of_curves, judged, question)]
    parts.append(_of_single_ratios(curves, parts[0]))
    if details.places:
        of_details = details.compared()
        decided = judged.decided.tolist()
        opened = np.array([any(decided[number] for number in of) for of in _opened_by(curves, details)])
        # If all curves differ, the error rate that they no longer need goes to the details.
        differ = np.isin(judged.outcome, ("better", "worse"))
        total = (DETAILS + CURVES * differ.all()) * question.share
        budget = np.full(parents.max() + 1, total * (1 - OF_DENSE) / len(curves.places))
        dense = np.array([place[2] == DENSE for place in details.places])
        budget[parents[dense]] = total * OF_DENSE / max(1, dense.sum())
        below = decide(of_details, parents, budget, question.resolution, opened)
        parts.append(_rows(details, of_details, below, question))
    return pd.concat(parts, ignore_index=True)[columns]


def _of_single_ratios(curves: _Gathered, rows: pd.DataFrame) -> pd.DataFrame:
    """Curves of just one ratio, as rows of that ratio."""
    only = pd.Series(curves.only, index=rows.index, dtype=float)
    return rows[only.notna()].assign(ratio=only[only.notna()])


def _judge_curves(found: Contrasts, asked: NDArray[np.bool_], question: Question) -> Decisions:
    """Judge what is asked about with the whole error rate; once all of it is decided, the rest with the same rate."""
    budget = np.array([CURVES * question.share, CURVES * question.share])
    family = np.where(asked, 0, 1)
    judged = decide(found, family, budget, question.resolution)
    if asked.all() or judged.decided[asked].all():
        return judged
    return decide(found, family, budget, question.resolution, opened=asked)


def _gather(found: Cubes, question: Question) -> tuple[_Gathered, _Gathered, NDArray[np.int64]]:
    """Curves, details, and the family that each detail is judged in."""
    curves, details = _Gathered(), _Gathered()
    families: dict[tuple[Any, ...], int] = {}
    parents: list[int] = []
    blocks: dict[tuple[Any, ...], int] = {}
    for place, cube in found:
        block = blocks.setdefault(place[:2], len(blocks))
        whole = cube.reached & (cube.ratios > 0) if (cube.ratios > 0).any() else cube.reached
        if question.ratios and place[2] == question.pruner:
            whole &= np.isin(cube.ratios, question.ratios)
        pairs = np.array([*_pairs(cube.optimizers, question)], dtype=np.intp).reshape(-1, 2)
        names = [(cube.optimizers[first], cube.optimizers[second]) for first, second in pairs]
        of_dense = [(*place[:2], DENSE, "", 0.0, *each) for each in names]
        both = whole & cube.known[pairs].all(1)  # only shared ratios, where several suites asked for different ones
        kinds = [(mask.tobytes(), dense in families) for mask, dense in zip(both, of_dense, strict=True)]
        for (_, dense_done), run in groupby(range(len(pairs)), key=kinds.__getitem__):  # all at once is faster
            at = list(run)
            mask, sides = both[at[0]], pairs[at].T
            planned = np.asarray(cube.planned[pairs[at]].all(1))
            of_curves = cube.pruned[sides[0]][:, :, mask], cube.pruned[sides[1]][:, :, mask]
            curves.add([(*place, np.nan, *names[i]) for i in at], block, of_curves, cube.images, planned)
            only = cube.ratios[mask][0] if mask.sum() == 1 else np.nan
            curves.only += [only] * len(at)
            if question.interpolated:
                continue
            single = cube.ratios != only
            # Ratios that a pruner did not reach are not compared.
            shown = [np.where(cube.reached, cube.pruned[side], np.nan)[:, :, single] for side in sides]
            if not dense_done:
                shown = [
                    np.concatenate([of_side, cube.dense[side][:, :, None]], axis=2)
                    for side, of_side in zip(sides, shown, strict=True)
                ]
            _, seeds, rows = shown[0].shape
            first, second = (of_side.transpose(0, 2, 1).reshape(len(at) * rows, seeds, 1) for of_side in shown)
            ratios = cube.ratios[single].tolist()
            of_details: list[tuple[Any, ...]] = []
            for i in at:
                parents += [families.setdefault((*place, *names[i]), len(families))] * len(ratios)
                of_details += [(*place, ratio, *names[i]) for ratio in ratios]
                if not dense_done:
                    parents.append(families.setdefault(of_dense[i], len(families)))
                    of_details.append(of_dense[i])
            details.add(of_details, block, (first, second), cube.images, np.repeat(planned, rows, axis=0))
    return curves, details, np.array(parents, dtype=np.int64)


def _pairs(optimizers: list[Any], question: Question) -> Iterator[tuple[int, int]]:
    """Numbers of the optimizers that are compared; the reference is always the second."""
    reference = optimizers.index(question.reference) if question.reference in optimizers else None
    if question.pairs == "all":
        for first, second in ((i, j) for j in range(len(optimizers)) for i in range(j + 1, len(optimizers))):
            yield (second, first) if first == reference else (first, second)
    elif reference is not None:
        yield from ((i, reference) for i in range(len(optimizers)) if i != reference)


def _opened_by(curves: _Gathered, details: _Gathered) -> Iterator[list[int]]:
    """The numbers of each detail's curves, at least one of which must be decided before the detail is judged."""
    of_curve: dict[tuple[Any, ...], list[int]] = {}
    for number, place in enumerate(curves.places):
        names = place[5:]
        of_curve.setdefault((*place[:4], *names), []).append(number)
        of_curve.setdefault((*place[:2], DENSE, "", *names), []).append(number)
    for place in details.places:
        yield of_curve[(*place[:4], *place[5:])]


def _rows(gathered: _Gathered, found: Contrasts, judged: Decisions, question: Question) -> pd.DataFrame:
    """The comparisons as `compare` gives them."""
    table = pd.DataFrame(gathered.places, columns=[*CONTEXT, "first", "second"])
    more = np.zeros((len(table), 2), dtype=np.int64)
    if np.isnan(table["ratio"]).any():  # whole curves are what seeds are planned for
        more = seeds_to_decide(found, judged, question.resolution)
    n_first, n_second = np.array(gathered.counts).T
    outcome = judged.outcome.copy()
    # A mean over fewer seeds is not called better: the missing ones may be the bad ones.
    fewer = ((outcome == "better") & (n_first < n_second)) | ((outcome == "worse") & (n_second < n_first))
    outcome[fewer] = "fewer"
    table = table.assign(
        n_paired=found.n,
        difference=found.difference + 0.0,
        difference_low=np.where(fewer, np.minimum(judged.low, 0.0), judged.low),
        difference_high=np.where(fewer, np.maximum(judged.high, 0.0), judged.high),
        p=judged.p,
        level=judged.level,
        outcome=outcome,
        spread=np.sqrt(found.variance * found.n),
        more_seeds=more[:, 0],
        most_seeds=more[:, 1],
    )
    table["verdict"] = [verdict(row, question.resolution) for row in rows_of(table)]
    return table


def verdict(row: Mapping[Any, Any], resolution: float = RESOLUTION) -> str:
    """A comparison in words: "better than sgd by 41.2 points (30.1 to 55.0)"."""
    outcome, other = row["outcome"], row["second"]
    if outcome in ("better", "worse"):
        return f"{outcome} than {other} by {size(row)}"
    if outcome == "same":
        return f"the same as {other} within {in_points(100 * resolution)} ({_points(row)})"
    if outcome == "undecided":
        return f"undecided: {_points(row)} points"
    if outcome == "fewer":
        return f"undecided: {_points(row)} points, and one side has fewer seeds"
    return {"few": f"no verdict with fewer than {FEWEST} seeds", "none": "nothing to compare"}[outcome]


def size(row: Mapping[Any, Any]) -> str:
    """The size of a difference that is shown: "41.2 points (30.1 to 55.0)"; no limit is rounded to zero."""
    low, high = sorted(abs(100 * row[name]) for name in ("difference_low", "difference_high"))
    least = f"{low:.1f}" if low >= 0.05 else f"{low:.1g}"
    return f"{abs(100 * row['difference']):.1f} points ({least} to {high:.1f})"


def in_points(amount: float) -> str:
    """``1 point``, ``2.5 points``."""
    return f"{amount:g} point{'' if amount == 1 else 's'}"


def _points(row: Mapping[Any, Any]) -> str:
    return f"{100 * row['difference_low']:+.1f} to {100 * row['difference_high']:+.1f}"


def rows_of(frame: pd.DataFrame) -> Iterator[dict[str, Any]]:
    """The rows as dictionaries, five times as fast as ``to_dict``."""
    names = [str(name) for name in frame]
    return (dict(zip(names, row, strict=True)) for row in zip(*(frame[name].tolist() for name in names), strict=True))


def leading(judged: Mapping[Any, tuple[str, float, float]], reference: Any, resolution: float = RESOLUTION) -> set[Any]:
    """The optimizers that are not shown to be worse than another, and are above all that are; empty if none is worse.

    Args:
        judged: outcome against the reference, difference and its lower limit, for each optimizer.
        reference: the optimizer that they are compared with.
        resolution: an optimizer that equals the reference within it is worse than one that is better by more.
    """
    beaten = {name: difference for name, (outcome, difference, _) in judged.items() if outcome == "worse"}
    ahead = max((low for outcome, _, low in judged.values() if outcome == "better"), default=-1.0)
    if ahead > 0:
        beaten[reference] = 0.0
    if ahead > resolution:
        beaten |= {name: difference for name, (outcome, difference, _) in judged.items() if outcome == "same"}
    if not beaten:
        return set()
    bar = max(beaten.values())
    everybody = {reference: 0.0} | {name: difference for name, (_, difference, _) in judged.items()}
    return {name for name, difference in everybody.items() if name not in beaten and difference > bar}
