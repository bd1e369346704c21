"""Why a row was not selected."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import alpaca_rows, write_jsonl
from typer.testing import CliRunner

from curate.cli import app
from curate.contract.methods import find
from curate.report import why_not
from curate.rows.constraints import Constraints, Group
from curate.run import recipe as recipes
from curate.run import runner
from curate.run.work import Work
from curate.select.clusters import clusters
from curate.vectors.unit import unit

BEFORE = "  - score: length\n  - embed: {hashing: {dim: 16}}\n  - cluster: {kmeans: {k: 4}}\n"
GREEDY = {
    "facility_location": "",
    "graph_cut": "",
    "dpp": "",
    "k_center": "",
    "herding": "",
    "novel_select": "",
    "mig": ", labels: cluster",
    "qdit": ", score: score_length, alpha: 0.4",
}

RANKED = {
    "top_score": ", score: score_length",
    "longest": "",
    "car": ", score: score_length",
    "centroid": "",
    "d4": "",
    "deita": ", score: score_length",
    "homogeneous": "",
    "kmq": ", score: score_length",
    "rds": ", target: {source: b}, how: max",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sources of 40 and 20 rows."""
    folder = tmp_path_factory.mktemp("why")
    write_jsonl(folder / "a.jsonl", alpaca_rows(40))
    write_jsonl(folder / "b.jsonl", [{**row, "instruction": f"B: {row['instruction']}"} for row in alpaca_rows(20)])
    return folder


def run(folder: Path, steps: str) -> Work:
    (folder / "r.yaml").write_text(
        "name: r\nseed: 5\nload:\n"
        "  - files: {path: a.jsonl, shape: alpaca, name: a, license: mit}\n"
        "  - files: {path: b.jsonl, shape: alpaca, name: b, license: mit}\n"
        f"steps:\n{BEFORE}{steps}",
        "utf-8",
    )
    runner.run(recipes.read(folder / "r.yaml"), folder / "w")
    return Work(folder / "w")


def select(folder: Path, choice: str) -> Work:
    return run(folder, f"  - select: {{{choice}}}\n")


def missed(work: Work, stage: str = "select") -> list[str]:
    return work.stage(stage).read("removed", only=["id"])["id"].to_list()


def of(work: Work, id: str, stage: str = "select") -> dict[str, Any]:
    return why_not.told(work, work.stage(stage), id)


def unit_vectors(work: Work, ids: list[str]) -> np.ndarray:
    vectors = work.stage("embed").vectors_of(pl.Series("id", ids)).astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def covered(work: Work, picks: list[str]) -> float:
    """The objective of facility location."""
    every = unit_vectors(work, work.stage("embed").ids.to_list())
    return float(np.maximum(every @ unit_vectors(work, picks).T, 0).max(axis=1).sum()) if picks else 0.0


def test_a_row_is_told_its_nearest_pick_and_what_it_would_have_added(folder: Path) -> None:
    work = select(folder, "facility_location: {budget: 9}")
    picks = work.stage("select").read()["id"].to_list()
    for id in missed(work)[::4]:
        why = of(work, id)
        cosine = unit_vectors(work, picks) @ unit_vectors(work, [id])[0]
        near = why["nearest"]
        assert near["cosine"] == pytest.approx(cosine.max(), abs=1e-5) and picks[near["pick"] - 1] == near["id"]
        assert cosine[near["pick"] - 1] == pytest.approx(cosine.max(), abs=1e-5)
        gain, before = why["gain"], covered(work, picks[:8])
        assert (gain["pick"], gain["id"]) == (9, picks[8])
        assert gain["gain"] == pytest.approx(covered(work, [*picks[:8], id]) - before, abs=1e-4)
        assert gain["of_pick"] == pytest.approx(covered(work, picks) - before, abs=1e-4)
        assert why["limits"] == [{"limit": "budget", "picked": 9, "most": 9}] and not why["left_out"]


LIMITS = ", quotas: {source: {b: 3}}, at_most: {cluster: 4}"


