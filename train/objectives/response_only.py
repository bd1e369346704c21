"""Loss on the assistant's words and on the token that ends its turn; everything else is context.

The usual objective of instruction tuning. Costs nothing beside the forward pass: the head runs on weighted tokens only.

    weights(role=[0, 2, 0, 3, 4], turn=[0, 0, 1, 1, 1])  ->  [0, 0, 0, 1, 1]

Reference: Shi et al. 2024, arXiv 2405.14394, equation 2.
"""

from __future__ import annotations

import numpy as np

from train.encode import END_OF_TURN, RESPONSE


def weights(role: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Loss on the assistant's responses and their end; prompts are context.

    role uint8 (T,), turn int32 (T,) -> float32 (T,): the weight of predicting token t.
    """
    return np.isin(role, (RESPONSE, END_OF_TURN)).astype(np.float32)
