from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curate.contract import methods
from curate.contract.errors import DataError
from curate.rows import arms
from curate.rows.arms import Arm, Tokens
from curate.rows.pool import Pool

IDS = [f"row{i:03d}" for i in range(50)]


def pool(ids: list[str] = IDS) -> Pool:
    vectors = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    order = [IDS.index(id) for id in ids]
    return Pool(
        pl.DataFrame({"id": ids, "response": [id * 3 for id in ids], "source": ["a"] * len(ids)}), vectors[order]
    )


def chosen(*names: str, budget: int = 10) -> dict[str, Arm]:
    found = {name: methods.find("select", name) for name in names}
    return {
        name: Arm(m, {p.word: p.default for p in m.parameters if p.word != "budget"}, budget)
        for name, m in found.items()
    }


def test_a_draw_is_a_hashed_share_that_other_rows_do_not_move() -> None:
    first = {IDS[i] for i in arms.drawn(IDS, 0, seed=1)}
    assert len(first) == 40
    assert first == {IDS[::-1][i] for i in arms.drawn(IDS[::-1], 0, seed=1)}
    assert first != {IDS[i] for i in arms.drawn(IDS, 1, seed=1)}
    assert first != {IDS[i] for i in arms.drawn(IDS, 0, seed=2)}


def test_all_arms_of_a_draw_choose_from_the_same_rows_and_are_ranked(tmp_path: Path) -> None:
    arms.write_subsets(tmp_path, pool(), chosen("random", "k_center", "facility_location"), 3, seed=1)
    for number in range(3):
        drawn = {IDS[i] for i in arms.drawn(IDS, number, 1)}
        for arm in ("random", "k_center", "facility_location"):
            subset = pl.read_parquet(tmp_path / arm / f"{number}.parquet")
            assert subset["rank"].to_list() == list(range(10))
            assert set(subset["id"]) <= drawn and subset["id"].n_unique() == 10


def test_subsets_do_not_depend_on_the_order_of_the_pool(tmp_path: Path) -> None:
    arms.write_subsets(tmp_path / "one", pool(), chosen("random", "facility_location", budget=6), 2, seed=4)
    arms.write_subsets(tmp_path / "two", pool(IDS[::-1]), chosen("random", "facility_location", budget=6), 2, seed=4)
    for path in (tmp_path / "one").rglob("*.parquet"):
        other = tmp_path / "two" / path.relative_to(tmp_path / "one")
        assert pl.read_parquet(path)["id"].to_list() == pl.read_parquet(other)["id"].to_list()


def test_a_study_budget_larger_than_a_draw_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"the largest budget is 41, but a draw holds 40 rows \(80 % of a pool of 50\); ask for at most 40",
    ):
        arms.write_subsets(tmp_path, pool(), chosen("random", budget=41), 1, seed=0)


def test_disjoint_draws_part_the_pool(tmp_path: Path) -> None:
    parts = [set(arms.drawn(IDS, number, 1, parts=3).tolist()) for number in range(3)]
    assert sorted(map(len, parts)) == [16, 17, 17] and len(set.union(*parts)) == 50
    arms.write_subsets(tmp_path, pool(), chosen("random", "k_center"), 3, seed=1, pools="disjoint")
    picked = [set(pl.read_parquet(tmp_path / "k_center" / f"{n}.parquet")["id"]) for n in range(3)]
    assert all(ids <= {IDS[i] for i in part} for ids, part in zip(picked, parts, strict=True))
    with pytest.raises(DataError, match=r"a draw holds 12 rows \(a 4th of a pool of 50\)"):
        arms.write_subsets(tmp_path / "more", pool(), chosen("random", budget=13), 4, seed=1, pools="disjoint")


def test_an_arm_picks_until_it_has_as_many_tokens_as_the_reference(tmp_path: Path) -> None:
    of_row = {id: 1 + i for i, id in enumerate(IDS)}
    tokens = Tokens([of_row], "random", 10)
    arms.write_subsets(tmp_path, pool(), chosen("random", "k_center", budget=10), 2, seed=1, tokens=tokens)
    for draw in range(2):
        random, other = (pl.read_parquet(tmp_path / arm / f"{draw}.parquet")["id"] for arm in ("random", "k_center"))
        least = sum(of_row[id] for id in random)
        assert sum(of_row[id] for id in other) >= least
        assert len(random) == 10 and len(other) in (10, 20)
    short = Tokens([{id: 1000 if i % 2 else 1 for i, id in enumerate(IDS)}], "random", 10)
    few = {**chosen("random"), "one": Arm(methods.find("select", "longest"), {}, 1)}
    arms.write_subsets(tmp_path / "few", pool(), few, 1, seed=1, tokens=short)
    assert len(pl.read_parquet(tmp_path / "few" / "one" / "0.parquet")) > 1


def test_rows_that_an_arm_is_shown_beside_are_never_picked(tmp_path: Path) -> None:
    near = Pool(pl.DataFrame({"id": ["t0", "t1"], "dev": ["t", "t"]}), np.eye(5, dtype=np.float32)[:2])
    rows = Pool(pool().table.with_columns(dev=pl.lit(None, pl.String)), pool().vectors)
    rds = methods.find("select", "rds")
    arm = Arm(rds, {"target": {"dev": "t"}, "how": "max"}, 8, beside=near)
    arms.write_subsets(tmp_path, rows, {"targeted": arm}, 1, seed=1)
    picked = pl.read_parquet(tmp_path / "targeted" / "0.parquet")["id"].to_list()
    drawn = arms.drawn(IDS, 0, 1)
    assert rows.vectors is not None
    unit = rows.vectors[drawn] / np.linalg.norm(rows.vectors[drawn], axis=1, keepdims=True)
    expected = [IDS[drawn[i]] for i in np.argsort(-unit[:, :2].max(axis=1))[:8]]
    assert picked == expected
