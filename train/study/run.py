"""A study: every arm at every budget on every draw trains the same base model, and all are scored on the same held-out rows.

    facts = study(out, rows_path=…, holdout_path=…, subsets=…, train={"model": "tiny", …}, arms=["random", "longest"], budgets=[64, 256])
    print(facts["headline"])

What it reads in SUBSETS: <arm>/<draw>.parquet (id, rank), each nested by rank. What it leaves in OUT:

    results.parquet             tidy: arm, budget, draw, seed, item, task, value (bits per byte), bits, bytes
    runs.parquet                what each run was given: key, examples, steps, tokens, targets, response bytes, losses
    analysis.json  report.html  plot.png

The runs themselves are kept in the store that all works share (kind ``runs``), each under a key of all that decides its
result. So a stopped study goes on where it was, a new arm, budget or draw trains its own runs only, and what the analysis
makes of them trains nothing. Runs are paired: on one draw, all arms share the pool, the seed (hashed from the draw and the
seed's number), the order keys and the items.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pyarrow.compute as pc

from curate.contract.errors import RequestError
from curate.contract.files import write_json
from train.run import versions
from train.settings import base_model
from train.study.analysis import analyse
from train.study.facts import facts as summarise
from train.study.bench import Bench, Result, Run
from train.study.inputs import Rows, encoder_of, model_of, read_rows, settings
from train.study.outcome import arms_given, write_results
from train.study.plan import plan
from train.study.queue import train_all
from train.study.report import write_report


def study(
    out: Path,
    *,
    rows_path: Path,
    holdout_path: Path,
    subsets: Path,
    train: dict[str, Any],
    arms: list[str],
    budgets: list[int],
    draws: int = 5,
    seeds: int = 1,
    equal: Literal["examples"] = "examples",
    items: int = 400,
    reference: str = "random",
    reference_budgets: list[int] | None = None,
    delta: float = 0.02,
    base_texts: list[str] | None = None,
    name: str = "study",
    seed: int = 0,
    workers: int = 1,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Trains, scores, analyses and reports; returns the facts (headline, sentences, table, design).

    rows_path, holdout_path: parquet with id, messages and task. subsets: the folder of what each arm picked on each draw.
    train: the options of `train.run.train`. arms: their names. budgets: how many examples each arm is trained on, smallest
    first. draws: parts of the pool, 80 % each, that every arm picks from; five or more for an interval over draws. seeds:
    runs with seeds of their own on every draw. equal: what arms have the same of at a budget. items: at most so many held-out
    rows, drawn by hash, are scored. reference: the arm that all others are compared with. reference_budgets: budgets at which
    the reference alone is trained, so that more of m(N) lies between measured points. delta: the difference in bits per byte
    below which two arms count as equivalent, if that is shown. base_texts: what ``model: tiny`` is pretrained on. name: what
    the report calls it. seed: of the runs and of the choice of items. workers: processes, of one thread each. folder: the
    recipe's, where tuning methods and objectives of its own may stand.

    Cost: (arms × budgets × draws × seeds) runs of max(24, epochs N / batch) steps.
    """
    if reference not in arms:
        raise RequestError(f"study: the reference arm `{reference}` is not among the arms {', '.join(arms)}; add it")
    asked, model = settings(train, folder), model_of(train)
    base = base_model(model, base_texts, seed)
    encoder = encoder_of(base, asked)
    rows = read_rows(rows_path, encoder)
    held_out = read_rows(holdout_path, encoder, at_most=items, seed=seed)
    more: dict[str, list[int]] = {reference: reference_budgets or []}
    ladder = {arm: sorted({*budgets, *more.get(arm, [])}) for arm in arms}
    bench = Bench(base, rows.documents, held_out.documents, asked)
    runs = plan(Path(subsets), ladder, draws, seeds, seed, bench, rows, held_out)
    results = train_all(runs, bench, workers)

    analysis = analyse(write_results(Path(out), runs[1:], results, held_out.task), reference=reference, delta=delta)
    design = {
        "name": name,
        "equal": equal,
        "seed": seed,
        **_measured(model, bench, runs, results, rows, held_out),
        "versions": versions(),
    }
    facts = {**summarise(analysis), "design": design}
    write_json(Path(out) / "analysis.json", facts)
    write_report(Path(out), analysis, design)
    return facts


def _measured(
    model: str, bench: Bench, runs: list[Run], results: dict[str, Result], rows: Rows, held_out: Rows
) -> dict[str, Any]:
    """What was trained and on what, and how the base model does as it is."""
    untuned = results[runs[0].key]
    bits, size = (pc.sum(untuned.items[name]).as_py() for name in ("bits", "bytes"))  # pyright: ignore
    return {
        "base": {"model": model, "parameters": untuned.facts["parameters"], "bits_per_byte": bits / size},
        "train": {"model": model, **bench.settings.facts, "pack_tokens": bench.settings.pack_tokens},
        "arms": arms_given(runs[1:], results, bench.settings.examples),
        "holdout": held_out.n_rows,
        "items": len(held_out),
        "truncated": {"rows": rows.n_truncated, "items": held_out.n_truncated},
    }
