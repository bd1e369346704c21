"""The same bytes on any number of threads and workers, on rows that are nearly all near-copies of others."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from conftest import bytes_of, write_jsonl
from threadpoolctl import threadpool_limits

from curate.contract import methods
from curate.contract.methods import REQUIRED
from curate.diversity import against_random
from curate.rows.pick import pick
from curate.rows.pool import Pool

ROWS, DIMENSIONS = 1_600, 96
SMALLER = {"car": {"k": 8}, "kmq": {"k": 16}, "hierarchical": {"k": 8, "leaves": 32}, "mini_batch": {"k": 16}}
FILLED = {"score": "score_a", "labels": "cluster", "target": {"source": "s3"}}  # what methods cannot do without
MORE: list[tuple[str, dict[str, Any]]] = [
    ("centroid", {"k": 20}),
    ("facility_location", {"neighbours": 8}),
    ("facility_location", {"epsilon": 0.1}),
    ("facility_location", {"partitions": 3}),
    ("facility_location", {"quality": {"score_a": 0.3}}),
    ("graph_cut", {"lambda_": 2.0}),
    ("k_center", {"outliers": 0.05}),
    ("mig", {"labels": "cluster", "similarity": 0.3}),
    ("rds", {**FILLED, "how": "max"}),
    ("rds", {**FILLED, "how": "mean"}),
]


@pytest.fixture(scope="module")
def pool() -> Pool:
    """Eighty rows, each with copies and with near-copies at distances from 1e-7 to 1, and two rows of zeros."""
    rng = np.random.default_rng(4)
    apart = 10.0 ** rng.uniform(-7, 0, (ROWS, 1))
    apart[::10] = 0
    vectors = rng.normal(size=(80, DIMENSIONS))[rng.integers(0, 80, ROWS)] + apart * rng.normal(size=(ROWS, DIMENSIONS))
    vectors[[5, 7]] = 0
    table = pl.DataFrame(
        {
            "id": [f"r{i:05d}" for i in rng.permutation(ROWS)],
            "source": [f"s{i}" for i in rng.integers(0, 40, ROWS)],
            "prompt": [f"why {i}" for i in rng.integers(0, 99, ROWS)],
            "response": ["so " * i for i in rng.integers(1, 30, ROWS)],
            "score_a": rng.normal(size=ROWS) ** 2,
            "cluster": rng.integers(0, 30, ROWS).astype(np.int32),
        }
    )
    return Pool(table, vectors.astype(np.float32))


def on_one_and_two_threads(work: Callable[[], Any]) -> tuple[Any, Any]:
    with threadpool_limits(1):
        one = work()
    with threadpool_limits(2):
        return one, work()


def options_of(method: methods.Method) -> dict[str, Any]:
    must = {given.word for given in method.parameters if given.default is REQUIRED} - {"budget"}
    return {word: FILLED[word] for word in must} | SMALLER.get(method.name, {})


def test_a_product_of_these_rows_differs_between_one_thread_and_two_if_the_matrix_library_cuts_it(pool: Pool) -> None:
    vectors = pool.need_vectors("test")
    one, two = on_one_and_two_threads(lambda: vectors @ vectors.T)
    if one.tobytes() == two.tobytes():
        pytest.skip("this matrix library gives the same bits on two threads, so nothing here can fail")


def cases() -> list[tuple[str, dict[str, Any]]]:
    return [(name, options_of(methods.find("select", name))) for name in sorted(methods.all_of("select"))] + MORE


@pytest.mark.parametrize(
    ("name", "options"), cases(), ids=lambda case: case if isinstance(case, str) else "-".join(case)
)
def test_a_selector_picks_the_same_bytes_on_one_thread_and_two(pool: Pool, name: str, options: dict[str, Any]) -> None:
    method = methods.find("select", name)
    one, two = on_one_and_two_threads(lambda: pick(method, pool, 60, options, 1))
    np.testing.assert_array_equal(one.index, two.index)
    assert one.gain.tobytes() == two.gain.tobytes() and repr(one.facts) == repr(two.facts)


@pytest.mark.parametrize("name", sorted(methods.all_of("cluster")))
def test_a_clustering_gives_the_same_bytes_on_one_thread_and_two(pool: Pool, name: str) -> None:
    method = methods.find("cluster", name)
    call = method.call_options(SMALLER.get(name, {}), seed=1)
    one, two = on_one_and_two_threads(lambda: method.function()(pool.vectors, **call))
    np.testing.assert_array_equal(one.label, two.label)
    assert one.distance.tobytes() == two.distance.tobytes()


def test_the_diversity_report_says_the_same_on_one_thread_and_two(pool: Pool) -> None:
    chosen = np.arange(0, ROWS, 2)
    one, two = on_one_and_two_threads(lambda: against_random.report(pool.table, pool.vectors, chosen, subsets=6))
    assert repr(one) == repr(two)


RECIPE = """\
name: bytes
load:
{load}
holdout: {{rows: 20}}
steps:
  - filter: {{length: {{min_words: 2}}}}
  - dedup: exact
  - embed: {{hashing: {{}}}}
  - cluster: {{kmeans: {{k: 6}}}}
  - select: {{novel_select: {{budget: 40}}}}
render: {{templates: one}}
release: {{}}
"""


@pytest.mark.slow
def test_a_recipe_leaves_the_same_bytes_on_any_number_of_threads_and_workers(tmp_path: Path) -> None:
    rng, load = np.random.default_rng(0), []
    words = np.array([f"{a}{b}" for a in ("ba", "lo", "mi", "ru", "se") for b in ("ne", "ta", "vo", "ki", "du")])
    sentences = [" ".join(rng.choice(words, 12)) for _ in range(99)]
    for number in range(4):  # a source is a shard
        rows = [
            {"instruction": f"tell me {i} of {number}", "output": f"{sentences[rng.integers(99)]} {words[i % 25]}"}
            for i in range(120)
        ]
        write_jsonl(tmp_path / f"{number}.jsonl", rows)
        load.append(f"  - files: {{path: {number}.jsonl, name: s{number}, shape: alpaca, license: mit}}")
    (tmp_path / "recipe.yaml").write_text(RECIPE.format(load="\n".join(load)))
    running = {}
    for threads, workers in ((1, 1), (2, 2), (2, 4)):
        work = tmp_path / f"work-{threads}-{workers}"
        of = dict.fromkeys(
            ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS"), str(threads)
        )
        running[work] = subprocess.Popen(
            [sys.executable, "-m", "curate.cli", "run", "recipe.yaml", "--work", str(work), "--workers", str(workers)],
            cwd=tmp_path,
            env=os.environ | of | {"TAMIS_CACHE": f"{work}-cache"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    said = {work: process.communicate()[0] for work, process in running.items()}
    assert [said[work] for work, process in running.items() if process.returncode] == []
    first, *others = [bytes_of(work) for work in running]
    assert sum("load/kept" in name for name in first) == 4
    for other in others:
        assert other.keys() == first.keys()
        assert [name for name in first if first[name] != other[name]] == []
