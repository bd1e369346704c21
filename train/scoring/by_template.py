"""How much a model's score depends on the phrasing: the templates of each set ranked by it, with intervals, paired over records.

T0 reports the median and the interquartile range over its prompts (Sanh et al. 2021, arXiv 2110.08207, section 6.2), FLAN
the mean over its ten templates (arXiv 2109.01652, section 3); the worst template is what a user may meet. Render the rows with
``templates: all``, so that each template is asked about every record.

**What is compared.** Templates that ask for the answer (forward, cot); those turned around ask for something else and are listed
without a rank. The value is accuracy where all of them have choices on all rows, else bits per byte, the sum of the bits over
the sum of the bytes. Bits per byte also tell how familiar the wording of the target is, not only whether it is right.

**The difference** of a template is its value less the mean over the set's templates, each of them (itself too) on the records
that both have: a template whose ``when`` takes the easier records gains nothing by it. It is held against the mean and not
against the best, because the best of a sample is in part the luckiest: its value is too good, and an interval around the distance
to it covers no fixed number. Pairs with fewer than ``FEWEST`` common records are not compared.

**The interval** (95 %) is a bootstrap over records, whole ones, since a record is asked in many templates: each record counts
0, 1, 2 … times by a Poisson draw of mean 1 that is a hash of its id (Hanley and MacGibbon 2006, Computer Methods and Programs in
Biomedicine 83:57). The ratio of sums is linearised. As a bootstrap of few records is too narrow, its quantile is widened
as Student's t is wider than the normal (Hesterberg 2015, The American Statistician 69:371). Where no record tells a template from
the others there is no interval: that they are equal is not shown by it.

**Shown to be worse.** All pairs of a set's templates are compared at once: the largest |difference| / standard error over all
pairs in each resample gives one critical value (max-T, Westfall and Young 1993), so that with 95 % no pair is told apart, or told
the wrong way round, that should not be. A template is shown to be worse than the best if any other is shown to be better than
it, whichever is the best. The same comparisons bound its rank: one more than those shown to be better, and so on (Mogstad, Romano,
Shaikh and Wilhelm 2024, The Review of Economic Studies 91:476).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy import stats

from curate.contract import draws
from curate.contract.columns import ANSWER, CHOICES, ID, MESSAGES, RECORD, TEMPLATE, TEMPLATE_KIND, TEMPLATE_SET
from curate.contract.errors import ContractError, DataError
from train.scoring.perplexity import Scores, read_rows, score

FEWEST = 20  # common records; with fewer nothing is claimed
LEVEL = 0.95
RESAMPLES = 2000  # a multiple of _AT_ONCE
INVERTED = "inverted"
SUMMARIES = {  # over the templates of a set that ask for the answer; the interquartile range is numpy's, linear
    "mean": np.mean,
    "median": np.median,
    "interquartile range": lambda values: np.subtract(*np.percentile(values, [75, 25])),
}
NUMBERS = ("accuracy", "to mean", "95 % interval", "common", "rank")  # columns of the printed table
_NEEDED = (TEMPLATE, TEMPLATE_KIND, CHOICES, ANSWER, RECORD)
_BETTER = {"accuracy": 1, "bits_per_byte": -1}  # the sign of what is better
_NOT_RANKED = dict.fromkeys(("ranked_by", "difference", "low", "high", "common", "rank_low", "rank_high", "worse"))
_AT_ONCE = 200
_NOISE = 1e-9  # what rounding alone makes of equal values
_TIMES = np.cumsum(math.exp(-1) / np.array([math.factorial(k) for k in range(10)], float))  # of Poisson of mean 1


# --- what a template makes of a model --------------------------------------------------------------------------------


def table(model: str, rows: Path) -> list[dict[str, Any]]:
    """One mapping a template, set by set, the best first: template_set, template, kind, rows, bits_per_byte (Σ bits / Σ bytes
    of the targets) and, where it has choices, accuracy by rank classification: the candidate with the fewest bits is the answer
    given (FLAN, section 2.4). Then what ranks it, None where it has no rank:

    ranked_by: the set's metric. difference, low, high: to the set's mean, with its interval. common: the records on which
    it was compared, of all pairs the fewest. rank_low, rank_high: the ranks that it may have, from 1, the best. worse: whether it
    is shown to be worse than the best.

    After the templates of a set four more, over those that ask: mean, median, interquartile range, worst value.

    rows: a parquet file or a folder of them, as the render stage writes it with ``templates: all``. Raises ContractError where
    it is not, DataError where no set has two templates to compare. Cost: a forward pass a target and a candidate, less
    those that another one's pass holds (see ``perplexity.evaluate``); the bootstrap takes a second a thousand records.
    """
    read = read_rows(rows)
    _check(rows, read)
    conversations = []
    for row in read:  # a row's candidates stand together, so that they share a pass
        conversations.append((row[ID], row[MESSAGES]))
        for number, choice in enumerate(row[CHOICES] or ()):
            offered = [*row[MESSAGES][:-1], {**row[MESSAGES][-1], "content": choice}]
            conversations.append((f"{row[ID]}\0{number}", offered))
    ids, scores = score(model, conversations)
    if not ids:
        raise DataError(f"{rows}: none of its {len(read):,} rows has a response to score")
    place = {id: i for i, id in enumerate(ids)}
    sets: dict[str, dict[tuple[str, str], list[dict[str, Any]]]] = {}
    for row in read:
        if row[ID] in place:
            templates = sets.setdefault(row.get(TEMPLATE_SET) or "", {})
            templates.setdefault((row[TEMPLATE], row[TEMPLATE_KIND]), []).append(row)
    lines = []
    for name, templates in sorted(sets.items()):
        told = [_Told.of(name, *key, templates[key], place, scores) for key in sorted(templates)]
        ranked = _ranked([one for one in told if one.kind != INVERTED])
        lines += ranked + [one.line() for one in told if one.kind == INVERTED] + _summaries(name, ranked)
    return lines


def _check(rows: Path, read: list[dict[str, Any]]) -> None:
    """Raises for rows that were not rendered, or not so that templates can be compared."""
    if missing := [name for name in _NEEDED if name not in read[0]]:
        how = "render the rows with `templates: all` and " if missing == [RECORD] else ""
        raise ContractError(
            f"{rows}: has no column `{missing[0]}`; {how}give the folder that the render stage wrote, as WORK/render/kept"
        )
    asked = Counter((row.get(TEMPLATE_SET) or "", row[TEMPLATE], row[RECORD]) for row in read)
    if twice := [key for key, count in asked.items() if count > 1]:
        raise ContractError(
            f"{rows}: the template {twice[0][1]} asks the record {twice[0][2]} {asked[twice[0]]} times; it may once, so give one "
            "render's rows only"
        )
    asking = [row for row in read if row[TEMPLATE_KIND] != INVERTED]
    templates = {(row.get(TEMPLATE_SET) or "", row[TEMPLATE]) for row in asking}
    if len(templates) == len({name for name, _ in templates}):
        raise DataError(
            f"{rows}: no set has two templates that ask for the answer, so there is nothing to rank; render sets with several, "
            "or leave out `--by template`"
        )
    if max(Counter((row.get(TEMPLATE_SET) or "", row[RECORD]) for row in asking).values()) == 1:
        raise ContractError(
            f"{rows}: each record is asked in one template only, so that templates cannot be compared; render the rows with "
            "`templates: all`"
        )


@dataclass(frozen=True)
class _Told:
    """A template and its n scored rows: records, right (float64, nan without choices), bits and bytes, row-aligned."""

    set: str
    template: str
    kind: str
    records: list[str]
    right: np.ndarray
    bits: np.ndarray
    bytes: np.ndarray

    @classmethod
    def of(
        cls, set: str, template: str, kind: str, rows: list[dict[str, Any]], place: dict[str, int], scores: Scores
    ) -> _Told:
        at = [place[row[ID]] for row in rows]
        right = [_right(row, place, scores) if row[CHOICES] else np.nan for row in rows]
        records = [row[RECORD] for row in rows]
        return cls(
            set, template, kind, records, np.array(right, float), scores.bits[at], scores.bytes[at].astype(float)
        )

    def line(self) -> dict[str, Any]:
        return {
            "template_set": self.set,
            "template": self.template,
            "kind": self.kind,
            "rows": len(self.records),
            "bits_per_byte": float(self.bits.sum() / self.bytes.sum()),
            "accuracy": None if np.isnan(self.right).all() else float(np.nanmean(self.right)),
            **_NOT_RANKED,
        }


def _right(row: dict[str, Any], place: dict[str, int], scores: Scores) -> bool:
    """Whether the right choice has the fewest bits; a candidate that does not fit the context has none to compare."""
    at = [place.get(f"{row[ID]}\0{number}") for number in range(len(row[CHOICES]))]
    bits = [np.inf if i is None else scores.bits[i] for i in at]
    return int(np.argmin(bits)) == row[ANSWER]


def _summaries(name: str, templates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    values = {column: np.array([one[column] for one in templates if one[column] is not None]) for column in _BETTER}
    worst = {"bits_per_byte": np.max, "accuracy": np.min}
    return [
        {"template_set": name, "template": f"({word})", "kind": "", "rows": sum(one["rows"] for one in templates)}
        | {
            column: float((worst[column] if word == "worst" else SUMMARIES[word])(values[column]))
            if len(values[column])
            else None
            for column in ("bits_per_byte", "accuracy")
        }
        | _NOT_RANKED
        for word in (*SUMMARIES, "worst")
        if templates
    ]


# --- which is better -------------------------------------------------------------------------------------------------


def _ranked(templates: list[_Told]) -> list[dict[str, Any]]:
    """The lines of a set's templates that ask, the best first; those that could not be compared last."""
    if len(templates) < 2:
        return [one.line() for one in templates]
    metric = "bits_per_byte" if any(np.isnan(one.right).any() for one in templates) else "accuracy"
    records = sorted({record for one in templates for record in one.records})
    column = {record: i for i, record in enumerate(records)}
    top, size = np.zeros((2, len(templates), len(records)))
    for i, one in enumerate(templates):
        at = [column[record] for record in one.records]
        top[i, at], size[i, at] = (one.right, 1) if metric == "accuracy" else (one.bits, one.bytes)
    compared = compare(records, top, size, better=_BETTER[metric])
    lines = [one.line() | {"ranked_by": metric} | told for one, told in zip(templates, compared, strict=True)]
    return sorted(lines, key=lambda line: (line["worse"] is None, -_BETTER[metric] * (line["difference"] or 0)))


