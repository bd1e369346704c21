from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from curate.contract import methods
from curate.rows.pick import pick
from curate.rows.pool import Picks, Pool


def picked(tmp_path: Path, body: str) -> Picks:
    """What ``pick`` makes of a selector that is written for the test."""
    folder = tmp_path / "methods" / "select"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "mine.py").write_text(
        f"import numpy as np\nfrom tamis import Picks\n\n\ndef select(pool, budget, *, seed: int = 0):\n    {body}\n"
    )
    return pick(methods.find("select", "mine", tmp_path), Pool(pl.DataFrame({"id": list("abc")})), 3, {}, 0, tmp_path)


def test_gains_are_rounded_to_six_digits_and_whole_numbers_and_nan_stay(tmp_path):
    gains = [1234567.0, np.nan, 0.12345678]
    told = picked(tmp_path, "return Picks(np.arange(3), np.array([1234567.0, np.nan, 0.12345678], np.float32))").gain
    assert told.dtype == np.float32
    np.testing.assert_array_equal(told, np.array([*gains[:2], 0.123457], np.float32))


@pytest.mark.parametrize("value", [0.3, 2 / 3, 1e-9 / 7, 123456.789, 0.9999999, 1.0, 0.0, 12.1])
def test_a_bound_is_rounded_to_the_side_on_which_it_holds_and_by_less_than_a_unit_of_the_sixth_digit(tmp_path, value):
    facts = picked(
        tmp_path,
        f"return Picks(np.arange(3), np.zeros(3, np.float32), {{'radius_at_least': {value!r}, 'why': 'so', 'many': 7, "
        f"'certificate': {{'value': {value!r}, 'upper_bound': {value!r}, 'ratio': {value!r}}}}})",
    ).facts
    told, slack = facts["certificate"], Fraction(1, 10**11)  # float64 rounding
    exact = Fraction(value)
    assert told["upper_bound"] >= exact * (1 - slack) and told["ratio"] <= exact * (1 + slack)
    assert facts["radius_at_least"] == told["ratio"] <= told["value"] <= told["upper_bound"]
    assert told["upper_bound"] - told["ratio"] <= 1.001e-5 * value
    assert all(float(f"{one:.6g}") == one for one in told.values())
    assert facts["why"] == "so" and facts["many"] == 7


def test_a_selector_works_while_the_matrix_library_has_one_thread(tmp_path):
    body = "import threadpoolctl as t; n = min(i['num_threads'] for i in t.threadpool_info() if i['user_api'] == 'blas')\n    "
    with threadpool_limits(2):
        facts = picked(tmp_path, body + "return Picks(np.arange(3), np.zeros(3), {'threads': n})").facts
        after = {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}
    assert facts["threads"] == 1 and 2 in after
