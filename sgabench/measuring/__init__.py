"""Measuring pruned networks: size, operations, accuracy and speed, for all cells of a trial."""
