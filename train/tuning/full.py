"""Every parameter of the model is trained.

The most able and the dearest: weights, gradients and two moments, 16 bytes a parameter. Use it for small models, or
where the tuned model should move far from its base.
"""

from __future__ import annotations

from transformers import PreTrainedModel

LEARNING_RATE = 2e-5


def tune(model: PreTrainedModel, *, seed: int) -> PreTrainedModel:
    """Train every parameter."""
    return model.requires_grad_(True)
