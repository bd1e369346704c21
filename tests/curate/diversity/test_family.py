"""A selection is told apart by all measures together: what the p of each is, and that chance alone seldom reaches it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curate.diversity.family import against, rows, toward_diverse, verdict, whole

ABOUT: dict[str, tuple[str, str | None]] = {
    "a": ("the first", "higher"),
    "b": ("the second", "lower"),
    "c": ("the third", None),
}


def told_of(values: np.ndarray) -> dict:
    """The report of the first row beside all others; values: (1 + subsets, measures)."""
    about = {f"m{at:02d}": (f"measure {at}", "higher") for at in range(values.shape[1])}
    mine, *chance = [dict(zip(about, row.tolist(), strict=True)) for row in values]
    return against(about, mine, chance)


def naive(values: np.ndarray) -> tuple[list[float], list[float]]:
    """z and p of each measure of the first row, by the definition."""

    def z(row: int) -> list[float]:
        others = [values[i] for i in range(len(values)) if i != row]
        return [(values[row][m] - np.mean(c)) / np.std(c, ddof=1) for m, c in enumerate(zip(*others, strict=True))]

    mine, farthest = z(0), [max(map(abs, z(row))) for row in range(1, len(values))]
    return mine, [(1 + sum(far >= abs(one) for far in farthest)) / len(values) for one in mine]


@given(st.integers(3, 30), st.integers(1, 5), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_p_is_how_often_a_random_subset_has_any_measure_as_far_out(rows_, measures, seed):
    rng = np.random.default_rng(seed)
    values = rng.exponential(size=(rows_, measures)) + rng.normal(size=(rows_, 1))
    values[0] += 2 * rng.random()
    told, (z, p) = told_of(values), naive(values)
    assert [line["z"] for line in told["measures"]] == pytest.approx(z, abs=1e-3)
    assert [line["p"] for line in told["measures"]] == pytest.approx(p, abs=1e-6)
    most = int(np.abs(z).argmax())
    assert told["largest"] == f"m{most:02d}" and told["z"] == pytest.approx(z[most], abs=1e-3)
    assert told["p"] == min(line["p"] for line in told["measures"])


@given(st.integers(2, 60), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_what_lies_beyond_clear_is_what_is_told_apart(subsets, seed):
    values = np.random.default_rng(seed).normal(size=(subsets + 1, 6))
    values[0] *= 3
    told = told_of(values)
    assert (told["clear"] is None) == (subsets < 19)
    for line in told["measures"]:
        assert (verdict(line) == "alike") == (told["clear"] is None or abs(line["z"]) <= told["clear"])


def chance_values(rng: np.random.Generator, rows_: int) -> np.ndarray:
    """Eighteen measures as real ones are: some rise and fall together, some are skewed, one is mostly the same."""
    shared = rng.normal(size=(rows_, 3))
    together = shared @ rng.normal(size=(3, 10)) + 0.3 * rng.normal(size=(rows_, 10))
    skewed = rng.lognormal(sigma=1.0, size=(rows_, 4)) + np.exp(shared[:, :1])
    return np.hstack([together, skewed, rng.normal(size=(rows_, 3)), rng.random((rows_, 1)) < 0.02])


def test_of_purely_random_selections_one_in_20_at_most_is_told_apart():
    rng, apart, beyond_three = np.random.default_rng(0), 0, 0
    for _ in range(300):
        told = told_of(chance_values(rng, 60))
        verdicts = [verdict(line) for line in told["measures"]]
        said = any(one not in ("", "alike") for one in verdicts)
        assert said == (told["p"] <= 0.05) == whole(told).startswith("unlike")
        apart += said
        beyond_three += any(abs(line["z"] or 0) >= 3 for line in told["measures"])
    assert 5 <= apart <= 25  # 15 are meant
    assert beyond_three > 2 * apart  # which a look at each measure alone would have told apart


def test_a_selection_far_from_chance_is_told_apart_by_the_measures_in_which_it_is():
    values = np.random.default_rng(1).normal(size=(101, 6))
    values[0, 2] = -9
    told = told_of(values)
    assert (told["p"], told["largest"], told["subsets"]) == (round(1 / 101, 6), "m02", 100)
    assert [verdict(line) for line in told["measures"]] == ["alike"] * 2 + ["less diverse"] + ["alike"] * 3
    assert whole(told).startswith("unlike a random subset (p = 0.0099; the farthest measure is m02, z -")


def test_a_measure_that_a_subset_lacks_is_compared_with_those_that_have_it():
    mine, chance = {"a": 5.0, "b": 1.0}, [{"a": float(i), **({"b": float(i)} if i < 10 else {})} for i in range(40)]
    a, b = against(ABOUT, mine, chance)["measures"]
    assert (a["random_mean"], b["random_mean"]) == (19.5, 4.5)
    assert b["z"] == round((1 - 4.5) / np.std(range(10), ddof=1), 3) and b["percentile"] == 15


def test_where_the_subsets_are_alike_or_alone_nothing_is_told():
    told = against(ABOUT, {"a": 2.0, "b": 1.0}, [{"a": 2.0}, {"a": 2.0 + 1e-9}, {"a": 2.0, "b": 3.0}] * 10)
    assert told["p"] is None and told["clear"] is None and whole(told) == ""
    assert [line["z"] for line in told["measures"]] == [None, None]
    alone = against(ABOUT, {"b": 1.0}, [{"b": 3.0}, *[{}] * 20])["measures"][0]
    assert (alone["random_mean"], alone["random_sd"], alone["percentile"], alone["p"]) == (None, None, None, None)


def test_a_report_is_json():
    told = told_of(np.random.default_rng(0).normal(size=(30, 3)))
    assert json.loads(json.dumps(told, allow_nan=False)) == told


def test_rows_are_cells_of_a_plain_table():
    line = {
        "name": "a",
        "about": "what",
        "better": "lower",
        "value": 1.5,
        "random_mean": 2.0,
        "random_sd": 0.1,
        "z": -5.0,
        "percentile": 0.0,
        "p": 0.01,
    }
    assert rows({"measures": [line]}) == [
        {
            "measure": "a",
            "value": 1.5,
            "random": "2 ± 0.1",
            "z": "-5.0",
            "percentile": 0.0,
            "than random": "more diverse",
            "what": "what",
        }
    ]
    assert rows({"measures": [line | {"z": None, "p": None, "percentile": 50.0}]})[0]["percentile"] is None
    said = [verdict(line | more) for more in ({"better": None}, {"better": "higher"}, {"p": 0.0501}, {"p": 0.05})]
    assert said == ["lower", "less diverse", "alike", "more diverse"]
    assert toward_diverse(line) == 5 and toward_diverse(line | {"better": None}) == -5
