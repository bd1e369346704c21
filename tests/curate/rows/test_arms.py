from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curate.contract import methods
from curate.contract.errors import DataError
from curate.rows import arms
from curate.rows.pool import Pool

IDS = [f"row{i:03d}" for i in range(50)]


def pool(ids: list[str] = IDS) -> Pool:
    vectors = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    order = [IDS.index(id) for id in ids]
    return Pool(
        pl.DataFrame({"id": ids, "response": [id * 3 for id in ids], "source": ["a"] * len(ids)}), vectors[order]
    )


def chosen(*names: str) -> dict:
    found = {name: methods.find("select", name) for name in names}
    return {name: (m, {p.word: p.default for p in m.parameters if p.word != "budget"}) for name, m in found.items()}


def test_a_draw_is_a_hashed_share_that_other_rows_do_not_move() -> None:
    first = {IDS[i] for i in arms.drawn(IDS, 0, seed=1)}
    assert len(first) == 40
    assert first == {IDS[::-1][i] for i in arms.drawn(IDS[::-1], 0, seed=1)}
    assert first != {IDS[i] for i in arms.drawn(IDS, 1, seed=1)}
    assert first != {IDS[i] for i in arms.drawn(IDS, 0, seed=2)}


def test_all_arms_of_a_draw_choose_from_the_same_rows_and_are_ranked(tmp_path: Path) -> None:
    arms.write_subsets(tmp_path, pool(), chosen("random", "k_center", "facility_location"), [4, 10], 3, seed=1)
    for number in range(3):
        drawn = {IDS[i] for i in arms.drawn(IDS, number, 1)}
        for arm in ("random", "k_center", "facility_location"):
            subset = pl.read_parquet(tmp_path / arm / f"{number}.parquet")
            assert subset["rank"].to_list() == list(range(10))
            assert set(subset["id"]) <= drawn and subset["id"].n_unique() == 10


def test_subsets_do_not_depend_on_the_order_of_the_pool(tmp_path: Path) -> None:
    arms.write_subsets(tmp_path / "one", pool(), chosen("random", "facility_location"), [6], 2, seed=4)
    arms.write_subsets(tmp_path / "two", pool(IDS[::-1]), chosen("random", "facility_location"), [6], 2, seed=4)
    for path in (tmp_path / "one").rglob("*.parquet"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert pl.read_parquet(path)["id"].to_list() == pl.read_parquet(other)["id"].to_list()


def test_a_study_budget_larger_than_a_draw_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"the largest budget is 41, but a draw holds 40 rows \(80 % of a pool of 50\); ask for at most 40",
    ):
        arms.write_subsets(tmp_path, pool(), chosen("random"), [8, 41], 1, seed=0)
