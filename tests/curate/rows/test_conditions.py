"""Arms under levels of factors, what they may pick from, and the evaluation sets."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from curate.contract.errors import DataError
from curate.rows import evaluation
from curate.rows.conditions import conditions, named, restricted

FACTORS = {
    "objective": named("objective", ["response_only", "instruction_modelling"]),
    "tuning": named("tuning", {"full": "full", "small": {"lora": {"rank": 2}}}),
    "learning_rate": named("learning_rate", [1e-4, 1e-3]),
}


def test_without_factors_a_condition_is_its_arm() -> None:
    assert [(c.label, c.levels) for c in conditions(["random", "fl"], {}, [])] == [("random", {}), ("fl", {})]


def test_factors_vary_one_at_a_time_and_the_first_levels_are_not_named() -> None:
    labels = [c.label for c in conditions(["random"], FACTORS, [])]
    assert labels == [
        "random",
        "random/objective=instruction_modelling",
        "random/small",
        "random/learning_rate=0.001",
    ]


def test_crossed_factors_vary_together_and_all_of_them_where_all_is_said() -> None:
    two = conditions(["a"], FACTORS, [["objective", "tuning"]])
    assert len(two) == 4 + 1 and "a/objective=instruction_modelling/small" in {c.label for c in two}
    every = conditions(["a", "b"], FACTORS, "all")
    assert len(every) == 2 * 8 == len({c.label for c in every})
    last = next(c for c in every if c.label == "b/objective=instruction_modelling/small/learning_rate=0.001")
    assert last.values == {"objective": "instruction_modelling", "tuning": {"lora": {"rank": 2}}, "learning_rate": 1e-3}


def pool() -> pl.DataFrame:
    n = 120
    return pl.DataFrame(
        {
            "id": [f"r{i:03d}" for i in range(n)],
            "task_cluster": [f"c{i % 6}" for i in range(n)],
            "source": ["a" if i % 4 else "b" for i in range(n)],
            "score": [float(i) for i in range(n)],
        }
    )


def test_fewer_clusters_of_tasks_are_part_of_more() -> None:
    kept = [set(restricted(pool(), {"task_clusters": k}, 1).tolist()) for k in (1, 3, 6)]
    assert [len(one) for one in kept] == [20, 60, 120] and kept[0] < kept[1] < kept[2]
    with pytest.raises(DataError, match="task_clusters is 7, and the pool has 6"):
        restricted(pool(), {"task_clusters": 7}, 1)


@pytest.mark.parametrize(("share", "high"), [(1.0, 60), (0.5, 30), (0.0, 0)])
def test_a_share_of_quality_is_a_share_of_the_better_half(share: float, high: int) -> None:
    kept = restricted(pool(), {"quality": {"by": "score", "share": share}}, 1)
    assert len(kept) == 60 and (kept >= 60).sum() == high
    with pytest.raises(DataError, match="there is no column stars"):
        restricted(pool(), {"quality": {"by": "stars", "share": share}}, 1)


def test_a_mixture_has_the_shares_of_its_weights_and_is_as_large_as_it_can_be() -> None:
    kept = pool()[restricted(pool(), {"mix": {"a": 1, "b": 1}}, 1).tolist()]
    assert dict(kept["source"].value_counts().iter_rows()) == {"a": 30, "b": 30}
    with pytest.raises(DataError, match="there is no source c; there are a, b"):
        restricted(pool(), {"mix": {"a": 1, "c": 1}}, 1)


def test_restrictions_do_not_depend_on_the_order_of_the_pool() -> None:
    other = pool().reverse()
    for values in ({"task_clusters": 2}, {"quality": {"by": "score", "share": 0.3}}, {"mix": {"a": 2, "b": 1}}):
        one = set(pool()["id"].gather(restricted(pool(), values, 1).tolist()))
        assert one == set(other["id"].gather(restricted(other, values, 1).tolist()))


SET = {"where": {}, "over": [], "arms": None, "dev": 0}


def test_dev_rows_are_in_no_evaluation_set() -> None:
    sets = {"all": SET, "b": {**SET, "where": {"source": ["b"]}, "dev": 10}}
    groups, dev = evaluation.groups(pool(), sets, 1)
    ids = pool()["id"].to_list()
    assert len(dev["b"]) == 10 and {pool()["source"][ids.index(i)] for i in dev["b"]} == {"b"}
    assert sum(g is not None for g in groups["all"]) == 110 and sum(g is not None for g in groups["b"]) == 20
    assert all(groups["all"][ids.index(i)] is None and groups["b"][ids.index(i)] is None for i in dev["b"])


def test_an_average_over_columns_has_a_group_for_each_of_their_values() -> None:
    groups, _ = evaluation.groups(pool(), {"even": {**SET, "over": ["source", "task_cluster"]}}, 1)
    assert set(groups["even"]) == {f"{s} · c{c}" for s in "ab" for c in range(6) if s == "a" or c % 2 == 0}
    assert np.unique(evaluation.groups(pool(), {"all": SET}, 1)[0]["all"]).tolist() == [""]


def test_a_set_without_rows_or_with_nothing_left_to_score_is_refused() -> None:
    with pytest.raises(DataError, match=r"the evaluation set z \(source: \['z'\]\) has no row among the 120 held out"):
        evaluation.groups(pool(), {"z": {**SET, "where": {"source": ["z"]}}}, 1)
    with pytest.raises(DataError, match="has 30 held-out rows and asks for 30 dev rows, which leaves none to score"):
        evaluation.groups(pool(), {"b": {**SET, "where": {"source": ["b"]}, "dev": 30}}, 1)
    with pytest.raises(DataError, match="names the column `colour`, which held-out rows do not have"):
        evaluation.groups(pool(), {"z": {**SET, "where": {"colour": ["red"]}}}, 1)
