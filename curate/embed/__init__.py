"""Embedders: one file turns texts into vectors. `VERB` names the function that each defines."""

VERB = "embed"
