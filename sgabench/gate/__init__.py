"""The gate: frozen expectations of a suite, and the check that compares a run with them."""
