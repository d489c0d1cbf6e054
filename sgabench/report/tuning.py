"""The progress and the results of a tuning."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shlex import join
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.status import Status
from rich.table import Table
from rich.text import Text

from sgabench.report.progress import LINE_SECONDS, numbers
from sgabench.report.terminal import WIDE
from sgabench.suite.plan import TrialPlan
from sgabench.tuning.objective import DENSE, Objective
from sgabench.tuning.search import Listener, Try, Tuned
from sgabench.tuning.subjects import Settings, Subject, in_words

if TYPE_CHECKING:
    from sgabench.training.progress import Progress
    from sgabench.tuning.validation import Validation

# A factor: a value this close to an end of its range may be better beyond it.
NEAR = 1.5


@contextmanager
def listener(quiet: bool) -> Iterator[Listener]:
    """The appropriate listener: silent, or a line for each try with the training below it on a terminal."""
    if quiet:
        yield Listener()
        return
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Lines(None)
        return
    with console.status("checking data and optimizers") as status:
        yield _Lines(status)


class _Lines(Listener):
    """A line for each try; below them the running training on a terminal, or a line about it now and then."""

    def __init__(self, status: Status | None) -> None:
        self._status = status
        self._tries = 0
        self._last = time.monotonic()

    def started(self, subjects: Sequence[Subject], settings: Settings, validation: Validation) -> None:
        """Say what is tuned, and on which data."""
        self._tries = settings.tries
        optimizers = _count(len(subjects), "optimizer", "optimizers")
        tries = _count(settings.tries, "try", "tries")
        trainings = _count(len(validation.trials), "training", "trainings")
        device, held_out = validation.environment["device"], validation.held_out()
        self._print(f"{optimizers} with {tries} of {trainings} each, on {device}; held out for validation: {held_out}")
        if validation.objective.ratio is not None:
            self._print(f"judged by {validation.objective.measured}")
        for subject in subjects:
            ranges = ", ".join(f"{name} from {low:g} to {high:g}" for name, (low, high) in subject.ranges.items())
            zero = " or 0" if "weight_decay" in subject.ranges else ""
            others = [repr(choice.label) for choice in subject.members[1:]]
            same = f"; differing only in these: {', '.join(others)}, tuned as one" if others else ""
            self._print(f"{subject.label}: {ranges}{zero}{same}")

    def progressed(self, trial: TrialPlan, progress: Progress) -> None:
        """Show the progress of a training."""
        text = f"{trial.name}: epoch {progress.epoch:.1f}/{progress.epochs}, {numbers(progress)}"
        now = time.monotonic()
        if self._status is not None:
            self._status.update(escape(text))
        elif now - self._last >= LINE_SECONDS:
            self._last = now
            self._print(text)

    def tried(self, subject: Subject, attempt: Try) -> None:
        """Report the result of a try."""
        self._last = time.monotonic()
        diverged = f", {attempt.diverged} diverged" if attempt.diverged else ""
        stored = ", stored" if attempt.stored else ""
        self._print(
            f"{subject.label}: try {attempt.number}/{self._tries}: {in_words(attempt.values)}: validation top-1 "
            f"{100 * attempt.top1:.1f} %{diverged}{stored}"
        )

    def _print(self, text: str) -> None:
        # If there is no reader any more, the tuning continues.
        with suppress(OSError, ValueError):
            if self._status is not None:
                self._status.console.print(text, markup=False, highlight=False, soft_wrap=True)
            else:
                sys.stderr.write(text + "\n")
                sys.stderr.flush()


def _count(number: int, singular: str, plural: str) -> str:
    return f"{number} {singular if number == 1 else plural}"


def print_tuning(
    tuned: Sequence[Tuned],
    left: Sequence[str],
    output: Path,
    command: Sequence[str],
    objective: Objective = DENSE,
) -> None:
    """Print what was chosen for each optimizer, what to be careful about, and what to do next.

    Args:
        tuned: the optimizers.
        left: labels of the optimizers that have nothing to tune.
        output: the tuned suite.
        command: that runs it.
        objective: that the tries were judged by.
    """
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    options = list(dict.fromkeys(name for of in tuned for name in of.subject.ranges))
    view = Table(box=None, padding=(0, 2, 0, 0))
    for heading in ("optimizer", *options, "validation\N{NO-BREAK SPACE}top-1\N{NO-BREAK SPACE}%", "try"):
        justify = "left" if heading == "optimizer" else "right"
        view.add_column(heading, header_style="bold underline", justify=justify, overflow="fold")  # type: ignore[arg-type]
    for of in tuned:
        given, chosen = of.tries[0], of.chosen
        cells = [_arrow(given.values.get(name), chosen.values.get(name)) for name in options]
        accuracy = f"{100 * given.top1:.1f} → {100 * chosen.top1:.1f}"
        view.add_row(*map(Text, (of.subject.label, *cells, accuracy, f"{chosen.number}/{len(of.tries)}")))
    console.print(view)
    console.print(
        f"Given → chosen. Validation: mean {objective.measured} on images held out of the training split, of the best "
        "try; the best of many is optimistic, so only a run says which optimizer is better. The test split was not "
        "used.",
        style="dim",
    )
    notes = [f"{label}: has no lr and no weight_decay to set; left as it is" for label in left]
    for note in [*notes, *(line for of in tuned for line in _cautions(of))]:
        console.print(note, style="yellow", markup=False, highlight=False, soft_wrap=True)
    console.print(f"written: {output}; next: {join(command)}", markup=False, highlight=False, soft_wrap=True)


def _arrow(given: float | None, chosen: float | None) -> str:
    if given is None or chosen is None:
        return ""
    return f"{given:g}" if given == chosen else f"{given:g} → {chosen:g}"


def _cautions(of: Tuned) -> Iterator[str]:
    """What should make a reader doubt a choice."""
    if all(attempt.diverged for attempt in of.tries):
        yield f"{of.subject.label}: diverged in every try; give it a smaller lr, or lower --lr-factors"
        return
    for name, (low, high) in of.subject.ranges.items():
        value = of.chosen.values[name]
        option = "--lr-factors" if name == "lr" else "--weight-decays"
        if value and low < high and (value < low * NEAR or value > high / NEAR):
            yield f"{of.subject.label}: {name} {value:g} is at an end of the searched range; widen it with {option}"
