"""The tables of a suite file: the meaning and the valid values of each key."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from sgabench.errors import InputError, dotted, first_problem, shorten
from sgabench.suite.limits import MAX_LIST, MAX_SEEDS, MAX_VARIANTS
from sgabench.suite.question import QuestionTable, SeedRange
from sgabench.suite.rules import GateTable, Table
from sgabench.suite.schedules import Schedule

Ratio = Annotated[float, Field(strict=True, ge=0, lt=1, allow_inf_nan=False)]


def _check_label(label: str) -> str:
    if not label.isprintable() or "/" in label:
        raise ValueError(f"a label is printable text without '/', got {shorten(label)}")
    return label


Label = Annotated[str, Field(min_length=1, max_length=80), AfterValidator(_check_label)]


class Recipe(Table):
    """How every network of a suite is trained; an optimizer may override parts of it."""

    epochs: int = Field(strict=True, default=10, ge=1, le=100_000, description="Passes over the training split.")
    batch_size: int = Field(
        strict=True, default=128, ge=2, le=2**31, description="Images per step; a smaller last batch is dropped."
    )
    lr: float | None = Field(
        strict=True, default=None, gt=0, description="Learning rate of every optimizer that sets none of its own."
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32",
        description="bf16: autocast; a CPU without bf16 instructions uses fp32, and the record says so.",
    )
    decay: Literal["all", "weights"] = Field(
        default="all",
        description="What an optimizer's weight decay applies to: all, or only parameters of two or more dimensions.",
    )
    schedule: Literal["constant", "cosine", "linear", "step", "one-cycle", "wsd"] = Field(
        default="constant", description="How the learning rate changes over the steps."
    )
    warmup_epochs: float = Field(strict=True, default=0.0, ge=0, description="Epochs of linear warm-up from zero.")
    step_milestones: tuple[Annotated[float, Field(strict=True, gt=0, lt=1)], ...] = Field(
        default=(0.5, 0.75),
        max_length=MAX_LIST,
        description="For schedule 'step': fractions of the training after which the rate drops.",
    )
    step_factor: float = Field(
        strict=True, default=0.1, gt=0, lt=1, description="For schedule 'step': factor of each drop."
    )
    cooldown: float = Field(
        strict=True,
        default=0.2,
        gt=0,
        le=1,
        description="For schedule 'wsd': the final fraction, in which the rate decays to zero.",
    )
    clip_norm: float | None = Field(
        strict=True, default=None, gt=0, description="Clip a step's gradients, all together, to this norm."
    )
    label_smoothing: float = Field(
        strict=True, default=0.0, ge=0, lt=1, description="Label smoothing of the cross-entropy."
    )
    augmentation: tuple[Literal["crop", "resized-crop", "flip", "cutout"], ...] = Field(
        default=(),
        description="crop: pad and crop at random; resized-crop: a box of random size and shape, stretched; "
        "flip: left-right with probability 1/2; cutout: a black square.",
    )
    crop_padding: int = Field(
        strict=True, default=4, ge=1, le=10_000, description="For augmentation 'crop': pixels added on each side."
    )
    crop_scale: float = Field(
        strict=True,
        default=0.08,
        gt=0,
        le=1,
        description="For augmentation 'resized-crop': the smallest fraction of an image's area.",
    )
    cutout_size: int = Field(
        strict=True, default=8, ge=1, le=10_000, description="For augmentation 'cutout': side of the square in pixels."
    )
    mixup: float = Field(
        strict=True,
        default=0.0,
        ge=0,
        le=100,
        description="Mix pairs of images and their losses, by a share from Beta(mixup, mixup); 0: none.",
    )
    weight_averaging: Literal["off", "ema"] = Field(
        default="off", description="ema: measure an exponential moving average of the weights."
    )
    ema_decay: float = Field(
        strict=True, default=0.999, gt=0, lt=1, description="For weight averaging 'ema': decay per step."
    )
    deterministic: bool = Field(
        strict=True,
        default=False,
        description="Refuse operations that may not give the same bits in every run.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Recipe:
        if self.warmup_epochs >= self.epochs and self.warmup_epochs > 0:
            raise ValueError(f"warmup_epochs ({self.warmup_epochs:g}) must be smaller than epochs ({self.epochs})")
        if self.warmup_epochs > 0 and self.schedule == "one-cycle":
            raise ValueError("warmup_epochs: schedule 'one-cycle' has a warm-up of its own; leave one out")
        if len(set(self.augmentation)) != len(self.augmentation):
            raise ValueError(f"augmentation names one twice: {list(self.augmentation)}")
        if {"crop", "resized-crop"} <= set(self.augmentation):
            raise ValueError("augmentation: 'crop' and 'resized-crop' are alternatives; leave one out")
        if list(self.step_milestones) != sorted(set(self.step_milestones)):
            raise ValueError(f"step_milestones must increase: {list(self.step_milestones)}")
        return self

    def effective(self) -> dict[str, Any]:
        """The options that have an effect, as JSON values: the others must not change a key."""
        idle = {
            "decay": self.decay == "all",
            "step_milestones": self.schedule != "step",
            "step_factor": self.schedule != "step",
            "crop_padding": "crop" not in self.augmentation,
            "crop_scale": "resized-crop" not in self.augmentation,
            "cutout_size": "cutout" not in self.augmentation,
            "mixup": self.mixup == 0,
            "clip_norm": self.clip_norm is None,
            "cooldown": self.schedule != "wsd",
            "ema_decay": self.weight_averaging == "off",
            "deterministic": not self.deterministic,
        }
        return self.model_dump(mode="json", exclude={name for name, unused in idle.items() if unused})


class Distillation(Table):
    """How much a network learns from the dense one while it is trained further."""

    weight: float = Field(
        strict=True, default=0.9, gt=0, le=1, description="Share of the loss; the rest is cross-entropy."
    )
    temperature: float = Field(
        strict=True, default=4.0, gt=0, le=1000, description="Divides the logits of both networks."
    )


class Finetuning(Table):
    """Training after pruning; zeros stay zero."""

    epochs: int = Field(strict=True, ge=1, description="Passes over the training split.")
    lr: float | None = Field(
        strict=True, default=None, gt=0, description="Learning rate; default: a tenth of the optimizer's."
    )
    distill: Distillation | None = Field(default=None, description="Also learn from the dense network.")


class Measurement(Table):
    """What is measured beside accuracy and size."""

    throughput: bool = Field(strict=True, default=True, description="Time the inference of dense and pruned networks.")
    batch_size: int = Field(
        strict=True, default=256, ge=1, le=2**31, description="Batch size for throughput; latency is for batch size 1."
    )
    min_run_time: float = Field(
        strict=True, default=0.3, gt=0, le=60, description="Minimum duration of each timing in seconds."
    )


class Entry(BaseModel):
    """A plugin by name; keys that are not declared here are options of the plugin."""

    model_config = ConfigDict(extra="allow", frozen=True, protected_namespaces=())

    name: str = Field(min_length=1, description="The plugin, e.g. 'adam' or 'torch:AdamW'.")
    label: Label | None = Field(default=None, description="Its name in tables.")
    sweep: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(
        default_factory=dict, description="Option = list of values: one entry for every combination."
    )


class Normalization(Table):
    """What images are normalized with, channel by channel, for pixels in [0, 1]."""

    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = Field(min_length=1, max_length=16)
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = Field(min_length=1, max_length=16)

    @model_validator(mode="after")
    def _fits(self) -> Normalization:
        if len(self.mean) != len(self.std):
            raise ValueError(f"mean has {len(self.mean)} numbers and std {len(self.std)}; each needs one per channel")
        return self


class DatasetEntry(Entry):
    train_size: int | None = Field(
        strict=True, default=None, ge=1, le=2**40, description="Number of training images to use."
    )
    validation_size: int = Field(
        strict=True, default=0, ge=0, le=2**40, description="Images held out of the training split for validation."
    )
    test_size: int | None = Field(
        strict=True, default=None, ge=1, le=2**40, description="Number of test images to use."
    )
    centre_crop: int | None = Field(
        strict=True,
        default=None,
        ge=1,
        le=1024,
        description="Networks see a centred square of this many pixels a side.",
    )
    normalize: Literal["data", "pretrained"] | Normalization = Field(
        default="data",
        description="What images are normalized with: data: the training split's mean and standard deviation; "
        "pretrained: those of the model's published weights; or a table of mean and std.",
    )

    @field_validator("normalize", mode="before")
    @classmethod
    def _one_of_three(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            if value in ("data", "pretrained") or isinstance(value, Normalization):
                return value
            raise ValueError(f"must be 'data', 'pretrained' or {{mean = [...], std = [...]}}, got {shorten(value)}")
        try:
            return Normalization.model_validate(value)
        except ValidationError as error:
            path, problem = first_problem(error, Normalization.model_fields)
            raise ValueError(f"{'.'.join(map(str, path))}: {problem}".removeprefix(": ")) from None


class ModelEntry(Entry):
    pass


class OptimizerEntry(Entry):
    training: dict[str, Any] = Field(default_factory=dict, description="Parts of [training] that differ.")


class PrunerEntry(Entry):
    ratios: tuple[Ratio, ...] | None = Field(
        default=None, max_length=MAX_LIST, description="Ratios of this pruner; default: the suite's."
    )
    include_input: bool = Field(strict=True, default=False, description="Also prune the layer that sees the image.")
    include_classifier: bool = Field(
        strict=True, default=False, description="Also prune the layer that gives the logits."
    )
    reestimate_bn: bool = Field(
        strict=True, default=False, description="Re-estimate the BatchNorm statistics on training images."
    )
    finetune: Finetuning | None = Field(default=None, description="Train further after pruning.")
    schedule: Schedule | None = Field(default=None, description="When to prune; default: at once.")

    @field_validator("ratios")
    @classmethod
    def _different(cls, ratios: tuple[float, ...] | None) -> tuple[float, ...] | None:
        return None if ratios is None else check_list(ratios)


class ProbeEntry(Entry):
    pass


class CheckpointEntry(Table):
    """A trained network in a file, which takes the place of a training."""

    label: Label = Field(description="Its name in tables; files with the same label are replicates.")
    model: str | None = Field(default=None, description="Label of the model in [[models]]; default: the only one.")
    weights: str | None = Field(
        default=None,
        min_length=1,
        description="The file: .safetensors, .pt or .pth; default: the published weights of a model with pretrained.",
    )
    seed: int | None = Field(
        strict=True, default=None, ge=0, lt=2**63, description="Seed; default: 0, 1, 2, ... for the files of a label."
    )
    epochs: int = Field(
        strict=True,
        default=0,
        ge=0,
        le=100_000,
        description="Train further for this many epochs; 0: prune it as it is.",
    )
    optimizer: dict[str, Any] | None = Field(
        default=None, description="An entry like those of [[optimizers]]: trains it further, and after pruning."
    )


class SuiteFile(Table):
    """A suite file; the JSON Schema for editors is generated from this class."""

    name: str | None = Field(
        default=None,
        description="Name of the results folder; default: the file's name.",
    )
    description: str = Field(default="", description="A line for reports.")
    seeds: tuple[Annotated[int, Field(strict=True, ge=0, lt=2**63)], ...] = Field(
        default=(0, 1, 2),
        max_length=MAX_SEEDS,
        description="One training for each; or {from = 5, to = 30}: rounds until every question is decided.",
        json_schema_extra=lambda schema: schema.update(anyOf=[dict(schema), SeedRange.model_json_schema()]),
    )
    ratios: tuple[Ratio, ...] = Field(
        default=(0.5,), max_length=MAX_LIST, description="Ratios of every pruner that sets none of its own."
    )
    training: Recipe = Recipe()
    measurement: Measurement = Measurement()
    gate: GateTable = Field(default=GateTable(), description="What sgabench check calls a regression.")
    question: QuestionTable = Field(default=QuestionTable(), description="What the verdicts are about.")
    datasets: Annotated[tuple[DatasetEntry, ...], Field(min_length=1)]
    models: Annotated[tuple[ModelEntry, ...], Field(min_length=1)]
    optimizers: tuple[OptimizerEntry, ...] = ()
    checkpoints: Annotated[tuple[CheckpointEntry, ...], Field(max_length=MAX_VARIANTS)] = ()
    pruners: Annotated[tuple[PrunerEntry, ...], Field(min_length=1)]
    probes: tuple[ProbeEntry, ...] = (ProbeEntry(name="weights"),)

    @field_validator("seeds", "ratios")
    @classmethod
    def _different(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return check_list(values)

    @model_validator(mode="after")
    def _has_something_to_prune(self) -> SuiteFile:
        if not self.optimizers and not self.checkpoints:
            raise ValueError("optimizers: at least one is required, or checkpoints")
        return self


def recipe_settings(entry: OptimizerEntry, recipe: Recipe) -> dict[str, Any]:
    """The suite's recipe with an optimizer's overrides.

    Raises:
        InputError: without the entry, which the caller knows.
    """
    try:
        own = Recipe.model_validate({**recipe.model_dump(), **entry.training})
    except ValidationError as error:
        path, problem = first_problem(error, Recipe.model_fields)
        raise InputError(f"{dotted(['training', *path])}: {problem}") from None
    return {"training": own.effective()}


def check_list(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Refuse a list that is empty or names something twice."""
    if not values:
        raise ValueError("the list is empty")
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{twice[0]} appears twice")
    return values


def json_schema() -> dict[str, Any]:
    """JSON Schema of a suite file."""
    schema = SuiteFile.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sgabench suite"
    return schema
