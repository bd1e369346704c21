"""What is kept aside for evaluation, split so that no duplicate stands on both sides.

Rows belong together that share a normalised prompt, or a normalised response of 100 characters or more, directly or
through other rows. A group goes to one side whole. Its draw is a hash of its smallest id, so that it depends neither on
the order of the rows nor on the rows of other groups, and a large group is as likely to be kept aside as a small one.

Where a cluster of tasks is held out, related clusters leave the training side with it (`EXCLUDED`), and no training record
may share 13 words in a row with a held-out one.
"""

from __future__ import annotations

import difflib

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.draws import uniform
from curate.contract.errors import ContractError
from curate.rows import ngrams
from curate.rows import table as tables

REASON = "holdout: set aside for evaluation"
PRETRAIN_REASON = "holdout: set aside to pretrain the tiny base model"

_LONG = 100  # characters of a response that two rows do not share by chance
_RUN = 13  # words in a row that two records do not share by chance (OPT-IML, arXiv 2212.12017)

# Held out -> what leaves the training side with it, and is not evaluated on either. FLAN 2021 (google-research/FLAN,
# flan/task_splits.py, generate_inter_cluster_splits): paraphrase and entailment leave with one another, and so does reading
# comprehension with commonsense with each of its two halves; but of these two one trains while the other is held out.
EXCLUDED: dict[str, tuple[str, ...]] = {
    "natural_language_inference": ("paraphrase",),
    "paraphrase": ("natural_language_inference",),
    "reading_comprehension": ("reading_comprehension_with_commonsense",),
    "commonsense": ("reading_comprehension_with_commonsense",),
    "reading_comprehension_with_commonsense": ("reading_comprehension", "commonsense"),
}


def split(
    table: pl.DataFrame,
    *,
    fraction: float | None = None,
    rows: int | None = None,
    task_cluster: str | None = None,
    overlap: str | None = None,
    seed: int,
) -> pl.DataFrame:
    """aside (bool), reason, duplicate_of, matched: a line for each row, in the order of the table.

    reason: why a row is on neither side, null for the others; duplicate_of, matched: the held-out record and the run of
        words that a training row shares with it, where that is why.
    fraction: the share of the rows to keep aside, about; each group of duplicates has this chance.
    rows: in its place, how many rows, exactly where the groups allow it, else the most below.
    task_cluster: in its place, the cluster of tasks whose rows are kept aside; rows of the clusters that are too close to
        it (`EXCLUDED`) are on neither side.
    overlap: what happens when 13 words in a row stand in both a training record and a held-out one: "fail" (the default
        with a task cluster) or "remove", which takes the training row away; None looks for none.

    Raises ContractError as `hold_out` does, where nothing is left to train on, and where the sides overlap and must not.
    Cost of the overlap: see `ngrams.shared`.
    """
    aside = hold_out(table, fraction=fraction, rows=rows, task_cluster=task_cluster, seed=seed)
    sides = _sides(table, aside, task_cluster)
    overlap = overlap or ("fail" if task_cluster is not None else None)
    leaks = pl.DataFrame(schema=ngrams.SCHEMA) if overlap is None else _leaks(table, sides, overlap)
    shares = leaks.select(
        pl.col("row").cast(pl.UInt32),
        pl.lit(f"overlap: shares {_RUN} words in a row with a held-out record").alias("shares"),
        table[columns.ID].gather(leaks["other"]).alias(columns.DUPLICATE_OF),
        pl.col("ngram").alias(columns.MATCHED),
    )
    return (
        sides.with_row_index("row")
        .join(shares, on="row", how="left", maintain_order="left")
        .select(
            "aside",
            pl.coalesce(columns.REASON, "shares").alias(columns.REASON),
            columns.DUPLICATE_OF,
            columns.MATCHED,
        )
    )


