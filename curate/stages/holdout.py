"""Holdout: rows set aside for evaluation before anything is chosen, whole groups of duplicates at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from curate.contract import columns, methods
from curate.contract.draws import draw
from curate.contract.methods import Parameter
from curate.rows.holdout import PRETRAIN_REASON, REASON, hold_out, split
from curate.run.job import Job
from curate.run.stage import Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "holdout"
EXAMPLE = "holdout: {fraction: 0.05}"
RENAMED = {"base": "pretrain"}
_WAYS = ("fraction", "rows", "task_cluster")


def options() -> tuple[Parameter, ...]:
    pretrain = "a further share, set aside as the text that `model: tiny` is pretrained on"
    return (
        *methods.signature("curate/rows/holdout.py", "split", skip=1, without=("seed",)),
        Parameter("pretrain", "float", 0.0, pretrain),
    )


def bind(given: Any, ask: Ask) -> Step | None:
    bound = ask.bind("holdout", options(), given, renamed=RENAMED)
    if sum(bound[way] is not None for way in _WAYS) != 1:
        ask.say("holdout needs exactly one of `fraction`, `rows`, `task_cluster`")
    if bound["fraction"] is not None and not 0 < bound["fraction"] < 1:
        why = f"holdout: fraction is {bound['fraction']}; it must lie between 0 and 1, as in `fraction: 0.05`"
        ask.say(why, "fraction")
    if bound["rows"] is not None and bound["rows"] < 1:
        ask.say(f"holdout: rows is {bound['rows']}; it must be 1 or more", "rows")
    if bound["overlap"] not in (None, "fail", "remove"):
        ask.say(f"holdout: overlap is {bound['overlap']!r}; it is `fail` or `remove`", "overlap")
    return Step(kind="holdout", name="holdout", method="holdout", options=bound, written=bound)


def compute(job: Job, step: Step) -> dict[str, Any]:
    asked = dict(step.options)
    share = asked.pop("pretrain")
    whole = job.light()
    sides = split(whole, seed=job.seed, **asked)
    aside = sides["aside"].to_numpy()
    reason = np.where(aside, REASON, sides[columns.REASON].to_numpy())
    if share:
        rest = np.flatnonzero(~aside & sides[columns.REASON].is_null().to_numpy())
        seed = draw(job.seed, "holdout", "base") % 2**31
        reason[rest[hold_out(whole[rest.tolist()], fraction=share, seed=seed)]] = PRETRAIN_REASON
    reasons = pl.Series(columns.REASON, reason.tolist(), dtype=pl.String)
    shared = sides.select(columns.DUPLICATE_OF, columns.MATCHED)
    looked = shared[columns.MATCHED].null_count() < shared.height
    job.remove(reasons, **(shared.to_dict() if looked else {}))
    neither = sides[columns.REASON].drop_nulls().value_counts(sort=True)
    return {
        "held_out": int(aside.sum()),
        "pretrain": int((reasons == PRETRAIN_REASON).sum()),
        **({"on_neither_side": dict(neither.iter_rows())} if neither.height else {}),
    }
