"""The floor of noise: the same arm against itself, on the user's own model and data (A/A runs).

Of each draw's random order the first N rows are one arm and the next N the other. They share the draw, its seed, the order of
training and the items, as two arms of a study do, and differ in nothing that is worth anything: what is found between them is
noise, and a difference that is smaller says nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from curate.contract.errors import DataError, RequestError
from curate.contract.files import read_json, whole, write_bytes, write_json
from train.study.analysis import analyse
from train.study.expected import noise, sees
from train.study.run import study

AGAIN = "random again"


def floor(out: Path, *, arms: Path, budget: int | None, draws: int, **options: Any) -> dict[str, Any]:
    """Trains ``draws`` pairs and writes floor.json: the smallest difference that is no noise, and its parts.

    arms: the folder that a study reads. budget: N; half the largest that the reference picked, if left out. options: of
    `train.study.run.study`. Raises RequestError where the subsets are too short for two arms of N rows.
    """
    reference = options.get("reference", "random")
    own = next((c for c in read_json(arms / "conditions.json")["conditions"] if c["label"] == reference), None)
    if own is None:
        raise RequestError(f"floor: the reference `{reference}` is not among the arms of {arms}")
    size = budget or max(own["budgets"]) // 2
    folder = out / "arms"
    for draw in range(draws):
        picked = arms / own["subsets"] / f"{draw}.parquet"
        if not picked.is_file():
            raise RequestError(f"floor: {picked} is missing; the study has {draw} draws: ask for so many")
        ids = pq.read_table(picked).sort_by("rank")["id"].to_pylist()
        if len(ids) < 2 * size:
            raise DataError(
                f"floor: {picked} holds {len(ids):,} rows, and two arms of {size:,} need {2 * size:,}; ask for a smaller budget"
            )
        for name, some in (("one", ids[:size]), ("two", ids[size : 2 * size])):
            with whole(folder / name / f"{draw}.parquet") as temporary:
                pq.write_table(pa.table({"id": some, "rank": pa.array(range(size), pa.int32())}), temporary)
    write_bytes(folder / "holdout.parquet", (arms / "holdout.parquet").read_bytes())
    same = {**own, "rows": str((arms / own["rows"]).resolve()), "budgets": [size]}
    pair = [{**same, "subsets": "one"}, {**same, "label": AGAIN, "arm": AGAIN, "subsets": "two"}]
    every = [
        name.removeprefix("in.") for name in pq.read_schema(folder / "holdout.parquet").names if name.startswith("in.")
    ]
    write_json(folder / "conditions.json", {"conditions": [{**one, "sets": every} for one in pair]})
    study(out, arms=folder, draws=draws, **{**options, "equal": "examples", "compare": []})
    analysis = analyse(pq.read_table(out / "results.parquet"), reference=reference, delta=1.0)
    found = noise(analysis)
    items = min(len(view.results.items) for view in analysis.views)
    facts = {
        "budget": size,
        "draws": draws,
        "items": items,
        "smallest": sees(found, draws, items, 1),
        "components": vars(found),
        "found": {view.name: [float(c.difference.value) for c in view.comparisons] for view in analysis.views},
    }
    write_json(out / "floor.json", facts)
    return facts
