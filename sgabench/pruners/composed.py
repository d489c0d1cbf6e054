"""Pruners composed of a score, a pattern and an allocation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, create_model

from sgabench.errors import InputError
from sgabench.plugins.plugin import Plugin
from sgabench.pruners.parts import check_allocation, check_pattern, check_ratios, read_pattern

if TYPE_CHECKING:
    from torch import nn

    from sgabench.plugins import PruningContext

# These were pruners before they were scores: their keys have the allocation under its older name.
OLDER = ("magnitude", "random")


@dataclass(frozen=True)
class ScorePruner(Plugin):
    """A pruner made from a score.

    Attributes:
        score: says how important each weight is.
    """

    score: Plugin | None = None

    @property
    def _function(self) -> Any:
        assert self.score is not None
        return self.score._function

    @cached_property
    def _options(self) -> type[BaseModel]:
        assert self.score is not None
        own = self.score._options
        fields: dict[str, Any] = {name: (info.annotation, info) for name, info in own.model_fields.items()}
        added: dict[str, Any] = {
            "pattern": (Annotated[Any, AfterValidator(check_pattern)], "weights"),
            "allocation": (Annotated[Any, AfterValidator(check_allocation)], "global"),
            "of": (Literal["weights"], "weights"),
        }
        if self._is_older:
            added["scope"] = (Literal["global", "layer"], "global")
        for name in added.keys() & fields.keys():
            raise InputError(f"score {self.name!r}: its option {name!r} has the name of an option of every pruner")
        return create_model(self.name, __config__=own.model_config, **fields, **added)

    @property
    def _is_older(self) -> bool:
        return self.name in OLDER

    def _with_preset(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Use the older name of the allocation, if it has one."""
        options = super()._with_preset(options)
        if self._is_older and options.get("allocation") in ("global", "layer"):
            if options.get("scope", options["allocation"]) != options["allocation"]:
                raise InputError("scope: is the older name of allocation; leave one out")
            options["scope"] = options.pop("allocation")
        return options

    def resolve(self, options: Mapping[str, Any], also_valid: Iterable[str] = ()) -> dict[str, Any]:
        """As for any plugin; parts that do not fit together are refused."""
        resolved = super().resolve(options, also_valid)
        allocation = resolved.get("allocation", "global")
        if self._is_older and resolved["scope"] == "layer" and allocation != "global":
            raise InputError("scope: is the older name of allocation; leave one out")
        assert self.score is not None
        if allocation == "lamp" and self.score.tags.get("signed"):
            raise InputError(
                f"allocation: 'lamp' divides squared scores, but those of {self.name!r} are signed; "
                "valid: 'global', 'layer', 'erk', a table"
            )
        return resolved

    def check_use(self, options: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        """Refuse ratios that the pattern cannot have."""
        pattern = read_pattern(options.get("pattern", "weights"))
        check_ratios(pattern, options.get("allocation"), tuple(settings["ratios"]))


def prune_with(
    score: Plugin, network: nn.Module, ratio: float, context: PruningContext, /, **options: Any
) -> nn.Module:
    """Prune a network by a score; its options and those of every pruner are checked."""
    from sgabench.pruners.unstructured import prune_by_scores

    pattern, allocation = options.pop("pattern"), options.pop("allocation")
    scope = options.pop("scope", "global") if score.name in OLDER else "global"
    options.pop("of")
    return prune_by_scores(
        network,
        ratio,
        context,
        lambda: score.build(network, context, **options),
        read_pattern(pattern),
        scope if allocation == "global" else allocation,
        zeros_first=not score.tags.get("ignores_values", False),
    )


def composed(score: Plugin) -> ScorePruner:
    """The pruner of a score; its key has the pattern and the allocation only if they are not the defaults."""
    tags = {**score.tags, "added": (*score.tags.get("added", ()), "pattern", "allocation"), "schedules": True}
    factory = partial(prune_with, score)
    return ScorePruner("pruner", score.name, factory, score.origin, tags, score.revision, score=score)
