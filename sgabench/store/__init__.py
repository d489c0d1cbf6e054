"""Records and weights on disk: kept, checked, exchanged and repaired."""