def _sides(table: pl.DataFrame, aside: np.ndarray, task_cluster: str | None) -> pl.DataFrame:
    """aside, reason: with the rows of clusters that are too close to a held-out one on neither side."""
    gone = EXCLUDED.get(task_cluster or "", ())
    reason = pl.lit(None, pl.String)
    if gone:
        close = pl.format(
            "holdout: {} is too close to {}, which is held out", columns.TASK_CLUSTER, pl.lit(task_cluster)
        )
        reason = pl.when(pl.col(columns.TASK_CLUSTER).is_in(gone)).then(close)
    sides = table.select(pl.Series("aside", aside), reason.alias(columns.REASON))
    sides = sides.with_columns(aside=pl.col("aside") & pl.col(columns.REASON).is_null())
    if not _trains(sides).any():
        raise ContractError(
            f"holdout: nothing is left to train on, since {task_cluster} is held out and {' and '.join(gone)} with it; load "
            "rows of other clusters beside them"
        )
    return sides


def _trains(sides: pl.DataFrame) -> np.ndarray:
    return (~sides["aside"] & sides[columns.REASON].is_null()).to_numpy()


def _leaks(table: pl.DataFrame, sides: pl.DataFrame, overlap: str) -> pl.DataFrame:
    """row, other, ngram of training rows that share a run of words with a held-out one; refused where `overlap` is fail."""
    train = _trains(sides)
    leaks = _overlapping(table, sides["aside"].to_numpy(), train)
    if overlap == "fail" and leaks.height:
        raise ContractError(_leak(table, leaks))
    if leaks.height == train.sum():
        raise ContractError(
            f"holdout: every training row shares {_RUN} words in a row with a held-out record; load other rows beside them"
        )
    return leaks


def hold_out(
    table: pl.DataFrame,
    *,
    fraction: float | None = None,
    rows: int | None = None,
    task_cluster: str | None = None,
    seed: int,
) -> np.ndarray:
    """Which rows are kept aside: bool (n,). Give one of the three:

    fraction: each group with this chance, so about this share of the rows; at least one group, and not all. A row keeps
        its side when rows of other groups come or go.
    rows: this many, exactly where the groups allow it, else the most below. Groups are taken in the order of their
        draws; one that is larger than what is still wanted is passed over.
    task_cluster: all rows of a cluster of tasks (FLAN, arXiv 2109.01652, section 2.2), with rows elsewhere that
        duplicate one of them.

    Raises ContractError where nothing, or everything, would be kept aside. About 10 s for a million rows of 500 characters.
    """
    ways = {"fraction": fraction, "rows": rows, "task_cluster": task_cluster}
    if sum(value is not None for value in ways.values()) != 1:
        raise ContractError("holdout needs exactly one of `fraction`, `rows`, `task_cluster`")
    if table.is_empty():
        raise ContractError("holdout: the table is empty; there is nothing to keep aside")
    by_id = table.with_row_index("row").sort(columns.ID)
    group = _groups(by_id)
    if task_cluster is not None:
        aside = _cluster(by_id[columns.TASK_CLUSTER], group, task_cluster)
    else:
        first = np.unique(group)
        draw = uniform(seed, "holdout", by_id[columns.ID][first.tolist()])
        order = np.argsort(draw, kind="stable")  # equal draws stay in the order of ids
        chosen = (
            _below(first[order], draw[order], fraction)
            if fraction is not None
            else _exactly(first[order], group, rows or 0)
        )
        aside = np.isin(group, chosen)
    if aside.all():
        raise ContractError(
            f"holdout would keep all {table.height} rows aside, since they all duplicate one another or belong to what was "
            "asked for; load other rows beside them"
        )
    in_order = np.empty(table.height, dtype=bool)
    in_order[by_id["row"].to_numpy()] = aside
    return in_order


def _overlapping(table: pl.DataFrame, aside: np.ndarray, train: np.ndarray) -> pl.DataFrame:
    """row, other, ngram: training rows that share a run of words with a held-out one, in the order of ids."""
    by_id = table.with_row_index("at").select("at", columns.ID, columns.PROMPT, columns.RESPONSE).sort(columns.ID)
    place = by_id["at"].to_numpy().astype(np.int64)
    text = tables.text_of(by_id, "record")
    training, held_out = np.flatnonzero(train[place]), np.flatnonzero(aside[place])
    runs = ngrams.shared(text.gather(training.tolist()), text.gather(held_out.tolist()), _RUN)
    return runs.with_columns(
        pl.Series("row", place[training[runs["row"].to_numpy()]]),
        pl.Series("other", place[held_out[runs["other"].to_numpy()]]),
    )


