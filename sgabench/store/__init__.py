"""Records and weights on disk: stored, checked, exchanged and repaired."""