@pytest.mark.parametrize("method", GREEDY)
def test_no_row_would_have_added_more_than_the_pick_for_which_it_was_passed_over(folder: Path, method: str) -> None:
    own_scale = method in ("qdit", "k_center")  # has a score of its own; gives distances
    quality = "" if own_scale else ", quality: {score_length: 0.5}"
    work = select(folder, f"{method}: {{budget: 10{GREEDY[method]}{LIMITS}{quality}}}")
    kept, told = work.stage("select").read(), 0
    for id in missed(work)[::2]:
        why = of(work, id)
        assert not why["left_out"]
        if (gain := why["gain"]) is not None:
            told += 1
            assert gain["gain"] <= gain["of_pick"] + 1e-5
            assert gain["of_pick"] == pytest.approx(kept["gain"][gain["pick"] - 1], rel=1e-6)
    assert told > 10


@pytest.mark.parametrize("method", [*GREEDY, *RANKED])
def test_a_pick_in_its_own_place_has_the_very_gain_that_it_had(folder: Path, method: str) -> None:
    limits = LIMITS if method in GREEDY else ""
    work = select(folder, f"{method}: {{budget: 10{(GREEDY | RANKED)[method]}{limits}}}")
    done, vectors = work.stage("select"), work.stage("embed")
    choice = why_not._choice(work, done, missed(work)[0])
    for place in (1, 4, 9):
        mine = replace(choice, row=int(choice.picks[place]))
        again = why_not._gain_after(find("select", method), mine, vectors, place)
        assert again == pytest.approx(choice.gain[place], rel=1e-5, abs=1e-5)


def test_the_gain_with_a_score_stands_on_the_scale_of_the_selection(folder: Path) -> None:
    work = select(folder, "facility_location: {budget: 6, quality: {score_length: 0.7}}")
    pool = work.stage("cluster").read()
    picks = work.stage("select").read()["id"].to_list()
    score = pool["score_length"].to_numpy().astype(np.float64)
    score = dict(zip(pool["id"], (score - score.min()) / (score.max() - score.min()), strict=True))
    scale = max(covered(work, [id]) for id in pool["id"])
    for id in missed(work)[::5]:
        more = covered(work, [*picks[:5], id]) - covered(work, picks[:5])
        assert of(work, id)["gain"]["gain"] == pytest.approx(0.3 * more / scale + 0.7 * score[id], abs=1e-5)


def test_a_quota_that_was_full_is_named_with_the_pick_that_filled_it(folder: Path) -> None:
    work = select(folder, "facility_location: {budget: 12, quotas: {source: {b: 2}}}")
    kept, pool = work.stage("select").read(), work.stage("cluster").read()
    source = dict(pool.select("id", "source").iter_rows())
    since = int(np.flatnonzero(kept["source"] == "b")[1]) + 1
    others = int(np.flatnonzero(kept["source"] == "a")[9]) + 1
    for id in missed(work):
        [limit] = of(work, id)["limits"]
        assert limit == {
            "limit": "quotas",
            "column": "source",
            "value": "b" if source[id] == "b" else "all others",
            "picked": 2 if source[id] == "b" else 10,
            "most": 2 if source[id] == "b" else 10,
            "since": since if source[id] == "b" else others,
        }
        assert of(work, id)["gain"]["pick"] == limit["since"]


def test_a_cap_closes_only_the_rows_of_full_groups(folder: Path) -> None:
    work = select(folder, "longest: {budget: 14, at_most: {cluster: 4}}")
    picked = dict(work.stage("select").read()["cluster"].value_counts().iter_rows())
    cluster = dict(work.stage("cluster").read().select("id", "cluster").iter_rows())
    for id in missed(work):
        limits = of(work, id)["limits"]
        if picked.get(cluster[id], 0) == 4:
            assert [(one["limit"], one["value"], one["picked"]) for one in limits] == [("at_most", str(cluster[id]), 4)]
        else:
            assert [one["limit"] for one in limits] == ["budget"]


def test_a_row_that_was_closed_from_the_start_has_no_gain_to_compare(folder: Path) -> None:
    work = select(folder, "k_center: {budget: 5, must_not_have: {source: b}, quotas: {cluster: {'0': 0}}}")
    rows = work.stage("cluster").read().rows_by_key("id", named=True, unique=True)
    for id in missed(work):
        why = of(work, id)
        said = [one["limit"] for one in why["limits"]]
        if rows[id]["source"] == "b":
            assert said == ["must_not_have"]
        elif rows[id]["cluster"] == 0:
            [full] = why["limits"]
            assert (full["limit"], full["most"], full["since"]) == ("quotas", 0, 0)
        assert (why["gain"] is None) == (rows[id]["source"] == "b" or rows[id]["cluster"] == 0)
        assert why["nearest"]


