"""Decontamination: one file says which texts stand in benchmarks. `VERB` names the function that each defines; its first two
arguments are the texts and those of the benchmarks."""

VERB = "overlaps"
DATA = 2
