"""The stages of a recipe: the plan, and one function a kind. Each takes a Job and writes kept/ and removed/ into its folder.

Tables go through shard by shard; only what a method must see whole (texts for dedup, vectors and a few columns for
selection) is held in memory.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns, methods
from curate.contract.draws import draw
from curate.contract.errors import ContractError, DataError
from curate.contract.files import read_json, write_json
from curate.contract.progress import bar, say, track
from curate.diversity import against_random as diversity_report
from curate.rows import cluster_names, table, task_clusters, token_counts
from curate.rows.pick import pick
from curate.rows.pool import Pool
from curate.run.recipe import Recipe, Source, Step
from curate.run.runner import Job, Stage, key_of, state
from curate.vectors import store

_HERE = Path(__file__).resolve().parent.parent
_RAW = f"{columns.FIELDS}."  # before the name of a source's own column
_HEAVY = (columns.MESSAGES, columns.FIELDS, columns.EXTRA)  # columns that no selector reads
BASE_REASON = "base: set aside to pretrain the tiny base model"
HOLDOUT_REASON = "holdout: set aside for evaluation"
_NAMED_CLUSTERS = 1_000  # at most; more names than that nobody reads
_MIX_LINES = 100  # of a mixture's plan that a run prints


def plan(recipe: Recipe) -> tuple[Stage, ...]:
    """All stages of a recipe, with their keys. Reads the sources' bytes (to hash them), computes nothing."""
    stages: list[Stage] = []
    seen: dict[tuple[str, str], int] = {}

    def add(
        name: str, kind: str, method: str, options: dict[str, Any], compute: Any, code: list[Path], **parts: Any
    ) -> None:
        tabular = kind not in ("release", "model", "study")
        title = f"{sum(stage.tabular for stage in stages):02d}-{name}" if tabular else name
        parent = next((stage for stage in reversed(stages) if stage.tabular), None)
        seed = _seed(recipe.seed, kind, method, seen)
        source, versions = methods.source_and_versions(code)
        key = key_of(
            parent, kind=kind, method=method, options=options, seed=seed, source=source, versions=versions, **parts
        )
        stages.append(Stage(title, name, kind, method, options, seed, key, source, versions, parent, compute))

    sources = [
        {"name": source.name, "kind": source.method.name, **source.options, "content": _fingerprint(source, recipe)}
        for source in recipe.sources
    ]
    load_code = [_HERE / "load/records.py", *(source.method.path for source in recipe.sources)]
    add("load", "load", "load", {}, _load, load_code, sources=sources, sets=_set_hashes(recipe, "record_hash"))
    if any(source.options.get("task_cluster") == task_clusters.AUTO for source in recipe.sources):
        add(
            "task_clusters",
            "task_clusters",
            task_clusters.AUTO,
            {},
            _task_clusters,
            [_HERE / "rows/task_clusters.py", _HERE / "embed/sentence.py"],
        )
    if recipe.holdout:
        add("holdout", "holdout", "holdout", recipe.holdout, _holdout, [_HERE / "rows/holdout.py"])
    for step in recipe.steps:
        options = step.options if step.text is None else {**step.options, "text": step.text}
        compute = _step(step)
        code = [step.method.path, *([_HERE / "vectors/store.py"] if step.kind == "embed" else [])]
        files = _files_read(step, recipe)
        add(step.name, step.kind, step.method.name, options, compute, code, where=step.where, **files)
    first_select = next((stage for stage in stages if stage.kind == "select"), None)
    if recipe.mix:
        add("mix", "mix", recipe.mix[0], recipe.mix[1], _mix, [_HERE / "mix/quotas.py"], **_mix_parts(recipe))
    sets = _set_hashes(recipe, "source_hash")
    if recipe.render is not None or recipe.train or recipe.study or recipe.release is not None:
        add(
            "render",
            "render",
            "templates",
            recipe.render or {"templates": "one"},
            _render,
            [_HERE / "render/rows.py"],
            sets=sets,
        )
    if recipe.release is not None:
        add(
            "release",
            "release",
            "card",
            recipe.release,
            _release,
            [_HERE / "release/card.py"],
            recipe=_of_release(recipe),
            sets=_layout_hashes(),
        )
    train_code = [_HERE.parent / "train" / name for name in ("run.py", "tiny.py")]
    if recipe.train:
        chosen = [_HERE.parent / f"train/{kind}/{name}.py" for kind, name in _chosen(recipe.train)]
        add("model", "model", "train", recipe.train, _train, [*train_code, *chosen], model=_model_content(recipe))
        if recipe.study is not None:
            assert first_select is not None
            arms = {arm: {method.name: options} for arm, (method, options) in recipe.arms.items()}
            options = {
                "arms": arms,
                **recipe.study,
                "train": recipe.train,
                "render": recipe.render or {"templates": "one"},
            }
            code = [
                *train_code,
                *chosen,
                *(method.path for method, _ in recipe.arms.values()),
                *sorted((_HERE.parent / "train/study").glob("*.py")),
                *sorted((_HERE.parent / "train/scoring").glob("*.py")),
            ]
            pool = first_select.parent.key if first_select.parent else None
            add(
                "study",
                "study",
                "study",
                options,
                _study,
                code,
                pool=pool,
                sets=sets,
                model=_model_content(recipe),
                called=recipe.name,
            )
    return tuple(stages)


