"""Best-fit packing: which documents share a pack. Plain numpy and the standard library."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence

import numpy as np

from curate.contract.errors import TrainingError


def best_fit(lengths: Sequence[int] | np.ndarray, capacity: int) -> list[list[int]]:
    """Positions of the documents of each pack, no pack over ``capacity`` tokens; every document whole and in one pack.

    Best-fit decreasing: the longest first, each into the fullest pack that still has room. About 11/9 of the
    fewest packs at worst (Johnson et al. 1974). Equal lengths go by position, so the same lengths give the same packs.
    Within a pack the documents stand in their order of arrival. Time: n log n.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    if len(lengths) and int(lengths.max()) > capacity:
        where = int(lengths.argmax())
        raise TrainingError(
            f"document {where} has {int(lengths[where]):,} tokens, more than the {capacity:,} of a pack; cut it or allow larger packs"
        )
    packs: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (free tokens, pack), sorted
    for position in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[position])
        at = bisect_left(rooms, (length, -1))
        if at < len(rooms):
            free, pack = rooms.pop(at)
        else:
            free, pack = capacity, len(packs)
            packs.append([])
        packs[pack].append(position)
        insort(rooms, (free - length, pack))
    return [sorted(pack) for pack in packs]
