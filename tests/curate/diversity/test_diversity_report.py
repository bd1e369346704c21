from __future__ import annotations

import subprocess
import sys
from contextlib import nullcontext

import numpy as np
import polars as pl
import pytest

from curate.contract.errors import ContractError, DataError, MethodError
from curate.diversity import against_random as diversity_report
from curate.diversity.against_random import report, reports
from curate.diversity.family import rows, whole

KEYS = ["name", "about", "better", "value", "random_mean", "random_sd", "z", "percentile", "p"]
WORDS = [
    "red",
    "green",
    "blue",
    "stone",
    "river",
    "cloud",
    "tree",
    "bird",
    "fish",
    "road",
    "light",
    "rain",
    "wind",
    "snow",
    "fire",
]


def pool(n: int = 300, d: int = 12, seed: int = 0) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 6, n)
    vectors = rng.normal(size=(6, d))[group] * 1.5 + rng.normal(size=(n, d))
    table = pl.DataFrame(
        {
            "id": [f"id{i:04d}" for i in rng.permutation(n)],
            "source": rng.choice(["a", "b"], n),
            "task": pl.Series([None] * n, dtype=pl.String),
            "prompt": [
                f"{rng.choice(['Write a', 'Draw a', 'Why a'])} {rng.choice(WORDS)} about "
                + " ".join(rng.choice(WORDS, rng.integers(1, 5)))
                for _ in range(n)
            ],
            "response": [" ".join([f"n{rng.integers(90)}", *rng.choice(WORDS, rng.integers(2, 12))]) for _ in range(n)],
            "cluster": group.astype(np.int32),
        }
    )
    return table, vectors.astype(np.float32) * rng.uniform(0.5, 20, (n, 1)).astype(np.float32)


def z_of(told: dict) -> dict[str, float]:
    return {line["name"]: line["z"] for line in told["measures"]}


def test_every_line_has_the_same_keys_and_plain_values():
    table, vectors = pool()
    lines = report(table, vectors, np.arange(20), subsets=10)["measures"]
    assert all(list(line) == KEYS for line in lines) and len(lines) == 24
    for line in lines:
        assert all(type(line[key]) is float for key in KEYS[3:]), line
        assert 0 <= line["percentile"] <= 100 and line["random_sd"] > 0


def test_z_and_percentile_are_those_of_the_random_subsets(monkeypatch):
    table, vectors = pool()
    monkeypatch.setattr(diversity_report, "_metrics", lambda: [MeanNumber()])
    (told,), chance = reports(table, vectors, [np.arange(5)], 5, subsets=30)
    (line,), number = told["measures"], table["id"].str.slice(2).cast(pl.Int64).to_numpy()
    value, random = number[:5].mean(), np.array([number[subset].mean() for subset, _ in chance])
    assert len(random) == 30 and len(set(random.tolist())) > 20
    assert line["value"] == pytest.approx(value, rel=1e-5) and line["random_mean"] == pytest.approx(
        random.mean(), rel=1e-5
    )
    assert line["z"] == pytest.approx((value - random.mean()) / random.std(ddof=1), abs=1e-3)
    assert line["percentile"] == pytest.approx(100 * ((random < value).mean() + (random == value).mean() / 2), abs=0.1)


class MeanNumber:
    ABOUT = {"number": ("the mean number in the ids", None)}  # noqa: RUF012

    def measure(self, sample) -> dict[str, float]:
        return {"number": float(sample.table["id"].str.slice(2).cast(pl.Int64).mean())}


def test_a_random_subset_looks_like_random_subsets():
    table, vectors = pool()
    scores = {}
    for seed in range(14):
        chosen = np.random.default_rng(seed).permutation(300)[:40]
        for name, z in z_of(report(table, vectors, chosen, subsets=50)).items():
            scores.setdefault(name, []).append(z)
    for name, z in scores.items():
        assert abs(np.mean(z)) < 1 and 0.4 < np.std(z) < 1.8 and np.abs(z).max() < 5, name


