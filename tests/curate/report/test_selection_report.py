"""The page of a selection: what it counts is what the stage's tables hold, and it shows no text as anything but text."""

from __future__ import annotations

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from works import write_manifest, write_plan

from curate.contract.errors import RequestError, WorkError
from curate.contract.files import read_json, write_json
from curate.diversity import against_random
from curate.report import selection_map, selection_report
from curate.report.selection_report import data, write
from curate.rows import cluster_names, table

HOSTILE = "<script>alert('x')</script>\u202e</td> & \"$y$\""
MEASURES: list[dict[str, Any]] = [
    {"name": "vendi", "about": "Rows that it looks like.", "better": "higher", "value": 12.5, "z": 24.0, "p": 0.0099},
    {"name": "radius", "about": "The farthest row.", "better": "lower", "value": 0.5, "z": -3.5, "p": 0.02},
    {"name": "clique", "about": "Mean distance.", "better": "higher", "value": 0.25, "z": -3.5, "p": 0.02},
    {"name": "edge", "about": "Least distance.", "better": "higher", "value": 0.125, "z": 0.5, "p": 0.9},
    {"name": "entropy", "about": "Of clusters.", "better": "higher", "value": 1.0, "z": None, "p": None},
    {"name": "words", "about": "Mean of them.", "better": None, "value": 40.0, "z": 3.0, "p": 0.07},
]
WHOLE: dict[str, Any] = {"subsets": 39, "p": 0.0099, "largest": "vendi", "z": 24.0, "clear": 3.21}


@pytest.fixture(autouse=True)
def others(monkeypatch):
    """The measures and the names are made elsewhere and take their time, so here they are given; and the map is the fast
    one. Returns the calls."""
    monkeypatch.setattr(selection_map, "_TINY", 1000)
    calls: list[dict[str, Any]] = []

    def report(table, vectors, chosen, *, seed):
        calls.append({"table": table, "vectors": vectors, "chosen": chosen, "seed": seed})
        measures = [{"random_mean": 0.1, "random_sd": 0.1, "percentile": 97.5, **measure} for measure in MEASURES]
        return {**WHOLE, "measures": measures}

    def names(texts, label, words=3):
        return {int(number): f"words of {number}" for number in np.unique(label)}

    monkeypatch.setattr(against_random, "report", report)
    monkeypatch.setattr(cluster_names, "names", names)
    return calls


def rows_of(n: int = 90) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "id": [f"id{i:03d}" for i in rng.permutation(n)],
            "source": rng.choice(["wiki", "forum", "books"], n, p=[0.6, 0.3, 0.1]),
            "task": rng.choice(["ask", "tell"], n),
            "task_cluster": pl.Series([None] * n, dtype=pl.String),
            "license": ["mit"] * n,
            "prompt": [f"prompt {i} " + "x" * int(rng.integers(0, 80)) for i in range(n)],
            "response": [f"response {i}" for i in range(n)],
        }
    )


def work_of(
    folder: Path,
    rows: pl.DataFrame,
    picks: list[int],
    *,
    vectors: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    outside: pl.DataFrame | None = None,
    facts: dict[str, Any] | None = None,
    gain: list[float | None] | None = None,
    title: str = "03-select",
) -> Path:
    """A work folder as a run leaves it: load, embed where there are vectors, cluster where there are labels, select."""
    titles = ["00-load"]

    write_manifest(folder, "00-load", "load", "load")
    table.write(folder / "00-load/kept", rows)
    if vectors is not None:
        write_manifest(folder, "01-embed", "embed", "hashing", facts={"text": "prompt"})
        table.write(folder / "01-embed/kept", rows, rows_per_shard=40)
        np.save(folder / "01-embed/vectors.npy", vectors)
        titles.append("01-embed")
    if clusters is not None:
        write_manifest(folder, "02-topic", "cluster", "kmeans")
        rows = rows.with_columns(pl.Series("topic", clusters, dtype=pl.Int32))
        titles.append("02-topic")
    write_manifest(
        folder,
        title,
        "select",
        "facility_location",
        options={"budget": len(picks)},
        facts={"budget": 1, **(facts or {})},
    )
    gain = [10.0 / (i + 1) for i in range(len(picks))] if gain is None else gain
    kept = rows[picks].with_columns(
        rank=pl.Series(range(len(picks)), dtype=pl.Int32), gain=pl.Series(gain, dtype=pl.Float32)
    )
    if outside is not None:
        kept = pl.concat([kept, outside], how="diagonal")
    rest = rows[[i for i in range(rows.height) if i not in set(picks)]]
    rest = rest.with_columns(stage=pl.lit(title), reason=pl.lit("not selected"))
    table.write(folder / title / "kept", kept)
    table.write(folder / title / "removed", rest, rows_per_shard=50)
    write_plan(folder, "nine", [*titles, title, "release"])
    return folder


