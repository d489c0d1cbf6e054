"""The question of a suite: the `[question]` table, and the number of seeds to decide it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sgabench.errors import InputError, dotted, first_problem, suggestion
from sgabench.suite.limits import MAX_SEEDS


class SeedRange(BaseModel):
    """Seeds 0, 1, 2, ...: rounds are added until every question is decided, or hopeless."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    first: int = Field(
        alias="from", strict=True, default=3, ge=3, le=MAX_SEEDS, description="Seeds of the first round."
    )
    last: int = Field(alias="to", strict=True, ge=3, le=MAX_SEEDS, description="Maximum number of seeds.")

    @model_validator(mode="after")
    def _fits(self) -> SeedRange:
        if self.first > self.last:
            raise ValueError(f"from ({self.first}) must be at most to ({self.last})")
        return self


def read_range(data: Mapping[str, Any]) -> SeedRange:
    """Check ``seeds = {from = 5, to = 30}``.

    Raises:
        InputError: without the file's name, which the caller knows.
    """
    try:
        return SeedRange.model_validate(data)
    except ValidationError as error:
        path, problem = first_problem(error)
        raise InputError(f"{dotted(['seeds', *path])}: {problem}") from None


class QuestionTable(BaseModel):
    """The subject of the verdicts; enters no key."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    reference: str | None = Field(
        default=None, description="Label of the optimizer that the others are compared with; default: the first."
    )
    pruner: str | None = Field(
        default=None,
        description="Label of the pruner in question; the others are judged only when it is decided.",
    )
    ratio: Annotated[float, Field(strict=True, ge=0, lt=1)] | None = Field(
        default=None, description="The ratio of that pruner in question; default: all of its ratios together."
    )
    resolution: float = Field(
        strict=True,
        default=2.0,
        ge=0,
        le=100,
        description="The largest difference that does not matter, in percentage points.",
    )

    def check(self, optimizers: list[str], ratios: dict[str, list[float]]) -> None:
        """Refuse names and ratios that the suite does not have.

        Args:
            optimizers: labels.
            ratios: of each pruner, by label.

        Raises:
            InputError: without the file's name, which the caller knows.
        """
        if self.reference is not None and self.reference not in optimizers:
            raise InputError(
                f"question.reference: no optimizer {self.reference!r}{suggestion(self.reference, optimizers)}"
            )
        if self.pruner is not None and self.pruner not in ratios:
            raise InputError(f"question.pruner: no pruner {self.pruner!r}{suggestion(self.pruner, ratios)}")
        if self.ratio is not None and self.pruner is None:
            raise InputError("question.ratio: for which pruner? Also set question.pruner")
        if self.ratio is not None and self.pruner is not None and self.ratio not in ratios[self.pruner]:
            raise InputError(
                f"question.ratio: pruner {self.pruner!r} has no ratio {self.ratio:g}; it has "
                f"{', '.join(f'{ratio:g}' for ratio in ratios[self.pruner])}"
            )