def test_limits_that_cross_can_close_a_row_before_one_of_them_is_full(tmp_path: Path) -> None:
    kinds = [("x", "p", 1), ("x", "q", 1), ("y", "p", 1), ("y", "r", 3), ("z", "r", 2)]
    rows = [{"side": side, "kind": kind} for side, kind, many in kinds for _ in range(many)]
    texts = [{"instruction": f"Count to {i}", "output": "one " * (20 - i)} for i in range(len(rows))]
    write_jsonl(tmp_path / "a.jsonl", [row | text for row, text in zip(rows, texts, strict=True)])
    quotas = "{fields.side: {x: 1, y: 3, z: 1}, fields.kind: {p: 1, q: 1, r: 3}}"
    (tmp_path / "r.yaml").write_text(
        "name: r\nload:\n  - files: {path: a.jsonl, shape: alpaca, name: a, license: mit}\n"
        f"steps:\n  - select: {{longest: {{budget: 5, quotas: {quotas}}}}}\n",
        "utf-8",
    )
    runner.run(recipes.read(tmp_path / "r.yaml"), tmp_path / "w")
    work = Work(tmp_path / "w")
    first = work.stage("load").read().filter(pl.col("prompt") == "Count to 0")["id"][0]  # the longest, of x and p
    assert first in missed(work)
    why = of(work, first)
    assert [one["limit"] for one in why["limits"]] == ["quotas", "quotas", "together"]
    assert why["limits"][2]["since"] == 0
    assert why["limits"][2]["of"] == ["quotas of fields.kind", "quotas of fields.side"]
    assert why["gain"] is None is why["nearest"]
    said = " ".join(text for line in why_not.lines(why) for text in line.values())
    assert "together: from the start, no selection with it could meet them" in said


@pytest.mark.parametrize("columns", [0, 1, 2, 3])
def test_a_row_is_passed_over_for_the_picks_that_were_made_while_it_could_have_been_one(columns: int) -> None:
    rng = np.random.default_rng(columns)
    for _ in range(30):
        n = int(rng.integers(4, 15))
        groups = tuple(
            Group(str(column), ("0", "1", "2"), rng.integers(-1, 3, size=n), rng.integers(0, 4, size=3))
            for column in range(columns)
        )
        wanted = Constraints(n, rng.random(n) < 0.9, np.empty(0, int), groups)
        if rng.random() < 0.3:
            wanted = replace(wanted, cost=rng.integers(1, 10, size=n).astype(float), tokens=20)
        else:
            wanted = replace(wanted, budget=len(wanted.walk(rng.permutation(n))))  # which can be met
        picks = wanted.walk(rng.permutation(n))
        for row in np.setdiff1d(np.arange(n), picks).tolist():
            free = []
            for before in range(len(picks)):
                remaining = wanted.begin()
                assert all(remaining.take(pick) for pick in picks[:before].tolist())
                free.append(remaining.take(row))
            assert why_not._passed(wanted, picks, row) == sum(free)
            assert free == sorted(free, reverse=True), "what is closed once stays closed"


def test_a_row_that_did_not_fit_the_tokens_is_told_how_many_were_left(folder: Path) -> None:
    work = select(folder, "longest: {budget: {tokens: 60, tokenizer: words}}")
    kept, gone = work.stage("select").read(), work.stage("select").read("removed")

    def words(one: dict[str, Any]) -> int:
        return len(one["prompt"].split()) + len(one["response"].split())

    left = 60 - sum(words(one) for one in kept.iter_rows(named=True))
    for one in gone.iter_rows(named=True):
        [limit] = of(work, one["id"])["limits"]
        assert limit == {"limit": "tokens", "needs": words(one), "left": left, "most": 60}


def test_rows_of_a_target_are_not_picked(folder: Path) -> None:
    work = select(folder, "rds: {budget: 5, target: {source: b}}")
    source = dict(work.stage("cluster").read().select("id", "source").iter_rows())
    for id in missed(work)[::4]:
        why = of(work, id)
        assert [one["limit"] for one in why["limits"]] == ["target" if source[id] == "b" else "budget"]