def html(work: Path) -> str:
    """The page that is written."""
    path, _ = write(work)
    return path.read_text("utf-8")


def whole_work(folder: Path, rows: pl.DataFrame | None = None, **more: Any) -> tuple[Path, pl.DataFrame, list[int]]:
    """Ninety rows with vectors and six clusters, of which twelve were picked."""
    rng = np.random.default_rng(1)
    rows = rows_of() if rows is None else rows
    picks = rng.permutation(rows.height)[:12].tolist()
    vectors = rng.normal(size=(rows.height, 8)).astype(np.float32)
    work = work_of(folder, rows, picks, vectors=vectors, clusters=rng.integers(0, 6, rows.height), **more)
    return work, rows, picks


class Cells(HTMLParser):
    """The texts of all table rows, and of all list items."""

    def __init__(self, page: str):
        super().__init__()
        self.rows: list[list[str]] = []
        self.items: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag not in ("meta", "img", "br", "hr", "link"):
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "li":
            self.items.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data
        elif "li" in self.open:
            self.items[-1] += data


# what is counted


def test_the_page_and_the_data_hold_the_counts_of_the_tables(tmp_path):
    work, rows, picks = whole_work(tmp_path)
    told = data(work)
    page = html(work)
    cells = Cells(page).rows
    assert (told["pool"], told["kept"], told["outside"]) == (90, 12, 0)
    assert "facility_location kept 12 of 90 rows (13.3 %)." in page
    for by in ("source", "task"):
        pool, kept = Counter(rows[by].to_list()), Counter(rows[picks][by].to_list())
        assert [(g["name"], g["pool"], g["kept"]) for g in told["groups"][by]] == [
            (name, n, kept[name]) for name, n in sorted(pool.items(), key=lambda item: (-item[1], item[0]))
        ]
        for group in told["groups"][by]:
            name = group["name"]
            assert group["ratio"] == pytest.approx((kept[name] / 12) / (pool[name] / 90))
            shares = [f"{100 * kept[name] / 12:.1f} %", f"{100 * pool[name] / 90:.1f} %"]
            assert [name, "", f"{group['ratio']:.2f}", str(kept[name]), str(pool[name]), *shares] in cells
    assert "All rows have: license mit." in page


def test_clusters_are_counted_under_their_names(tmp_path):
    work, _, picks = whole_work(tmp_path)
    whole = pl.concat([table.read(work / "03-select" / side) for side in ("kept", "removed")], how="diagonal")
    pool, kept = Counter(whole["topic"].to_list()), Counter(table.read(work / "03-select/kept")["topic"].to_list())
    topics = {g["value"]: g for g in data(work)["groups"]["topic"]}
    assert {value: (g["pool"], g["kept"]) for value, g in topics.items()} == {n: (pool[n], kept[n]) for n in pool}
    assert topics[2]["name"] == "words of 2"
    assert f"{len(kept)} of {len(pool)} have a kept row" in html(work)
    assert len(picks) == sum(kept.values())


def test_groups_beyond_the_largest_are_one_line(tmp_path):
    rows = rows_of().with_columns(source=pl.Series([f"s{i // 2:02d}" for i in range(90)]))
    work, *_ = whole_work(tmp_path, rows)
    cells = Cells(html(work)).rows
    shown = [cell for cell in cells if re.fullmatch(r"s\d\d", cell[0])]
    (others,) = [cell for cell in cells if cell[0] == "34 others"]
    assert len(shown) == 11
    assert sum(int(cell[3]) for cell in [*shown, others]) == 12
    assert sum(int(cell[4]) for cell in [*shown, others]) == 90
    assert len(data(work)["groups"]["source"]) == 45


