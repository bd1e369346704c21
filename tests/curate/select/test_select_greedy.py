from __future__ import annotations

import itertools
from functools import partial

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tamis
from curate.contract.errors import ContractError, DataError, MethodError
from curate.rows import constraints
from curate.rows.pool import Picks, Pool
from curate.select import dpp, facility_location, graph_cut, herding, mig, novel_select, qdit, rds

EVERY = {
    "graph_cut": graph_cut.select,
    "graph_cut spread": partial(graph_cut.select, lambda_=20.0),
    "qdit": partial(qdit.select, score="quality"),
    "herding": herding.select,
    "dpp": dpp.select,
    "mig": partial(mig.select, labels="tags", score="quality"),
    "novel_select": novel_select.select,
    "novel_select of few ranks": partial(novel_select.select, ranks=3),
    "rds": partial(rds.select, target={"source": "target"}),
    "rds max": partial(rds.select, target={"source": "target"}, how="max"),
    "rds mean": partial(rds.select, target={"source": "target"}, how="mean"),
}
every = pytest.mark.parametrize("name", EVERY)


def pool_of(vectors: np.ndarray, targets: int = 0, seed: int = 0) -> Pool:
    """Rows with sources, a score of quality, tags (lists) and one cluster each; the last ``targets`` rows are a source
    apart."""
    n, rng = len(vectors), np.random.default_rng(seed)
    tags = [sorted(set(rng.choice(list("pqrstu"), size=rng.integers(0, 4)).tolist())) for _ in range(n)]
    table = pl.DataFrame(
        {
            "id": [f"id{i:04d}" for i in range(n)],
            "source": ["target" if i >= n - targets else "abc"[i % 3] for i in range(n)],
            "quality": pl.Series(rng.uniform(1, 5, n), dtype=pl.Float64),
            "tags": pl.Series(tags, dtype=pl.List(pl.String)),
            "cluster": pl.Series(rng.integers(-1, 4, n), dtype=pl.Int32),
        }
    )
    return Pool(table, vectors.astype(np.float32))


def random_pool(n: int = 60, d: int = 8, seed: int = 0, targets: int = 6) -> Pool:
    return pool_of(np.random.default_rng(seed).normal(size=(n, d)), targets, seed)


def units(pool: Pool) -> np.ndarray:
    assert pool.vectors is not None
    vectors = pool.vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(length > 0, length, 1)


def greedy_by_hand(gain_of, rows: int, budget: int, tie: float) -> tuple[list[int], list[float]]:
    """gain_of(picks, row): the plain greedy rule; gains within ``tie`` of the best go to the lowest index."""
    picks: list[int] = []
    gains = []
    while len(picks) < budget:
        gain = np.array([-np.inf if row in picks else gain_of(picks, row) for row in range(rows)])
        row = int(np.argmax(gain >= gain.max() - tie))
        picks.append(row)
        gains.append(gain[row])
    return picks, gains


def reaches_its_share(value, picks: Picks, rows: int) -> None:
    """Whether the picks have 1 - 1/e of the best value of any choice of as many rows, and the certificate holds."""
    budget = len(picks.index)
    best = max(value(list(picks)) for picks in itertools.combinations(range(rows), budget))
    mine = value(picks.index.tolist())
    assert (1 - 1 / np.e) * best <= mine <= best + 1e-6
    assert picks.facts["certificate"]["value"] == pytest.approx(mine, rel=1e-4)
    assert picks.facts["certificate"]["upper_bound"] >= best * (1 - 1e-5)


# every selector


@every
def test_every_selector_gives_exactly_its_budget_of_different_rows(name):
    pool = random_pool()
    most = 54 if name.startswith("rds") else 60
    for budget in (0, 1, 2, 17, most):
        picks = EVERY[name](pool, budget, seed=1)
        assert picks.index.dtype == np.int64 and picks.gain.dtype == np.float32
        assert len(picks.index) == len(picks.gain) == len(set(picks.index.tolist())) == budget


