"""Loss on the instruction as well as on the response; the tokens of the chat template stay out.

Use it where there are few examples or where instructions are long beside their responses: there it overfits less.
``prompt_weight`` lies between the two objectives: 0 is ``response_only``, 1 is instruction modelling; values between are
prompt loss weighting.

Reference: Shi et al. 2024, arXiv 2405.14394, equation 4 (all tokens outside the template); Huerta-Enochian and Ko 2024,
arXiv 2401.13586 (prompt loss weight).
"""

from __future__ import annotations

import numpy as np

from train.encode import END_OF_TURN, INSTRUCTION, RESPONSE, SYSTEM


def weights(role: np.ndarray, turn: np.ndarray, *, prompt_weight: float = 1.0) -> np.ndarray:
    """Loss on instruction and response, template tokens out (Shi et al. 2024).

    role uint8 (T,), turn int32 (T,) -> float32 (T,): the weight of predicting token t.

    prompt_weight: of a token of the instruction or the system prompt, where one of the response weighs 1.
    """
    by_role = np.zeros(int(max(END_OF_TURN, RESPONSE)) + 1, np.float32)
    by_role[[SYSTEM, INSTRUCTION]] = prompt_weight
    by_role[[RESPONSE, END_OF_TURN]] = 1.0
    return by_role[role]
