"""How many clusters: what each k gives, as numbers, and the k that a stated rule takes.

    lines = report(vectors, [8, 16, 32, 64, 128])
    suggest(lines)

silhouette: how much nearer a row is to its own cluster than to the next one, mean over a sample, from -1 to 1; by
cosine distance (Rousseeuw 1987). stability: how much two clusterings with different seeds agree on the sample, the
adjusted Rand index (Hubert and Arabie 1985), mean over all pairs of seeds; 1: the same, 0: chance. On text both are
often low, and no k is the true one: a strong rise or fall says more than the largest value.

Cost: ``seeds`` trainings of k-means a k, on at most 256 k rows each; 8,500 rows of 384 with k of 8, 16, 32, 64 and 128
take about 20 s of one core. Memory: 8 bytes a pair of rows of the sample, 200 MB.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np

from curate.cluster import kmeans
from curate.cluster.centres import drawn, keys, nearest, need_scikit_learn
from curate.contract.errors import ContractError, MethodError
from curate.contract.progress import track
from curate.contract.threads import one_thread
from curate.vectors.unit import unit

MARGIN = 0.1
RULE = (
    f"of the k whose stability is at most {MARGIN} below the largest, the one with the largest silhouette; of "
    "equals, the smallest"
)


def report(
    vectors: np.ndarray, ks: list[int], *, seeds: int = 5, rows: int = 5000, seed: int = 0
) -> list[dict[str, Any]]:
    """For each k in rising order: k, clusters, silhouette, stability, smallest, largest.

    clusters, smallest and largest: how many clusters the pool falls into and the rows in the smallest and the largest
    one, with ``seed`` (what ``kmeans`` gives). silhouette and stability: over ``seed`` and the ``seeds - 1`` after it,
    on ``rows`` rows drawn by a hash of the vector; a silhouette is None where the sample falls into one cluster, or
    each row into its own. Rows of zeros count nowhere. Does not depend on the order of the rows or the number of
    threads.
    """
    if seeds < 2:
        raise MethodError(f"how many clusters: seeds {seeds} should be 2 or more, since stability compares them")
    if rows < 2:
        raise MethodError(f"how many clusters: rows {rows} should be 2 or more")
    if not ks:
        raise MethodError("how many clusters: ks should name one number of clusters or more")
    for k in ks:
        if not 1 <= k <= len(vectors):
            raise MethodError(f"how many clusters: k {k} should be between 1 and the number of rows, {len(vectors)}")
    need_scikit_learn("kmeans")
    from sklearn.metrics import adjusted_rand_score

    vectors = unit(vectors, "how many clusters")
    hashes = keys(vectors)
    sample = vectors[drawn(vectors, hashes, seed, "how_many_clusters")[:rows]]
    if len(sample) < 2:
        raise ContractError(f"how many clusters needs two rows that are not zero, and there are {len(sample)}")
    distances, lines = _distances(sample), []
    for k in track(sorted(set(ks)), "how many clusters"):
        centres = [kmeans.train(vectors, hashes, k, seed + number) for number in range(seeds)]
        labels = [nearest(sample, each)[0] for each in centres]
        everywhere = nearest(vectors, centres[0])[0]
        sizes = np.bincount(everywhere[everywhere >= 0])
        sizes = sizes[sizes > 0]
        values = [value for label in labels if (value := silhouette(distances, label)) is not None]
        agreement = [float(adjusted_rand_score(one, other)) for one, other in combinations(labels, 2)]
        lines.append(
            {
                "k": k,
                "clusters": len(sizes),
                "silhouette": float(np.mean(values)) if values else None,
                "stability": float(np.mean(agreement)),
                "smallest": int(sizes.min()),
                "largest": int(sizes.max()),
            }
        )
    return lines


def suggest(lines: list[dict[str, Any]]) -> int | None:
    """The k that ``RULE`` takes of a report; None where no k has a silhouette."""
    able = [line for line in lines if line["silhouette"] is not None]
    if not able:
        return None
    least = max(line["stability"] for line in able) - MARGIN
    stable = [line for line in able if line["stability"] >= least]
    return max(stable, key=lambda line: (line["silhouette"], -line["k"]))["k"]


def silhouette(distances: np.ndarray, label: np.ndarray) -> float | None:
    """The mean silhouette of clusters, given the distances of all pairs, (n, n); None where there is one cluster, or each
    row is its own."""
    from sklearn.metrics import silhouette_score

    clusters = len(np.unique(label))
    return float(silhouette_score(distances, label, metric="precomputed")) if 1 < clusters < len(label) else None


def _distances(vectors: np.ndarray) -> np.ndarray:
    """Cosine distances of all pairs: float64 (n, n), the same bits with any number of threads."""
    from sklearn.metrics.pairwise import cosine_distances

    with one_thread():
        return cosine_distances(vectors.astype(np.float64))
