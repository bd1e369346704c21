"""Tuning methods: one file says which parameters train. `VERB` names the function that each defines."""

VERB = "tune"
