"""From a network to a trained one."""
