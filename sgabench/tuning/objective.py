"""The objective of tuning: accuracy on the validation split, of the dense or the pruned network."""

from __future__ import annotations

from dataclasses import dataclass

from sgabench.errors import InputError, shorten


@dataclass(frozen=True)
class Objective:
    """Top-1 on the validation split.

    Attributes:
        ratio: of the weights removed by one-shot magnitude pruning; None: the dense network is judged.
    """

    ratio: float | None = None

    @classmethod
    def parse(cls, text: str) -> Objective:
        """Read ``dense`` or ``pruned@RATIO``.

        Raises:
            InputError: anything else, or a ratio that is not between 0 and 1.
        """
        if text == "dense":
            return cls()
        kind, _, number = text.partition("@")
        try:
            ratio = float(number)
        except ValueError:
            ratio = 0.0
        if kind != "pruned" or not 0 < ratio < 1:
            raise InputError(
                f"--objective {shorten(text)[1:-1]}: must be dense, or pruned@RATIO with a ratio between 0 and 1, "
                "e.g. pruned@0.8"
            )
        return cls(ratio)

    def __str__(self) -> str:
        return "dense" if self.ratio is None else f"pruned@{self.ratio:g}"

    @property
    def measured(self) -> str:
        """What is measured, in words."""
        if self.ratio is None:
            return "top-1"
        return f"top-1 after magnitude pruning of {100 * self.ratio:g} % of the weights"


DENSE = Objective()