@every
def test_the_order_of_the_pool_changes_nothing(name):
    pool = random_pool()
    shuffled = pool.take(np.random.default_rng(5).permutation(len(pool)))
    first, second = EVERY[name](pool, 30, seed=3), EVERY[name](shuffled, 30, seed=3)
    assert [pool.ids[row] for row in first.index] == [shuffled.ids[row] for row in second.index]
    np.testing.assert_array_equal(first.gain, second.gain)


@every
def test_every_prefix_of_a_selection_is_the_smaller_selection(name):
    pool = random_pool()
    whole = EVERY[name](pool, 54, seed=2)
    for budget in (1, 5, 33):
        part = EVERY[name](pool, budget, seed=2)
        assert part.index.tolist() == whole.index[:budget].tolist()
        np.testing.assert_allclose(part.gain, whole.gain[:budget], rtol=1e-6)


@every
def test_an_empty_pool_gives_no_picks(name):
    assert len(EVERY[name](random_pool().take(np.array([], dtype=np.int64)), 0).index) == 0


@every
def test_every_selector_needs_finite_vectors(name):
    pool = random_pool()
    with pytest.raises(ContractError, match="needs vectors; add an `embed` step"):
        EVERY[name](Pool(pool.table), 3)
    assert pool.vectors is not None
    pool.vectors[7, 3] = np.nan
    with pytest.raises(ContractError, match="row 7 of 60 holds NaN or infinity"):
        EVERY[name](pool, 3)


@every
def test_quotas_caps_and_rows_that_must_be_in_are_obeyed(name):
    pool = random_pool()
    wanted = constraints.build(
        name,
        pool,
        20,
        quotas={"source": {"a": 9, "b": 3}},
        at_most={"cluster": 6},
        must_have=["id0004", "id0009"],
        must_not_have=["id0000"],
    )
    picks = EVERY[name](pool, 20, constraints=wanted)
    constraints.check(name, wanted, picks.index, "its file")
    chosen = pool.table[picks.index.tolist()]
    assert len(chosen) == chosen["id"].n_unique() == 20
    assert (chosen["source"] == "a").sum() == 9 and (chosen["source"] == "b").sum() == 3
    assert chosen.filter(pl.col("cluster") >= 0)["cluster"].value_counts()["count"].max() <= 6
    assert set(chosen["id"][:2]) == {"id0004", "id0009"} and "id0000" not in chosen["id"]


@every
def test_a_budget_of_tokens_is_not_exceeded(name):
    pool = random_pool()
    table = pool.table.with_columns(prompt=pl.lit("a word or two"), response=pl.lit("x"))
    pool = Pool(table, pool.vectors)
    wanted = constraints.build(name, pool, {"tokens": 52, "tokenizer": "words"})
    picks = EVERY[name](pool, wanted.budget, constraints=wanted)
    assert len(picks.index) == 10  # of 5 words each


@pytest.mark.parametrize("name", [name for name in EVERY if name != "qdit"])
def test_the_weight_of_a_score_of_quality_leads_to_the_top_of_the_score(name):
    pool = random_pool()
    wanted = constraints.build(name, pool, 10, quality={"quality": 1.0})
    open_rows = 54 if name.startswith("rds") else 60
    top = np.argsort(-pool.table["quality"].to_numpy()[:open_rows], kind="stable")[:10]
    picked = EVERY[name](pool, 10, constraints=wanted).index
    if name.startswith("novel_select"):  # the first is drawn
        assert set(picked[1:].tolist()) <= set(top.tolist())
    else:
        assert picked.tolist() == top.tolist()


@every
def test_copies_and_zeros_are_defined_and_ties_go_by_id(name):
    rng = np.random.default_rng(1)
    vectors = np.repeat(rng.normal(size=(11, 4)), 3, axis=0)
    vectors[[0, 15]] = 0
    pool = pool_of(vectors, targets=3)
    same = pool.table.with_columns(quality=pl.lit(2.0), tags=pl.Series([["p"]] * 33))
    pool = Pool(same, pool.vectors)
    picks = EVERY[name](pool, 30)
    assert len(set(picks.index.tolist())) == 30 and np.isfinite(picks.gain[1:]).all()
    place = {row: at for at, row in enumerate(picks.index.tolist())}
    drawn = int(picks.index[0]) if name.startswith("novel") else -1
    for one in range(1, 10):
        copies = [row for row in range(3 * one, 3 * one + 3) if row not in (0, 15, drawn) and row in place]
        assert copies == sorted(copies, key=place.__getitem__), name


