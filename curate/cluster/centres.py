"""Centres of clusters and the rows nearest to them: what the cluster methods share.

Everything here is exact to the last bit whatever the order of the rows, the size of a block and the number of threads,
so that a method which draws its rows by ``drawn`` gives every row the same cluster in whatever order the rows come. One
policy holds for all methods: a row of zeros has no direction, so it is noise, with label -1 and distance 1.
"""

from __future__ import annotations

import hashlib

import numpy as np

from curate.contract.draws import draws
from curate.contract.errors import MissingExtra
from curate.contract.progress import bar
from curate.vectors.product import product

_ROWS = 8_192  # compared with the centres at a time
_CELLS = 8_000_000  # of a block of similarities: 32 MB
_TIE = 1e-5  # what rounding can change in a similarity; closer ones are computed again in an order that never changes


def need_scikit_learn(method: str) -> None:
    """One sentence where scikit-learn is not installed."""
    from importlib.util import find_spec

    if find_spec("sklearn") is None:
        raise MissingExtra(f"cluster {method} needs scikit-learn; run: pip install 'tamis[embed]'")


def keys(vectors: np.ndarray) -> list[str]:
    """What draws are keyed by where rows have no ids: a hash of each vector. 3 seconds for a million of 384."""
    return [hashlib.blake2b(row, digest_size=16).hexdigest() for row in np.ascontiguousarray(vectors)]


def drawn(vectors: np.ndarray, keys: list[str], seed: int, stream: str) -> np.ndarray:
    """The rows that are not zero in a random order: int64. Rows with equal vectors are neighbours in it."""
    order = np.argsort(draws(seed, stream, keys), kind="stable")
    return order[np.asarray(vectors.any(axis=1))[order]]


def nearest(vectors: np.ndarray, centres: np.ndarray, label: str = "") -> tuple[np.ndarray, np.ndarray]:
    """(the centre with the largest cosine, int32 (n,); the Euclidean distance to it, float32 (n,)), of unit vectors and
    unit centres. Ties go to the lowest centre. label: of a progress bar."""
    best, distance = np.empty(len(vectors), dtype=np.int32), np.empty(len(vectors), dtype=np.float32)
    rows = min(_ROWS, max(1, _CELLS // len(centres)))
    with bar(len(vectors) if label else 0, label) as advance:
        for start in range(0, len(vectors), rows):
            block = np.ascontiguousarray(vectors[start : start + rows])
            similarity = product(block, centres)
            closest = similarity.argmax(axis=1)
            similarity -= np.take_along_axis(similarity, closest[:, None], axis=1)
            close = similarity >= -_TIE
            zero = ~block.any(axis=1)
            for row in np.flatnonzero((np.count_nonzero(close, axis=1) > 1) & ~zero):
                rivals = np.flatnonzero(close[row])
                closest[row] = rivals[np.argmax((centres[rivals] * block[row]).sum(axis=1))]
            away = centres[closest]
            away -= block
            away *= away
            best[start : start + rows] = np.where(zero, -1, closest)
            distance[start : start + rows] = np.where(zero, 1, np.sqrt(away.sum(axis=1)))
            advance(len(block))
    return best, distance


def directions(vectors: np.ndarray, label: np.ndarray, order: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(the mean of each cluster scaled to length one, float32 (count, d); the number of its rows, int64 (count,)).

    Sums run over the rows ``order``, in that order. A cluster that is empty, or whose rows cancel out, is a row of
    zeros.
    """
    sums, sizes = totals(vectors, label, order, count)
    length = np.sqrt((sums * sums).sum(axis=1, keepdims=True))
    return (sums / np.where(length > 0, length, 1)).astype(np.float32), sizes


def totals(vectors: np.ndarray, label: np.ndarray, order: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(the sum of each cluster's rows, float64 (count, d); their number, int64 (count,)). Noise belongs to none."""
    order = order[np.argsort(label[order], kind="stable")]
    ends = np.searchsorted(label[order], np.arange(count + 1))
    sums = np.zeros((count, vectors.shape[1]))
    for cluster in range(count):
        for start in range(ends[cluster], ends[cluster + 1], _ROWS):
            members = order[start : min(start + _ROWS, ends[cluster + 1])]
            sums[cluster] += vectors[members].sum(axis=0, dtype=np.float64)
    return sums, np.diff(ends)


def by_size(label: np.ndarray) -> np.ndarray:
    """The labels numbered anew by falling size, int32; of equal sizes the lower label comes first. Noise stays -1, and
    labels that no row has are left out."""
    sizes = np.bincount(label[label >= 0])
    rank = np.empty(len(sizes) + 1, dtype=np.int32)
    rank[np.argsort(-sizes, kind="stable")] = np.arange(len(sizes))
    rank[-1] = -1
    return rank[label]


def distance_to_own(vectors: np.ndarray, label: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The Euclidean distance of each row to the centre of its own cluster, float32 (n,); of noise, to the nearest
    centre."""
    distance = np.empty(len(vectors), dtype=np.float32)
    for start in range(0, len(vectors), _ROWS):
        block, own = vectors[start : start + _ROWS], label[start : start + _ROWS]
        away = centres[own] - block
        away *= away
        distance[start : start + _ROWS] = np.sqrt(away.sum(axis=1))
    noise = np.flatnonzero(label < 0)
    distance[noise] = nearest(vectors[noise], centres)[1]
    return distance


def cut(merges: np.ndarray, leaves: int, count: int) -> np.ndarray:
    """The group of each leaf, int64 (leaves,), when a tree is cut into ``count`` groups.

    merges: (leaves - 1, 2), the two nodes that each step joins, from the closest on; step i makes the node ``leaves +
    i``. Cuts of one tree are nested: a coarse one is a union of finer ones. Groups are numbered by their lowest leaf.
    """
    top = np.arange(2 * leaves - 1)
    for step in range(leaves - count - 1, -1, -1):
        top[merges[step]] = top[leaves + step]
    _, first, group = np.unique(top[:leaves], return_index=True, return_inverse=True)
    return np.argsort(np.argsort(first))[group]
