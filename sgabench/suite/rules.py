"""What counts as a regression: the `[gate]` table of a suite, and the defaults."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from sgabench.errors import shorten, suggestion

Rule = Literal["statistical", "tolerance", "exact", "off"]
ACCURACIES = ("dense_top1", "pruned_top1")
FEW_SEEDS_TOLERANCE = 5.0  # if too few seeds leave only the tolerance rule; retraining changes more than 0.5 points
MAX_DROP = 10.0
LEEWAY = 3.0


@dataclass(frozen=True)
class Metric:
    """A number that a gate can check.

    Attributes:
        title: its name in reports.
        unit: of tolerance and difference: percentage points, or percent of the baseline's mean.
        lower_is_worse: which direction is a regression.
        rule: the default rule.
        tolerance: the default tolerance, in the unit.
    """

    title: str
    unit: Literal["points", "%"]
    lower_is_worse: bool
    rule: Rule
    tolerance: float


METRICS = {
    "dense_top1": Metric("dense top-1", "points", True, "statistical", 1.0),
    "pruned_top1": Metric("pruned top-1", "points", True, "statistical", 1.0),
    "retention": Metric("retention", "points", True, "off", 0.5),
    "sparsity": Metric("sparsity", "points", True, "tolerance", 0.5),
    "compression_ratio": Metric("compression ratio", "%", True, "off", 1.0),
    "macs": Metric("multiply-adds", "%", False, "off", 1.0),
    "nonzero_macs": Metric("multiply-adds on non-zero weights", "%", False, "tolerance", 1.0),
    "bytes": Metric("size", "%", False, "tolerance", 1.0),
    "gzip_bytes": Metric("compressed size", "%", False, "off", 1.0),
    "images_per_s": Metric("throughput", "%", True, "off", 20.0),
}
MAX_FLOOR = 1000
FLOOR = re.compile(
    r"\s*(?P<metric>\w+)\s*(?P<sign>>=|<=)\s*(?P<bound>[0-9.eE+-]+)"
    r"(?:\s+at\s+ratio\s+(?P<ratio>[0-9.]+))?(?:\s+for\s+(?P<pattern>\S.*?))?\s*"
)


@dataclass(frozen=True)
class Floor:
    """A bound for the mean over seeds, whatever the baseline."""

    text: str
    metric: str
    bound: float
    ratio: float | None
    pattern: str

    def covers(self, name: str, ratio: float | None) -> bool:
        """Whether it applies to a cell (dataset/model/optimizer/pruner/ratio), or to a trial, without the last two."""
        return (self.ratio is None or self.ratio == ratio) and fnmatchcase(name, self.pattern)


def parse_floor(text: str) -> Floor:
    """Parse ``retention >= 0.9 at ratio 0.5 for */adam/*``; the last two parts are optional.

    Raises:
        ValueError: it cannot be parsed, or bounds a metric on the side that is not a regression.
    """
    found = FLOOR.fullmatch(text)
    if not found:
        raise ValueError(f"a floor is e.g. 'retention >= 0.9 at ratio 0.5 for */adam/*', got {shorten(text)}")
    name = found["metric"]
    if name not in METRICS:
        raise ValueError(f"floor {shorten(text)}: unknown metric {name!r}{suggestion(name, METRICS)}")
    sign = ">=" if METRICS[name].lower_is_worse else "<="
    if found["sign"] != sign:
        raise ValueError(f"floor {shorten(text)}: {name} gets worse in the other direction; write {name} {sign} ...")
    if name == "dense_top1" and found["ratio"]:
        raise ValueError(f"floor {shorten(text)}: dense_top1 is for a network that is not pruned; leave the ratio out")
    try:
        bound, ratio = float(found["bound"]), float(found["ratio"]) if found["ratio"] else None
    except ValueError:
        raise ValueError(f"floor {shorten(text)}: not a number") from None
    if not math.isfinite(bound):
        raise ValueError(f"floor {shorten(text)}: the bound is not finite")
    if METRICS[name].unit == "points" and not 0 <= bound <= 1:
        raise ValueError(f"floor {shorten(text)}: {name} is a fraction from 0 to 1, not {bound:g}")
    return Floor(" ".join(text.split()), name, bound, ratio, found["pattern"] or "*")


def _checked_floor(text: str) -> str:
    if len(text) > MAX_FLOOR:  # the time of the pattern is quadratic in it
        raise ValueError(f"floor {shorten(text)}: longer than {MAX_FLOOR} characters")
    parse_floor(text)
    return text


class Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)


class MetricRule(Table):
    """How one metric is judged."""

    rule: Rule | None = Field(
        default=None,
        description="statistical (accuracies only): shown worse by more than the tolerance, shown not worse, or "
        "neither; tolerance: the mean is worse by more than the tolerance; exact: not the same number; off.",
    )
    tolerance: float | None = Field(
        strict=True,
        default=None,
        ge=0,
        le=1e6,
        description="How much worse is no regression: in percentage points of accuracies, retention and sparsity, in "
        "percent of the baseline's mean of everything else.",
    )

    @model_validator(mode="after")
    def _fits(self) -> MetricRule:
        if self.rule in ("exact", "off") and self.tolerance is not None:
            raise ValueError(f"tolerance: rule {self.rule!r} has none; leave it out")
        return self


class GateTable(Table):
    """What `sgabench check` calls a regression; enters no key."""

    floors: tuple[Annotated[str, AfterValidator(_checked_floor)], ...] = Field(
        default=(), max_length=1000, description="Bounds of means, e.g. 'retention >= 0.9 at ratio 0.5 for */adam/*'."
    )
    undecided: Literal["fail", "pass"] = Field(
        default="fail", description="When neither a loss nor its absence is shown: fail is exit code 3, pass is 0."
    )
    max_drop: float = Field(
        strict=True,
        default=MAX_DROP,
        gt=0,
        le=100,
        description="Points by which the mean accuracy of a trial or a cell may drop, whatever a test says; more where "
        "the baseline itself spreads that much.",
    )
    leeway: float = Field(
        strict=True,
        default=LEEWAY,
        ge=0,
        le=100,
        description="A gate is green where a loss of more than the tolerance plus this many standard deviations of the "
        "baseline over seeds, but never more than max_drop, is ruled out.",
    )
    dense_top1: MetricRule = Field(default=MetricRule(), description="Top-1 accuracy before pruning.")
    pruned_top1: MetricRule = Field(default=MetricRule(), description="Top-1 accuracy after pruning.")
    retention: MetricRule = Field(default=MetricRule(), description="Pruned / dense accuracy of the same trial.")
    sparsity: MetricRule = Field(default=MetricRule(), description="Zeros among the prunable weights.")
    compression_ratio: MetricRule = Field(default=MetricRule(), description="Parameters / non-zero parameters.")
    macs: MetricRule = Field(default=MetricRule(), description="Multiply-adds per image; more is worse.")
    nonzero_macs: MetricRule = Field(
        default=MetricRule(), description="Multiply-adds on non-zero weights; more is worse."
    )
    bytes: MetricRule = Field(default=MetricRule(), description="Size as a safetensors file; more is worse.")
    gzip_bytes: MetricRule = Field(default=MetricRule(), description="The same file after gzip; more is worse.")
    images_per_s: MetricRule = Field(
        default=MetricRule(), description="Throughput of the pruned network; compared only on the same device."
    )

    @model_validator(mode="after")
    def _tests(self) -> GateTable:
        for metric in METRICS:
            if self.of(metric).rule == "statistical" and metric not in ACCURACIES:
                raise ValueError(
                    f"{metric}.rule: 'statistical' is for {' and '.join(ACCURACIES)}; write rule = \"tolerance\""
                )
        return self

    def setting(self, metric: str) -> tuple[Rule, float]:
        """Rule and tolerance of a metric, as set by the suite or by default."""
        own, default = self.of(metric), METRICS[metric]
        return own.rule or default.rule, default.tolerance if own.tolerance is None else own.tolerance

    def of(self, metric: str) -> MetricRule:
        """The suite's rule for a metric."""
        rule = getattr(self, metric)
        assert isinstance(rule, MetricRule)
        return rule
