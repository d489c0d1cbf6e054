"""Call probes of a training around its steps, with their failures isolated."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from sgabench.plugins.specs import TrainingProbe


class Watch:
    """Calls probes of a training around every step.

    Args:
        probes: by key.

    Attributes:
        failed: tracebacks of probes that raised an exception, by key; they are no longer called.
    """

    def __init__(self, probes: Mapping[str, TrainingProbe]) -> None:
        self.probes = dict(probes)
        self.failed: dict[str, str] = {}

    def before_step(self) -> None:
        """The gradients are computed; the optimizer is about to step."""
        for key in self.probes.keys() - self.failed.keys():
            try:
                self.probes[key].before_step()
            except Exception:  # a probe's own failure is its record, with the traceback; the training goes on
                self.failed[key] = traceback.format_exc()

    def after_step(self, epoch: int) -> None:
        """The optimizer has stepped.

        Args:
            epoch: the current one, counted from 0.
        """
        for key in self.probes.keys() - self.failed.keys():
            try:
                self.probes[key].after_step(epoch)
            except Exception:  # a probe's own failure is its record, with the traceback; the training goes on
                self.failed[key] = traceback.format_exc()

    def state_dict(self) -> dict[str, Any]:
        """The state for a snapshot of the training."""
        alive = self.probes.keys() - self.failed.keys()
        return {"probes": {key: self.probes[key].state_dict() for key in sorted(alive)}, "failed": self.failed}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Return to the state of a snapshot."""
        self.failed = dict(state["failed"])
        for key, saved in state["probes"].items():
            self.probes[key].load_state_dict(saved)
