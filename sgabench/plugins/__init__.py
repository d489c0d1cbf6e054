"""Registries of what a suite can name, and what plugins are given: the public interface for authors of plugins.

A plugin file takes a registry from here and registers a function in it: `optimizers.register("lion")`.
"""

from sgabench.plugins.registry import datasets, models, optimizers, probes, pruners, scores
from sgabench.plugins.specs import ImageSpec, PruningContext, TrainingContext

__all__ = [
    "ImageSpec",
    "PruningContext",
    "TrainingContext",
    "datasets",
    "models",
    "optimizers",
    "probes",
    "pruners",
    "scores",
]