def _seed(seed: int, kind: str, method: str, seen: dict[tuple[str, str], int]) -> int:
    """The recipe's seed; a method that is used again gets one of its own, so that two random steps do not draw alike."""
    nth = seen[kind, method] = seen.get((kind, method), -1) + 1
    return seed if nth == 0 else draw(seed, f"step.{kind}.{method}", str(nth)) % 2**31


def _fingerprint(source: Source, recipe: Recipe) -> dict[str, Any]:
    from curate.load import records

    return records.fingerprint(
        source.method.name, {**source.options, "name": source.name}, base=recipe.data, templates=recipe.base
    )


def _set_hashes(recipe: Recipe, which: str) -> dict[str, str]:
    """The template sets that the recipe's sources may use, with a hash of each: a changed template reruns what reads it."""
    from curate.template import sets as template

    names: set[str] = set()
    for source in recipe.sources:
        shape = source.options.get("as")
        if source.options.get("template"):
            names.add(str(source.options["template"]))
        elif shape:
            names.add(f"pools/{shape}")
        elif source.method.name == "docstrings":
            names.add("pools/docstrings")
        else:
            names |= {name for name in template.names() if name.startswith("pools/")}
    return {name: getattr(template.load_set(name, recipe.base), which) for name in sorted(names)}


def _files_read(step: Step, recipe: Recipe) -> dict[str, Any]:
    """What a step depends on beside its options, so that a changed file is read again: the vectors of `embed: file`, the
    tokenizer of a budget in tokens."""
    budget = step.options.get("budget")
    if isinstance(budget, dict):
        return {"tokenizer": token_counts.fingerprint(budget.get("tokenizer", "words"), recipe.base)}
    if step.kind == "embed" and step.text == columns.ID:
        return {"files": step.method.function("identity")(**step.method.call_options(step.options, base=recipe.data))}
    return {}


def _of_release(recipe: Recipe) -> dict[str, Any]:
    """The part of a recipe that a release depends on, which is the part that its card shows."""
    return {key: value for key, value in recipe.resolved.items() if key not in ("train", "study")}


def _layout_hashes() -> dict[str, str]:
    from curate.contract.files import sha256
    from curate.contract.paths import library

    return {path.name: sha256(path) for path in sorted((library("templates") / "card").glob("*"))}


def _chosen(train: dict[str, Any]) -> list[tuple[str, str]]:
    return [("tuning", next(iter(train["tuning"]))), ("objectives", next(iter(train["objective"])))]


def _model_content(recipe: Recipe) -> dict[str, Any]:
    """A local model's files, by size and time of change; a Hub id is its own name."""
    model = (recipe.train or {}).get("model")
    folder = recipe.base / str(model)
    if isinstance(model, str) and folder.is_dir():
        return {
            path.name: [path.stat().st_size, path.stat().st_mtime_ns]
            for path in sorted(folder.iterdir())
            if path.is_file()
        }
    return {}


# --- tables through a stage ------------------------------------------------------------------------------------------


def _split(
    job: Job,
    reasons: Callable[[pl.DataFrame, int], pl.Series],
    extra: Callable[[int, int], dict[str, pl.Series]] | None = None,
) -> None:
    """Every shard of the parent into kept and removed, by a reason a row (null keeps). Shards already there are not
    done again. extra(start, rows): further columns of the removed rows."""
    start = 0
    for number, path in enumerate(track(table.shards(job.parent / "kept"), f"{job.stage.name}: shards")):
        rows = pl.scan_parquet(path).select(pl.len()).collect().item()
        name = f"part-{number:05d}.parquet"
        if not all((job.folder / side / name).is_file() for side in ("removed", "kept")):
            part = pl.read_parquet(path)
            reason = reasons(part, start).alias(columns.REASON)
            gone = part.with_columns(pl.lit(job.stage.title).alias(columns.STAGE), reason)
            if extra:
                gone = gone.with_columns(**extra(start, part.height))
            table.write_shard(job.folder / "removed", number, gone.filter(pl.col(columns.REASON).is_not_null()))
            table.write_shard(job.folder / "kept", number, part.filter(reason.is_null()))
        start += rows


