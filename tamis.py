"""Tamis: the finest sieve for instruction data. What users import.

    import tamis
    tamis.run("recipe.yaml")                                     # all that a recipe holds
    pool = tamis.pool(table, vectors)                            # a polars table with an `id`, and optionally vectors
    picks = tamis.select(pool, "facility_location", budget=1000)
    table[picks.index.tolist()]
    tamis.diversity(pool, picks)                                 # measures, each beside random subsets of the same size

Nothing heavy is imported until a function needs it.
"""

from __future__ import annotations

import operator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.contract.errors import TamisError

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

    from curate.rows.pool import Clusters, Duplicates, Picks, Pool
    from curate.run.runner import Outcome

__version__ = "0.1.0"
__all__ = ["Clusters", "Duplicates", "Picks", "Pool", "TamisError", "diversity", "load", "pool", "run", "select"]


def __getattr__(name: str) -> Any:
    """What methods beside a recipe give back: ``from tamis import Picks``."""
    if name in ("Clusters", "Duplicates", "Picks", "Pool"):
        from curate.rows import pool as nouns

        return getattr(nouns, name)
    raise AttributeError(f"module 'tamis' has no attribute '{name}'")


def run(
    recipe: str | Path,
    *,
    work: str | Path | None = None,
    sets: dict[str, Any] | None = None,
    until: str | None = None,
    workers: int = 1,
) -> Outcome:
    """Runs a recipe, as `tamis run` does. sets: overrides, as {"select.budget": 500}. Returns what was done and the funnel.

    Raises TamisError with one sentence (RecipeError holds every problem of the file).
    """
    import dataclasses
    import json

    from curate.report import funnel
    from curate.run import recipe as recipes
    from curate.run import runner

    asked = recipes.read(recipe, [f"{key}={json.dumps(value, default=str)}" for key, value in (sets or {}).items()])
    outcome = runner.run(asked, Path(work) if work else Path("work") / asked.name, until=until, workers=workers)
    return dataclasses.replace(outcome, funnel=funnel.rows(outcome.work))


def load(work: str | Path, stage: str | None = None, *, removed: bool = False) -> pl.DataFrame:
    """The table of a stage in a work folder, by title or name (the last one that the last run came to, if not named), or the
    rows that it removed."""
    from curate.run.work import Work

    there = Work(work)
    if stage is None and not any(not done.old for done in there.tables):
        raise TamisError(f"{work} has no finished stage; run its recipe first")
    done = there.stage(stage) if stage else [done for done in there.tables if not done.old][-1]
    return done.read("removed" if removed else "kept")


def pool(table: pl.DataFrame, vectors: np.ndarray | None = None) -> Pool:
    """Rows to choose from: a table with a column `id` of distinct texts, n rows, and vectors (n, d) of finite real numbers, if the
    selector needs them; integers and floats of another size than 32 or 64 bits are copied as float32."""
    import numpy
    import polars

    from curate.contract.errors import ContractError
    from curate.rows.pool import Pool, real

    if not isinstance(table, polars.DataFrame) or table.schema.get("id") != polars.String:
        raise ContractError(
            "a pool is made of a polars DataFrame with a column `id` of texts; others: polars.from_pandas(…)"
        )
    if table["id"].n_unique() != table.height:
        raise ContractError(
            f"the column `id` has {table.height - table['id'].n_unique():,} values twice; make them distinct"
        )
    if vectors is not None and (
        not isinstance(vectors, numpy.ndarray) or vectors.shape[:1] != (table.height,) or vectors.ndim != 2
    ):
        shape = getattr(vectors, "shape", type(vectors).__name__)
        raise ContractError(
            f"the vectors of a pool are a numpy array ({table.height:,} rows, dimensions), and here {shape}"
        )
    return Pool(table, None if vectors is None else real(vectors, table["id"]))


def select(
    pool: Pool, method: str = "facility_location", *, budget: int | dict[str, Any], seed: int = 0, **options: Any
) -> Picks:
    """Chooses rows of a pool. Returns Picks(index, gain, facts) in the order of picking: every prefix is the smaller subset.

    method: a file name in curate/select (`tamis methods select` lists them). budget: rows, or {"tokens": 200_000, "tokenizer":
    "words"}. options: the method's own, and what every selector obeys: quotas, at_most, must_have, must_not_have, quality
    (curate/rows/constraints.py). Raises MethodError for an unknown method or option, DataError for a budget larger than the pool or
    constraints that cannot be met, ContractError where vectors or a column are missing.
    """
    from curate.contract import methods
    from curate.contract.errors import MethodError
    from curate.rows.pick import pick

    found = methods.find("select", method)
    shared = methods.signature("curate/rows/constraints.py", "common") if "constraints" in found.takes else ()
    words = {parameter.word: parameter for parameter in (*found.parameters, *shared) if parameter.word != "budget"}
    for word in options:
        if word not in words:
            takes = ", ".join(map(str, words.values())) or "no options"
            raise MethodError(f"select {method} has no option '{word}'{methods.nearest(word, words)}; it takes {takes}")
    for word, parameter in words.items():
        if word not in options and parameter.default is methods.REQUIRED:
            raise MethodError(f"select {method} needs '{word}' ({parameter.annotation})")
        fits = (
            word not in options
            or options[word] is parameter.default
            or methods.accepts(parameter.annotation, options[word])
        )
        if not fits:
            raise MethodError(f"select {method}: '{word}' is {options[word]!r}, and should be {parameter.annotation}")
    whole = budget if isinstance(budget, dict | bool) or not hasattr(budget, "__index__") else operator.index(budget)
    return pick(found, pool, whole, options, seed)


def diversity(pool: Pool, picks: Picks, *, seed: int = 0, subsets: int | None = None) -> dict[str, Any]:
    """How diverse picks are, against random subsets of the same size: as a whole, subsets, p, largest, z and clear, and under
    ``measures`` a dict a measure with name, about, better, value, random_mean, random_sd, z, percentile and p.
    curate/diversity/family.py says what they are, against_random.py what they cost; measures that do not apply are left out."""
    from curate.diversity.against_random import report

    return report(pool.table, pool.vectors, picks.index, seed=seed, subsets=subsets)
