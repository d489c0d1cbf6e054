"""Compare accuracies with a baseline: tests of whole curves and dense networks, caps of means, counts of collapses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from sgabench.errors import InputError
from sgabench.evidence.collapses import COLLAPSED, chance_limit, collapsed, holm_of_counts, p_fallen, p_more
from sgabench.evidence.contrasts import Contrasts, Sides, contrasts
from sgabench.evidence.decisions import FEWEST
from sgabench.evidence.inferiority import show, usual_spreads
from sgabench.evidence.intervals import Floats
from sgabench.gate.baseline import Group, Spread
from sgabench.gate.items import Item, Status
from sgabench.suite.rules import FEW_SEEDS_TOLERANCE, GateTable

CAP_ERRORS = 4.0  # standard errors of the difference, by the baseline's spread, that a mean may drop at least
SUSPECT = 0.11  # p of a count of collapses of one network that leaves a gate undecided

CLEAR = 2.5  # times as far above chance as a guess may be: where the baseline's median is less, nothing can be lost
FELL = 0.25  # p of seeds that fell to chance against those that left it, that does: 2 against none

FEW = "few seeds"
SILENT = "says nothing: the baseline is hardly above chance"


@dataclass(frozen=True)
class Network:
    """A trial's dense network, or a cell's pruned one, on both sides.

    Attributes:
        metric: ``dense_top1`` or ``pruned_top1``.
        was, now: the accuracy of each seed that counts: chance for a training that diverged or stayed at chance.
        old, new: its groups.
        classes, images: of the test split.
    """

    metric: str
    was: Mapping[int, float]
    now: Mapping[int, float]
    old: Group
    new: Group
    classes: int
    images: int

    @property
    def name(self) -> str:
        """The name of the trial or cell."""
        return self.new.name

    @property
    def planned(self) -> int:
        """Seeds that both sides have, or will have."""
        return min(len(group.seeds) + len(group.lacking) for group in (self.old, self.new))

    @property
    def unchanged(self) -> bool:
        """Whether all numbers are the same to the last digit."""
        same = self.old.keys == self.new.keys and self.old.lacking == self.new.lacking
        return same and dict(self.was) == dict(self.now)

    def at_chance(self) -> tuple[set[int], set[int]]:
        """Seeds that are no better than guessing, in the baseline and now."""
        limit = chance_limit(self.classes, self.images)
        before, after = ({seed for seed, top1 in side.items() if top1 <= limit} for side in (self.was, self.now))
        return before, after

    @property
    def silent(self) -> bool:
        """Whether the baseline is hardly above chance: without anything to lose, no loss can be excluded."""
        chance = 1 / self.classes
        clear = chance + CLEAR * (chance_limit(self.classes, self.images) - chance)
        return float(np.median([*self.was.values()])) <= clear


def counted(group: Group, trial: Group, metric: str, classes: int, images: int) -> dict[int, float]:
    """The accuracy of each seed that counts, without missing and failed ones."""
    chance, limit = 1 / classes, chance_limit(classes, images)
    values = {seed: chance for seed, why in group.lacking.items() if why == "diverged"}
    if metric in group.metrics:
        values |= dict(zip(group.seeds, group.metrics[metric].values, strict=True))
    if "dense_top1" in trial.metrics:
        dense = zip(trial.seeds, trial.metrics["dense_top1"].values, strict=True)
        values |= {seed: chance for seed, top1 in dense if top1 <= limit and seed in values}
    return dict(sorted(values.items()))


def common(was: dict[int, float], now: dict[int, float]) -> tuple[dict[int, float], dict[int, float]]:
    """Both sides on the seeds of the smaller, if the larger has them all, so that failed seeds do not shift means."""
    if not (was.keys() <= now.keys() or now.keys() <= was.keys()):
        return was, now
    return {seed: was[seed] for seed in was if seed in now}, {seed: now[seed] for seed in now if seed in was}


def unguarded(networks: Iterable[Network]) -> list[str]:
    """Trials whose networks are hardly above chance in the baseline, all of them, dense and pruned."""
    silent: dict[str, bool] = {}
    for network in (network for network in networks if network.was and network.now):
        trial = "/".join(network.old.identity[:3])
        silent[trial] = silent.get(trial, True) and network.silent
    return [trial for trial, nothing in silent.items() if nothing]


def judge(networks: Sequence[Network], rules: GateTable) -> list[Item]:
    """Judge accuracies: tests of dense networks and whole curves, then every network by itself.

    Raises:
        InputError: the suite asks for a test with fewer seeds than one needs.
    """
    for network in networks:
        if rules.of(network.metric).rule == "statistical" and network.planned < FEWEST:
            raise InputError(
                f"gate.{network.metric}.rule: 'statistical' needs {FEWEST} seeds at least, here and in the baseline; "
                'write rule = "tolerance", or give the suite more seeds'
            )
    there = [network for network in networks if network.was and network.now]
    spreads = _spreads([_Curve([network]) for network in there])
    alone = [_alone(network, rules, spread) for network, spread in zip(there, spreads, strict=True)]
    return [*_tests(there, rules), *alone, *_collapses(there)]


def _spreads(curves: Sequence[_Curve]) -> list[float]:
    """Standard deviations of the baseline, in points: the new side's must not excuse a loss."""
    sides = [curve.sides()[3] for curve in curves]
    firsts = [curve.networks[0] for curve in curves]
    family = [(network.new.dataset, network.new.model, network.metric) for network in firsts]
    spreads = usual_spreads(sides, [network.images for network in firsts], family)
    return [100 * float(spread) for spread in spreads]