def test_rows_of_zeros_come_last_where_they_add_nothing():
    vectors = np.random.default_rng(2).normal(size=(20, 3))
    vectors[[4, 11]] = 0
    picks = dpp.select(pool_of(vectors), 20)
    assert picks.index[-2:].tolist() == [4, 11] and picks.gain[-2:].tolist() == [0, 0]


# graph_cut


def cut(pool: Pool, weight: float, picks: list[int]) -> float:
    likeness = (1 + units(pool) @ units(pool).T) / 2
    return float(likeness[:, picks].sum() - weight * likeness[np.ix_(picks, picks)].sum())


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.5, 12.0])
def test_graph_cut_makes_the_picks_of_the_naive_greedy(weight):
    pool = random_pool(40, 5)
    picks = graph_cut.select(pool, 40, lambda_=weight)
    tie = 1e-5 * max(1, 2 * weight)
    expected, gains = greedy_by_hand(
        lambda chosen, row: cut(pool, weight, [*chosen, row]) - cut(pool, weight, chosen), 40, 40, tie
    )
    assert picks.index.tolist() == expected
    np.testing.assert_allclose(picks.gain, gains, atol=1e-3)


def test_the_gains_of_graph_cut_add_up_to_its_objective_and_fall():
    pool = random_pool(300, 6)
    picks = graph_cut.select(pool, 200, lambda_=0.5)
    assert picks.gain.sum(dtype=np.float64) == pytest.approx(cut(pool, 0.5, picks.index.tolist()), rel=1e-5)
    assert (np.diff(picks.gain) <= 1e-3).all() and (picks.gain >= 0).all()


@pytest.mark.parametrize("weight", [0.2, 0.5])
def test_graph_cut_reaches_the_guaranteed_part_of_the_best_value(weight):
    for seed in range(3):
        pool = random_pool(12, 3, seed)
        reaches_its_share(
            lambda picks, pool=pool: cut(pool, weight, picks), graph_cut.select(pool, 4, lambda_=weight), 12
        )


def test_a_larger_lambda_spreads_the_picks_and_has_no_certificate():
    pool = random_pool(200, 6)
    tight, spread = (graph_cut.select(pool, 20, lambda_=weight) for weight in (0.5, 5.0))
    likeness = units(pool) @ units(pool).T
    assert likeness[np.ix_(spread.index, spread.index)].mean() < likeness[np.ix_(tight.index, tight.index)].mean() - 0.2
    assert "certificate" in tight.facts and "certificate" not in spread.facts


@pytest.mark.parametrize("weight", [-0.1, np.nan, np.inf])
def test_graph_cut_refuses_a_lambda_that_is_no_weight(weight):
    with pytest.raises(MethodError, match=r"select graph_cut: lambda is .*; it is 0 or more"):
        graph_cut.select(random_pool(), 3, lambda_=weight)


# qdit


def test_qdit_at_0_is_facility_location_and_at_1_the_top_of_the_score():
    pool = random_pool(80, 5)
    assert (
        qdit.select(pool, 30, score="quality", alpha=0).index.tolist()
        == facility_location.select(pool, 30).index.tolist()
    )
    top = np.argsort(-pool.table["quality"].to_numpy(), kind="stable")[:30]
    assert qdit.select(pool, 30, score="quality", alpha=1).index.tolist() == top.tolist()


