"""Whole numbers in proportion: the rule of largest remainders, which quotas of a selection and of a mixture follow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction


def largest_remainder(weights: Sequence[int | Fraction], whole: int) -> list[int]:
    """Whole numbers in proportion to the weights that sum to ``whole`` (Hamilton's method), computed exactly; of equal
    remainders the earlier one is rounded up. All are 0 where the weights are.

    A larger weight never gets less. One more in all can cost a part one (the Alabama paradox), never two.
    """
    total = sum(weights)
    if not total:
        return [0] * len(weights)
    shares = [Fraction(weight) * whole / total for weight in weights]
    parts = [math.floor(share) for share in shares]
    by_remainder = sorted(range(len(parts)), key=lambda i: parts[i] - shares[i])
    for i in by_remainder[: whole - sum(parts)]:
        parts[i] += 1
    return parts