def test_near_copies_are_less_diverse_in_every_measure_of_vectors_and_texts():
    table, vectors = pool()
    rng = np.random.default_rng(9)
    vectors[:30] = vectors[0] + rng.normal(0, 1e-3, (30, 12))
    same = table.row(0, named=True)
    table = table.with_columns(
        pl.when(pl.int_range(pl.len()) < 30).then(pl.lit(same[name])).otherwise(pl.col(name)).alias(name)
        for name in ("prompt", "response", "source", "cluster")
    )
    told = report(table, vectors, np.arange(30), subsets=40)
    for line in told["measures"]:
        if line["better"] is not None:
            worse = line["z"] < 0 if line["better"] == "higher" else line["z"] > 0
            assert worse, line
    z = z_of(told)
    assert z["vendi_1"] < -5 and z["remote_clique"] < -5 and z["pool_similarity"] < -5 and z["log_det_distance"] > 5
    assert z["distinct_2"] < -5 and z["compression_ratio"] > 5 and z["cluster_entropy"] < -5
    verdicts = {row["measure"]: row["than random"] for row in rows(told)}
    assert verdicts["vendi_1"] == verdicts["coverage_radius"] == verdicts["compression_ratio"] == "less diverse"


def test_rows_far_apart_are_more_diverse():
    table, vectors = pool()
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    chosen = [0]
    while len(chosen) < 12:
        chosen.append(int((unit @ unit[chosen].T).max(axis=1).argmin()))
    z = z_of(report(table, vectors, np.array(chosen), subsets=40))
    assert z["vendi_1"] > 3 and z["remote_edge"] > 3 and z["coverage_radius"] < -2 and z["log_det_distance"] < -1


def test_the_order_of_the_pool_and_of_the_choice_changes_nothing():
    table, vectors = pool()
    chosen = np.arange(7, 47)
    first = report(table, vectors, chosen, subsets=6)
    order = np.random.default_rng(1).permutation(300)
    place = np.argsort(order)
    again = report(table[order], vectors[order], place[chosen][::-1], subsets=6)
    assert first == again


def test_the_seed_draws_other_subsets_and_leaves_the_value():
    table, vectors = pool()
    first, other = (report(table, vectors, np.arange(20), seed=seed, subsets=6) for seed in (0, 1))
    assert [line["value"] for line in first["measures"]] == [line["value"] for line in other["measures"]]
    assert [line["random_mean"] for line in first["measures"]] != [line["random_mean"] for line in other["measures"]]


def test_more_subsets_begin_with_the_same_ones():
    ids = pool()[0]["id"].sort()
    few, many = (list(diversity_report._random(ids, 20, subsets, 0)) for subsets in (3, 8))
    assert len(few) == 3 and len(many) == 8
    for a, b in zip(few, many, strict=False):
        np.testing.assert_array_equal(a, b)
    assert all(len(set(subset.tolist())) == 20 for subset in many)
    assert len({tuple(subset.tolist()) for subset in many}) == 8


def test_what_does_not_apply_is_left_out():
    table, vectors = pool()
    names = z_of(report(table, vectors, np.arange(20), subsets=4))
    assert "task_entropy" not in names and "template_entropy" not in names and "cluster_entropy" in names
    names = z_of(report(table, None, np.arange(20), subsets=4))
    assert "vendi_1" not in names and "novelsum" not in names and "distinct_1" in names
    names = z_of(report(table.select("id"), vectors, np.arange(20), subsets=4))
    assert "vendi_1" in names and "distinct_1" not in names and "prompt_words" not in names


def test_where_all_subsets_are_alike_there_is_no_z():
    table, vectors = pool()
    told = report(table, vectors, np.arange(300), subsets=40)
    for line in told["measures"]:
        assert line["z"] is None and line["p"] is None and line["random_sd"] == 0 and line["percentile"] == 50
    assert told["p"] is None and told["largest"] is None and whole(told) == ""
    assert all(row["than random"] == "" for row in rows(told))