@pytest.mark.parametrize("alpha", [0.2, 0.7])
def test_qdit_makes_the_picks_of_the_published_rule_with_both_terms_on_one_scale(alpha):
    pool = random_pool(40, 4, seed=3)
    similarity = np.maximum(units(pool) @ units(pool).T, 0)
    score = pool.table["quality"].to_numpy()
    score = (score - score.min()) / (score.max() - score.min())
    first = similarity.sum(axis=0).max()

    def gain(chosen: list[int], row: int) -> float:
        covered = similarity[:, chosen].max(axis=1) if chosen else np.zeros(40)
        more = np.maximum(similarity[:, row] - covered, 0).sum()
        return (1 - alpha) * more / first + alpha * score[row]

    picks = qdit.select(pool, 20, score="quality", alpha=alpha)
    expected, gains = greedy_by_hand(gain, 40, 20, 1e-7)
    assert picks.index.tolist() == expected
    np.testing.assert_allclose(picks.gain, gains, atol=1e-5)
    assert 0 < picks.facts["certificate"]["ratio"] <= 1


def test_the_scale_of_a_score_does_not_count_and_a_score_that_is_the_same_for_all_does_nothing():
    pool = random_pool()
    larger = Pool(pool.table.with_columns(pl.col("quality") * 1000 - 7), pool.vectors)
    flat = Pool(pool.table.with_columns(quality=pl.lit(3)), pool.vectors)
    assert (
        qdit.select(larger, 20, score="quality").index.tolist() == qdit.select(pool, 20, score="quality").index.tolist()
    )
    assert qdit.select(flat, 20, score="quality").index.tolist() == facility_location.select(pool, 20).index.tolist()


def test_qdit_says_what_is_wrong_with_its_options():
    pool = random_pool()
    with pytest.raises(MethodError, match=r"alpha is 1.5; it lies between 0"):
        qdit.select(pool, 3, score="quality", alpha=1.5)
    with pytest.raises(ContractError, match="the column `source` holds String, and should hold numbers"):
        qdit.select(pool, 3, score="source")
    wanted = constraints.build("qdit", pool, 3, quality={"quality": 0.5})
    with pytest.raises(MethodError, match="it weighs its own score; write that as `score` and `alpha`"):
        qdit.select(pool, 3, score="quality", constraints=wanted)


# herding


def herding_as_published(vectors: np.ndarray, budget: int) -> tuple[list[int], list[float]]:
    mean = vectors.mean(axis=0)
    weights, picks, gains = mean.copy(), [], []
    for _ in range(budget):
        score = vectors @ weights
        score[picks] = -np.inf
        picks.append(int((score >= score.max() - 1e-5).argmax()))
        gains.append(score[picks[-1]])
        weights += mean - vectors[picks[-1]]
    return picks, gains


@pytest.mark.parametrize(("n", "d"), [(60, 4), (300, 16)])
def test_herding_makes_the_picks_of_the_published_rule(n, d):
    pool = random_pool(n, d)
    picks = herding.select(pool, n)
    expected, gains = herding_as_published(units(pool), n)
    assert picks.index.tolist() == expected
    np.testing.assert_allclose(picks.gain, gains, atol=1e-4)


def test_herding_comes_nearer_to_the_mean_than_random_rows_do():
    pool = random_pool(400, 10)
    near = herding.select(pool, 40).facts["distance_to_mean"]
    rng, vectors = np.random.default_rng(0), units(pool)
    random = [
        np.linalg.norm(vectors[rng.choice(400, 40, replace=False)].mean(axis=0) - vectors.mean(axis=0))
        for _ in range(200)
    ]
    assert near < 0.25 * min(random)
    assert herding.select(pool, 400).facts["distance_to_mean"] == pytest.approx(0, abs=1e-6)


# dpp


def log_volume(pool: Pool, ridge: float, picks: list[int]) -> float:
    gram = units(pool)[picks] @ units(pool)[picks].T
    return float(np.linalg.slogdet(np.eye(len(picks)) + gram / ridge)[1])


