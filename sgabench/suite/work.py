"""What is left to run, counted: trainings, prunings, and the images that networks see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from sgabench.errors import counted
from sgabench.suite.choices import Choice
from sgabench.suite.plan import TrialPlan

NOTHING_TO_DO = "nothing to do: all of it is stored"
BACKWARDS = 2  # passes forwards that a pass backwards takes as long as, about


@dataclass(frozen=True)
class Work:
    """What is left to run.

    Attributes:
        trainings, prunings, probes: how many; a stored training that a probe must watch is one, too.
        train_images: that trainings and fine-tuning see, forwards and backwards, in every pass of a step; None: not
            known.
        test_images: that dense and pruned networks see; None: not known.
        checkpoints: that are evaluated and pruned as they are.
    """

    trainings: int
    prunings: int
    probes: int
    train_images: int | None
    test_images: int | None
    checkpoints: int = 0

    @property
    def any(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.trainings or self.checkpoints or self.prunings or self.probes)

    def __str__(self) -> str:
        parts = [counted(self.trainings, "training")] if self.trainings else []
        parts += [counted(self.checkpoints, "checkpoint")] if self.checkpoints else []
        if self.prunings:
            of = "" if parts else " of stored networks"
            parts.append(counted(self.prunings, "pruning") + of)
        if not parts and self.probes:  # otherwise their time is negligible
            parts = [f"{counted(self.probes, 'probe')} of stored networks"]
        return " and ".join([", ".join(parts[:-1]), parts[-1]] if parts[1:] else parts)

    @property
    def images(self) -> str:
        """Number of images processed, with a hint if most of it is evaluation; empty if unknown."""
        if self.train_images is None or not self.test_images:
            return ""
        text = f"{self.test_images:,} test images forward"
        if not self.train_images:  # with trainings, another test_size would mean training again
            return text
        text = f"{self.train_images:,} images forward and backward, {text}"
        if self.test_images > (1 + BACKWARDS) * self.train_images:
            text += "; most of the time is evaluation, which a smaller test_size of the data set would save"
        return text


def work_of(left: Iterable[TrialPlan], stored: Mapping[str, str]) -> Work:
    """Count the work that is left.

    Args:
        left: trials, each with only what is left to do, as from `sgabench.suite.plan.remaining`.
        stored: status of stored records by key.
    """
    trainings = checkpoints = prunings = probes = train_images = test_images = 0
    known = True
    for trial in left:
        trained = stored.get(trial.key) == "done" and not any(probe.of_training for probe in trial.probes)
        cells = [cell for cell in trial.cells if not cell.stored]
        trainings += not trained and trial.trains
        checkpoints += not trained and not trial.trains
        prunings += len(cells)
        probes += len(trial.probes) + sum(len(cell.probes) for cell in trial.cells)
        train, test = _images(trial.dataset)
        known = known and train is not None and test is not None
        epochs = 0 if trained or not trial.trains else trial.optimizer.settings["training"]["epochs"]
        epochs += sum(cell.pruner.settings["finetune"]["epochs"] for cell in cells if cell.pruner.settings["finetune"])
        train_images += passes_of_a_step(trial.optimizer) * epochs * (train or 0)
        looking = [*trial.probes, *(probe for cell in trial.cells for probe in cell.probes)]
        evaluations = (not trained) + len(cells) + sum(evaluations_of(plan.probe) for plan in looking)
        test_images += evaluations * (test or 0)
    seen = (train_images, test_images) if known else (None, None)
    return Work(trainings, prunings, probes, seen[0], seen[1], checkpoints)


def passes_of_a_step(optimizer: Choice) -> int:
    """Number of forward and backward passes of an optimizer per batch; unknown for plugins, so taken to be one."""
    if optimizer.name.rpartition(":")[2].lower() == "lbfgs" and not optimizer.code:
        return 1 + int(optimizer.options.get("max_iter", 20))
    return int(optimizer.tags.get("passes", 1))


def evaluations_of(probe: Choice) -> int:
    """Number of evaluations on the test split by a probe: its tag ``evaluations``, a function of its options."""
    evaluations = probe.tags.get("evaluations")
    return int(evaluations(probe.options)) if evaluations else 0


def _images(dataset: Choice) -> tuple[int | None, int | None]:
    """Number of images in the training and test splits, as far as the suite and the registration say."""
    train, test = dataset.tags.get("images", (None, None))
    settings = dataset.settings
    rest = None if train is None else train - settings["validation_size"]
    return settings["train_size"] or rest, settings.get("test_size") or test