def _where(part: pl.DataFrame, where: dict[str, list[str]]) -> pl.Series:
    """Which rows a step may touch."""
    mask = pl.lit(True)
    for column, values in where.items():
        mask = mask & pl.col(column).is_in(values)
    return (
        part.select(mask.fill_null(False).alias("where")).to_series()
        if where
        else pl.repeat(True, part.height, eager=True)
    )


def _link_kept(job: Job) -> None:
    """The parent's kept shards, as they are: a hard link costs nothing."""
    (job.folder / "kept").mkdir(parents=True, exist_ok=True)
    for path in table.shards(job.parent / "kept"):
        target = job.folder / "kept" / path.name
        if not target.exists():
            try:
                os.link(path, target)
            except OSError:
                with open(path, "rb") as source:
                    from curate.contract.files import write_bytes

                    write_bytes(target, source.read())


def _light(folder: Path, options: Any = None) -> pl.DataFrame:
    """A whole table without the columns that are only carried along. options: of selectors; a source's own column that they
    name, as `fields.score`, is read too, as numbers where all its values are."""
    raw = sorted(_raw(options))
    parts, frames = table.shards(folder / "kept"), []
    for part in parts:
        light = [c for c in pl.read_parquet_schema(part) if c not in _HEAVY or (raw and c == columns.FIELDS)]
        rows = pl.read_parquet(part, columns=light)
        found = [pl.col(columns.FIELDS).str.json_path_match(f"$.{n.removeprefix(_RAW)}").alias(n) for n in raw]
        frames.append(rows.with_columns(found).drop(columns.FIELDS) if raw else rows)
    whole = pl.concat(frames, how="diagonal") if frames else pl.DataFrame(schema=table.LOAD_SCHEMA)
    for name in raw if whole.height else ():
        values, number = whole[name], whole[name].cast(pl.Float64, strict=False)
        if values.null_count() == whole.height:
            there = pl.read_parquet(parts[0], columns=[columns.FIELDS], n_rows=1)[columns.FIELDS][0]
            raise ContractError(
                f"no row has a column `{name.removeprefix(_RAW)}` of its own; those of the first row are "
                f"{', '.join(json.loads(there or '{}'))}"
            )
        whole = whole.with_columns(number if number.null_count() == values.null_count() else values)
    return whole


def _raw(options: Any) -> set[str]:
    """The names that begin with `fields.` anywhere in options."""
    if isinstance(options, dict):
        return _raw(list(options)).union(*map(_raw, options.values()))
    if isinstance(options, list | tuple):
        return set().union(*map(_raw, options))
    return {options} if isinstance(options, str) and options.startswith(_RAW) else set()


def _vectors(job: Job, ids: pl.Series) -> np.ndarray | None:
    """The vectors of rows, in their order: the memory map itself where nothing was removed since the embedding."""
    embedded = job.before(job.stage, "embed")
    if embedded is None:
        return None
    vectors = np.load(job.work / embedded.title / "vectors.npy", mmap_mode="r")
    known = pl.concat(
        [pl.read_parquet(part, columns=[columns.ID]) for part in table.shards(job.work / embedded.title / "kept")]
    )
    known_ids = known[columns.ID]
    if known_ids.len() == ids.len() and bool((known_ids == ids).all()):
        return vectors
    at = pl.DataFrame({columns.ID: ids}).join(
        known.with_row_index("at"), on=columns.ID, how="left", maintain_order="left"
    )["at"]
    return np.asarray(vectors[at.to_numpy()])


# --- load, holdout ---------------------------------------------------------------------------------------------------


def _load(job: Job) -> dict[str, Any]:
    """Source by source; a source that is whole (its facts are written) is not read again."""
    facts = []
    for number, source in enumerate(job.recipe.sources):
        marker = job.folder / "sources" / f"{number:03d}.json"
        if not marker.is_file():
            write_json(marker, _load_source(job, number, source))
        facts.append(read_json(marker))
    for side in ("kept", "removed"):
        (job.folder / side).mkdir(exist_ok=True)
        if not table.shards(job.folder / side):
            table.write_shard(
                job.folder / side, 0, pl.DataFrame(schema=table.LOAD_SCHEMA if side == "kept" else table.REMOVED_SCHEMA)
            )
    if not any(source["rows"] for source in facts):
        raise DataError(
            "load: no source gave a single record; see the reasons above each removed row with `tamis show WORK --removed`"
        )
    return {"sources": facts}


