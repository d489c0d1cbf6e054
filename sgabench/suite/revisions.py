"""Revisions of sgabench itself, which are raised when numbers change, and the keys that they enter."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from sgabench.suite.choices import Choice

# Raised when trainings give other numbers than before: loop, schedule, evaluation, fine-tuning, seeds.
TRAINING_REVISION = 1
# Raised when measurements of all networks change.
MEASURING_REVISION = 1
# Likewise, if only those of some kind of network change: the latest revision, and what changed.
NETWORK_REVISIONS = {
    "packed": 2,  # weights outside convolutions and linear layers are pruned, too
    "computed": 2,  # zeros are counted in the final computed weights, not in intermediate ones
    "heads": 2,  # two layers that make the logits together both count as classifiers
}


def training_revision() -> dict[str, int]:
    """What enters the keys of trials."""
    return {} if TRAINING_REVISION == 1 else {"training_revision": TRAINING_REVISION}


def network_revisions(model: Choice) -> dict[str, int]:
    """What enters the keys of cells and probes of some networks only.

    The tag ``kinds`` of a built-in source says which networks are of a kind: globs, matched against
    ``name option=value ...``, because options may matter. A third party's network may be of any kind.
    """
    options = "".join(f" {name}={value}" for name, value in model.options.items())
    described = model.name.partition(":")[2] + options
    kinds: Mapping[str, tuple[str, ...]] = model.tags.get("kinds", {})
    return {
        f"{kind}_revision": revision
        for kind, revision in NETWORK_REVISIONS.items()
        if model.code or any(fnmatchcase(described, glob) for glob in kinds.get(kind, ()))
    }


def measuring_revisions(of_network: Mapping[str, int]) -> dict[str, int]:
    """What enters the keys of cells, beside those of their network and trial."""
    return {**of_network, **({} if MEASURING_REVISION == 1 else {"measuring_revision": MEASURING_REVISION})}
