"""Names of clusters from their most typical words.

    names(texts, label)     {0: "array, shape, axis", 1: "file, path, read", -1: "noise"}

A word is typical of a cluster when it is frequent there and rare over all: its count in the cluster times log(1 + A /
f), with f its count over all clusters and A the mean number of words a cluster (class-based tf-idf: Grootendorst 2022,
arXiv 2203.05794, section 3.3). Words that say nothing of a topic are left out: English function words, and with four
clusters or more every word that makes up 1 in 300 words of more than half of them, which are the function words of
other languages and of the pool itself. Words are runs of letters, so that names of text without spaces between words,
as Chinese, are of little use.

Cost: at most 2,000 rows of a cluster, 300,000 over all, and 1,000 characters of each are read. A million texts in
64 clusters take 3 s of a core, in 1,024 clusters 9 s and 1 GB.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from curate.contract.draws import draws
from curate.contract.errors import ContractError, MethodError

NOISE = "noise"
_ROWS_OF_CLUSTER, _ROWS = 2_000, 300_000
_CHARACTERS = 1_000
_SLICE = 20_000  # rows whose words are held at a time
_COMMON = 1 / 300  # of the words of a cluster
_CANDIDATES = 30  # typical words of a cluster that its name may be made of
_WORD = r"\p{L}[\p{L}\p{M}]+"

_FUNCTION_WORDS = """
    a about above after again against all almost also although always am among an and another any are aren
    around as at be because been before being below between both but by can cannot could couldn did didn do does
    doesn doing don done down during each either else enough etc even ever every few for from further get gets
    getting give given gives go goes going got had hadn has hasn have haven having he her here hers herself him
    himself his how however if in instead into is isn it its itself just least less let like ll made make makes
    making many may maybe me might more most much must my myself need needs neither never no nor not now of off
    often on once one only onto or other others otherwise our ours ourselves out over own per please quite
    rather re really said same say says see shall she should shouldn since so some such take than that the their
    theirs them themselves then there therefore these they this those though through thus to together too toward
    towards under until up upon us use used uses using ve very via was wasn way we well were weren what whatever
    when where whether which while who whom whose why will with within without won would wouldn yes yet you your
    yours yourself yourselves
"""


def names(texts: list[str] | pl.Series, label: np.ndarray, words: int = 3) -> dict[int, str]:
    """The name of each label: its ``words`` most typical words, as "array, shape, axis".

    label: int (n,), -1 for noise, which is called "noise" and counts nowhere. Names differ: where two clusters would
    have the same, the one with the larger label gets its next typical words too. A cluster without a word is "cluster
    7". A word is passed over where its singular or plural is in the name already. Null texts are empty. Rows are drawn
    by a hash of the text, so the order of the rows changes nothing.
    """
    if words < 1:
        raise MethodError(f"cluster names: words {words} should be 1 or more")
    label = np.asarray(label)
    if len(texts) != len(label):
        raise ContractError(
            f"cluster names: {len(texts)} texts and {len(label)} labels; there should be one label a text"
        )
    series = pl.Series("text", texts, dtype=pl.String).fill_null("")
    name_of = {int(one): NOISE for one in np.unique(label[label < 0])}
    ranked = _ranked(_counts(_drawn(series, label)))
    taken = {NOISE}
    for one in np.unique(label[label >= 0]).tolist():
        name_of[one] = _name(ranked.get(one, []), words, taken) or f"cluster {one}"
        taken.add(name_of[one])
    return name_of


def _drawn(texts: pl.Series, label: np.ndarray) -> pl.DataFrame:
    """label and text of the rows that are read: those of each cluster with the smallest draws."""
    rows = pl.DataFrame({"label": label.astype(np.int64), "text": texts}).filter(pl.col("label") >= 0)
    most = min(_ROWS_OF_CLUSTER, max(1, _ROWS // max(1, rows["label"].n_unique())))
    size = pl.len().over("label")
    small, large = rows.filter(size <= most), rows.filter(size > most)
    if large.height:
        large = large.with_columns(pl.Series("draw", draws(0, "cluster_names", large["text"])))
        nth = pl.col("draw").rank("ordinal").over("label")  # equal draws are equal texts
        large = large.filter(nth <= most).drop("draw")
    return pl.concat([small, large])


def _counts(rows: pl.DataFrame) -> pl.DataFrame:
    """label, word, count."""
    parts = [
        rows[start : start + _SLICE]
        .select(
            "label", pl.col("text").str.slice(0, _CHARACTERS).str.to_lowercase().str.extract_all(_WORD).alias("word")
        )
        .explode("word")
        .drop_nulls("word")
        .group_by("label", "word")
        .agg(pl.len().cast(pl.Int64).alias("count"))
        for start in range(0, max(rows.height, 1), _SLICE)
    ]
    return pl.concat(parts).group_by("label", "word").agg(pl.col("count").sum())


def _ranked(counts: pl.DataFrame) -> dict[int, list[str]]:
    """The typical words of each cluster, the most typical first; ties go by the alphabet."""
    counts = counts.filter(~pl.col("word").is_in(_FUNCTION_WORDS.split()))
    clusters = counts["label"].n_unique()
    if clusters >= 4:
        share = pl.col("count") / pl.col("count").sum().over("label")
        common = counts.filter(share > _COMMON).group_by("word").len().filter(pl.col("len") > clusters / 2)["word"]
        counts = counts.filter(~pl.col("word").is_in(common.implode()))
    a_cluster = pl.col("count").sum() / max(clusters, 1)
    weight = pl.col("count") * (1 + a_cluster / pl.col("count").sum().over("word")).log()
    best = (
        counts.with_columns(weight.alias("weight"))
        .sort("label", "weight", "word", descending=[False, True, False])
        .group_by("label", maintain_order=True)
        .agg(pl.col("word").head(_CANDIDATES))
    )
    return dict(best.iter_rows())


def _name(ranked: list[str], words: int, taken: set[str]) -> str | None:
    """The first words, and as many more as it takes to be none of the names in use; None where they run out."""
    chosen: list[str] = []
    for word in ranked:
        if any(word in (other + "s", other + "es") or other in (word + "s", word + "es") for other in chosen):
            continue
        chosen.append(word)
        if len(chosen) >= words and ", ".join(chosen) not in taken:
            return ", ".join(chosen)
    name = ", ".join(chosen)
    return name if name and name not in taken else None
