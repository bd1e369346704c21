"""Scores: one file gives every text a number. `VERB` names the function that each defines."""

VERB = "score"
