"""The `[[checkpoints]]` of a suite: the user's trained networks, instead of trainings."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sgabench.errors import InputError, dotted, first_problem, shorten, suggestion
from sgabench.suite.choices import Choice, choice_of
from sgabench.suite.tables import CheckpointEntry, OptimizerEntry, Recipe, recipe_settings

FORMATS = (".safetensors", ".pt", ".pth")
NO_OPTIMIZER = "none"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network that takes the place of a training.

    Attributes:
        model: of the network.
        optimizer: for further training, and after pruning; with the checkpoint's label. Its name is `NO_OPTIMIZER` if
            there is none.
        weights: the file; None: the weights that are published for the model.
        seed: of the trial.
        trains: whether it is trained further before it is pruned.
        sha256: of the file's content, once it has been read.
    """

    model: Choice
    optimizer: Choice
    weights: Path | None
    seed: int
    trains: bool
    sha256: str = ""

    @property
    def label(self) -> str:
        """Its name in tables, in place of an optimizer's; files with the same label are replicates."""
        return self.optimizer.label

    def identity(self) -> dict[str, Any]:
        """What enters keys, beside model, optimizer and seed."""
        return {"sha256": self.sha256, "trains": self.trains}

    def with_content(self) -> Checkpoint:
        """Read the file, whose content, not path, enters the keys; published weights are identified by the model.

        Raises:
            InputError: it cannot be read.
        """
        if self.weights is None:
            return self
        try:
            with self.weights.open("rb") as file:
                return replace(self, sha256=hashlib.file_digest(file, "sha256").hexdigest())
        except OSError as error:
            hint = ""
            if isinstance(error, FileNotFoundError) and self.weights.parent.is_dir():
                beside = (path.name for path in self.weights.parent.iterdir() if path.suffix in FORMATS)
                hint = suggestion(self.weights.name, beside)
            raise InputError(
                f"checkpoint {self.label!r}: weights: {self.weights}: {error.strerror or error}{hint}"
            ) from None


def checkpoints_of(
    entries: Sequence[CheckpointEntry], models: Sequence[Choice], recipe: Recipe, folder: Path
) -> tuple[Checkpoint, ...]:
    """The checkpoints of a suite, checked without reading files.

    Args:
        entries: as written.
        models: of the suite.
        recipe: of the suite.
        folder: that relative paths are relative to.

    Raises:
        InputError: the message starts with the entry.
    """
    checkpoints: list[Checkpoint] = []
    for number, entry in enumerate(entries, start=1):
        try:
            checkpoints.append(_checkpoint(entry, models, recipe, folder, checkpoints))
        except InputError as error:
            raise InputError(f"checkpoints {number} ({shorten(entry.label)[1:-1]}): {error}") from None
    return tuple(checkpoints)


def _checkpoint(
    entry: CheckpointEntry, models: Sequence[Choice], recipe: Recipe, folder: Path, before: Sequence[Checkpoint]
) -> Checkpoint:
    model = _model(entry.model, models)
    weights = _weights(entry, model, folder)
    optimizer = _optimizer(entry, recipe)
    replicates = [other for other in before if (other.label, other.model.label) == (entry.label, model.label)]
    if any((other.optimizer, other.trains) != (optimizer, entry.epochs > 0) for other in replicates):
        raise InputError("epochs and optimizer must be the same for all replicates of a label; give it another label")
    seed = len(replicates) if entry.seed is None else entry.seed
    if any(other.seed == seed for other in replicates):
        raise InputError(
            f"seed: {seed} is already used by another file with this label; replicates have different seeds"
        )
    return Checkpoint(model, optimizer, weights, seed, entry.epochs > 0)


def _model(label: str | None, models: Sequence[Choice]) -> Choice:
    labels = [model.label for model in models]
    if label is None and len(models) > 1:
        raise InputError(f"model: which one? {', '.join(labels)}")
    if label is not None and label not in labels:
        raise InputError(f"model: no model {label!r} in [[models]]{suggestion(label, labels)}")
    return models[0 if label is None else labels.index(label)]


