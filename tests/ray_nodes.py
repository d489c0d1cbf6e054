"""Clusters of Ray on this machine, which are gone after the tests that started them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# An optimizer that does once what SGABENCH_TEST says, in whichever worker comes first to its second step.
PLUGIN = '''
import os, pathlib, signal, time, torch
from sgabench.plugins import optimizers

def once():
    what, _, mark = os.environ.get("SGABENCH_TEST", "").partition(":")
    if what == "slow":
        pathlib.Path(mark).touch()
        time.sleep(0.2)
        return
    try:
        pathlib.Path(mark or "/").open("x").close()
    except OSError:
        return
    if what == "stop worker":
        os.kill(os.getpid(), signal.SIGTERM)
    if what == "kill worker":
        os.kill(os.getpid(), signal.SIGKILL)
    if what in ("kill node", "cut off node"):
        os.kill(os.getppid(), signal.SIGKILL)
        if what == "kill node":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(1e6)

@optimizers.register("careful")
def careful(parameters, *, lr: float = 0.01):
    """Adam to which something happens."""
    class Careful(torch.optim.Adam):
        steps = 0
        def step(self, closure=None):
            self.steps += 1
            if self.steps == 2:
                once()
            return super().step(closure)
    return Careful(parameters, lr=lr)
'''


@contextmanager
def ray_cluster(*cpus: int) -> Iterator[Any]:
    """A cluster whose nodes have so many CPUs; this process has not joined it."""
    from ray.cluster_utils import Cluster

    logging.getLogger("ray").setLevel(logging.ERROR)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False})
    try:
        for number in cpus[1:]:
            cluster.add_node(num_cpus=number)
        yield cluster
    finally:
        cluster.shutdown()
