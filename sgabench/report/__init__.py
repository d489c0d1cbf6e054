"""Tables, runs and prunability as text, pages and figures."""