def test_a_ranking_tells_its_score_and_chance_tells_none(folder: Path) -> None:
    work = select(folder, "top_score: {budget: 7, score: score_length}")
    score = dict(work.stage("cluster").read().select("id", "score_length").iter_rows())
    kept = work.stage("select").read()
    for id in missed(work)[::6]:
        gain = of(work, id)["gain"]
        assert gain["gain"] == pytest.approx(score[id], rel=1e-5)
        assert gain["gain"] <= gain["of_pick"] == pytest.approx(kept["gain"][6], rel=1e-6)
    work = select(folder, "random: {budget: 7}")
    assert all(of(work, id)["gain"] is None and of(work, id)["nearest"] for id in missed(work)[::9])


def test_clusters_are_those_of_the_selection(folder: Path) -> None:
    work = select(folder, "centroid: {budget: 6}")
    ids = sorted(work.stage("cluster").ids.to_list())
    seed = work.stage("select").manifest["seed"]
    vectors = unit(work.stage("embed").vectors_of(pl.Series("id", ids)), "test")
    distance = dict(zip(ids, clusters(vectors, 6, seed).distance, strict=True))
    for id in missed(work)[::6]:
        assert of(work, id)["gain"]["gain"] == pytest.approx(distance[id], abs=1e-4)


def test_rows_that_a_step_lets_pass_are_no_picks_of_it(folder: Path) -> None:
    work = run(
        folder,
        "  - select: {facility_location: {budget: 5}}\n    where: {source: a}\n    as: of_a\n"
        "  - select: {longest: {budget: 4}}\n    where: {source: b}\n    as: of_b\n",
    )
    picks = work.stage("of_b").read().filter(pl.col("source") == "b").sort("rank")["id"].to_list()
    for id in missed(work, "of_b")[::4]:
        why = of(work, id, "of_b")
        assert (why["picked"], why["pool"], why["gain"]["id"]) == (4, 20, picks[3])
        assert why["nearest"]["id"] in picks


def test_what_cannot_be_told_is_said(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work = select(folder, "facility_location: {budget: 8}")
    id = missed(work)[0]
    monkeypatch.setattr(why_not, "_STEPS", 10)
    why = of(work, id)
    assert why["gain"] is None and why["limits"]
    assert "choosing again from 60 rows can take what the stage took, " in why["left_out"][0]
    monkeypatch.undo()
    work = Work(shutil.copytree(work.folder, tmp_path / "w"))
    (work.stage("embed").folder / "vectors.npy").unlink()
    why = of(work, id)
    assert why["nearest"] is None is why["gain"] and why["limits"]
    assert why["left_out"] == [
        f"the vectors of 02-embed are gone: delete {tmp_path}/w/02-embed and run the recipe again"
    ]
    (work.folder / "03-cluster" / "manifest.json").unlink()
    assert "before 04-select are not those that it chose from" in of(Work(work.folder), id)["left_out"][0]


def test_a_selector_beside_a_recipe_has_its_limits_told(folder: Path) -> None:
    (folder / "methods" / "select").mkdir(parents=True)
    (folder / "methods" / "select" / "mine.py").write_text(
        '"""The first rows."""\nimport numpy as np\nfrom tamis import Picks\n\n'
        "def select(pool, budget, *, constraints):\n"
        '    """Those that come first."""\n'
        "    index = constraints.walk(np.arange(len(pool)))\n"
        "    return Picks(index, np.ones(len(index), np.float32))\n",
        "utf-8",
    )
    work = select(folder, "mine: {budget: 6, at_most: {source: 3}}")
    why = of(work, missed(work)[0])
    assert why["limits"][0]["limit"] == "at_most" and "unknown select method 'mine'" in why["left_out"][0]


def test_show_prints_it_below_the_story(folder: Path) -> None:
    work = select(folder, "facility_location: {budget: 9, quotas: {source: {b: 2}}}")
    gone = work.stage("select").read("removed")
    id = gone.filter(pl.col("source") == "b")["id"][0]
    said = CliRunner().invoke(app, ["show", str(work.folder), "--id", id[:10]])
    assert said.exit_code == 0, said.output
    told = " ".join(said.stdout.split())
    for part in ("04-select: facility_location, 9 of 60 rows", "limit quotas of source b: 2 of 2, full with pick"):
        assert part in told
    assert "nearest pick cosine 0." in told and " in the place of pick " in told
    story = json.loads(CliRunner().invoke(app, ["show", str(work.folder), "--id", id, "--json"]).stdout)
    assert story[-1]["why"] == of(work, id) and "why" not in story[0]