def test_the_lengths_are_those_of_the_texts(tmp_path):
    work, rows, picks = whole_work(tmp_path)
    bins = data(work)["lengths"]["prompt"]
    lengths = np.array([len(text) for text in rows["prompt"]])
    low, high = bins["edges"][:-1], bins["edges"][1:]
    for bin, (start, end) in enumerate(zip(low, high, strict=True)):
        assert bins["pool"][bin] == sum(start <= n < end for n in lengths)
        assert bins["kept"][bin] == sum(start <= n < end for n in lengths[picks])
    assert sum(bins["pool"]) == 90 and sum(bins["kept"]) == 12
    assert low[0] == lengths.min() and high[-1] == lengths.max() + 1
    assert bins["pool_median"] == np.median(lengths) and bins["kept_median"] == np.median(lengths[picks])


def test_an_empty_response_is_counted_too(tmp_path):
    rows = rows_of().with_columns(response=pl.Series([None, ""] + ["four"] * 88, dtype=pl.String))
    work, *_ = whole_work(tmp_path, rows)
    bins = data(work)["lengths"]["response"]
    assert bins["edges"][:2] == [0, 4] and bins["pool"][0] == 2 and sum(bins["pool"]) == 90


def test_rows_outside_where_are_not_of_the_pool(tmp_path):
    outside = rows_of(3).with_columns(id=pl.Series(["o1", "o2", "o3"]), source=pl.lit("elsewhere"))
    work = work_of(tmp_path, rows_of(), [4, 7], outside=outside)
    told = data(work)
    assert (told["pool"], told["kept"], told["outside"]) == (90, 2, 3)
    assert "elsewhere" not in {group["name"] for group in told["groups"]["source"]}
    assert "3 rows outside its `where` passed by" in html(work)


def test_gains_and_first_picks_come_in_the_order_of_picking(tmp_path):
    work, rows, picks = whole_work(tmp_path)
    told = data(work)
    assert told["gains"] == [[i, pytest.approx(10 / (i + 1))] for i in range(12)]
    assert [text["id"] for text in told["first"]] == rows[picks[:10]]["id"].to_list()
    left_out = {text["id"] for text in told["not_kept"]}
    assert len(left_out) == 10 and not left_out & set(rows[picks]["id"])
    assert [text["id"] for text in data(work, seed=1)["not_kept"]] != [text["id"] for text in told["not_kept"]]


def test_a_long_curve_of_gains_keeps_its_ends(tmp_path):
    gains = data(work_of(tmp_path, rows_of(1500), list(range(1200))))["gains"]
    assert len(gains) <= 400
    assert gains[0][0] == 0 and gains[-1][0] == 1199
    assert all(gain == pytest.approx(10 / (rank + 1)) for rank, gain in gains)


def test_a_method_that_tells_no_gain_has_no_curve(tmp_path):
    work = work_of(tmp_path, rows_of(), [1, 2, 3], gain=[None, None, None])
    assert data(work)["gains"] == []
    assert "What each pick added" not in html(work)


def test_a_first_gain_that_is_missing_is_left_out_of_the_curve(tmp_path):
    work = work_of(tmp_path, rows_of(), [1, 2, 3], gain=[None, 1.5, 1.0])
    assert data(work)["gains"] == [[0, None], [1, 1.5], [2, 1.0]]
    assert "1.5 at pick 2, 1 at pick 3" in html(work)


# against random subsets


def test_the_measures_are_asked_of_the_pool_and_the_picks_in_order(tmp_path, others):
    rng = np.random.default_rng(3)
    rows, vectors = rows_of(), rng.normal(size=(90, 5)).astype(np.float32)
    work = work_of(tmp_path, rows, [8, 3, 50], vectors=vectors)
    data(work, seed=7)
    (call,) = others
    assert call["seed"] == 7
    assert call["table"]["id"].gather(call["chosen"]).to_list() == rows["id"].gather([8, 3, 50]).to_list()
    of = dict(zip(rows["id"], vectors, strict=True))
    np.testing.assert_array_equal(call["vectors"], np.array([of[id] for id in call["table"]["id"]]))


def test_the_vectors_follow_their_rows_where_some_left_after_the_embedding(tmp_path, others):
    rows, vectors = rows_of(), np.random.default_rng(3).normal(size=(90, 5)).astype(np.float32)
    work = work_of(tmp_path, rows, [8, 3, 50], vectors=vectors)
    table.write(work / "03-select/removed", table.read(work / "03-select/removed").head(20))
    for part in table.shards(work / "03-select/removed")[1:]:
        part.unlink()
    assert data(work)["pool"] == 23
    of = dict(zip(rows["id"], vectors, strict=True))
    np.testing.assert_array_equal(others[0]["vectors"], np.array([of[id] for id in others[0]["table"]["id"]]))


