from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curate.contract.errors import TrainingError
from train.packing import best_fit

lengths = st.lists(st.integers(1, 50), max_size=60)


@given(lengths, st.integers(50, 120))
def test_every_document_is_in_one_pack_and_no_pack_is_too_full(sizes, capacity):
    packs = best_fit(sizes, capacity)
    assert sorted(i for pack in packs for i in pack) == list(range(len(sizes)))
    assert all(sum(sizes[i] for i in pack) <= capacity for pack in packs)


@given(lengths, st.integers(50, 120))
def test_any_two_packs_hold_more_than_one_pack_could(sizes, capacity):
    """Else best fit would have put them together; so it never needs twice the packs that the tokens fill."""
    full = sorted(sum(sizes[i] for i in pack) for pack in best_fit(sizes, capacity))
    assert len(full) < 2 or full[0] + full[1] > capacity


def test_it_finds_the_fewest_packs_that_search_finds():
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = rng.integers(1, 12, 7).tolist()
        found = len(best_fit(sizes, 12))
        assert _fewest(sizes, 12) <= found <= int(np.ceil(11 / 9 * _fewest(sizes, 12)))


def _fewest(sizes: list[int], capacity: int) -> int:
    """By trying every assignment."""
    best = len(sizes)

    def place(i: int, rooms: list[int]) -> None:
        nonlocal best
        if len(rooms) >= best:
            return
        if i == len(sizes):
            best = len(rooms)
            return
        for at in range(len(rooms)):
            if rooms[at] >= sizes[i]:
                place(i + 1, [*rooms[:at], rooms[at] - sizes[i], *rooms[at + 1 :]])
        place(i + 1, [*rooms, capacity - sizes[i]])

    place(0, [])
    return best


def test_the_fullest_pack_with_room_is_taken():
    assert best_fit([6, 5, 4, 3], 10) == [[0, 2], [1, 3]]


def test_a_document_longer_than_a_pack_is_refused():
    with pytest.raises(TrainingError, match="document 1 has 11 tokens, more than the 10 of a pack"):
        best_fit([3, 11], 10)
