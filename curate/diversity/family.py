"""All measures of a selection together: is it told apart from random subsets of its size, and by which measures?

For a reader: of 25 measures some lie far from random by chance alone. So each is held against the farthest of all: ``p`` of a
measure is how often a random subset has any measure that lies as far out as this one, and ``p`` of the whole is that of the
largest |z|. Of purely random selections at most one in 20 has a p of 0.05 or less anywhere, however the measures rise and fall
together and however skewed they are.
Cost: nothing beside the measures.

z of a value: how many standard deviations of all others it lies from their mean. A random subset is scored as the selection is,
among the selection and the other subsets, so that a selection which is itself random has the largest max |z| as often as any.
p = (1 + the random subsets whose largest |z| is as large) / (1 + the random subsets); 19 of them are the fewest that can tell.

Reference: the single-step max-T procedure of Westfall and Young 1993, "Resampling-Based Multiple Testing"; the one that is added:
Phipson and Smyth 2010, "Permutation P-values Should Never Be Zero", arXiv 1603.05766.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

LEVEL = 20  # one random selection in so many may be told apart from random ones
_DIGITS = 6  # of a value; the rest of a float32 sum is noise
_NOISE = 1e-6  # what rounding alone makes of equal values, of their mean or of 1


def against(
    about: Mapping[str, tuple[str, str | None]], mine: dict[str, float], chance: list[dict[str, float]]
) -> dict[str, Any]:
    """The report of one selection. about: of each measure what it is, and what of it is more diverse. mine: the values of the
    selection; chance: those of each random subset.

    subsets: how many random ones. p, largest and z: of the whole, the measure with the largest |z|, and its z. clear: the |z|
    beyond which p is 0.05 at most. measures: a dict a measure with name, about, better, value, random_mean, random_sd, z,
    percentile (of the value among the random ones, 0 to 100, ties half) and p. None where all random subsets are alike.
    """
    names = list(mine)
    values = np.array([[one.get(name, np.nan) for name in names] for one in (mine, *chance)], dtype=np.float64)
    z = np.array([_z(measure) for measure in values.T]).reshape(len(names), len(values)).T
    away = np.nan_to_num(np.abs(z), nan=0.0)
    farthest = np.sort(away[1:].max(axis=1, initial=0))
    p = (1 + len(chance) - np.searchsorted(farthest, away[0])) / (1 + len(chance))
    most = int(away[0].argmax()) if away[0].any() else None
    passed = (1 + len(chance)) // LEVEL - 1  # so many random subsets may lie farther out than what is told apart
    return {
        "subsets": len(chance),
        "p": None if most is None else round(float(p[most]), 6),
        "largest": None if most is None else names[most],
        "z": None if most is None else round(float(z[0, most]), 3),
        "clear": None if most is None or passed < 0 else round(float(farthest[-1 - passed]), 3),
        "measures": [
            {"name": name, "about": about[name][0], "better": about[name][1]}
            | _line(values[:, at], None if np.isnan(z[0, at]) else float(z[0, at]), float(p[at]))
            for at, name in enumerate(names)
        ],
    }


def toward_diverse(line: dict[str, Any]) -> float | None:
    """z of a measure, its sign such that more is more diverse where one of both ends is."""
    return None if line["z"] is None else -line["z"] if line["better"] == "lower" else line["z"]


def verdict(line: dict[str, Any]) -> str:
    """A measure in words: "more diverse", "less diverse", "higher" or "lower" where p is 0.05 at most, else "alike"; "" where all
    random subsets are alike."""
    toward = toward_diverse(line)
    if toward is None:
        return ""
    if line["p"] > 1 / LEVEL:
        return "alike"
    if line["better"] is None:
        return "higher" if toward > 0 else "lower"
    return "more diverse" if toward > 0 else "less diverse"


def whole(told: dict[str, Any]) -> str:
    """What the report says of all measures together, without a full stop; "" where nothing can be told."""
    if told["clear"] is None:
        return ""
    unlike = "unlike a random subset" if told["p"] <= 1 / LEVEL else "like a random subset"
    name = told["largest"].replace("_", " ")
    return f"{unlike} (p = {told['p']:.2g}; the farthest measure is {name}, z {told['z']:+.1f})"


def rows(told: dict[str, Any]) -> list[dict[str, Any]]:
    """The report as the lines of a plain table, the columns in order; a cell is text, a number or None."""
    return [
        {
            "measure": line["name"],
            "value": line["value"],
            "random": f"{line['random_mean']:.4g} ± {line['random_sd']:.2g}" if line["random_mean"] is not None else "",
            "z": f"{line['z']:+.1f}" if line["z"] is not None else "",
            "percentile": line["percentile"] if line["z"] is not None else None,
            "than random": verdict(line),
            "what": line["about"],
        }
        for line in told["measures"]
    ]


def _z(values: np.ndarray) -> np.ndarray:
    """z of each value of a measure among all others: float64 (n,); nan where it is missing, or the others are alike."""
    others = np.where(np.eye(len(values), dtype=bool), np.nan, values)  # a line a value, without itself
    there = np.isfinite(others)
    count = there.sum(axis=1)
    mean = np.where(there, others, 0).sum(axis=1) / np.maximum(count, 1)
    sd = np.sqrt(np.square(np.where(there, others - mean[:, None], 0)).sum(axis=1) / np.maximum(count - 1, 1))
    told = (count > 1) & (sd > _NOISE * np.maximum(np.abs(mean), 1))
    return np.where(told, (values - mean) / np.where(told, sd, 1), np.nan)


def _line(values: np.ndarray, z: float | None, p: float) -> dict[str, Any]:
    value, random = float(values[0]), values[1:][np.isfinite(values[1:])]
    mean = sd = percentile = None
    if len(random) > 1:
        mean, sd = float(random.mean()), float(random.std(ddof=1)) if z is not None else 0.0
        same = np.abs(random - value) <= _NOISE * max(abs(mean), 1)
        percentile = round(100 * float(((random < value) & ~same).mean() + same.mean() / 2), 1)
    return {
        "value": _rounded(value),
        "random_mean": _rounded(mean),
        "random_sd": _rounded(sd),
        "z": None if z is None else round(z, 3),
        "percentile": percentile,
        "p": None if z is None else round(p, 6),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.{_DIGITS}g}")
