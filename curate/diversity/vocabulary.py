"""Vocabulary: the shape of the distribution of words.

For a reader: the entropy is in bits, so 2 to the power of it is the number of words that would give the same surprise if all
were equally frequent; 9 to 11 is usual for mixed English. The share of words used once is high where topics change from row to
row. Higher is more diverse, in both.
Cost: that of distinct-1, with which it shares the words.

- sum p log2 p over the different words of prompts and responses, and different words that come once over different words.

Reference: Shannon 1948; hapax legomena as a measure of richness: Tweedie and Baayen 1998, Computers and the Humanities 32.
"""

from __future__ import annotations

import numpy as np

from curate.diversity.sample import Sample
from curate.diversity.words import words

FACTS = (words,)
ABOUT = {
    "word_entropy": ("how evenly words are used, in bits", "higher"),
    "words_used_once": ("share of the different words that come only once", "higher"),
}


def measure(sample: Sample) -> dict[str, float]:
    fact = sample.fact(words)
    if fact is None:
        return {}
    count = np.unique(fact.explode().drop_nulls().to_numpy(), return_counts=True)[1]
    if not len(count):
        return {}
    share = np.sort(count) / count.sum()  # sorted, since the order of hashes is no order
    return {"word_entropy": float(-(share * np.log2(share)).sum()) + 0.0, "words_used_once": float((count == 1).mean())}
