"""Where reports are drawn from: real networks, the same with collapses put in, and made-up ones.

Of the real ones, in populations.csv, twins differ by rounding only, so that there the null is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
PRUNERS = {"magnitude": ("magnitude 0.5", "magnitude 0.7", "magnitude 0.8", "magnitude 0.9"),
           "random": ("random 0.1", "random 0.3", "random 0.5")}  # fmt: skip
COLUMNS = [name for names in PRUNERS.values() for name in names]
SPLIT = len(PRUNERS["magnitude"])
CHANCE = 0.1


@dataclass(frozen=True)
class Population:
    """Where reports are drawn from.

    Attributes:
        draw: of a generator, the number of reports and of seeds: accuracies, shape (reports, optimizers, seeds, cells).
        images: in the test split.
        names: of the optimizers, the reference first.
        accuracy: true means, shape (optimizers, cells); None: all the same.
        pruners: cells of each pruner.
    """

    name: str
    draw: Callable[[np.random.Generator, int, int], Floats]
    images: float
    names: tuple[str, ...]
    accuracy: Floats | None = None
    pruners: tuple[slice, ...] = (slice(0, SPLIT), slice(SPLIT, None))
    null: frozenset[str] = field(default_factory=frozenset)  # of which nothing differs from the reference


def real(table: pd.DataFrame, dataset: str) -> tuple[dict[str, Floats], float]:
    """Accuracies of each optimizer, a row per seed, the same seeds in all."""
    part = table[table["dataset"] == dataset]
    images = float(part["test_images"].iloc[0])
    seeds = set.intersection(*(set(rows["seed"]) for _, rows in part.groupby("optimizer")))
    part = part[part["seed"].isin(seeds)].sort_values("seed")
    return {str(n): rows[COLUMNS].to_numpy(dtype=float) / images for n, rows in part.groupby("optimizer")}, images


def without_replacement(random: np.random.Generator, reports: int, size: int, of: int) -> NDArray[np.int64]:
    return np.argsort(random.random((reports, of)), axis=1)[:, :size]


def paired(values: dict[str, Floats], names: tuple[str, ...]) -> Callable[[np.random.Generator, int, int], Floats]:
    stacked = np.stack([values[name] for name in names])

    def draw(random: np.random.Generator, reports: int, n: int) -> Floats:
        return stacked[:, without_replacement(random, reports, n, stacked.shape[1])].transpose(1, 0, 2, 3)

    return draw


def independent(values: Floats, optimizers: int) -> Callable[[np.random.Generator, int, int], Floats]:
    """All optimizers are the same one, with seeds of their own (drawn again where there are too few)."""

    def draw(random: np.random.Generator, reports: int, n: int) -> Floats:
        size = optimizers * n
        if size <= len(values):
            picked = without_replacement(random, reports, size, len(values))
        else:
            picked = random.integers(0, len(values), (reports, size))
        return values[picked.reshape(reports, optimizers, n)]

    return draw


def collapsing(
    draw: Callable[[np.random.Generator, int, int], Floats], share: float, cells: bool
) -> Callable[[np.random.Generator, int, int], Floats]:
    """Networks, or single cells, that fall to chance now and then."""

    def collapsed(random: np.random.Generator, reports: int, n: int) -> Floats:
        found = draw(random, reports, n)
        shape = found.shape if cells else (*found.shape[:3], 1)
        return np.where(random.random(shape) < share, CHANCE, found)

    return collapsed


def made_up(
    spreads: tuple[float, ...], together: tuple[float, ...], center: float = 0.0, tails: int = 0, block: float = 0.0
) -> Callable[[np.random.Generator, int, int], Floats]:
    """Log-odds with a spread for each optimizer, ratios that go together, heavy tails, and what seeds share."""
    of_cell = np.array([0.6, 1.0, 1.2, 0.8, 0.8, 1.0, 0.6])

    def draw(random: np.random.Generator, reports: int, n: int) -> Floats:
        def noise(shape: tuple[int, ...]) -> Floats:
            return random.standard_t(tails, shape) if tails else random.normal(size=shape)

        common = np.sqrt(together)[:, None, None]
        own = np.sqrt(1 - np.asarray(together))[:, None, None]
        size = (reports, len(spreads), n)
        found = common * noise((*size, 1)) + own * noise((*size, len(of_cell)))
        shared = block * noise((reports, 1, n, 1))
        return np.asarray(special.expit(center + (found * np.asarray(spreads)[:, None, None] + shared) * of_cell))

    return draw


def near_chance(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Most cells guess, some have learned a little."""
    shape = (reports, 5, n, len(COLUMNS))
    learned = np.where(random.random(shape) < 0.1, 0.2, 0.0)
    return CHANCE + np.maximum(random.normal(0, 0.01, shape) + learned, 0)


