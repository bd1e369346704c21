from __future__ import annotations

import numpy as np

from curate.vectors import density as densities
from curate.vectors.density import around
from curate.vectors.unit import unit


def by_brute_force(vectors: np.ndarray, rows: np.ndarray, sample: np.ndarray, neighbours: int) -> np.ndarray:
    """1 over the mean squared distance to the nearest of the sample, float64 all along."""
    points, density = vectors.astype(np.float64), []
    for row in rows:
        squared = [np.square(points[row] - points[other]).sum() for other in sample if other != row]
        density.append(1 / np.mean(sorted(one for one in squared if one >= 1e-6)[:neighbours]))
    return np.array(density)


def test_a_row_is_never_its_own_neighbour_however_float32_rounds_its_length():
    vectors = unit(np.random.default_rng(0).normal(size=(1_500, 384)), "test")
    short = np.flatnonzero(np.diag(vectors @ vectors.T) < 1 - 5e-7)
    assert len(short), "no row whose cosine to itself is below 1 by rounding"
    rows = np.union1d(short, np.arange(20))
    density = around(vectors, np.arange(1_500), [rows])[1][rows]
    np.testing.assert_allclose(density, by_brute_force(vectors, rows, np.arange(1_500), 10), rtol=1e-6)


def test_near_copies_are_neighbours_at_their_true_distance_and_copies_are_not(monkeypatch):
    monkeypatch.setattr(densities, "_SLAB", 5)
    monkeypatch.setattr(densities, "_PAIRS", 7)
    rng = np.random.default_rng(1)
    seeds = rng.normal(size=(12, 384))
    moved = [seeds + apart * rng.normal(size=seeds.shape) for apart in (2e-3, 5e-3, 1e-2, 0.3)]
    vectors = unit(np.concatenate([seeds, 3 * seeds, seeds, *moved]), "test")
    sample, rows = np.arange(0, len(vectors), 2), np.arange(len(vectors))
    density = around(vectors, sample, [rows], neighbours=3)[1]
    np.testing.assert_allclose(density, by_brute_force(vectors, rows, sample, 3), rtol=1e-4)