def compare(
    records: Sequence[str], top: np.ndarray, size: np.ndarray, *, better: int, seed: int = 0
) -> list[dict[str, Any]]:
    """Each of k templates against the others on n records, as the module says: difference, low, high, common, rank_low,
    rank_high, worse, in the order given; low to worse are None where too few records are common.

    records: their ids, which the resamples are drawn by. top, size: float64 (k, n); the value of a template is Σ top / Σ size,
    and size is 0 where a template is not asked. better: 1 where more is better, -1 where less is.
    """
    k = len(top)
    first, second = np.triu_indices(k, 1)
    common = (size[first] > 0) & (size[second] > 0)  # bool (pairs, n)
    count = common.sum(axis=1)
    enough = count >= FEWEST
    left, right = (_linear(top[which], size[which], common) for which in (first, second))
    difference, residual = left[0] - right[0], left[1] - right[1]
    error = np.sqrt(np.square(residual).sum(axis=1) / np.maximum(count * (count - 1), 1))

    sides = np.zeros((k, len(first)))  # a template's difference to the mean as a sum over its pairs
    sides[first, np.arange(len(first))], sides[second, np.arange(len(first))] = 1, -1
    used = np.where((np.abs(sides) @ enough > 0)[:, None], enough, count > 0)
    sides *= used
    with_itself = np.abs(sides).sum(axis=1) + 1
    sides /= with_itself[:, None]
    to_mean = sides @ difference
    fewest = np.where(used & (sides != 0), count, len(records)).min(axis=1, initial=len(records))
    fewest = np.where(with_itself > 1, fewest, 0)
    influence = sides @ (residual / np.maximum(count, 1)[:, None])
    mean_error = np.sqrt(np.square(influence).sum(axis=1) * fewest / np.maximum(fewest - 1, 1))

    deviation = _resampled(records, residual, common, seed)  # (RESAMPLES, pairs)
    told = enough & (error > _NOISE)
    farthest = np.max(np.abs(deviation[:, told]) / error[told], axis=1, initial=0)
    half = _widened(_quantile(farthest), count) * error
    ahead = np.zeros((k, k), bool)  # ahead[a, b]: a is shown to be better than b
    ahead[first, second] = enough & (better * difference > half + _NOISE)
    ahead[second, first] = enough & (-better * difference > half + _NOISE)

    lines = []
    ranked = (np.abs(sides) @ enough) > 0
    for i in range(k):
        line: dict[str, Any] = {
            "difference": float(to_mean[i]) if with_itself[i] > 1 else None,
            "common": int(fewest[i]),
        }
        if ranked[i]:
            if mean_error[i] > _NOISE:
                around = np.abs(deviation @ sides[i]) / mean_error[i]
                width = float(_widened(_quantile(around), fewest[i]) * mean_error[i])
                line |= {"low": line["difference"] - width, "high": line["difference"] + width}
            line |= {"rank_low": 1 + int(ahead[:, i].sum()), "rank_high": int(ranked.sum() - ahead[i].sum())}
            line["worse"] = bool(ahead[:, i].any())
        lines.append(
            {**dict.fromkeys(("difference", "low", "high", "common", "rank_low", "rank_high", "worse")), **line}
        )
    return lines