def test_the_page_says_how_many_measures_are_beyond_random_and_which_way(tmp_path):
    work, *_ = whole_work(tmp_path)
    page = html(work)
    assert (
        "Against 39 random subsets of the same size it is more diverse by 2 of 4 measures, less by 1, and not told apart "
        "by 1. As a whole it is unlike a random subset (p = 0.0099; the farthest measure is vendi, z +24.0)."
    ) in page
    cells = Cells(page).rows
    assert ["vendiRows that it looks like.", "", "+24.0", "97.5", "12.5", "0.1"] in cells
    assert ["entropyOf clusters.", "", "–", "–", "1", "0.1"] in cells
    assert "band is z from −3.21 to 3.21" in page and page.count('<rect x="55.9" y="3" width="64.2"') == 5
    strips = re.findall(r'<circle cx="([\d.]+)" cy="9" r="5" fill="var\((--\w+)\)"', page)
    assert strips == [("123.0", "--accent"), ("53.0", "--warm"), ("93.0", "--quiet"), ("118.0", "--quiet")]


def test_what_the_stage_told_of_its_diversity_is_not_measured_again(tmp_path, others):
    told = {**WHOLE, "p": 0.4, "measures": [{"random_mean": 0.1, "random_sd": 0.1, "percentile": 60.0, **MEASURES[3]}]}
    work, *_ = whole_work(tmp_path, facts={"diversity": told})
    assert data(work)["diversity"] == told and not others
    assert "As a whole it is like a random subset (p = 0.4;" in html(work)


def test_what_an_earlier_version_told_of_it_is_measured_anew(tmp_path, others):
    work, *_ = whole_work(tmp_path, facts={"diversity": [{"name": "vendi", "z": 3.0}]})
    assert data(work)["diversity"]["largest"] == "vendi" and len(others) == 1


def test_too_few_random_subsets_have_no_band_and_tell_nothing_of_the_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(WHOLE, "clear", None)
    page = html(whole_work(tmp_path)[0])
    assert "shaded band" not in page and "As a whole" not in page and 'width="0.0"' in page


def test_a_certificate_is_rounded_down_and_facts_are_shown(tmp_path):
    facts = {"certificate": {"value": 94.97, "upper_bound": 100.0, "ratio": 0.9497}, "radius": 0.75, "covered": 1234}
    work, *_ = whole_work(tmp_path, facts=facts)
    told = data(work)
    assert told["certificate"]["ratio"] == 0.9497 and told["facts"] == {"radius": 0.75, "covered": 1234}
    page = html(work)
    assert "at least 94.9 % of the best possible. The method tells: covered 1,234, radius 0.75." in page
    assert ["radius", "0.75"] in Cells(page).rows and ["covered", "1,234"] in Cells(page).rows


# the page itself


def test_hostile_text_is_shown_as_text(tmp_path):
    rows = rows_of().with_columns(
        source=pl.Series([HOSTILE, "wiki"] * 45), prompt=pl.lit(HOSTILE), response=pl.lit(HOSTILE)
    )
    work, *_ = whole_work(tmp_path, rows, facts={"note": HOSTILE})
    write_json(work / "stages.json", {**read_json(work / "stages.json"), "recipe": HOSTILE})
    page = html(work)
    cells = Cells(page)
    assert "script" not in cells.tags and "<script" not in page and "\u202e" not in page
    assert any("<script>alert('x')</script>" in item for item in cells.items)
    assert cells.open == []


def test_the_page_asks_for_nothing_from_elsewhere(tmp_path):
    work, *_ = whole_work(tmp_path)
    page = html(work)
    assert page.count("<!doctype html>") == 1 and Cells(page).open == []
    assert not re.findall(r'(?:src|href)\s*=\s*["\'](?!data:|#)|url\((?!#)|@import', page)


def test_the_same_work_gives_the_same_bytes_wherever_it_lies(tmp_path, monkeypatch):
    monkeypatch.setattr(selection_map, "_TINY", 50)
    first, *_ = whole_work(tmp_path / "a")
    second, *_ = whole_work(tmp_path / "elsewhere")
    path, numbers = write(first)
    assert path == first / "selection.html" and numbers == data(first)
    page = html(first)
    assert "t-SNE of the rows" in page
    assert html(first) == page
    assert html(second) == page


