"""Objectives: one file gives every token a weight. `VERB` names the function that each defines."""

VERB = "weights"
DATA = 2  # leading parameters that are no options
