"""The comparison of selectors: its numbers are what a brute-force count gives, and no selector goes missing in silence."""

from __future__ import annotations

import json
import math
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from works import write_manifest, write_plan

import tamis
from curate.contract import methods
from curate.contract.errors import RequestError, TamisError
from curate.diversity.against_random import report
from curate.report import selectors
from curate.report.selectors import compare, coverage, jaccard, mean_overlap, write
from curate.report.selectors_page import alike, alike_together, page, z_cell
from curate.report.selectors_run import LENGTH, Wanted, plan, run_all, score_of
from curate.report.selectors_table import lines
from curate.rows import table
from curate.rows.pool import Pool
from curate.vectors.unit import unit

ROWS, BUDGET = 60, 32
ONLY = ["centroid", "facility_location", "random", "rds", "temperature", "top_score"]


def pool_of(n: int = ROWS) -> tuple[pl.DataFrame, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(
        {
            "id": [f"id{i:03d}" for i in rng.permutation(n)],
            "source": ["books", "wiki"] * (n // 2),
            "task": rng.choice(["ask", "tell", "sum"], n),
            "prompt": [f"Write a {rng.choice(['poem', 'letter', 'list'])} about {i}" for i in range(n)],
            "response": [" ".join(["word"] * int(rng.integers(1, 40))) for _ in range(n)],
            "topic": pl.Series(rng.integers(0, 4, n), dtype=pl.Int32),
        }
    )
    return rows, rng.normal(size=(n, 6)).astype(np.float32) * rng.uniform(0.5, 9, (n, 1)).astype(np.float32)


def work_of(folder: Path, rows: pl.DataFrame, vectors: np.ndarray | None, picks: int, recipe: str = "tiny") -> Path:
    """A work folder as a run leaves it, with the first rows as picks."""
    stages = {"00-load": "load", "01-embed": "embed", "02-topic": "cluster", "03-select": "select"}
    if vectors is None:
        del stages["01-embed"]
    for title, kind in stages.items():
        write_manifest(folder, title, kind, kind, facts={"text": "prompt"} if kind == "embed" else {})
    if vectors is not None:
        table.write(folder / "01-embed/kept", rows)
        np.save(folder / "01-embed/vectors.npy", vectors)
    kept = rows[:picks].with_columns(
        rank=pl.Series(range(picks), dtype=pl.Int32), gain=pl.Series([0.5] * picks, dtype=pl.Float32)
    )
    table.write(folder / "03-select/kept", kept)
    gone = rows[picks:].with_columns(stage=pl.lit("03-select"), reason=pl.lit("not selected"))
    table.write(folder / "03-select/removed", gone)
    write_plan(folder, recipe, list(stages))
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A work folder, and what comparing gives there. rds cannot fill the budget: half of the rows are its target."""
    work = work_of(tmp_path_factory.mktemp("work"), *pool_of(), picks=BUDGET)
    return work, compare(work, budget=BUDGET, seeds=3, only=ONLY, subsets=6)


def picks_of(name: str, options: dict[str, Any], seed: int = 0) -> list[str]:
    rows, vectors = pool_of()
    rows = rows.with_columns(pl.col("response").str.len_chars().alias(LENGTH))
    chosen = tamis.select(Pool(rows, vectors), name, budget=BUDGET, seed=seed, **options)
    return [rows["id"][int(row)] for row in chosen.index]


def share(one: list[str], other: list[str]) -> float:
    return len(set(one) & set(other)) / len(set(one) | set(other))


def test_coverage_and_radius_are_those_of_all_pairs(world) -> None:
    rows, vectors = pool_of()
    at = {row: number for number, row in enumerate(rows["id"])}
    scaled = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    for name, one in world[1]["selectors"].items():
        picks = [at[row] for row in picks_of(name, one["options"])]
        best = [max(float(scaled[row] @ scaled[pick]) for pick in picks) for row in range(ROWS)]
        assert one["facility_location"] == pytest.approx(sum(max(b, 0.0) for b in best) / ROWS, abs=1e-6)
        farthest = max(min(np.linalg.norm(scaled[row] - scaled[pick]) for pick in picks) for row in range(ROWS))
        assert one["radius"] == pytest.approx(farthest, abs=1e-3)


def test_overlaps_are_those_of_the_sets_of_picked_ids(world) -> None:
    told = world[1]
    picks = [picks_of(name, told["selectors"][name]["options"]) for name in told["order"]]
    expected = [[share(one, other) for other in picks] for one in picks]
    assert np.allclose(told["overlap"], expected, atol=1e-6)
    assert told["order"] == ["centroid", "facility_location", "random", "temperature", "top_score"]


def test_the_seed_overlap_is_the_mean_over_each_two_seeds(world) -> None:
    for name in ("centroid", "random", "temperature"):
        one = world[1]["selectors"][name]
        runs = [picks_of(name, one["options"], seed) for seed in range(3)]
        assert one["draws"] is True
        assert one["seed_overlap"] == pytest.approx(np.mean([share(a, b) for a, b in combinations(runs, 2)]))


def test_a_selector_that_draws_nothing_is_told_so(world) -> None:
    for name in ("facility_location", "top_score"):
        assert world[1]["selectors"][name]["draws"] is False
        assert world[1]["selectors"][name]["seed_overlap"] == 1.0


def test_the_overlap_between_k_is_that_of_half_once_and_twice_the_clusters(world) -> None:
    one = world[1]["selectors"]["centroid"]
    assert one["ks"] == [BUDGET // 2, BUDGET, ROWS]  # as many clusters as rows wanted, and no more than there are rows
    runs = [picks_of("centroid", options) for options in ({"k": BUDGET // 2}, {}, {"k": ROWS})]
    assert one["k_overlap"] == pytest.approx(np.mean([share(a, b) for a, b in combinations(runs, 2)]))


def test_a_selector_by_a_cluster_column_is_tried_on_the_pool_cut_anew(world) -> None:
    one = world[1]["selectors"]["temperature"]
    assert one["options"] == {"by": "topic"} and one["ks"] == [2, 4, 8] and 0 < one["k_overlap"] < 1
    assert world[1]["selectors"]["random"]["k_overlap"] is None


def test_the_measures_are_those_of_the_diversity_report(world) -> None:
    rows, vectors = pool_of()
    at = {row: number for number, row in enumerate(rows["id"])}
    for name, one in world[1]["selectors"].items():
        chosen = np.array([at[row] for row in picks_of(name, one["options"])])
        expected = report(rows, vectors, chosen, subsets=6)
        told = one["diversity"]
        assert (told["largest"], told["subsets"]) == (expected["largest"], 6)
        assert [line["name"] for line in told["measures"]] == [line["name"] for line in expected["measures"]]
        for mine, its in zip(told["measures"], expected["measures"], strict=True):
            assert (mine["z"] is None) == (its["z"] is None), mine["name"]
            for key in ("value", "random_mean", "random_sd", "z", "percentile"):
                assert mine[key] is None or mine[key] == pytest.approx(its[key], rel=1e-3, abs=1e-3), (mine, its)


def test_the_random_subsets_have_as_many_rows_and_their_own_coverage(world) -> None:
    chance = world[1]["random"]
    assert {len(values) for values in chance.values()} == {6}
    assert all(0 < value < 1 for value in chance["facility_location"])
    lines = {line["name"]: line for line in world[1]["selectors"]["random"]["diversity"]["measures"]}
    assert np.mean(chance["vendi"]) == pytest.approx(lines["vendi_1"]["random_mean"], rel=1e-4)
    assert np.mean(chance["radius"]) == pytest.approx(lines["coverage_radius"]["random_mean"], rel=1e-4)


def test_a_selector_that_fails_is_listed_with_its_sentence(world) -> None:
    assert list(world[1]["failed"]) == ["rds"]
    assert "the budget of 32 is larger than" in world[1]["failed"]["rds"]
    shown = page(world[1], "again")
    assert "the budget of 32 is larger than" in shown and "failed" in shown


def test_a_defect_of_a_selector_is_listed_too(tmp_path: Path) -> None:
    rows, vectors = pool_of()
    ran, failed = run_all(rows, vectors, None, [Wanted("top_score", {})], 4, 1)
    assert not ran and failed["top_score"].startswith("TypeError: ") and "score" in failed["top_score"]


def test_seconds_and_memory_are_of_every_selector(world) -> None:
    for one in world[1]["selectors"].values():
        assert one["seconds"] >= 0 and one["mb"] >= 0


def test_the_page_and_the_numbers_are_written_beside_each_other(world, tmp_path: Path) -> None:
    told = world[1]
    numbers = write(told, tmp_path / "here.html", "again")
    assert numbers == tmp_path / "here.json" and json.loads(numbers.read_text()) == told
    html = (tmp_path / "here.html").read_text()
    for name, one in told["selectors"].items():
        assert html.count(f">{name}</th>") == 1 and f">{one['facility_location']:.4f}</td>" in html
        assert html.count(f">{name}</span></th>") == 2
    assert html.count("<svg") == 1 and "<script" not in html and "http://" not in html.replace("http://www.w3.org", "")


def test_a_terminal_shows_a_line_a_selector_and_what_failed(world) -> None:
    said = lines(world[1])
    assert said[0] == "tiny: 32 of 60 rows" and len({len(line) for line in said[1:7]}) == 1
    assert any(line.startswith("rds: failed: ") for line in said)
    assert f"{world[1]['selectors']['centroid']['radius']:.3f}" in "\n".join(said)


def test_the_heat_map_prints_z_and_turns_it_where_lower_is_more_diverse(world) -> None:
    name = world[1]["order"][0]
    measures = world[1]["selectors"][name]["diversity"]["measures"]
    lines = [line for line in measures if line["name"] == "coverage_radius"]
    turned = -lines[0]["z"]
    cell = z_cell(turned)
    assert cell["colour"] == ("--accent" if turned > 0 else "--warm")
    assert f'--s:{cell["strength"]}">{cell["text"]}</td>' in page(world[1], "again")


def test_a_z_beyond_eight_has_the_strongest_colour_and_zero_none() -> None:
    assert z_cell(80.0) == {"text": "+80", "colour": "--accent", "strength": 1}
    assert z_cell(-4.0) == {"text": "−4.0", "colour": "--warm", "strength": 0.5}
    assert z_cell(-0.01) == {"text": "0.0", "colour": "--warm", "strength": 0.001}
    assert z_cell(None)["text"] == ""


def test_a_recipe_name_is_shown_as_text(world) -> None:
    assert "<script>" not in page(world[1] | {"recipe": "<script>alert(1)</script>"}, "again & <b>")


def test_a_page_without_any_selector_is_still_a_page(world) -> None:
    empty = world[1] | {"selectors": {}, "order": [], "overlap": []}
    assert "0 selectors" in page(empty, "again") and "Not compared" in page(empty, "again")


def test_one_selector_and_one_seed_make_a_page(world) -> None:
    one = dict(world[1]["selectors"]["random"], draws=None, seed_overlap=None)
    alone = world[1] | {"selectors": {"random": one}, "order": ["random"], "overlap": [[1.0]], "seeds": 1}
    assert "Nothing was varied" in page(alone, "again")


def test_the_lead_names_groups_that_choose_much_the_same_rows() -> None:
    overlap = [[1, 0.6, 0.1, 0], [0.6, 1, 0.3, 0], [0.1, 0.3, 1, 0.2], [0, 0, 0.2, 1]]
    said = alike({"order": ["a", "b", "c", "d"], "overlap": overlap})
    assert "a and b choose much the same rows" in said and "b and c are most alike, with an overlap of 30%" in said


# --- what each selector is given -------------------------------------------------------------------------------------


def planned(
    rows: pl.DataFrame, only: list[str], cluster: str | None = None
) -> tuple[dict[str, Wanted], dict[str, str]]:
    wanted, left_out = plan(rows, score_of(rows), cluster, only)
    return {one.name: one for one in wanted}, left_out


def test_a_score_column_is_taken_only_where_every_row_has_a_number() -> None:
    rows, _ = pool_of(6)
    assert score_of(rows) == LENGTH
    assert score_of(rows.with_columns(score_a=pl.lit("good"), score_b=pl.lit(2))) == "score_b"
    gaps = rows.with_columns(score_a=pl.Series([1.0, None, 1, 1, 1, 1]), score_b=pl.Series([1.0, math.nan, 1, 1, 1, 1]))
    assert score_of(gaps) == LENGTH


def test_every_selector_is_run_or_left_out_with_a_sentence() -> None:
    rows, _ = pool_of(6)
    wanted, left_out = planned(rows, [])
    assert set(wanted) | set(left_out) == set(methods.all_of("select"))
    assert not left_out


def test_the_target_is_the_rarest_source_and_needs_two() -> None:
    rows, _ = pool_of(6)
    few = rows.with_columns(source=pl.Series(["a", "b", "a", "b", "a", "a"]))
    assert planned(few, ["rds"])[0]["rds"].options == {"target": {"source": "b"}}
    wanted, left_out = planned(rows.with_columns(source=pl.lit("a")), ["rds"])
    assert not wanted and "one source" in left_out["rds"]


def test_groups_go_by_a_column_that_has_several() -> None:
    rows, _ = pool_of(6)
    assert planned(rows, ["mig", "stratified"], "topic")[0]["mig"].options == {"labels": "task"}
    assert planned(rows, ["stratified"], "topic")[0]["stratified"].options == {"by": "source"}
    same = rows.with_columns(source=pl.lit("a"), task=pl.lit("b"))
    assert planned(same, ["stratified"], "topic")[0]["stratified"] == Wanted("stratified", {"by": "topic"}, "by")
    wanted, left_out = planned(same.drop("topic"), ["temperature"])
    assert not wanted and "parts the pool into groups" in left_out["temperature"]


# --- budgets and refusals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("picks", "expected"), [(4, 4), (20, 6)])
def test_the_budget_is_that_of_the_stage_but_a_tenth_at_most(tmp_path: Path, monkeypatch, picks, expected) -> None:
    monkeypatch.setattr(selectors, "run_all", lambda *given: ({}, {}))
    work = work_of(tmp_path, *pool_of(), picks=picks)
    assert compare(work, only=["random"], subsets=2)["budget"] == expected


def test_a_work_without_vectors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="has no vectors"):
        compare(work_of(tmp_path, pool_of()[0], None, picks=3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"budget": 61}, "--budget is 61"),
        ({"budget": 0}, "--budget is 0"),
        ({"seeds": 0}, "--seeds is 0"),
        ({"only": ["randon"]}, "Did you mean 'random'"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(world, options, said) -> None:
    with pytest.raises(TamisError, match=said):
        compare(world[0], **options)


# --- small laws ------------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_jaccard_is_the_share_of_rows_in_both(one: set[int], other: set[int]) -> None:
    expected = len(one & other) / len(one | other) if one | other else 0.0
    assert jaccard(np.array(sorted(one), dtype=int), np.array(sorted(other), dtype=int)) == expected


def test_the_mean_overlap_of_fewer_than_two_runs_is_none() -> None:
    assert mean_overlap([]) is None and mean_overlap([np.arange(3)]) is None
    assert mean_overlap([np.arange(3), np.arange(3), np.arange(3, 6)]) == pytest.approx(1 / 3)


def test_coverage_does_not_depend_on_the_blocks(monkeypatch) -> None:
    vectors = unit(pool_of()[1], "here")
    subsets = [np.array([3, 50, 7]), np.array([0])]
    whole = coverage(vectors, subsets, np.arange(ROWS))
    monkeypatch.setattr(selectors, "BLOCK", 7)
    assert np.allclose(coverage(vectors, subsets, np.arange(ROWS)), whole, atol=1e-6)


@given(st.integers(0, 8), st.integers(0, 1000))
def test_the_order_of_the_overlaps_holds_every_selector_once(n: int, seed: int) -> None:
    half = np.random.default_rng(seed).random((n, n))
    assert sorted(alike_together((half + half.T) / 2)) == list(range(n))


def test_selectors_that_choose_alike_stand_together() -> None:
    overlap = np.eye(6)
    for group in ((0, 2, 4), (1, 3, 5)):
        for i, j in combinations(group, 2):
            overlap[i, j] = overlap[j, i] = 0.8
    order = alike_together(overlap)
    assert {frozenset(order[:3]), frozenset(order[3:])} == {frozenset((0, 2, 4)), frozenset((1, 3, 5))}
