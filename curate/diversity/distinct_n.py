"""Distinct-n: the share of runs of 1, 2 and 3 words that are different ones.

For a reader: 1 where no run of words comes twice. Longer texts lower it by themselves, so look at ``lengths`` beside it.
Higher is more diverse.
Cost: sorting as many numbers as there are words: 10 ms a subset for 1,000 records of 100 words; each row is split once.

Different runs over all runs, in prompt and response of all rows; a run does not cross rows. Words are letters and digits in
lower case, so a script without spaces is counted by whole phrases.

Reference: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models", arXiv 1510.03055.
"""

from __future__ import annotations

import numpy as np

from curate.diversity.sample import Sample
from curate.diversity.words import words

FACTS = (words,)
ABOUT = {
    "distinct_1": ("different words over all words", "higher"),
    "distinct_2": ("different pairs of neighbouring words over all pairs", "higher"),
    "distinct_3": ("different runs of three words over all runs", "higher"),
}
_FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd, so multiplying by it loses nothing


def measure(sample: Sample) -> dict[str, float]:
    fact = sample.fact(words)
    if fact is None:
        return {}
    word = fact.explode().drop_nulls().to_numpy()
    row = np.repeat(np.arange(len(fact)), fact.list.len().to_numpy())
    run, shares = word, {}
    for n in (1, 2, 3):
        if n > 1:
            run = run[:-1] * _FACTOR + word[n - 1 :]
        inside = np.sort(run[row[: len(run)] == row[n - 1 :]])
        if len(inside):
            shares[f"distinct_{n}"] = (1 + int((inside[1:] != inside[:-1]).sum())) / len(inside)
    return shares
