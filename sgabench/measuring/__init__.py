"""What is left of a network: sizes, operations, accuracy and speed, for all cells of a trial."""
