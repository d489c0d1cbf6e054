"""From records to tables and verdicts: all statistics are here."""