def _leak(table: pl.DataFrame, leaks: pl.DataFrame) -> str:
    row, other, run = leaks.row(0)
    name, source = table[columns.ID], table[columns.SOURCE]
    return (
        f"holdout: {leaks.height:,} training {'row shares' if leaks.height == 1 else 'rows share'} {_RUN} words in a row with a "
        f'held-out record; the first is {name[row]} of {source[row]}, which shares "{run}" with {name[other]} of '
        f"{source[other]}; leave that source out, or say `overlap: remove`"
    )


def _groups(table: pl.DataFrame) -> np.ndarray:
    """int64 (n,): the first row of each row's group."""
    texts = {
        columns.PROMPT: _normalised(table[columns.PROMPT], 1),
        columns.RESPONSE: _normalised(table[columns.RESPONSE], _LONG),
    }
    place = pl.col("place")
    codes = (
        pl.DataFrame(texts)
        .with_row_index("place")
        .select(  # the place of the first row with the same text
            pl.when(pl.col(name).is_null()).then(place).otherwise(place.min().over(name)).alias(name) for name in texts
        )
    )
    return _components(*(codes[name].to_numpy() for name in texts))


def _normalised(text: pl.Series, at_least: int) -> pl.Series:
    """Letters and digits in lower case, one space between; a text without any is taken as it is; null where shorter."""
    text = text.fill_null("").str.strip_chars()
    words = ngrams.normalised(text)
    plain = words.zip_with(words != "", text)
    return plain.set(plain.str.len_chars() < at_least, None)


def _components(*codes: np.ndarray) -> np.ndarray:
    """Connected components, where rows with an equal code are connected: the smallest row of each. int64 (n,).

    Labels fall to the least of their neighbours', then to the label of their label, so a chain of n rows takes about
    log n rounds.
    """
    label = np.arange(len(codes[0]))
    while True:
        before = label
        for code in codes:
            least = np.full(len(label), len(label))
            np.minimum.at(least, code, label)
            label = least[code]
        label = label[label]
        if np.array_equal(label, before):
            return label


def _below(by_draw: np.ndarray, draw: np.ndarray, fraction: float) -> np.ndarray:
    if not 0 < fraction < 1:
        raise ContractError(f"holdout: fraction is {fraction}; it must lie between 0 and 1, as in `fraction: 0.05`")
    return by_draw[: max(1, min(np.count_nonzero(draw < fraction), len(draw) - 1))]


def _exactly(by_draw: np.ndarray, group: np.ndarray, rows: int) -> np.ndarray:
    if not 0 < rows < len(group):
        raise ContractError(
            f"holdout: rows is {rows}; it must lie between 1 and {len(group) - 1}, as there are {len(group)} rows"
        )
    size = np.bincount(group, minlength=len(group))
    chosen, left = [], rows
    for first in by_draw.tolist():
        if size[first] <= left:
            chosen.append(first)
            left -= int(size[first])
        if left == 0:
            break
    if not chosen:
        raise ContractError(
            f"holdout: every group of duplicates is larger than the {rows} rows asked for; the smallest has "
            f"{size[by_draw].min()}; ask for that many or more"
        )
    return np.asarray(chosen)


def _cluster(clusters: pl.Series, group: np.ndarray, task_cluster: str) -> np.ndarray:
    member = (clusters == task_cluster).fill_null(False).to_numpy()
    if not member.any():
        there = sorted(clusters.drop_nulls().unique().to_list())
        near = difflib.get_close_matches(task_cluster, there, 1)
        meant = f", did you mean '{near[0]}'?" if near else ";"
        raise ContractError(
            f"holdout: no row belongs to the task cluster '{task_cluster}'{meant} there are: {', '.join(there) or 'none'}"
        )
    return np.isin(group, np.unique(group[member]))