def _load_source(job: Job, number: int, source: Source) -> dict[str, Any]:
    from curate.load import records

    rows = removed = 0
    licenses: set[str] = set()
    with bar(None, f"load: {source.name}") as advance:
        chunks = records.records(
            source.method.name,
            {**source.options, "name": source.name},
            base=job.recipe.data,
            seed=job.stage.seed,
            templates=job.recipe.base,
            workers=job.workers,
        )
        for chunk, (kept, gone) in enumerate(chunks):
            gone = gone.with_columns(pl.lit(job.stage.title).alias(columns.STAGE))
            table.write_shard(job.folder / "kept", number * 10_000 + chunk, kept)
            if gone.height:
                table.write_shard(job.folder / "removed", number * 10_000 + chunk, gone)
            rows, removed = rows + kept.height, removed + gone.height
            licenses |= set(kept[columns.LICENSE].drop_nulls().unique())
            advance(kept.height)
    return {
        "name": source.name,
        "kind": source.method.name,
        "options": source.options,
        "rows": rows,
        "removed": removed,
        "license": sorted(licenses),
        "content": _fingerprint(source, job.recipe),
    }


def _holdout(job: Job) -> dict[str, Any]:
    from curate.rows.holdout import hold_out, split

    options = dict(job.stage.options)
    base_share = options.pop("base")
    whole = _light(job.parent)
    sides = split(whole, seed=job.stage.seed, **options)
    aside = sides["aside"].to_numpy()
    reason = np.where(aside, HOLDOUT_REASON, sides[columns.REASON].to_numpy())
    if base_share:
        rest = np.flatnonzero(~aside & sides[columns.REASON].is_null().to_numpy())
        base = hold_out(whole[rest.tolist()], fraction=base_share, seed=draw(job.stage.seed, "holdout", "base") % 2**31)
        reason[rest[base]] = BASE_REASON
    reasons = pl.Series(columns.REASON, reason.tolist(), dtype=pl.String)
    shared = sides.select(columns.DUPLICATE_OF, columns.MATCHED)
    looked = shared[columns.MATCHED].null_count() < shared.height
    _split(
        job,
        lambda part, start: reasons.slice(start, part.height),
        (lambda start, rows: shared.slice(start, rows).to_dict()) if looked else None,
    )
    gone = sides[columns.REASON].drop_nulls().value_counts(sort=True)
    return {
        "held_out": int(aside.sum()),
        "base": int((reasons == BASE_REASON).sum()),
        **({"on_neither_side": dict(gone.iter_rows())} if gone.height else {}),
    }


def _task_clusters(job: Job) -> dict[str, Any]:
    """Rows of sources whose `task_cluster` is "auto" get the one that was found for their task."""
    from curate.embed import sentence

    wanted = [columns.ID, columns.TASK, columns.SOURCE, columns.TASK_CLUSTER, columns.PROMPT, columns.RESPONSE]
    parts = table.shards(job.parent / "kept")
    whole = pl.concat([pl.read_parquet(part, columns=wanted) for part in parts])
    found = task_clusters.find(whole, sentence.embed, job.stage.seed)
    sources = [source.name for source in job.recipe.sources if source.options.get("task_cluster") == task_clusters.AUTO]
    for number, part in enumerate(parts):
        rows = pl.read_parquet(part)
        mine = task_clusters.task_of(rows).replace_strict(found.cluster, return_dtype=pl.String)
        cluster = pl.when(pl.col(columns.SOURCE).is_in(sources)).then(mine).otherwise(columns.TASK_CLUSTER)
        table.write_shard(job.folder / "kept", number, rows.with_columns(cluster.alias(columns.TASK_CLUSTER)))
    for line in found.lines():
        say("  " + line)
    return {"clusters": found.cluster, "silhouette": round(found.silhouette, 4), "agreement_with_flan": found.agreement}


# --- steps -----------------------------------------------------------------------------------------------------------


def _step(step: Step) -> Callable[[Job], dict[str, Any]]:
    by_kind = {"filter": _filter, "dedup": _dedup, "embed": _embed, "cluster": _cluster, "select": _select}
    return lambda job: by_kind[step.kind](job, step)


def _filter(job: Job, step: Step) -> dict[str, Any]:
    reject, call = step.method.function(), step.method.call_options(step.options, seed=job.stage.seed)

    def reasons(part: pl.DataFrame, _start: int) -> pl.Series:
        detail = reject(table.text_of(part, step.text or "record"), **call)
        named = pl.select(pl.lit(f"{step.method.name}: ") + detail).to_series()
        return pl.select(pl.when(_where(part, step.where)).then(named).otherwise(None)).to_series().cast(pl.String)

    _split(job, reasons)
    return {}