@pytest.mark.parametrize(("n", "d", "ridge"), [(60, 8, 0.01), (60, 80, 0.01), (40, 3, 0.5), (50, 6, 1e-3)])
def test_dpp_makes_the_picks_of_the_greedy_by_determinants(n, d, ridge):
    pool = random_pool(n, d, seed=n)
    kernel = units(pool) @ units(pool).T + ridge * np.eye(n)

    def gain(chosen: list[int], row: int) -> float:
        rows = [*chosen, row]
        before = np.linalg.slogdet(kernel[np.ix_(chosen, chosen)])[1] if chosen else 0.0
        return np.linalg.slogdet(kernel[np.ix_(rows, rows)])[1] - before

    picks = dpp.select(pool, n, ridge=ridge)
    expected, gains = greedy_by_hand(gain, n, n, 5e-7 / ridge)
    assert picks.index.tolist() == expected
    np.testing.assert_allclose(picks.gain, np.array(gains) - np.log(ridge), atol=1e-3)


def test_the_gains_of_dpp_stay_right_far_beyond_the_dimensions_of_the_vectors():
    pool = random_pool(2200, 24)
    picks = dpp.select(pool, 2000, ridge=1e-3)
    vectors = units(pool)
    for at in (0, 1, 23, 24, 25, 500, 1999):
        earlier = vectors[picks.index[:at]]
        inverse = np.linalg.inv(np.eye(24) + earlier.T @ earlier / 1e-3)
        left = np.einsum("ij,jk,ik->i", vectors, inverse, vectors)
        left[picks.index[:at]] = -np.inf
        assert picks.gain[at] == pytest.approx(np.log1p(left[picks.index[at]] / 1e-3), abs=1e-3)
        assert np.log1p(left[picks.index[at]] / 1e-3) >= np.log1p(left.max() / 1e-3) - 1e-3
    chosen = vectors[picks.index]
    total = np.linalg.slogdet(np.eye(24) + chosen.T @ chosen / 1e-3)[1]
    assert picks.gain.sum(dtype=np.float64) == pytest.approx(total, rel=1e-4)


def test_dpp_does_not_depend_on_how_many_rows_are_looked_at_a_time(monkeypatch):
    pool = random_pool(200, 16)
    whole = dpp.select(pool, 150, ridge=0.1)
    monkeypatch.setattr(dpp, "_LOOK", 3)
    part = dpp.select(pool, 150, ridge=0.1)
    assert part.index.tolist() == whole.index.tolist()
    np.testing.assert_allclose(part.gain, whole.gain, atol=1e-5)


def test_dpp_reaches_the_guaranteed_part_of_the_best_value():
    for seed in range(3):
        pool = random_pool(12, 3, seed)
        reaches_its_share(lambda picks, pool=pool: log_volume(pool, 0.1, picks), dpp.select(pool, 5, ridge=0.1), 12)


