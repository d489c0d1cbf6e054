"""What `sgabench bench` measures on the user's machine: a module per subject, whose `measure` makes a `Benchmark`."""