def _dedup(job: Job, step: Step) -> dict[str, Any]:
    whole = _light(job.parent)
    touched = np.flatnonzero(_where(whole, step.where).to_numpy())
    part = whole[touched.tolist()]
    call = step.method.call_options(step.options, seed=job.stage.seed)
    found = step.method.function()(table.text_of(part, step.text or "record"), **call)
    of = np.arange(whole.height)
    of[touched] = touched[found.of]
    similarity = np.ones(whole.height, np.float32)
    similarity[touched] = found.similarity
    repeated = pl.Series("repeated", of != np.arange(whole.height))
    first = whole[columns.ID].gather(of.tolist())
    reason = pl.select(
        pl.when(repeated).then(pl.lit(f"{step.method.name}: repeats another row")).otherwise(None)
    ).to_series()
    _split(
        job,
        lambda part, start: reason.slice(start, part.height),
        lambda start, rows: {
            columns.DUPLICATE_OF: first.slice(start, rows),
            columns.SIMILARITY: pl.Series(similarity[start : start + rows]),
        },
    )
    return {"groups": int(np.unique(of[of != np.arange(len(of))]).size)}


def _embed(job: Job, step: Step) -> dict[str, Any]:
    read = {columns.PROMPT, columns.RESPONSE} if step.text in methods.TEXTS else {step.text or columns.PROMPT}
    texts = pl.concat(
        [
            table.text_of(pl.read_parquet(p, columns=sorted(read)), step.text or "prompt")
            for p in table.shards(job.parent / "kept")
        ]
    )
    filled = {"seed": job.stage.seed, "base": job.recipe.data}
    facts = store.vectors(texts, step.method, step.options, job.folder / "vectors.npy", **filled)
    facts.pop("embedded_now")  # how much of it the store already knew is no property of the output
    _link_kept(job)
    return {**facts, "text": step.text}


def _cluster(job: Job, step: Step) -> dict[str, Any]:
    ids = pl.concat([pl.read_parquet(p, columns=[columns.ID]) for p in table.shards(job.parent / "kept")])[columns.ID]
    vectors = _vectors(job, ids)
    assert vectors is not None, "the recipe check lets no cluster step through without an embed step"
    found = step.method.function()(vectors, **step.method.call_options(step.options, seed=job.stage.seed))
    name = step.name
    start = 0
    for number, path in enumerate(table.shards(job.parent / "kept")):
        part = pl.read_parquet(path)
        label = pl.Series(name, found.label[start : start + part.height], dtype=pl.Int32)
        distance = pl.Series(f"{name}_distance", found.distance[start : start + part.height], dtype=pl.Float32)
        levels = [
            pl.Series(f"{name}_{level}", cut[start : start + part.height], dtype=pl.Int32)
            for level, cut in sorted(found.levels.items())
        ]
        table.write_shard(job.folder / "kept", number, part.with_columns(label, distance, *levels))
        start += part.height
    sizes, noise = np.bincount(found.label[found.label >= 0]), int((found.label < 0).sum())
    say(
        f"  {name}: {int((sizes > 0).sum()):,} clusters, the largest of {int(sizes.max(initial=0)):,} rows; {noise:,} rows of noise"
    )
    embedded = job.before(job.stage, "embed")
    text = str(embedded.options.get("text")) if embedded else "record"
    text = text if text in methods.TEXTS else "record"
    texts = pl.concat(
        [
            table.text_of(pl.read_parquet(p, columns=[columns.PROMPT, columns.RESPONSE]), text)
            for p in table.shards(job.parent / "kept")
        ]
    )
    named = cluster_names.names(texts, found.label) if len(sizes) <= _NAMED_CLUSTERS else {}
    return {
        **({"names": {str(label): name for label, name in sorted(named.items())}} if named else {}),
        "clusters": int((sizes > 0).sum()),
        "largest": int(sizes.max(initial=0)),
        "noise": noise,
    }


