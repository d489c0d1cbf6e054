"""A suite file with tuned values: everything else, comments too, stays as it was written."""

from __future__ import annotations

import copy
import importlib.metadata
import itertools
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgabench.errors import InputError, counted
from sgabench.store.store import write_atomically
from sgabench.suite.choices import Choice
from sgabench.suite.overrides import apply_override
from sgabench.suite.resolving import Suite, resolve
from sgabench.tuning.objective import DENSE, Objective
from sgabench.tuning.search import Tuned
from sgabench.tuning.subjects import Settings, Subject, Values, in_words

if TYPE_CHECKING:
    from tomlkit import TOMLDocument


@dataclass(frozen=True)
class TunedSuite:
    """Where a tuned suite comes from and goes to.

    Attributes:
        suite: the suite that is tuned, with the overrides.
        overrides: as for ``--set``; they are written into the tuned suite.
        output: the file to write.
        subjects: the optimizers that are tuned.
    """

    suite: Suite
    overrides: Sequence[str]
    output: Path
    subjects: Sequence[Subject]

    def check(self) -> None:
        """See that it can be written, before anything is trained.

        Raises:
            InputError: it would replace the suite itself, or labels would be the same.
        """
        if self.output.resolve() == self.suite.source.resolve():
            raise InputError(f"--output {self.output}: would replace the suite itself; name another file")
        self._check_labels()
        self._text({subject.label: subject.given[0] for subject in self.subjects})

    @property
    def untuned(self) -> list[str]:
        """Labels of the optimizers that have nothing to tune."""
        tuned = {position for subject in self.subjects for position in subject.positions}
        return [choice.label for position, choice in enumerate(self.suite.optimizers) if position not in tuned]

    def _check_labels(self) -> None:
        labels = [*(subject.label for subject in self.subjects), *self.untuned]
        twice = next((label for label, count in Counter(labels).items() if count > 1), None)
        if twice is not None:
            raise InputError(
                f"{self.suite.source}: two different optimizers would be called {twice!r} without the values that are "
                "tuned; give each a label of its own"
            )

    def write(self, tuned: Sequence[Tuned], settings: Settings, held_out: str) -> None:
        """Write the tuned suite, with a comment that says how it was tuned.

        Raises:
            InputError: it cannot be written.
        """
        header = "".join(f"# {_printable(line)}\n" for line in self._story(tuned, settings, held_out))
        text = self._text({of.subject.label: of.chosen.values for of in tuned}, settings.objective)
        try:
            write_atomically(self.output.resolve(), (header + text).encode())
        except OSError as error:
            raise InputError(f"--output {self.output}: {error.strerror or error}") from None

    def _story(self, tuned: Sequence[Tuned], settings: Settings, held_out: str) -> Iterator[str]:
        objective = settings.objective
        changed = f", with {', '.join(self.overrides)}" if self.overrides else ""
        yield f"Tuned by sgabench {importlib.metadata.version('sgabench')} from {self.suite.source.name}{changed}."
        yield (
            f"{counted(settings.tries, 'try', 'tries')} for each optimizer, seed "
            f"{', '.join(map(str, settings.seeds))}; chosen by the mean {objective.measured} on images held out of the "
            "training split:"
        )
        yield f"{held_out}. The test split was not used."
        for of in tuned:
            given, chosen = of.tries[0], of.chosen
            before = "as given" if chosen is given else f"given: {in_words(given.values)}, {100 * given.top1:.1f} %"
            yield (
                f"{of.subject.label}: {in_words(chosen.values)}, "
                f"validation {objective.measured} {100 * chosen.top1:.1f} %, try {chosen.number} ({before})"
            )

    def _text(self, values: Mapping[str, Values], objective: Objective = DENSE) -> str:
        """The suite with values by the labels of the subjects; it says so itself if it was not tuned as is usual."""
        document = self._document()
        _replace_optimizers(document, self.suite, self.subjects, values)
        if "name" in document or self.output.stem == self.suite.name:
            suffix = "-tuned" if objective.ratio is None else f"-tuned-{str(objective).replace('@', '-')}"
            document["name"] = f"{self.suite.name[: 80 - len(suffix)]}{suffix}"
        if objective.ratio is not None:
            described = f"{self.suite.description} Learning rates and weight decays are tuned for {objective}."
            document["description"] = described.strip()
        text = document.as_string()
        if tomllib.loads(text) != document.unwrap():  # the library's text must mean the same
            raise InputError(f"{self.suite.source}: cannot be rewritten; write its optimizers as [[optimizers]]")
        try:
            resolve(tomllib.loads(text), self.output)
        except InputError as error:
            raise InputError(f"--output {self.output}: {error}") from None
        return text

    def _document(self) -> TOMLDocument:
        import tomlkit
        from tomlkit.exceptions import TOMLKitError

        try:
            document = tomlkit.parse(self.suite.source.read_text(encoding="utf-8-sig"))
            for override in self.overrides:
                apply_override(document, override)
        except (OSError, TOMLKitError) as error:
            raise InputError(f"{self.suite.source}: cannot be rewritten: {error}") from None
        return document


def _replace_optimizers(
    document: TOMLDocument, suite: Suite, subjects: Sequence[Subject], values: Mapping[str, Values]
) -> None:
    """Put values into the entries: one for each variant of a sweep, and one for all that are tuned as one."""
    import tomlkit
    from tomlkit.items import AoT

    entries: Any = document["optimizers"]
    if not isinstance(entries, AoT):  # a list of inline tables, in which a comment has no place
        written = document.pop("optimizers").unwrap()
        document["optimizers"] = tomlkit.aot()
        entries = document["optimizers"]
        entries.extend(tomlkit.item(entry) for entry in written)
    subject_at = {position: subject for subject in subjects for position in subject.positions}
    positions = itertools.count()
    tables: list[Any] = []
    for table in entries:
        sweep = table.get("sweep", {})
        variants = [(next(positions), dict(zip(sweep, swept, strict=True))) for swept in product(*sweep.values())]
        if not any(position in subject_at for position, _ in variants):
            tables.append(table)
            continue
        for position, swept in variants:
            subject = subject_at.get(position)
            if subject is None or subject.positions[0] == position:
                tables.append(_variant(table, swept, suite.optimizers[position], subject, values))
    entries.clear()
    entries.extend(tables)


def _variant(
    table: Any, swept: Mapping[str, Any], choice: Choice, subject: Subject | None, values: Mapping[str, Values]
) -> Any:
    """One variant of an entry as an entry of its own."""
    variant = copy.deepcopy(table)
    variant.pop("sweep", None)
    label = subject.label if subject else choice.label
    if label != variant.get("label", variant["name"]):
        variant["label"] = label
    for name, value in swept.items():
        if subject is None or name not in subject.ranges:
            variant[name] = value
    if subject is not None:
        for name, value in values[label].items():
            given = [of[name] for of in subject.given]
            if value != given[0] or name in swept:  # otherwise it is there already, or was not written
                variant[name] = value
                variant[name].comment(f"given: {', '.join(f'{number:g}' for number in dict.fromkeys(given))}")
    return variant


def _printable(text: str) -> str:
    """What the user named may have line breaks, which would end a comment."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
