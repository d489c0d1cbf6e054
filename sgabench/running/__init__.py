"""A plan carried out: what is left to do, trial by trial, in this process or in several."""
