"""Clusters of tasks found from their records."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from curate.contract.errors import ContractError
from curate.embed import hashing
from curate.rows.task_clusters import find
from curate.run import recipe as recipes
from curate.run.runner import run

WORDS = {
    "add": "What is {i} plus {j}? Add the numbers.",
    "times": "What is {i} times {j}? Multiply the numbers.",
    "german": "Übersetze ins Deutsche: the {i} dogs of house {j} bark",
    "german_back": "Übersetze ins Englische: die {i} Hunde von Haus {j} bellen",
    "mood": "Film review {i}: a lovely, tender picture, seen {j} times. Positive or negative?",
    "stars": "Film review {i}: a dull, endless picture, seen {j} times. How many stars?",
}
PAIRS = {"add": "arithmetic", "times": "arithmetic", "german": "translation", "german_back": "translation"}


def table(n: int = 40, tasks: dict[str, str] = WORDS) -> pl.DataFrame:
    rows = [
        {
            "id": f"{task}-{i}", "task": task, "source": "s", "task_cluster": PAIRS.get(task),
            "prompt": text.format(i=i, j=i * 7 % 11), "response": str(i),
        }
        for task, text in tasks.items()
        for i in range(n)
    ]  # fmt: skip
    return pl.DataFrame(rows)


def test_tasks_that_read_alike_are_put_together_and_agree_with_the_known_clusters():
    tasks = find(table(), hashing.embed, 0)
    groups: dict[str, set[str]] = {}
    for task, cluster in tasks.cluster.items():
        groups.setdefault(cluster, set()).add(task)
    assert sorted(map(sorted, groups.values())) == [["add", "times"], ["german", "german_back"], ["mood", "stars"]]
    assert all(name.removeprefix("auto_") in tasks for name, tasks in groups.items())
    assert tasks.agreement == 1.0
    assert 0.2 < tasks.silhouette <= 1
    assert tasks.lines()[0].startswith("task clusters: 3 of 6 tasks, silhouette 0.")


def test_the_order_of_the_rows_changes_nothing():
    rows = table()
    assert find(rows, hashing.embed, 0) == find(rows.reverse(), hashing.embed, 0)


def test_with_no_known_cluster_there_is_no_agreement():
    tasks = find(table().with_columns(pl.lit(None, pl.String).alias("task_cluster")), hashing.embed, 0)
    assert tasks.agreement is None
    assert "adjusted" not in tasks.lines()[0]


def test_a_row_without_a_task_is_of_its_source():
    rows = table().with_columns(source=pl.col("task"), task=pl.lit(None, pl.String))
    assert set(find(rows, hashing.embed, 0).cluster) == set(WORDS)


def test_two_tasks_are_too_few_to_cluster():
    with pytest.raises(ContractError, match="needs three tasks or more, and there are: add, times"):
        find(table(tasks={name: WORDS[name] for name in ("add", "times")}), hashing.embed, 0)


def test_a_text_without_words_does_no_harm():
    rows = table(5).with_columns(pl.when(pl.col("task") == "add").then(pl.lit("")).otherwise("prompt").alias("prompt"))
    assert np.isfinite(find(rows.with_columns(response=pl.lit("")), hashing.embed, 0).silhouette)


def test_a_recipe_finds_clusters_for_its_sources_and_leaves_the_named_ones(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("curate.embed.sentence.embed", hashing.embed)
    lines = []
    for task, text in WORDS.items():
        rows = [{"prompt": text.format(i=i, j=i * 7 % 11), "completion": str(i)} for i in range(30)]
        (tmp_path / f"{task}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
        cluster = "films" if task == "mood" else "auto"
        lines.append(f"  - files: {{path: {task}.jsonl, name: {task}, license: mit, task_cluster: {cluster}}}\n")
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "name: auto\nload:\n" + "".join(lines) + "holdout: {task_cluster: films}\nrender: {templates: one}\n", "utf-8"
    )
    run(recipes.read(path, []), tmp_path / "work")
    kept = pl.concat([pl.read_parquet(p) for p in sorted((tmp_path / "work").glob("*-task_clusters/kept/*.parquet"))])
    clusters = dict(kept.select("source", "task_cluster").unique().iter_rows())
    assert clusters["mood"] == "films"
    assert clusters["add"] == clusters["times"] == f"auto_{clusters['add'].removeprefix('auto_')}"
    assert clusters["german"] == clusters["german_back"] != clusters["add"]
    facts = json.loads(next((tmp_path / "work").glob("*-task_clusters/manifest.json")).read_text("utf-8"))
    assert "agreement_with_flan" in json.dumps(facts)
