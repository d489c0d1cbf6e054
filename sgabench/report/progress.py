"""The progress of a run: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from sgabench.errors import counted
from sgabench.report.forecast import Forecast, duration
from sgabench.running.listening import Listener
from sgabench.store.store import Record
from sgabench.suite.plan import TrialPlan
from sgabench.suite.work import NOTHING_TO_DO, work_of
from sgabench.system.showing import Advance, Show, showing, silently
from sgabench.system.tracebacks import in_a_line

if TYPE_CHECKING:
    from sgabench.evidence.leaderboard import Tables
    from sgabench.training.progress import Progress

LINE_SECONDS = 10.0
BESIDE_TRIALS = 2  # lines of a screen: the suite's bar and the cursor's


@contextmanager
def listener(quiet: bool, idle: str = NOTHING_TO_DO) -> Iterator[Listener]:
    """The appropriate listener: silent, bars on a terminal, or lines.

    Args:
        quiet: silent.
        idle: printed at the end if there was nothing to do; empty: nothing.
    """
    if quiet:
        with showing(silently):
            yield Listener()
    elif sys.stderr is not None and sys.stderr.isatty():
        with Bars(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[info]}"),
            TimeElapsedColumn(),
            console=Console(stderr=True),
        ) as bars:
            shown = OnTerminal(bars)
            with showing(on_bars(bars)):
                yield shown
            if shown.is_idle and idle:
                bars.console.print(idle, markup=False, highlight=False)
    else:
        lines = InLines()
        yield lines
        if lines.is_idle and idle:
            lines.say(idle)


def on_bars(bars: Bars) -> Show:
    """Show each operation on a bar of its own if it takes more than a second."""

    @contextmanager
    def show(what: str, total: int) -> Iterator[Advance]:
        begun = time.monotonic()
        bar = bars.add_task(escape(what), total=total, info="", visible=False)
        try:
            yield lambda number: bars.update(bar, advance=number, visible=time.monotonic() - begun > 1)
        finally:
            bars.remove_task(bar)

    return show


class OnTerminal(Listener):
    """A bar for the suite, and one for each trial that runs."""

    def __init__(self, bars: Bars) -> None:
        self._bars = bars
        self._suite: TaskID | None = None
        self._work = ""
        self._forecast: Forecast | None = None
        self._trials: dict[int, TaskID] = {}

    @property
    def is_idle(self) -> bool:
        """Whether there was nothing to do so far."""
        return self._suite is None

    def started(self, left: Sequence[TrialPlan], trained: Collection[str], device: str, jobs: int) -> None:
        """Show the suite's bar, which counts trials."""
        self._forecast = Forecast(left, trained, jobs)
        self._work = str(work_of(left, dict.fromkeys(trained, "done")))
        self._suite = self._bars.add_task(f"[bold]suite[/] on {device}", total=len(left), info=self._work)

    def placed(self, worker: int, trial: TrialPlan, where: str) -> None:
        """Show the machine beside the trial."""
        self._bars.update(self._bar(worker, trial), description=f"{escape(trial.name)} [dim]{escape(where)}[/]")

    def progressed(self, worker: int, trial: TrialPlan, progress: Progress) -> None:
        """Show epoch, speed, loss and time left of a trial."""
        bar = self._bar(worker, trial)
        self._bars.update(bar, completed=progress.epoch, total=progress.epochs, info=numbers(progress))
        if self._forecast is not None:
            self._forecast.progressed(worker, trial, progress)
        self._show_rest()

    def stored(self, worker: int, trial: TrialPlan, record: Record) -> None:
        """Show the last measurement, or print the failure."""
        if self._forecast is not None:
            self._forecast.stored(worker, trial, record)
        self._show_rest()
        if record.status != "done":
            self._bars.console.print(f"[red]{escape(_line(trial, record))}[/]", soft_wrap=True)
        elif record.kind != "probe":
            self._bars.update(self._bar(worker, trial), info=escape(_measured(record)))

    def finished(self, worker: int, trial: TrialPlan) -> None:
        """Remove the trial's bar and advance the suite's."""
        if worker in self._trials:
            self._bars.remove_task(self._trials.pop(worker))
        self._advance(worker, trial)

    def elsewhere(self, trial: TrialPlan) -> None:
        """Advance the suite's bar."""
        self._advance(None, trial)

    def waiting(self, trials: int) -> None:
        """Show beside the suite's bar what the run waits for."""
        if self._suite is not None:
            self._bars.update(self._suite, info=waiting_for(trials))

    def _advance(self, worker: int | None, trial: TrialPlan) -> None:
        if self._suite is not None and self._forecast is not None:
            self._bars.advance(self._suite)
            self._forecast.finished(worker, trial)
            self._show_rest()

    def _show_rest(self) -> None:
        if self._suite is not None and self._forecast is not None:
            self._bars.update(self._suite, info=self._work + rest(self._forecast))

    def _bar(self, worker: int, trial: TrialPlan) -> TaskID:
        if worker not in self._trials:
            epochs = trial.optimizer.settings["training"]["epochs"]
            # A screen has no room for a thousand nodes, and drawing them would take all of the time.
            fits = worker < self._bars.console.height - BESIDE_TRIALS
            self._trials[worker] = self._bars.add_task(escape(trial.name), total=epochs, info="", visible=fits)
        return self._trials[worker]


