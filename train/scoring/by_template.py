"""How much a model's score depends on the phrasing: per template, and over the templates of each set.

T0 reports the median and the interquartile range over its prompts (Sanh et al. 2021, arXiv 2110.08207, section 6.2), FLAN
the mean over its ten templates (arXiv 2109.01652, section 3); the worst template is what a user may meet. Render the rows with
``templates: all``, so that each template is asked about every record.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from curate.contract.columns import ANSWER, CHOICES, ID, MESSAGES, TEMPLATE, TEMPLATE_KIND, TEMPLATE_SET
from curate.contract.errors import ContractError, DataError
from train.scoring.perplexity import Scores, read_rows, score

_NEEDED = (TEMPLATE, TEMPLATE_KIND, CHOICES, ANSWER)
SUMMARIES = {  # over the templates of a set that ask for the answer; the interquartile range is numpy's, linear
    "mean": np.mean,
    "median": np.median,
    "interquartile range": lambda values: np.subtract(*np.percentile(values, [75, 25])),
}


def table(model: str, rows: Path) -> list[dict[str, Any]]:
    """One mapping a template: template_set, template, kind, rows, bits_per_byte (Σ bits / Σ bytes of the targets) and, where
    it has choices, accuracy by rank classification: the candidate with the fewest bits is the answer given (FLAN, section
    2.4). After the templates of a set four more, over its forward and chain-of-thought templates: their mean, their median,
    interquartile range and the worst value of each.

    rows: a parquet file or a folder of them, as the render stage writes it. Raises ContractError where it is not rendered.
    Cost: one forward pass a target, and one a candidate.
    """
    read = read_rows(rows)
    missing = [name for name in _NEEDED if name not in read[0]]
    if missing:
        raise ContractError(
            f"{rows}: has no column `{missing[0]}`; give the folder that the render stage wrote, as WORK/render/kept"
        )
    asked = [(row[ID], row[MESSAGES]) for row in read]
    offered = [
        (f"{row[ID]}\0{number}", [*row[MESSAGES][:-1], {**row[MESSAGES][-1], "content": choice}])
        for row in read
        if row[CHOICES]
        for number, choice in enumerate(row[CHOICES])
    ]
    ids, scores = score(model, [*asked, *offered])
    if not ids:
        raise DataError(f"{rows}: none of its {len(read):,} rows has a response to score")
    place = {id: i for i, id in enumerate(ids)}
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for row in read:
        if row[ID] in place:
            groups.setdefault((row.get(TEMPLATE_SET) or "", row[TEMPLATE], row[TEMPLATE_KIND]), []).append(row)
    lines = []
    for name in sorted({key[0] for key in groups}):
        templates = [_of_template(key, groups[key], place, scores) for key in sorted(groups) if key[0] == name]
        lines += templates + _summaries(name, [one for one in templates if one["kind"] != "inverted"])
    return lines


def _of_template(
    key: tuple[str, str, str], rows: list[dict[str, Any]], place: dict[str, int], scores: Scores
) -> dict[str, Any]:
    at = np.array([place[row[ID]] for row in rows])
    right = [_right(row, place, scores) for row in rows if row[CHOICES]]
    return {
        "template_set": key[0],
        "template": key[1],
        "kind": key[2],
        "rows": len(rows),
        "bits_per_byte": float(scores.bits[at].sum() / scores.bytes[at].sum()),
        "accuracy": float(np.mean(right)) if right else None,
    }


def _right(row: dict[str, Any], place: dict[str, int], scores: Scores) -> bool:
    """Whether the right choice has the fewest bits; a candidate that does not fit the context has none to compare."""
    at = [place.get(f"{row[ID]}\0{number}") for number in range(len(row[CHOICES]))]
    bits = [np.inf if i is None else scores.bits[i] for i in at]
    return int(np.argmin(bits)) == row[ANSWER]


def _summaries(name: str, templates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    values = {
        column: np.array([one[column] for one in templates if one[column] is not None])
        for column in ("bits_per_byte", "accuracy")
    }
    worst = {"bits_per_byte": np.max, "accuracy": np.min}
    return [
        {"template_set": name, "template": f"({word})", "kind": "", "rows": sum(one["rows"] for one in templates)}
        | {
            column: float((worst[column] if word == "worst" else SUMMARIES[word])(scores)) if len(scores) else None
            for column, scores in values.items()
        }
        for word in (*SUMMARIES, "worst")
        if templates
    ]
