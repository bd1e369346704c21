"""Clusterings: one file gives every row a label. `VERB` names the function that each defines."""

VERB = "cluster"