class InLines(Listener):
    """A line for every trained trial, and one every ten seconds in between."""

    def __init__(self) -> None:
        self._trials = 0
        self._done = 0
        self._waiting = 0
        self._last: dict[int, float] = {}
        self._forecast: Forecast | None = None

    @property
    def is_idle(self) -> bool:
        """Whether there was nothing to do so far."""
        return self._forecast is None

    def started(self, left: Sequence[TrialPlan], trained: Collection[str], device: str, jobs: int) -> None:
        """Say what is left to do."""
        self._trials, self._done = len(left), 0
        self._forecast = Forecast(left, trained, jobs)
        self.say(f"{work_of(left, dict.fromkeys(trained, 'done'))} to run on {device}")

    def placed(self, worker: int, trial: TrialPlan, where: str) -> None:
        """Say where a trial begins."""
        self.say(f"{trial.name}: started on {where}")

    def progressed(self, worker: int, trial: TrialPlan, progress: Progress) -> None:
        """Report the progress of a training now and then."""
        if self._forecast is not None:
            self._forecast.progressed(worker, trial, progress)
        now = time.monotonic()
        if now - self._last.setdefault(worker, now) >= LINE_SECONDS:
            self._last[worker] = now
            self.say(
                f"{trial.name}: epoch {progress.epoch:.1f}/{progress.epochs}, {numbers(progress)}{rest(self._forecast)}"
            )

    def stored(self, worker: int, trial: TrialPlan, record: Record) -> None:
        """Report how a training ended, and failures."""
        if self._forecast is not None:
            self._forecast.stored(worker, trial, record)
        if record.status != "done" or record.kind == "trial":
            self.say(_line(trial, record))

    def finished(self, worker: int, trial: TrialPlan) -> None:
        """Count the trial."""
        self._count(worker, trial, "finished")

    def elsewhere(self, trial: TrialPlan) -> None:
        """Count the trial."""
        self._count(None, trial, "finished by another run")

    def waiting(self, trials: int) -> None:
        """Say what the run waits for, if that has changed."""
        if trials != self._waiting:
            self._waiting = trials
            self.say(waiting_for(trials))

    def _count(self, worker: int | None, trial: TrialPlan, how: str) -> None:
        self._done += 1
        if self._forecast is not None:
            self._forecast.finished(worker, trial)
        self.say(f"{self._done}/{self._trials} {trial.name}: {how}{rest(self._forecast)}")

    def say(self, text: str) -> None:
        """Write a line."""
        # If there is no reader any more, the run continues.
        with suppress(OSError, ValueError):
            sys.stderr.write(text + "\n")
            sys.stderr.flush()


def rest(forecast: Forecast | None) -> str:
    """Time left of the whole run, if it can be estimated."""
    seconds = forecast.seconds if forecast is not None else None
    return "" if not seconds else f"; all: about {duration(seconds)} left"


def waiting_for(trials: int) -> str:
    """The message while other runs do what is left."""
    return f"waiting for {counted(trials, 'trial')} of other runs"


def numbers(progress: Progress) -> str:
    """Speed, loss and time left of a training."""
    minutes, seconds = divmod(round(progress.seconds_left), 60)
    return f"{progress.images_per_s:.0f} images/s, loss {progress.loss:.3f}, {minutes}:{seconds:02d} left"


def _line(trial: TrialPlan, record: Record) -> str:
    where = trial.name if record.kind == "trial" else f"{trial.name}/{record.labels.get('pruner', record.kind)}"
    if record.status == "done":
        return f"{where}: {_measured(record)}"
    return f"{where}: {record.status}: {in_a_line(record.error)}"


def _measured(record: Record) -> str:
    top1 = record.result["top1"]
    if record.kind == "trial":
        seconds = record.result.get("train_seconds")
        how = "a checkpoint" if seconds is None else f"trained in {seconds:.0f} s"
        return f"dense top-1 {100 * top1:.1f} %, {how}"
    return f"{record.labels['pruner']} {record.labels['ratio']:g}: top-1 {100 * top1:.1f} %"


def print_tables(tables: Tables, folder: Path) -> None:
    """Print the leaderboard, and the files that it was written to."""
    from sgabench.report.terminal import renderable, table

    console = Console()
    if console.is_terminal:
        console.print(renderable(tables, console.width))
    else:
        console.out(table(tables), end="", highlight=False)
    console.print(
        f"written: {folder / 'leaderboard.md'}, {folder / 'leaderboard.csv'}",
        style="dim",
        markup=False,
        soft_wrap=True,
    )
