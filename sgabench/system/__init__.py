"""The machine: versions, memory, compilers, processes, signals and seeds."""