def _linear(top: np.ndarray, size: np.ndarray, common: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Σ top / Σ size over the common records, (pairs,), and what each record adds to it, (pairs, n): their mean is 0."""
    top, size = top * common, size * common
    total = np.maximum(size.sum(axis=1), _NOISE)
    value = top.sum(axis=1) / total
    return value, (top - value[:, None] * size) * (common.sum(axis=1) / total)[:, None]


def _resampled(records: Sequence[str], residual: np.ndarray, common: np.ndarray, seed: int) -> np.ndarray:
    """How far each pair's difference lies from its value in each resample: float64 (RESAMPLES, pairs)."""
    parts = []
    for start in range(0, RESAMPLES, _AT_ONCE):
        times = np.concatenate(
            [_times(records, seed, four) for four in range(start // 4, (start + _AT_ONCE) // 4)], axis=1
        )
        parts.append(((residual @ times) / np.maximum(common.astype(float) @ times, 1)).T)
    return np.concatenate(parts)


def _times(records: Sequence[str], seed: int, four: int) -> np.ndarray:
    """How often each record counts in four resamples: float64 (n, 4). A draw is 64 bits, and a resample takes 16 of them."""
    drawn = draws.draws(seed, f"eval.by_template/{four}", records).view("<u2").reshape(-1, 4)
    return np.searchsorted(_TIMES, (drawn + 0.5) / 65536, side="right").astype(float)


def _quantile(values: np.ndarray) -> float:
    """The LEVEL quantile of resampled values, the larger neighbour."""
    return float(np.sort(values)[math.ceil(LEVEL * (len(values) + 1)) - 1])


def _widened(quantile: float, count: np.ndarray) -> np.ndarray:
    """A quantile of the normal as that of Student's t for so many records."""
    return stats.t.isf(stats.norm.sf(quantile), np.maximum(count - 1, 1))


# --- what is printed -------------------------------------------------------------------------------------------------


def printed(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The table's lines as people read them."""
    return [
        {name: line[name] for name in ("template_set", "template", "kind", "rows", "bits_per_byte", "accuracy")}
        | {
            "to mean": "" if line["difference"] is None else f"{line['difference']:+.3f}",
            "95 % interval": "" if line["low"] is None else f"{line['low']:+.3f} … {line['high']:+.3f}",
            "common": line["common"],
            "rank": "" if line["rank_low"] is None else _span(line["rank_low"], line["rank_high"]),
            "worse": "" if line["ranked_by"] is None else {None: "too few", True: "yes", False: ""}[line["worse"]],
        }
        for line in lines
    ]


def sentences(lines: list[dict[str, Any]]) -> list[str]:
    """What stands beneath the table: a sentence a set, and the line of a recipe that leaves out what is shown to be worse."""
    said = []
    for name in dict.fromkeys(line["template_set"] for line in lines):
        said.append(f"{name}: {_sentence([line for line in lines if line['template_set'] == name])}")
    if worse := leave_out(lines):
        said += [
            "",
            "With this line a recipe leaves out what is shown to be worse, the worst first. Shorten it where a set would be left "
            "with few, and read them before: what a model does badly may be what it has to learn.",
            f"render: {_flow({'leave_out': worse})}",
        ]
    return said


def leave_out(lines: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Set name: the templates that are shown to be worse than its best, the worst first."""
    worse: dict[str, list[str]] = {}
    for line in reversed(lines):
        if line["worse"]:
            worse.setdefault(line["template_set"], []).append(line["template"])
    return dict(sorted(worse.items()))


def _sentence(lines: list[dict[str, Any]]) -> str:
    asking = [line for line in lines if line["ranked_by"] is not None]
    if not asking:
        names = [line["template"] for line in lines if line["kind"] not in ("", INVERTED)]
        only = f"{names[0]} is its only template that asks" if names else "none of its templates asks"
        return f"{only}, so there is nothing to rank"
    ranked = [line for line in asking if line["worse"] is not None]
    if not ranked:
        most = max(line["common"] for line in asking)
        return (
            f"its templates have {most} records in common, and fewer than {FEWEST} are too few for an interval; render more "
            "records"
        )
    metric = ranked[0]["ranked_by"]
    best, worst = ranked[0], ranked[-1]
    few = [line["template"] for line in asking if line["worse"] is None]
    return (
        f"by {metric.replace('_', ' ')} {best['template']} does best ({best[metric]:.3f}) and {worst['template']} worst "
        f"({worst[metric]:.3f}); {sum(line['worse'] for line in ranked)} of {len(ranked)} are shown to be worse than the best"
        + (f"; fewer than {FEWEST} common records, so no interval: {', '.join(few)}" if few else "")
    )


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


def _flow(value: Any) -> str:
    """One line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False).strip()