def test_without_vectors_there_is_no_map(tmp_path, others):
    work = work_of(tmp_path, rows_of(), [5, 6])
    page = html(work)
    assert "Among its pool" not in page and "How diverse it is" in page
    assert others[0]["vectors"] is None


def test_without_clusters_the_map_makes_some_for_itself(tmp_path):
    work = work_of(tmp_path, rows_of(), [5, 6], vectors=np.random.default_rng(0).normal(size=(90, 6)))
    page = html(work)
    assert "3 groups that k-means made for the map" in page
    assert {"words of 0", "words of 1", "words of 2"} <= set(re.findall(r"words of \d", page))


@pytest.mark.parametrize("n", [1, 3, 40])
def test_a_tiny_pool_has_a_page(tmp_path, n):
    work = work_of(tmp_path, rows_of(n), [0], vectors=np.ones((n, 4), np.float32), clusters=np.zeros(n))
    page = html(work)
    assert "PCA of the rows" in page and f"kept 1 of {n} rows" in page


def test_nothing_kept_of_nothing_is_a_page_too(tmp_path):
    rows = rows_of(2).head(0)
    assert "kept 0 of 0 rows" in html(work_of(tmp_path / "none", rows, [], vectors=np.ones((0, 4))))
    assert "kept 0 of 90 rows (0 %)" in html(work_of(tmp_path / "budget0", rows_of(), []))


def test_what_data_gives_is_json(tmp_path):
    work, *_ = whole_work(tmp_path, facts={"certificate": {"value": 1, "upper_bound": 2, "ratio": 0.5}})
    told = data(work)
    assert json.loads(json.dumps(told, allow_nan=False)) == told


# what cannot be reported on


def two_selects(folder: Path) -> Path:
    work_of(folder, rows_of(), [1, 2, 3], title="02-first")
    work_of(folder, rows_of(), [3, 4], title="03-select")
    write_plan(folder, "two", ["00-load", "02-first", "03-select"])
    return folder


def test_a_stage_is_asked_for_by_title_or_name_and_the_last_is_taken_else(tmp_path):
    work = two_selects(tmp_path)
    assert [data(work, stage)["kept"] for stage in ("02-first", "first", "03-select", "select", None)] == [
        3,
        3,
        2,
        2,
        2,
    ]


def test_a_stage_that_is_no_select_stage_is_one_sentence(tmp_path):
    work = two_selects(tmp_path)
    for stage in ("00-load", "none"):
        with pytest.raises(RequestError, match=f"no selection stage '{stage}'; it has 02-first, 03-select"):
            data(work, stage)


def test_a_work_without_a_select_stage_is_one_sentence(tmp_path):
    work = work_of(tmp_path, rows_of(), [1])
    write_plan(work, "none", ["00-load"])
    with pytest.raises(RequestError, match="no selection to report on; it has 00-load; add"):
        write(work)
    assert not (work / "selection.html").exists()


def test_a_folder_that_is_no_work_is_one_sentence(tmp_path):
    with pytest.raises(WorkError, match="is not a work folder"):
        write(tmp_path)


def test_a_damaged_work_is_one_sentence(tmp_path):
    work, rows, _ = whole_work(tmp_path)
    np.save(work / "01-embed/vectors.npy", np.ones((80, 8)))
    with pytest.raises(WorkError, match=r"80 vectors for 90 rows.*run the recipe again"):
        write(work)
    (work / "01-embed/vectors.npy").write_bytes(b"no array")
    with pytest.raises(WorkError, match="01-embed cannot be read"):
        write(work)
    (shard,) = table.shards(work / "03-select/kept")
    table.write(work / "03-select/kept", rows)
    with pytest.raises(WorkError, match="no column `rank`"):
        write(work)
    shard.write_bytes(b"no parquet")
    with pytest.raises(WorkError, match="kept cannot be read"):
        write(work)
    shard.unlink()
    with pytest.raises(WorkError, match=r"kept holds no part-\*.parquet"):
        write(work)


def test_a_selection_of_an_earlier_recipe_says_so(tmp_path):
    work, *_ = whole_work(tmp_path)
    assert data(work)["old"] is False and "earlier recipe" not in html(work)
    write_plan(work, "nine", ["00-load", "01-embed", "02-topic", "03-select"], select="another key")
    assert data(work)["old"] is True and "It is of an earlier recipe" in html(work)


def test_the_module_is_light():
    assert not {"matplotlib", "sklearn", "torch"} & set(vars(selection_report))