def _select(job: Job, step: Step) -> dict[str, Any]:
    whole = _light(job.parent, step.options)
    touched = np.flatnonzero(_where(whole, step.where).to_numpy())
    options = dict(step.options)
    budget = options.pop("budget")
    vectors = _vectors(job, whole[columns.ID]) if step.method.reads_vectors else None
    pool = Pool(whole, vectors) if touched.size == whole.height else Pool(whole, vectors).take(touched)
    picks = pick(step.method, pool, budget, options, job.stage.seed, job.recipe.base)
    for line in _said(picks.facts):
        say(f"  {step.name}: {line}")
    facts = {"budget": budget, "pool": int(touched.size), **picks.facts}
    if 0 < len(picks.index) < len(pool):
        measured = pool.vectors if vectors is not None else _vectors(job, pool.table[columns.ID])
        facts["diversity"] = diversity_report.report(pool.table, measured, picks.index, seed=job.stage.seed)
    for side in ("kept", "removed"):  # of a run that was killed here: its kept rows may stand in other shards already
        shutil.rmtree(job.folder / side, ignore_errors=True)
    index = touched[picks.index]
    rank, gain = _earlier(whole, columns.RANK, -1), _earlier(whole, columns.GAIN, np.nan)
    rank[touched], gain[touched] = -1, np.nan
    rank[index], gain[index] = np.arange(len(index)), picks.gain
    left = np.zeros(whole.height, bool)
    left[touched] = True
    left[index] = False
    reason = (
        pl.select(pl.when(pl.Series(left)).then(pl.lit("not selected")).otherwise(None)).to_series().cast(pl.String)
    )
    _split(job, lambda part, start: reason.slice(start, part.height))
    ranks = pl.DataFrame(
        {
            columns.ID: whole[columns.ID],
            columns.RANK: pl.Series(rank, dtype=pl.Int32),
            columns.GAIN: pl.Series(gain, dtype=pl.Float32).fill_nan(None),
        }
    ).with_columns(pl.when(pl.col(columns.RANK) >= 0).then(pl.col(columns.RANK)).alias(columns.RANK))
    kept = table.read(job.folder / "kept")
    kept = kept.drop(columns.RANK, columns.GAIN, strict=False).join(
        ranks, on=columns.ID, how="left", maintain_order="left"
    )
    for path in table.shards(job.folder / "kept"):
        path.unlink()  # the manifest is not written yet: a crash here starts the stage again
    table.write(job.folder / "kept", kept.sort(columns.RANK, nulls_last=True, maintain_order=True))
    return facts


def _earlier(table: pl.DataFrame, column: str, none: float) -> np.ndarray:
    """What an earlier selection gave the rows that this one lets pass: float64 (n,)."""
    if column not in table.columns:
        return np.full(table.height, none, np.float64)
    return table[column].cast(pl.Float64).fill_null(none).to_numpy().copy()


def _said(facts: dict[str, Any]) -> list[str]:
    """What a selection has to say of itself, in lines for the person who waits."""
    lines = []
    for name, of in (("certificate", "the best"), ("graph_certificate", "the best on the graph")):
        if name in facts:
            mine = facts[name]
            lines.append(
                f"f(A) = {mine['value']:,.3f}; no choice under the same limits has more than {mine['upper_bound']:,.3f}, so this "
                f"has at least {mine['ratio']:.1%} of {of}"
            )
    for name, value in facts.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            lines.append(f"{name.replace('_', ' ')}: {f'{value:,.4g}' if isinstance(value, float) else f'{value:,}'}")
    return lines


# --- mix, render, release --------------------------------------------------------------------------------------------


def _mix(job: Job) -> dict[str, Any]:
    from curate.mix import quotas as mix

    whole = table.read(job.parent / "kept")
    arranged = mix.arrange(whole, job.stage.method, job.stage.options, seed=job.stage.seed, folder=job.recipe.base)
    kept, gone = arranged.apply(whole, job.stage.seed)
    table.write(job.folder / "kept", kept)
    table.write(job.folder / "removed", gone.with_columns(pl.lit(job.stage.title).alias(columns.STAGE)))
    plan, came = arranged.plan, mix.realised(arranged, whole, kept)
    nothing = {"rows": 0, "counted": 0, **({"tokens": 0} if plan.unit == "tokens" else {})}
    lines = [{**line, **came.get(line["name"], nothing)} for line in plan.lines()]
    say(f"  mix: {plan.summary()}")
    for line in lines[:_MIX_LINES]:
        say("  " + mix.sentence(line, plan.unit))
    if len(lines) > _MIX_LINES:
        say(f"  … and {len(lines) - _MIX_LINES:,} more in {job.stage.title}/manifest.json")
    return {"by": plan.by, "unit": plan.unit, "mixture": lines, "short": plan.short}


def mixture(recipe: Recipe, work: Path, stages: tuple[Stage, ...]) -> list[dict[str, Any]]:
    """The plan of a recipe's mixture, a line a name, where the counts are known: from the mix stage if it has run, else
    from the table before it. Empty where that has not run either, or where tokens would have to be counted first."""
    from curate.mix import quotas as mix

    stage = next((stage for stage in stages if stage.kind == "mix"), None)
    if stage is None or stage.parent is None:
        return []
    if state(work, stage) == "cached":
        return read_json(work / stage.title / "manifest.json")["facts"]["mixture"]
    if state(work, stage.parent) != "cached" or stage.options.get("tokens") is not None:
        return []
    wanted = mix.needs(stage.method, stage.options)
    parts = table.shards(work / stage.parent.title / "kept")
    whole = pl.concat([pl.read_parquet(part, columns=wanted) for part in parts])
    return mix.arrange(whole, stage.method, stage.options, seed=stage.seed, folder=recipe.base).plan.lines()


