"""Running a plan: what is left to do, trial by trial, in this process or in several."""
