from __future__ import annotations

from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from curate.rows.shares import largest_remainder

WEIGHTS = st.lists(st.fractions(0, 50, max_denominator=20), min_size=1, max_size=5)


def by_hand(weights: list[Fraction], whole: int) -> list[int]:
    """Of all whole numbers that sum to ``whole`` and lie within one of the exact shares, those nearest to them; of equals
    those that round the earlier weights up."""
    shares = [weight * whole / sum(weights) for weight in weights]
    choices: list[tuple[int, ...]] = [()]
    for share in shares:
        low = int(share)
        choices = [(*rest, part) for rest in choices for part in ((low, low + 1) if share != low else (low,))]
    fitting = [choice for choice in choices if sum(choice) == whole]
    return list(
        min(fitting, key=lambda c: (sum((p - s) ** 2 for p, s in zip(c, shares, strict=True)), [-p for p in c]))
    )


@given(WEIGHTS, st.integers(0, 60))
@settings(max_examples=300, deadline=None)
def test_parts_are_the_whole_numbers_nearest_to_the_exact_shares(weights, whole):
    expected = by_hand(weights, whole) if any(weights) else [0] * len(weights)
    assert largest_remainder(weights, whole) == expected


def test_equal_remainders_go_to_the_earlier_one_also_where_floats_would_not_see_that_they_are_equal():
    assert largest_remainder([1, 1, 1], 2) == [1, 1, 0]
    assert largest_remainder([21, 6, 39], 4) == [1, 1, 2]  # exact remainders 3/11, 4/11, 4/11