def test_the_first_picks_of_dpp_span_all_directions():
    vectors = np.repeat(np.eye(5), 4, axis=0)
    assert sorted(row // 4 for row in dpp.select(pool_of(vectors), 5).index) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("ridge", [0, 1e-5, np.nan])
def test_dpp_refuses_a_ridge_that_rounding_would_drown(ridge):
    with pytest.raises(MethodError, match=r"select dpp: ridge is .*; it is 0.0001 or more"):
        dpp.select(random_pool(), 3, ridge=ridge)


# mig


def information_by_hand(pool: Pool, column: str, score: str | None, similarity: float):
    """(V P, names): as in the paper's code, dense, with the label vectors that the docstring says."""
    labels = [
        [] if value is None else [str(one) for one in (value if isinstance(value, list) else [value])]
        for value in pool.table[column].to_list()
    ]
    names = sorted({name for one in labels for name in one if name != "-1"})
    vectors, has = units(pool), np.array([[name in one for name in names] for one in labels])
    weight = np.ones(len(pool)) if score is None else pool.table[score].to_numpy()
    weighted = has * weight[:, None] / np.maximum(has.sum(axis=1, keepdims=True), 1)
    means = np.array([vectors[has[:, one]].mean(axis=0) for one in range(len(names))]) - vectors.mean(axis=0)
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    near = means @ means.T
    near = np.where(near >= similarity, near, 0)
    return weighted @ (near / near.sum(axis=0)), names


def information(reached: np.ndarray, picks: list[int]) -> float:
    held = reached[picks].sum(axis=0) if picks else np.zeros(reached.shape[1])
    return float((((held + 1e-6) ** 0.8) - 1e-6**0.8).sum())


@pytest.mark.parametrize(
    ("column", "score", "similarity"), [("tags", "quality", 0.3), ("tags", None, 0.9), ("cluster", "quality", 0.1)]
)
def test_mig_makes_the_picks_of_the_naive_greedy_on_a_dense_graph(column, score, similarity):
    pool = random_pool(40, 3)
    picks = mig.select(pool, 40, labels=column, score=score, similarity=similarity)
    reached, names = information_by_hand(pool, column, score, similarity)
    expected, gains = greedy_by_hand(
        lambda chosen, row: information(reached, [*chosen, row]) - information(reached, chosen), 40, 40, 1e-9
    )
    assert picks.index.tolist() == expected
    np.testing.assert_allclose(picks.gain, gains, atol=1e-5)
    assert picks.facts["labels"] == len(names)


def test_mig_reaches_the_guaranteed_part_of_the_best_value():
    for seed in range(3):
        pool = random_pool(12, 3, seed)
        reached, _ = information_by_hand(pool, "tags", "quality", 0.5)
        chosen = mig.select(pool, 4, labels="tags", score="quality", similarity=0.5)
        reaches_its_share(lambda picks, reached=reached: information(reached, picks), chosen, 12)


def test_mig_deals_the_budget_out_over_labels_and_rows_without_one_come_last():
    pool = random_pool(60, 8)
    picks = mig.select(pool, 60, labels="cluster", similarity=1.0)
    cluster = pool.table["cluster"].to_numpy()[picks.index]
    assert all(sorted(cluster[at : at + 4].tolist()) == [0, 1, 2, 3] for at in range(0, 20, 4))
    none = int((cluster == -1).sum())
    assert none > 2 and (cluster[-none:] == -1).all() and (picks.gain[-none:] == 0).all()
    assert (np.diff(picks.index[-none:]) > 0).all()


def test_a_label_of_all_rows_still_counts_less_the_more_it_has():
    pool = random_pool(10, 3)
    pool = Pool(pool.table.with_columns(topic=pl.lit("all")), pool.vectors)
    picks = mig.select(pool, 10, labels="topic")
    assert picks.index.tolist() == list(range(10))
    held = (np.arange(11) + 1e-6) ** 0.8
    np.testing.assert_allclose(picks.gain, np.diff(held), rtol=1e-5)


def test_labels_that_are_alike_share_what_they_have():
    vectors = np.array([[1, 0], [1, 0.01], [1, -0.01], [0, 1]])
    pool = pool_of(vectors)
    pool = Pool(pool.table.with_columns(topic=pl.Series(["sport", "sports", "football", "law"])), pool.vectors)
    assert mig.select(pool, 2, labels="topic").index.tolist()[1] == 3
    assert mig.select(pool, 2, labels="topic").facts["edges"] == 3


def test_mig_says_what_is_wrong_with_its_options():
    pool = random_pool()
    with pytest.raises(ContractError, match="the column `quality` holds Float64; labels are text or whole numbers"):
        mig.select(pool, 3, labels="quality")
    with pytest.raises(ContractError, match="select mig needs the column `topic`"):
        mig.select(pool, 3, labels="topic")
    with pytest.raises(MethodError, match="similarity is 0; it is a cosine above 0"):
        mig.select(pool, 3, labels="tags", similarity=0)
    below = Pool(pool.table.with_columns(pl.col("quality") - 3), pool.vectors)
    with pytest.raises(DataError, match=r"the score `quality` of row id.* is below 0"):
        mig.select(below, 3, labels="tags", score="quality")


# novel_select


def novelty_by_hand(pool: Pool, first: int, budget: int, density_power: float = 0.5, distance_power: float = 1.0):
    vectors = units(pool)
    cosine = vectors @ vectors.T
    others = np.sort(2 - 2 * np.where(cosine > 1 - 5e-7, -np.inf, cosine), axis=1)[:, :10]
    density = (1 / others.mean(axis=1)) ** density_power
    density /= density.mean()
    picks, gains = [first], [np.nan]
    while len(picks) < budget:
        novelty = np.empty(len(pool))
        for row in range(len(pool)):
            far = 1 - cosine[row, picks]
            weight = np.empty(len(picks))
            weight[np.argsort(far, kind="stable")] = np.arange(1.0, len(picks) + 1) ** -distance_power
            novelty[row] = (weight * density[picks] * far).sum() / weight.sum()
        novelty[picks] = -np.inf
        picks.append(int((novelty >= novelty.max() - 1e-6).argmax()))
        gains.append(novelty[picks[-1]])
    return picks, gains


@pytest.mark.parametrize("powers", [(0.5, 1.0), (0.0, 2.0), (1.0, 0.0)])
def test_novel_select_makes_the_picks_of_the_naive_rule(powers):
    pool = random_pool(80, 6, seed=4)
    picks = novel_select.select(pool, 60, seed=1, density_power=powers[0], distance_power=powers[1])
    expected, gains = novelty_by_hand(pool, int(picks.index[0]), 60, *powers)
    assert picks.index.tolist() == expected
    np.testing.assert_allclose(picks.gain, gains, atol=1e-5)


def test_picks_at_the_same_distance_rank_in_the_order_of_picking():
    rng = np.random.default_rng(3)
    vectors = np.zeros((24, 4))
    vectors[:12, :2], vectors[12:, 2:] = (
        rng.normal(size=(12, 2)),
        rng.normal(size=(12, 2)),
    )  # half is at 1 from the other half
    pool = pool_of(vectors)
    for seed in range(5):
        picks = novel_select.select(pool, 24, seed=seed, density_power=1.0)
        expected, gains = novelty_by_hand(pool, int(picks.index[0]), 24, 1.0)
        assert picks.index.tolist() == expected
        np.testing.assert_allclose(picks.gain, gains, atol=1e-4)


def test_few_ranks_are_exact_up_to_one_pick_more_and_near_after_that():
    pool = random_pool(300, 8, seed=4)
    whole, few = (novel_select.select(pool, 100, ranks=ranks) for ranks in (300, 20))
    assert few.index[:22].tolist() == whole.index[:22].tolist()
    assert len(set(few.index.tolist()) & set(whole.index.tolist())) > 80


def test_the_first_pick_of_novel_select_is_drawn_and_each_row_comes():
    pool = random_pool(8, 3)
    first = [int(novel_select.select(pool, 1, seed=seed).index[0]) for seed in range(400)]
    counts = np.bincount(first, minlength=8)
    assert ((counts - 50) ** 2 / 50).sum() < 24.3  # chi-square, 7 degrees, 1 in 1,000


def test_novel_select_is_the_same_in_small_blocks(monkeypatch):
    pool = random_pool(100, 5)
    whole = novel_select.select(pool, 70, ranks=9)
    monkeypatch.setattr(novel_select, "_BLOCK", 7)
    np.testing.assert_array_equal(novel_select.select(pool, 70, ranks=9).index, whole.index)


@pytest.mark.parametrize("wrong", [{"ranks": 0}, {"density_power": -1.0}, {"distance_power": np.nan}])
def test_novel_select_says_what_is_wrong_with_its_options(wrong):
    with pytest.raises(MethodError, match=f"select novel_select: {next(iter(wrong))} is "):
        novel_select.select(random_pool(), 3, **wrong)


# rds


def in_turn_by_hand(cosine: np.ndarray, budget: int) -> tuple[list[int], list[float]]:
    """cosine (queries, rows)."""
    picks: list[int] = []
    gains = []
    for query in itertools.cycle(range(len(cosine))):
        if len(picks) == budget:
            return picks, gains
        score = np.round(cosine[query], 6)
        score[picks] = -np.inf
        picks.append(int(score.argmax()))
        gains.append(score[picks[-1]])
    raise AssertionError


@given(st.integers(0, 2**20), st.integers(1, 9), st.integers(1, 40))
@settings(max_examples=40, deadline=None, derandomize=True)  # random cosines may tie within rounding
def test_queries_take_turns_and_each_takes_its_most_similar_row_left(seed, queries, rows):
    pool = random_pool(rows + queries, 3, seed, targets=queries)
    cosine = (units(pool) @ units(pool).T)[rows:, :rows].astype(np.float32)
    picks = rds.select(pool, rows, target={"source": "target"})
    expected, gains = in_turn_by_hand(cosine, rows)
    np.testing.assert_allclose(picks.gain, gains, atol=3e-6)
    assert picks.index.tolist() == expected
    assert picks.facts == {"queries": queries}


def test_the_lists_of_queries_are_made_anew_when_they_are_used_up(monkeypatch):
    vectors = np.random.default_rng(0).normal(size=(300, 4))
    vectors[260:] = vectors[260] + np.random.default_rng(1).normal(0, 0.01, (40, 4))  # all want the same rows
    pool = pool_of(vectors, targets=40)
    monkeypatch.setattr(rds, "_SPARE", 0)
    picks = rds.select(pool, 250, target={"source": "target"})
    cosine = (units(pool) @ units(pool).T)[260:, :260].astype(np.float32)
    expected, gains = in_turn_by_hand(cosine, 250)
    np.testing.assert_allclose(picks.gain, gains, atol=3e-6)
    assert picks.index.tolist() == expected


def test_rows_that_are_equally_similar_are_taken_by_id(monkeypatch):
    monkeypatch.setattr(rds, "_SPARE", 0)
    pool = pool_of(np.ones((100, 3)), targets=2)
    assert rds.select(pool, 7, target={"source": "target"}).index.tolist() == list(range(7))


@pytest.mark.parametrize(("how", "reduce"), [("max", np.max), ("mean", np.mean)])
def test_max_and_mean_rank_by_the_largest_and_the_mean_cosine(how, reduce):
    pool = random_pool(120, 5, targets=40)
    score = reduce((units(pool) @ units(pool).T)[80:, :80], axis=0)
    picks = rds.select(pool, 80, target={"source": "target"}, how=how)
    assert picks.index.tolist() == np.argsort(-np.round(score, 6), kind="stable").tolist()
    np.testing.assert_allclose(picks.gain, np.sort(score)[::-1], atol=2e-6)


def test_rows_of_the_target_are_not_picked_and_several_columns_narrow_it():
    pool = random_pool(60, 4, targets=0)
    target = {"source": ["a", "b"], "cluster": 2}
    mask = (pool.table["source"].is_in(["a", "b"]) & (pool.table["cluster"] == 2)).to_numpy()
    picks = rds.select(pool, 60 - int(mask.sum()), target=target)
    assert not mask[picks.index].any() and picks.facts["queries"] == mask.sum()


def test_rds_says_what_is_wrong_with_its_target():
    pool = random_pool()
    with pytest.raises(DataError, match="names no row of this pool of 60"):
        rds.select(pool, 3, target={"source": "gsm8k"})
    with pytest.raises(MethodError, match="target names no column"):
        rds.select(pool, 3, target={})
    with pytest.raises(ContractError, match="needs the column `origin`"):
        rds.select(pool, 3, target={"origin": "x"})
    with pytest.raises(
        DataError, match="budget of 55 is larger than the pool of 60 rows, 54 of which are left by the target"
    ):
        tamis.select(pool, "rds", budget=55, target={"source": "target"})
    with pytest.raises(DataError, match="the pool of 60 rows, 0 of which are left by the target"):
        tamis.select(pool, "rds", budget=1, target={"source": ["a", "b", "c", "target"]})
    with pytest.raises(DataError, match="row id0059 is in must_have and of the target"):
        tamis.select(pool, "rds", budget=5, target={"source": "target"}, must_have=["id0059"])


def test_the_rows_of_a_target_count_in_no_quota():
    pool = random_pool()
    picks = tamis.select(pool, "rds", budget=9, target={"source": "target"}, quotas={"source": "equal"})
    got = dict(pool.table["source"][picks.index.tolist()].value_counts().iter_rows())
    assert got == {"a": 3, "b": 3, "c": 3}