def two_kinds(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Every network is at 30 or at 90 %."""
    shape = (reports, 5, n, len(COLUMNS))
    return np.where(random.random((*shape[:3], 1)) < 0.5, 0.3, 0.9) + random.normal(0, 0.02, shape)


def skewed(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Errors of 2 %, log-normal with a long tail."""
    shape = (reports, 5, n, len(COLUMNS))
    spread = random.normal(0, 1.2, (*shape[:3], 1)) + random.normal(0, 0.3, shape)
    return 1 - np.minimum(0.02 * np.exp(spread), 0.9)


def equal_means(narrow: float, wide: float) -> Callable[[np.random.Generator, int, int], Floats]:
    """Networks near 90 % beside ones above or below it: means of accuracy are the same, of log-odds are not."""

    def draw(random: np.random.Generator, reports: int, n: int) -> Floats:
        found = random.normal(0.9, narrow, (reports, 3, n, len(COLUMNS)))
        found[:, 1:] += np.where(random.random((reports, 2, n, 1)) < 0.5, -wide, wide)
        return np.clip(found, 0, 1)

    return draw


def collapses_of_a_better_one(random: np.random.Generator, reports: int, n: int) -> Floats:
    """The reference at 50 %, two others at 60 % of which one network in five collapses to 10 %."""
    found = random.normal(0, 0.03, (reports, 3, n, len(COLUMNS)))
    found[:, :1] += 0.5
    found[:, 1:] += np.where(random.random((reports, 2, n, 1)) < 0.2, CHANCE, 0.6)
    return np.clip(found, 0, 1)


def now_and_then_wide(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Spreads from narrow to wide; of each optimizer 15 % of networks are six times as far away."""
    spreads = np.array([0.1, 0.3, 0.6, 1.0, 0.2])[:, None, None]
    whole, cells = random.normal(size=(reports, 5, n, 1)), random.normal(size=(reports, 5, n, len(COLUMNS)))
    far = random.random((reports, 5, n, 1)) < 0.15
    return np.asarray(special.expit(0.5 + spreads * 0.7 * (whole + cells) * np.where(far, 6, 1)))


def walks(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Good and bad seeds are so for all optimizers, and neighboring ratios go together."""
    of_seed = 1.5 * random.normal(size=(reports, 1, n, 1))
    walk = np.cumsum(0.35 * random.normal(size=(reports, 5, n, len(COLUMNS))), axis=3)
    return np.asarray(special.expit(1 - np.linspace(0, 2, len(COLUMNS)) + of_seed + walk))


def two_wide(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Two optimizers move as a whole, by far, one does a little, and two by single ratios."""
    cells = 0.4 * random.normal(size=(reports, 5, n, len(COLUMNS)))
    whole = random.normal(size=(reports, 5, n, 1)) * np.array([0.1, 0.1, 1.5, 1.5, 0.6])[:, None, None]
    return np.asarray(special.expit(cells + whole))


def laplace(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Tails that fall more slowly than a normal distribution's."""
    whole, cells = random.laplace(size=(reports, 5, n, 1)), random.laplace(size=(reports, 5, n, len(COLUMNS)))
    return np.asarray(special.expit(2 + 0.8 * whole + 0.3 * cells))


def betas(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Beta distributions of the same means, from 85 to 50 %, and other concentrations."""
    trials = np.array([8.0, 400.0, 30.0, 2000.0, 120.0])[:, None, None]
    size = (reports, 5, n, len(COLUMNS))
    mean = np.linspace(0.85, 0.5, len(COLUMNS))
    return np.asarray(random.beta(np.broadcast_to(mean * trials, size), np.broadcast_to((1 - mean) * trials, size)))


def one_as_whole(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Ten that differ by single ratios, and one of them as a whole as well, by far, one a little."""
    cells = 0.3 * random.normal(size=(reports, 10, n, len(COLUMNS)))
    whole = random.normal(size=(reports, 10, n, 1)) * np.array([0.0] * 8 + [0.5, 1.5])[:, None, None]
    return np.asarray(special.expit(cells + whole))


def own_ways(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Uniform; each optimizer follows what seeds share in a way of its own, one the other way round."""
    follows = np.array([1.0, 0.2, -0.5, 1.5, 0.6])[:, None, None]
    spreads = np.array([0.2, 0.4, 0.3, 0.6, 1.0])[:, None, None]
    of_seed = random.uniform(-1.7, 1.7, (reports, 1, n, 1))
    return np.asarray(
        special.expit(follows * of_seed + spreads * random.uniform(-1.7, 1.7, (reports, 5, n, len(COLUMNS))))
    )


def drawn_spreads(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Eight, in each report as wide and as much as a whole as it happens, wider where much is pruned."""
    width, share = 0.5 * np.exp(0.8 * random.normal(size=(reports, 8, 1, 1))), random.random((reports, 8, 1, 1))
    of_cell = np.array([0.3, 0.6, 1.0, 2.0, 0.3, 0.8, 1.6])
    whole, cells = random.normal(size=(reports, 8, n, 1)), random.normal(size=(reports, 8, n, len(COLUMNS)))
    return np.asarray(special.expit(of_cell * width * (np.sqrt(share) * whole + np.sqrt(1 - share) * cells)))


def exponential(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Whole networks that fail a little or much."""
    whole, cells = random.exponential(size=(reports, 5, n, 1)), random.normal(size=(reports, 5, n, len(COLUMNS)))
    return np.asarray(special.expit(2.5 - 0.9 * whole + 0.2 * cells))


def wide_reference(random: np.random.Generator, reports: int, n: int) -> Floats:
    """The reference differs as a whole, by far, two others hardly."""
    whole, cells = random.normal(size=(reports, 3, n, 1)), random.normal(size=(reports, 3, n, len(COLUMNS)))
    return np.asarray(special.expit(whole * np.array([1.5, 0.15, 0.3])[:, None, None] + 0.15 * cells))


def one_collapses(random: np.random.Generator, reports: int, n: int) -> Floats:
    """Two at 97 %, of which one collapses in one network of twenty."""
    found = random.normal(0.97, 0.005, (reports, 2, n, len(COLUMNS)))
    found[:, 1:] = np.where(random.random((reports, 1, n, 1)) < 0.05, CHANCE, found[:, 1:])
    return found


def counted(draw: Callable[[np.random.Generator, int, int], Floats], images: int) -> Callable[..., Floats]:
    """In whole images."""
    return lambda random, reports, n: np.round(draw(random, reports, n) * images) / images


def populations(table: pd.DataFrame) -> Iterator[Population]:
    """All that are tried."""
    names = ("sgd", "sgd-twin", "adam", "stochgradadam", "prox-sgd")
    for dataset in ("digits", "cifar10", "fashion_mnist"):
        values, images = real(table, dataset)
        everyone = (*names, "prox-sgd-strong") if "prox-sgd-strong" in values else names
        true = np.stack([values[name].mean(0) for name in everyone])
        twin = frozenset({"sgd-twin"})
        yield Population(f"{dataset}: real differences", paired(values, everyone), images, everyone, true, null=twin)
        one = (slice(0, SPLIT),)
        short = tuple(name for name in everyone if name != "prox-sgd")[:5] if "prox-sgd-strong" in values else names
        true = np.stack([values[name].mean(0) for name in short])
        yield Population(
            f"{dataset}: real differences, one pruner", paired(values, short), images, short, true, one, twin
        )
        same = independent(values["sgd"], 5)
        yield Population(f"{dataset}: five times SGD", same, images, names)
        if dataset == "digits":
            for share in (0.2, 0.05):
                for cells in (False, True):
                    what = f"{'cells' if cells else 'networks'} collapse, 1 in {round(1 / share)}"
                    yield Population(f"digits: {what}", collapsing(same, share, cells), images, names)
            yield Population("digits: two times SGD", independent(values["sgd"], 2), images, names[:2])
            yield Population("digits: three times Adam", independent(values["adam"], 3), images, names[:3])
    shapes = {
        "equal spreads": ((1.0,) * 5, (0.3,) * 5),
        "one spreads ten times as wide": ((0.2, 0.2, 0.2, 0.2, 2.0), (0.3,) * 5),
        "all spread differently": ((0.5, 0.2, 0.5, 1.0, 2.0), (0.3,) * 5),
        "all differently, the widest as a whole": ((0.5, 0.2, 0.5, 1.0, 2.0), (0.1, 0.1, 0.1, 0.1, 0.9)),
        "three, one wide": ((0.2, 0.2, 2.0), (0.2, 0.2, 0.9)),
        "ratios apart": ((1.0,) * 5, (0.0,) * 5),
        "ratios as one": ((1.0,) * 5, (0.9,) * 5),
        "twenty optimizers": ((0.6,) * 20, (0.3,) * 20),
    }
    for name, (spreads, together) in shapes.items():
        everyone = tuple(f"optimizer {i}" for i in range(len(spreads)))
        yield Population(f"made up: {name}", made_up(spreads, together), 1e5, everyone)
    single = (slice(1, 2),)
    wide = made_up((0.5, 0.2, 0.5, 1.0, 2.0), (0.3,) * 5)
    yield Population("made up: one ratio, all spread differently", wide, 1e5, names, pruners=single)
    yield Population("made up: heavy tails", made_up((1.0,) * 5, (0.3,) * 5, tails=3), 1e5, names)
    near = counted(made_up((0.7,) * 5, (0.3,) * 5, center=4.0), 360)
    yield Population("made up: near 100 %", near, 360, names)
    yield Population("made up: near chance", counted(near_chance, 360), 360, names)
    few = counted(made_up((0.5,) * 5, (0.3,) * 5, block=0.5), 50)
    yield Population("made up: 50 test images", few, 50, names)
    yield from harder(names)


def harder(names: tuple[str, ...]) -> Iterator[Population]:
    """What nobody chose the procedure by: other shapes, exchangeable or of equal means."""
    fifty = counted(made_up((0.7,) * 5, (0.3,) * 5, center=5.0), 50)
    yield Population("made up: 50 test images, near 100 %", fifty, 50, names)
    yield Population("made up: networks at 30 or 90 %", counted(two_kinds, 1000), 1000, names)
    yield Population("made up: skewed errors", counted(skewed, 1000), 1000, names)
    yield Population("made up: wide reference", made_up((2.0,) + (0.2,) * 4, (0.3,) * 5), 1e5, names)
    whole = (slice(0, SPLIT),)
    yield Population(
        "made up: three alike, ratios as one", made_up((0.5,) * 3, (0.95,) * 3), 1e5, names[:3], None, whole
    )
    spreads, together = tuple(np.geomspace(0.05, 2, 20)), tuple(np.linspace(0, 0.95, 20))
    many = tuple(f"optimizer {i}" for i in range(20))
    yield Population("made up: twenty, from narrow to wide as a whole", made_up(spreads, together), 1e5, many)
    for narrow, wide in ((0.02, 0.05), (0.005, 0.07)):
        draw = counted(equal_means(narrow, wide), 1000)
        yield Population(f"equal means: 90 % ± {100 * narrow:g} and ± {100 * wide:g}", draw, 1000, names[:3])
    yield Population("equal means: 50 %, one from collapses", counted(collapses_of_a_better_one, 1000), 1000, names[:3])
    yield Population("made up: narrow, now and then six times as wide", now_and_then_wide, 1e5, names)
    yield Population("made up: seeds go together, ratios as a walk", counted(walks, 1000), 1000, names)
    yield Population("made up: two wide as a whole, three narrow", two_wide, 1e5, names)
    yield Population("made up: Laplace, as a whole", counted(laplace, 1000), 1000, names)
    yield Population("equal means: beta, of 8 to 2,000 trials", counted(betas, 1000), 1000, names)
    yield from afterwards(names)


def afterwards(names: tuple[str, ...]) -> Iterator[Population]:
    """What was drawn only when the procedure was settled, and what no procedure can see."""
    ten = tuple(f"optimizer {i}" for i in range(10))
    yield Population("afterwards: ten, one wide as a whole", one_as_whole, 1e5, ten)
    yield Population("afterwards: uniform, seeds in ways of their own", own_ways, 1e5, names)
    yield Population("afterwards: eight, spreads as it happens", drawn_spreads, 1e5, ten[:8])
    yield Population("afterwards: exponential, as a whole", counted(exponential, 1000), 1000, names)
    yield Population("afterwards: three, the reference wide as a whole", wide_reference, 1e5, names[:3])
    true = np.repeat([[0.97], [0.95 * 0.97 + 0.05 * CHANCE]], len(COLUMNS), axis=1)
    yield Population("out of reach: one of two collapses, 1 in 20", counted(one_collapses, 1000), 1000, names[:2], true)