def _mix_parts(recipe: Recipe) -> dict[str, Any]:
    """What a mixture depends on beside its options: the files of a preset and of a tokenizer."""
    from curate.contract.files import sha256
    from curate.mix import presets
    from curate.mix import quotas as mix
    from curate.rows import token_counts

    assert recipe.mix is not None
    way, options = recipe.mix
    parts = {}
    if way not in mix.WAYS:
        files = [presets.path_of(name, recipe.base) for name in presets.files_of(way, recipe.base)]
        parts["preset"] = {path.stem: sha256(path) for path in files}
        if presets.load(way, recipe.base).counts_templates:
            parts["sets"] = _set_hashes(recipe, "source_hash")
    if options.get("tokens") is not None:
        parts["tokenizer"] = token_counts.fingerprint(options["tokenizer"], recipe.base)
    return parts


def _render(job: Job) -> dict[str, Any]:
    parts = table.shards(job.parent / "kept")
    exemplars = _exemplars(parts, job.stage.options, job.stage.seed)
    work = [(number, path) for number, path in enumerate(parts) if not (job.folder / "kept" / path.name).is_file()]
    arguments = [
        (path, job.folder, number, job.stage.options, exemplars, job.stage.seed, job.recipe.base, job.stage.title)
        for number, path in work
    ]
    for _ in track(_map(_render_shard, arguments, job.workers), "render: shards", total=len(arguments)):
        pass
    counts: dict[str, int] = {}
    facts = _few_shot_facts(job) if exemplars is not None else {}
    for part in table.shards(job.folder / "kept"):
        for name, count in (
            pl.read_parquet(part, columns=[columns.TEMPLATE])[columns.TEMPLATE].value_counts().iter_rows()
        ):
            counts[name] = counts.get(name, 0) + count
    return {"templates": dict(sorted(counts.items())), **facts}


def _few_shot_facts(job: Job) -> dict[str, Any]:
    """How many of the records that were drawn for examples have some, and says so where it is not all."""
    from curate.render.few_shot import drawn, few_shot

    options = few_shot(**job.stage.options["few_shot"])
    parts = [
        pl.read_parquet(part, columns=[columns.RECORD, columns.SHOTS]) for part in table.shards(job.folder / "kept")
    ]
    rows = pl.concat(parts).group_by(columns.RECORD).agg(pl.col(columns.SHOTS).max())
    asked = int(drawn(rows[columns.RECORD], options, job.stage.seed).sum())
    having, short = (int((rows[columns.SHOTS] >= least).sum()) for least in (1, options.shots[0]))
    if short < asked:
        say(
            f"  few-shot: of {asked:,} records drawn, {asked - having:,} have no example and {having - short:,} fewer than "
            f"{options.shots[0]}: more do not fit in {options.max_tokens:,} tokens, or their set has too few rows"
        )
    return {"few_shot": {"drawn": asked, "with_examples": having, "with_the_least_asked": short}}


def _exemplars(parts: list[Path], render: dict[str, Any], seed: int) -> pl.DataFrame | None:
    """The rows that few-shot prompts take their examples from."""
    if render.get("few_shot") is None:
        return None
    from curate.render.few_shot import few_shot, set_aside

    light = [pl.read_parquet(path, columns=[columns.ID, columns.TEMPLATE_SET]) for path in parts]
    ids = set_aside(pl.concat(light), few_shot(**render["few_shot"]), seed)
    wanted = [columns.ID, columns.TEMPLATE_SET, columns.FIELDS]
    rows = (pl.read_parquet(path, columns=wanted).filter(pl.col(columns.ID).is_in(ids.implode())) for path in parts)
    return pl.concat(rows)


def _render_shard(
    path: Path,
    folder: Path,
    number: int,
    options: dict[str, Any],
    exemplars: pl.DataFrame | None,
    seed: int,
    base: Path,
    title: str,
) -> int:
    from curate.render.rows import render_rows

    kept, gone = render_rows(pl.read_parquet(path), **options, exemplars=exemplars, seed=seed, folder=base)
    table.write_shard(folder / "removed", number, gone.with_columns(pl.lit(title).alias(columns.STAGE)))
    table.write_shard(folder / "kept", number, kept)
    return kept.height


def _map(function: Callable[..., Any], arguments: list[tuple[Any, ...]], workers: int) -> Iterable[Any]:
    """In order; in processes where there is more than one worker and more than one thing to do."""
    if workers < 2 or len(arguments) < 2:
        for one in arguments:
            yield function(*one)
        return
    with ProcessPoolExecutor(min(workers, len(arguments)), mp_context=get_context("spawn")) as pool:
        yield from pool.map(function, *zip(*arguments, strict=True))