def _alone(network: Network, rules: GateTable, spread: float) -> Item:
    """Judge one network by its mean, with the baseline's spread."""
    metric = network.metric
    rule, tolerance = rules.setting(metric)
    was, now = Spread.of(network.was.values()), Spread.of(network.now.values())
    difference = _points(network.now) - _points(network.was)
    item = Item(metric, network.name, "tolerance", "held", was, now, difference, margin=tolerance)
    if rule == "statistical" and network.planned >= FEWEST:
        cap = max(rules.max_drop, tolerance, CAP_ERRORS * spread * np.sqrt(1 / was.n + 1 / now.n))
        item = replace(item, rule="cap", margin=float(cap))
    elif rule == "statistical":
        own = rules.of(metric).tolerance
        item = replace(item, margin=FEW_SEEDS_TOLERANCE if own is None else own, note=FEW)
    if network.unchanged:
        return replace(item, status="unchanged", note="")
    assert item.margin is not None
    limit = item.margin + 1e-9  # allows for rounding of a difference that equals the tolerance
    better: Status = "improved" if item.rule == "tolerance" else "held"
    item = replace(item, status="regressed" if -difference > limit else better if difference > limit else "held")
    return replace(item, status="skipped", note=SILENT) if item.status == "held" and network.silent else item


def _points(values: Mapping[int, float]) -> float:
    return 100 * float(np.mean([*values.values()]))


def _collapses(networks: Iterable[Network]) -> list[Item]:
    """Networks with more collapsed seeds than in the baseline."""
    found, counts = [], []
    for network in networks:
        first, second = collapsed([*network.now.values()], [*network.was.values()], network.classes, network.images)
        if first / len(network.now) > second / len(network.was) and not network.unchanged:
            found.append(network)
            counts.append((first, len(network.now), second, len(network.was)))
    items = []
    for network, count, p in zip(found, counts, holm_of_counts(counts), strict=True):
        first, n, second, m = count
        status: Status = "regressed" if p <= COLLAPSED else "undecided" if p_more(*count) <= SUSPECT else "held"
        note = f"{first} of {n} seeds collapsed, {second} of {m} in the baseline"
        items.append(Item(network.metric, network.name, "collapse", status, p=float(p), note=note))
    known = {network.name for network, item in zip(found, items, strict=True) if item.status != "held"}
    return items + [item for network in networks if network.name not in known for item in _fell(network)]


def _fell(network: Network) -> list[Item]:
    """Networks whose seeds fell to chance, where counts show nothing because some of the baseline did, too."""
    if network.silent or network.unchanged:
        return []
    before, after = network.at_chance()
    fell, left = len(after - before), len(before - after)
    most = 2 * len(after) > len(network.now)
    same = network.was.keys() == network.now.keys()
    if not most and not (same and p_fallen(fell, left) <= FELL):
        return []
    note = f"at chance: {len(after)} of {len(network.now)} seeds, {len(before)} of {len(network.was)} in the baseline"
    return [Item(network.metric, network.name, "collapse", "undecided", note=note)]


