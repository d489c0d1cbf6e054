"""Whole channels: which of a network's numbers belong to a channel, what they cost, and how they are removed."""
