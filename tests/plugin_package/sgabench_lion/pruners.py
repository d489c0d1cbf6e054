"""A module as entry point: its decorators register what it offers."""

from sgabench.plugins import pruners


@pruners.register("first-layer")
def first_layer(network, ratio, context, *, of: str = "weights"):
    """Zero whole filters of the first convolution."""
    layer = next(m for m in network.modules() if hasattr(m, "kernel_size"))
    layer.weight.data[: round(ratio * len(layer.weight))] = 0
    return network