@dataclass(frozen=True)
class _Curve:
    """The unit of tests: a dense network, or a pruner's networks at all its ratios."""

    networks: Sequence[Network]

    @property
    def name(self) -> str:
        first = self.networks[0].new
        if first.pruner is None or len(self.networks) == 1:
            return first.name
        return f"{first.dataset}/{first.model}/{first.optimizer}/{first.pruner}"

    def sides(self) -> tuple[list[int], list[int], Floats, Floats]:
        """Seeds that have all ratios, now and in the baseline, and their accuracies: shape (seeds, ratios)."""
        now = [network.now for network in self.networks]
        was = [network.was for network in self.networks]
        seeds = [sorted(set(side[0]).intersection(*side)) for side in (now, was)]
        tables = [
            np.array([[values[seed] for values in side] for seed in of_side]).reshape(len(of_side), len(side))
            for side, of_side in zip((now, was), seeds, strict=True)
        ]
        return seeds[0], seeds[1], tables[0], tables[1]


def _tests(networks: Sequence[Network], rules: GateTable) -> list[Item]:
    by_curve: dict[tuple[object, ...], list[Network]] = {}
    for network in networks:
        if rules.setting(network.metric)[0] == "statistical" and network.planned >= FEWEST:
            by_curve.setdefault(network.old.identity[:5], []).append(network)
    items: list[Item] = []
    open_: list[tuple[int, Item, _Curve]] = []
    curves = [_Curve(of_curve) for of_curve in by_curve.values() if not all(network.silent for network in of_curve)]
    for curve, spread in zip(curves, _spreads(curves), strict=True):
        new, old, first, second = curve.sides()
        metric = curve.networks[0].metric
        if min(len(new), len(old)) < FEWEST:
            item = Item(metric, curve.name, "statistical", "skipped", note="too few seeds are left; the others failed")
        else:
            was, now = Spread.of(second.mean(1)), Spread.of(first.mean(1))
            difference = 100 * float(first.mean() - second.mean())
            rule = f"statistical, {'paired' if new == old else 'unpaired'}"
            tolerance = rules.setting(metric)[1]
            allowance = min(max(rules.max_drop, tolerance), tolerance + rules.leeway * spread)
            item = Item(metric, curve.name, rule, "unchanged", was, now, difference, margin=tolerance)
            ratios = len(curve.networks)
            item = replace(item, allowance=allowance, note=f"mean over {ratios} ratios" if ratios > 1 else "")
            if not all(network.unchanged for network in curve.networks):
                open_.append((len(items), item, curve))
        items.append(item)
    if open_:
        found = _compared([curve for _, _, curve in open_])
        margins = [np.array([getattr(item, name) for _, item, _ in open_]) / 100 for name in ("margin", "allowance")]
        shown = show(found, *margins)
        for row, (place, item, _) in enumerate(open_):
            items[place] = replace(
                item,
                status=_STATUS[shown.outcome[row]],
                low=100 * float(shown.low[row]),
                high=100 * float(shown.high[row]),
                p=float(shown.p[row]),
                more_seeds=_more(shown.more_seeds[row]) if shown.outcome[row] == "undecided" else None,
            )
    return items


_STATUS: dict[str, Status] = {
    "worse": "regressed",
    "better": "improved",
    "held": "held",
    "undecided": "undecided",
}


def _more(seeds: NDArray[np.int64]) -> tuple[int, int]:
    return int(seeds[0]), int(seeds[1])


def _compared(curves: Sequence[_Curve]) -> Contrasts:
    """Compare all curves at once, so that variances are borrowed within a data set and model."""
    blocks: dict[tuple[str, str], int] = {}
    shapes: dict[tuple[object, ...], list[tuple[int, int, Floats, Floats, int]]] = {}
    for place, curve in enumerate(curves):
        network = curve.networks[0]
        block = blocks.setdefault((network.new.dataset, network.new.model), len(blocks))
        new, old, first, second = curve.sides()
        shape = (new == old, first.shape, second.shape)
        shapes.setdefault(shape, []).append((place, block, first, second, network.images))
    parts = [
        Sides(
            np.array([row[0] for row in rows]),
            np.array([row[1] for row in rows]),
            np.stack([row[2] for row in rows]),
            np.stack([row[3] for row in rows]),
            np.array([row[4] for row in rows], dtype=float),
            paired=bool(shape[0]),
        )
        for shape, rows in shapes.items()
    ]
    return contrasts(parts, len(curves))