def _release(job: Job) -> dict[str, Any]:
    from curate.release.card import release

    manifests = [read_json(job.work / stage.title / "manifest.json") for stage in job.stages if stage.tabular]
    return release(
        job.folder,
        table.read(job.parent / "kept"),
        recipe=_of_release(job.recipe),
        manifests=manifests,
        **job.stage.options,
    )


# --- train, study ----------------------------------------------------------------------------------------------------


def _train(job: Job) -> dict[str, Any]:
    from train.run import train

    rows = job.folder / "rows.parquet"
    _write_rows(rows, table.read(job.parent / "kept"))
    options = {**job.stage.options, "model": _model_path(job)}
    return train(rows, job.folder, base_texts=_base_texts(job), seed=job.stage.seed, **options)


def _model_path(job: Job) -> str:
    model = job.stage.options.get("model") or job.stage.options["train"]["model"]
    local = job.recipe.base / str(model)
    return str(local) if local.is_dir() else str(model)


def _base_texts(job: Job) -> list[str] | None:
    """The text that `model: tiny` is pretrained on: the share that the holdout set aside for it, in the order of ids."""
    stage = job.before(job.stage, "holdout")
    if stage is None or not stage.options.get("base"):
        return None
    gone = table.read(job.work / stage.title / "removed").filter(pl.col(columns.REASON) == BASE_REASON).sort(columns.ID)
    return table.text_of(gone, "record").to_list()


def _write_rows(path: Path, rendered: pl.DataFrame) -> None:
    from curate.contract.files import whole

    wanted = [
        c for c in (columns.ID, columns.MESSAGES, columns.TASK, columns.SOURCE, columns.REPEAT) if c in rendered.columns
    ]
    with whole(path) as temporary:
        rendered.select(wanted).write_parquet(temporary, compression="zstd", statistics=False)


def _study(job: Job) -> dict[str, Any]:
    """Draws, arms and subsets are chosen here; training, measuring and the report are the trainer's."""
    from curate.stages.arms import write_subsets
    from train.study.run import study, trainable

    select = next(stage for stage in job.stages if stage.kind == "select")
    holdout = job.before(job.stage, "holdout")
    assert select.parent is not None and holdout is not None, "the recipe check asks for both"
    options = dict(job.stage.options)
    render = options.pop("render")
    training = {**options.pop("train"), "model": _model_path(job)}
    options.pop("arms")
    aside = table.read(job.work / holdout.title / "removed").filter(pl.col(columns.REASON) == HOLDOUT_REASON)
    paths = {}
    exemplars = _exemplars(table.shards(job.work / select.parent.title / "kept"), render, job.stage.seed)
    for name, rows in (("rows", table.read(job.work / select.parent.title / "kept")), ("holdout", aside)):
        paths[name] = job.folder / f"{name}.parquet"
        if not paths[name].is_file():
            _write_rows(paths[name], _rendered_once(rows, render, exemplars, job))
    base = {"base_texts": _base_texts(job), "seed": job.stage.seed}
    usable = trainable(paths["rows"], train=training, **base)
    whole = _light(job.work / select.parent.title, [options for _, options in job.recipe.arms.values()])
    embedded = job.before(select, "embed")
    pool = Pool(whole, _vectors(_as(job, select), whole[columns.ID]) if embedded else None)
    pool = pool.take(np.flatnonzero(whole[columns.ID].is_in(sorted(usable)).to_numpy()))
    write_subsets(job.folder / "subsets", pool, job.recipe.arms, options["budgets"], options["draws"], job.stage.seed)
    facts = study(
        job.folder,
        rows_path=paths["rows"],
        holdout_path=paths["holdout"],
        train=training,
        arms=list(job.recipe.arms),
        name=job.recipe.name,
        workers=job.workers,
        **base,
        **options,
    )
    return {**facts, "pool": len(pool), "without_response": whole.height - len(pool)}


def _rendered_once(
    rows: pl.DataFrame, render: dict[str, Any], exemplars: pl.DataFrame | None, job: Job
) -> pl.DataFrame:
    """A study trains and scores one phrasing a record, also where the release has all of them."""
    from curate.render.rows import render_rows

    options = {**render, "templates": "one"} if render["templates"] == "all" else render
    return render_rows(rows, **options, exemplars=exemplars, seed=job.stage.seed, folder=job.recipe.base)[0]


def _as(job: Job, stage: Stage) -> Job:
    return Job(stage, job.folder, job.work, job.recipe, job.stages, job.workers)