def _weights(entry: CheckpointEntry, model: Choice, folder: Path) -> Path | None:
    if entry.weights is None:
        if model.options.get("pretrained") is not True:
            raise InputError(
                f"weights: which file? None is needed for published weights, which model {model.label!r} has with "
                "pretrained = true if it is one of timm: or torchvision:"
            )
        return None
    if Path(entry.weights).suffix.lower() not in FORMATS:
        raise InputError(f"weights: {shorten(entry.weights)} is none of {', '.join(FORMATS)}")
    try:
        return folder / Path(entry.weights).expanduser()
    except (RuntimeError, ValueError) as error:
        raise InputError(f"weights: {error}") from None


def _optimizer(entry: CheckpointEntry, recipe: Recipe) -> Choice:
    """The optimizer for further training; without one, only the parts of the recipe for evaluation and pruners."""
    if entry.optimizer is None:
        if entry.epochs:
            raise InputError('epochs: with which optimizer? Set optimizer = {name = "sgd", lr = 0.01}, for example')
        training = recipe.model_dump(mode="json", include={"batch_size", "precision"})
        return Choice(NO_OPTIMIZER, entry.label, {}, settings={"training": training})
    try:
        written = OptimizerEntry.model_validate({**entry.optimizer, "label": entry.label})
    except ValidationError as error:
        path, problem = first_problem(error, OptimizerEntry.model_fields)
        raise InputError(f"{dotted(['optimizer', *path])}: {problem}") from None
    if written.sweep:
        raise InputError("optimizer.sweep: a checkpoint has one optimizer")
    if entry.epochs:
        written = written.model_copy(update={"training": {**written.training, "epochs": entry.epochs}})
    try:
        choice, _ = choice_of("optimizers", written, {}, lambda of: recipe_settings(of, recipe))
    except InputError as error:
        raise InputError(f"optimizer: {error}") from None
    return choice


def check_checkpoints(
    checkpoints: Sequence[Checkpoint], optimizers: Sequence[Choice], pruners: Sequence[Choice], rounds: Any
) -> None:
    """Refuse checkpoints that conflict with the rest of a suite.

    Raises:
        InputError: a label that an optimizer has; fine-tuning without an optimizer; seeds in rounds.
    """
    if not checkpoints:
        return
    taken = {choice.label for choice in optimizers}
    for checkpoint in checkpoints:
        if checkpoint.label in taken:
            raise InputError(
                f"checkpoints: {checkpoint.label!r} is also the label of an optimizer; give it another one"
            )
    if rounds is not None:
        raise InputError("checkpoints: their seeds are fixed; write seeds as a list, not as a range")
    tuned = next((p.label for p in pruners if p.settings["finetune"] or p.settings.get("schedule")), None)
    rewound = next((p.label for p in pruners if "to" in (p.settings.get("schedule") or {})), None)
    if rewound is not None and not all(checkpoint.trains for checkpoint in checkpoints):
        raise InputError(f"pruners: {rewound!r}: schedule.to: a checkpoint has no training to rewind to")
    untrained = next((c.label for c in checkpoints if c.optimizer.name == NO_OPTIMIZER), None)
    if tuned is not None and untrained is not None:
        raise InputError(
            f"pruners: {tuned!r} needs training, but checkpoint {untrained!r} has no optimizer; "
            'set its optimizer = {name = "sgd", lr = 0.01}, for example'
        )


def replicates(checkpoints: Sequence[Checkpoint]) -> dict[str, int]:
    """Number of files of each label, on the model with the most."""
    counts = Counter((checkpoint.label, checkpoint.model.label) for checkpoint in checkpoints)
    most: dict[str, int] = {}
    for (label, _), number in counts.items():
        most[label] = max(number, most.get(label, 0))
    return most
