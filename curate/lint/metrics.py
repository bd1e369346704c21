"""How an answer is scored: the metrics that a template set may name, each from 0 to 1, over one prediction.

    METRICS["f1"]("the Bell Rock", ["Bell Rock lighthouse", "Bell Rock"])      1.0

A prediction is scored against every reference, and the best counts (Rajpurkar et al. 2016, section 6.1). ``bits_per_byte``
is a model's and has no place here.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WORD = re.compile(r"[^\W_]+")
_TOKEN = re.compile(r"\w+|[^\w\s]")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def accuracy(prediction: str, references: Sequence[str]) -> float:
    """1 where the prediction is the right choice to the letter, white space around it aside (rank classification as in
    Wei et al. 2021, arXiv 2109.01652, section 2.5, picks a choice as it is written)."""
    return float(prediction.strip() in {reference.strip() for reference in references})


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1 where the texts are equal without case, punctuation, articles and extra white space (SQuAD's evaluation script,
    Rajpurkar et al. 2016, arXiv 1606.05250, section 6.1)."""
    return float(normalized(prediction) in set(map(normalized, references)))


def f1(prediction: str, references: Sequence[str]) -> float:
    """The overlap of words, normalised as in ``exact_match`` (SQuAD's evaluation script; where one of the two has no word
    left, 1 if neither has, as version 2.0 says: Rajpurkar et al. 2018, arXiv 1806.03822)."""
    return _best(_f1(normalized(prediction).split(), normalized(one).split()) for one in references)


def _f1(said: list[str], right: list[str]) -> float:
    if not said or not right:
        return float(said == right)
    common = sum((Counter(said) & Counter(right)).values())
    return 2 * common / (len(said) + len(right))


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """The F-measure of the longest common subsequence of words (Lin 2004, "ROUGE: A Package for Automatic Evaluation of
    Summaries", section 3.1, with beta 1 and no stemming). Words are runs of letters and digits of any script; the scorer of
    Google Research knows ASCII only."""
    said = _WORD.findall(prediction.lower())
    return _best(_rouge_l(said, _WORD.findall(one.lower())) for one in references)


def _rouge_l(said: list[str], right: list[str]) -> float:
    if not said or not right:
        return 0.0
    common = len(said) if said == right else _longest_common(said, right)
    return 2 * common / (len(said) + len(right))


def _longest_common(one: list[str], other: list[str]) -> int:
    """The length of the longest common subsequence; O(len(one) * len(other))."""
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for i, against in enumerate(other, start=1):
            before, row[i] = row[i], before + 1 if word == against else max(row[i], row[i - 1])
    return row[-1]


def bleu(prediction: str, references: Sequence[str]) -> float:
    """BLEU of one sentence (Papineni et al. 2002, section 2.3): the geometric mean of clipped n-gram precisions, n to 4,
    times the brevity penalty. No smoothing; a sentence of fewer than four tokens is scored up to its own length."""
    said, right = _TOKEN.findall(prediction), [_TOKEN.findall(one) for one in references]
    if not said or not any(right):
        return 0.0
    logs = []
    for n in range(1, min(4, len(said)) + 1):
        counts = _grams(said, n)
        most: Counter[tuple[str, ...]] = Counter()
        for tokens in right:
            most |= _grams(tokens, n)
        hits = sum((counts & most).values())
        if not hits:
            return 0.0
        logs.append(math.log(hits / sum(counts.values())))
    closest = min((abs(len(tokens) - len(said)), len(tokens)) for tokens in right)[1]
    return math.exp(min(0.0, 1 - closest / len(said)) + sum(logs) / len(logs))


def _grams(tokens: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1))


def _best(scores: Iterable[float]) -> float:
    """The highest score; the first 1 ends the search."""
    best = 0.0
    for score in scores:
        best = max(best, score)
        if best >= 1:
            break
    return best


def normalized(text: str) -> str:
    """Lower case, without punctuation, articles and extra white space, in the order of SQuAD's script."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


METRICS: dict[str, Callable[[str, Sequence[str]], float]] = {
    "accuracy": accuracy,
    "exact_match": exact_match,
    "f1": f1,
    "rouge_l": rouge_l,
    "bleu": bleu,
}
