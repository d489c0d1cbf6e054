"""Training: from an initial network to a trained one."""