def test_of_a_large_pool_a_part_drawn_by_hash_stands_for_it(monkeypatch):
    table, vectors = pool()
    whole = {line["name"]: line["value"] for line in report(table, vectors, np.arange(30), subsets=4)["measures"]}
    monkeypatch.setattr(diversity_report, "POOL_ROWS", 100)
    part = {line["name"]: line["value"] for line in report(table, vectors, np.arange(30), subsets=4)["measures"]}
    assert part["coverage_radius"] <= whole["coverage_radius"]
    assert part["pool_similarity"] == pytest.approx(whole["pool_similarity"], abs=0.05)
    assert part["pool_similarity"] != whole["pool_similarity"] and part["vendi_1"] == whole["vendi_1"]


def test_half_precision_vectors_of_a_file_will_do(tmp_path):
    table, vectors = pool()
    np.save(tmp_path / "vectors.npy", vectors.astype(np.float16))
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    full, half = report(table, vectors, np.arange(20), subsets=4), report(table, mapped, np.arange(20), subsets=4)
    for line, other in zip(full["measures"], half["measures"], strict=True):
        assert line["value"] == pytest.approx(other["value"], rel=0.01, abs=0.01)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ([], "needs one or more row numbers"),
        ([0.5], "needs one or more row numbers, and was given float64"),
        ([[1, 2]], r"of shape \(1, 2\)"),
        ([3, 300], "was given row 300 of a pool of 300; rows go from 0 to 299"),
        ([-1, 3], "was given row -1"),
        ([3, 3], "a row twice"),
    ],
)
def test_a_choice_that_cannot_be_is_one_sentence(chosen, message):
    with pytest.raises(DataError, match=message):
        report(*pool(), np.array(chosen))


def test_bad_tables_vectors_and_options_are_one_sentence():
    table, vectors = pool()
    with pytest.raises(ContractError, match="needs the column `id`; there are: cluster, prompt"):
        report(table.drop("id"), vectors, np.arange(3))
    with pytest.raises(ContractError, match="299 vectors for 300 rows"):
        report(table, vectors[1:], np.arange(3))
    vectors[5, 2] = np.nan
    with pytest.raises(ContractError, match="row 5 of 300 holds NaN"):
        report(table, vectors, np.arange(3))
    with pytest.raises(MethodError, match="subsets 1 should be 2 or more; 100 is usual"):
        report(table, None, np.arange(3), subsets=1)


def test_a_large_selection_is_held_against_fewer_random_subsets(monkeypatch):
    table, _ = pool()
    assert report(table, None, np.arange(5))["subsets"] == 100
    monkeypatch.setattr(diversity_report, "_LARGE", 20)
    assert report(table, None, np.arange(20))["subsets"] == 100
    assert report(table, None, np.arange(21))["subsets"] == 39
    assert report(table, None, np.arange(21), subsets=7)["subsets"] == 7


def test_the_number_of_threads_changes_nothing(monkeypatch):
    table, vectors = pool()
    told = []
    for threads in (1, 3):
        monkeypatch.setattr(diversity_report, "one_thread", lambda threads=threads: nullcontext(threads))
        told.append(report(table, vectors, np.arange(30), subsets=12))
    assert told[0] == told[1]


def test_a_measure_that_fails_in_a_thread_is_the_error_of_the_report(monkeypatch):
    class Broken(MeanNumber):
        def measure(self, sample):
            raise MethodError("no such thing")

    monkeypatch.setattr(diversity_report, "_metrics", lambda: [Broken()])
    with pytest.raises(MethodError, match="no such thing"):
        report(*pool(), np.arange(5), subsets=30)


def test_importing_the_report_loads_nothing_heavy():
    code = "import sys, curate.diversity.against_random as d; d._metrics(); print({'torch', 'sklearn', 'scipy', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
