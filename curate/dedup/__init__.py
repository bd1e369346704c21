"""Deduplication: one file says which row each row repeats. `VERB` names the function that each defines."""

VERB = "duplicates"
