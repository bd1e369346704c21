"""Filters: one file gives a reason to remove a row. `VERB` names the function that each defines."""

VERB = "reject"
