"""Remote edge: the cosine distance between the two rows of the subset that are most alike.

For a reader: 0 as soon as one row is there twice. It says nothing of the other rows. Higher is more diverse.
Cost: k^2 x d. Above 4,472 rows, 20 million pairs are looked at: all those of as many rows, drawn by a hash of the id; the value
is then too large, and in the same way for random subsets.

Reference: Chandra and Halldorsson 2001, "Approximation Algorithms for Dispersion Problems" (remote-edge).
"""

from __future__ import annotations

from curate.diversity.sample import Sample

ABOUT = {"remote_edge": ("cosine distance of the two rows that are most alike", "higher")}


def measure(sample: Sample) -> dict[str, float]:
    if sample.distances is None or len(sample) < 2:
        return {}
    return {"remote_edge": max(float(sample.distances[1][:, 0].min()), 0.0)}
