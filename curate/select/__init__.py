"""Selectors: one file chooses rows of a pool. `VERB` names the function that each defines."""

VERB = "select"
