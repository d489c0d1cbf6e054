"""Revisions of sgabench itself: what is raised when numbers change, and whose keys it enters."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

from sgabench.suite.choices import Choice

# Raised when a training gives other numbers than before: its loop, schedule, evaluation, fine-tuning, seeds.
TRAINING_REVISION = 1
# Raised when any network is measured otherwise than before.
MEASURING_REVISION = 1
# The same, where only networks of a kind are: with which a kind is raised, and what changed.
NETWORK_REVISIONS = {
    "packed": 2,  # weights that belong to no convolution or linear layer came to be pruned
    "computed": 2,  # zeros are counted in weights that a network computes, not in what it makes of weights on the way
    "heads": 2,  # two layers that give the logits together are both classifiers
}


def training_revision() -> dict[str, int]:
    """What enters the keys of trials."""
    return {} if TRAINING_REVISION == 1 else {"training_revision": TRAINING_REVISION}


def network_revisions(model: Choice) -> dict[str, int]:
    """What enters the keys of cells and probes of some networks alone.

    The tag ``kinds`` of a built-in source says which networks are of a kind: globs, compared with ``name option=value
    ...``, as options may decide. A network of other people may be of any.
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
    """What enters the keys of cells, beside that of their network's trial."""
    return {**of_network, **({} if MEASURING_REVISION == 1 else {"measuring_revision": MEASURING_REVISION})}
