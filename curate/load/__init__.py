"""Loaders: one file reads one kind of source. `VERB` names the function that each defines."""

VERB = "load"
DATA = 0  # leading parameters that are no options
