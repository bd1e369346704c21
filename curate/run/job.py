"""What a stage is given to compute itself: it reads the stages before through it, and writes through it alone.

A job's tables go through shard by shard; only what a method must see whole (texts, vectors, light columns) is held in memory.
Shards that a run that was stopped had finished are not written again.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns, processes
from curate.contract.errors import ContractError, DataError
from curate.contract.files import read_json, write_bytes
from curate.contract.methods import import_file
from curate.contract.progress import say, track
from curate.rows import table
from curate.run import trace
from curate.run.recipe import Recipe
from curate.run.stage import Before, Stage
from curate.run.work import MANIFEST, VECTORS, Done

_CARRIED = (columns.MESSAGES, columns.FIELDS, columns.EXTRA)  # large columns that no method reads
FEW = 100_000  # rows
_RAW = f"{columns.FIELDS}."  # before the name of a source's own column


@dataclass(frozen=True)
class Job:
    """One stage at work. folder: where it writes; it takes the place of WORK/title when it is whole. opened: files that worker
    processes read."""

    stage: Stage
    before: Before
    folder: Path
    work: Path
    workers: int
    opened: set[Path] = field(default_factory=set)

    @property
    def recipe(self) -> Recipe:
        return self.before.recipe

    @property
    def seed(self) -> int:
        return self.stage.seed

    def call_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """A method's options, with what it may ask for beside them."""
        filled = {"seed": self.seed, "data": self.recipe.data, "folder": self.recipe.folder, "workers": self.workers}
        return self.stage.step.methods[0].call_options(options, **filled)

    # --- reading -----------------------------------------------------------------------------------------------------

    def done(self, stage: Stage) -> Done:
        """A stage before this one, as it lies on disk."""
        folder = self.work / stage.title
        return Done(folder, read_json(folder / MANIFEST), old=False)

    @cached_property
    def parent(self) -> Done:
        """The stage whose kept rows this one takes."""
        assert self.stage.parent is not None
        return self.done(self.stage.parent)

    def shards(self) -> Iterator[tuple[int, pl.DataFrame]]:
        """The parent's kept rows, a shard at a time, with its number."""
        for number, path in enumerate(track(self.parent.kept, f"{self.stage.step.name}: shards")):
            yield number, pl.read_parquet(path)

    def rows(self, *names: str) -> pl.DataFrame:
        """The parent's kept rows: whole, or some of their columns."""
        return self.parent.read(only=names or None)

    def text(self, which: str) -> pl.Series:
        """The text that a method reads, of all rows: prompt, response, both as record, or another column of texts."""
        wanted = (columns.PROMPT, columns.RESPONSE) if which in ("prompt", "response", "record") else (which,)
        return pl.concat([table.text_of(pl.read_parquet(p, columns=list(wanted)), which) for p in self.parent.kept])

    def light(self, options: Any = None, parent: Done | None = None) -> pl.DataFrame:
        """All rows without the columns that are only carried along (see ``light``)."""
        return light((parent or self.parent).kept, options)

    def vectors(self, ids: pl.Series) -> np.ndarray | None:
        """The vectors of rows, in their order, or None where no step has made any."""
        embedded = next(
            (stage for stage in reversed(self.before.stages) if (self.work / stage.title / VECTORS).is_file()), None
        )
        return self.done(embedded).vectors_of(ids) if embedded else None

    def touched(self, rows: pl.DataFrame) -> pl.Series:
        """Which rows the step's `where` lets it touch: bool (n,)."""
        return touched(rows, self.stage.step.where)

    # --- writing -----------------------------------------------------------------------------------------------------

    def put(self, number: int, kept: pl.DataFrame, removed: pl.DataFrame | None) -> None:
        """One shard: removed rows, if any, with their reason, then the kept ones, which say that the shard is done."""
        _put(self.folder, self.stage.title, number, kept, removed)

    def has(self, number: int) -> bool:
        return (self.folder / "kept" / f"part-{number:05d}.parquet").is_file()

    def by_shard(self, function: Callable[..., tuple[pl.DataFrame, pl.DataFrame]], *arguments: Any) -> None:
        """Every shard of the parent through ``function(rows, *arguments) -> (kept, removed)``, a function of a module, in
        processes; removed rows have a reason."""
        calls = [
            (path, self.folder, self.stage.title, number, _reference(function), arguments)
            for number, path in enumerate(self.parent.kept)
            if not self.has(number)
        ]
        alone = self.parent.manifest["out"] < FEW  # processes take longer to start than these rows to go through
        done = (_through(*call) for call in calls) if alone else self.map(_through, calls)
        for _ in track(done, f"{self.stage.step.name}: shards", total=len(calls)):
            pass

    def remove(self, reasons: pl.Series, **also: pl.Series) -> None:
        """Every row that has a reason, a text a row of the parent, goes. also: further columns of the removed rows."""
        start = 0
        for number, rows in self.shards():
            mine = slice(start, start + rows.height)
            start += rows.height
            if not self.has(number):
                reason = reasons[mine].alias(columns.REASON)
                extra = [series[mine].alias(name) for name, series in also.items()]
                gone = rows.with_columns(pl.lit(self.stage.title).alias(columns.STAGE), reason, *extra)
                self.put(number, rows.filter(reason.is_null()), gone.filter(pl.col(columns.REASON).is_not_null()))

    def add(self, *series: pl.Series) -> None:
        """Further columns, a value a row of the parent."""
        start = 0
        for number, rows in self.shards():
            mine = slice(start, start + rows.height)
            start += rows.height
            self.put(number, rows.with_columns(one[mine] for one in series), None)

    def order(self, reasons: pl.Series, rank: np.ndarray, gain: np.ndarray) -> None:
        """Rows that have a reason go; the others are written once, in the order of their rank, with rank (-1: none) and gain
        (nan: none); rows without a rank stand behind, as they stood."""
        for side in ("kept", "removed"):  # of a run that was stopped here: its kept rows stand in other shards
            shutil.rmtree(self.folder / side, ignore_errors=True)
        ranks = pl.Series(columns.RANK, rank, dtype=pl.Int32)
        ranks = pl.select(pl.when(ranks >= 0).then(ranks).alias(columns.RANK)).to_series()
        gains = pl.Series(columns.GAIN, gain, dtype=pl.Float32).fill_nan(None)
        start, kept = 0, []
        for number, rows in self.shards():
            mine = slice(start, start + rows.height)
            start += rows.height
            reason = reasons[mine].alias(columns.REASON)
            gone = rows.with_columns(pl.lit(self.stage.title).alias(columns.STAGE), reason)
            _write_removed(self.folder, self.stage.title, number, gone.filter(pl.col(columns.REASON).is_not_null()))
            rows = rows.drop(columns.RANK, columns.GAIN, strict=False)
            kept.append(rows.with_columns(ranks[mine], gains[mine]).filter(reason.is_null()))
        whole = pl.concat(kept, how="diagonal").sort(columns.RANK, nulls_last=True, maintain_order=True)
        table.write(self.folder / "kept", whole)

    def write(self, kept: pl.DataFrame, removed: pl.DataFrame) -> None:
        """Whole tables, of a stage that must see all rows at once and keeps them in an order of its own."""
        table.write(self.folder / "kept", kept)
        table.write(self.folder / "removed", removed.with_columns(pl.lit(self.stage.title).alias(columns.STAGE)))

    def link(self) -> None:
        """The parent's kept shards, as they are: a hard link costs nothing."""
        (self.folder / "kept").mkdir(parents=True, exist_ok=True)
        for path in self.parent.kept:
            link(path, self.folder / "kept" / path.name)

    # --- processes ---------------------------------------------------------------------------------------------------

    def map(self, function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterable[Any]:
        """What a function of a module gives for each of the arguments, in order; in processes where there is more than one
        worker and more than one thing to do."""
        if self.workers < 2 or len(arguments) < 2:
            for one in arguments:
                yield function(*one)
            return
        watched = list(self._watched().values())
        with processes.pool(min(self.workers, len(arguments))) as pool:
            calls = [pool.submit(_in_a_process, _reference(function), one, watched) for one in arguments]
            try:
                for call in calls:
                    result, opened = call.result()
                    self.opened.update(opened)
                    yield result
            except BrokenProcessPool as error:
                raise DataError(
                    f"{self.stage.title}: a worker process ended before its work was done, perhaps killed for memory; what was "
                    "done is kept: run the same command again, with fewer --workers if it happens twice (a script that calls "
                    "tamis.run needs `if __name__ == '__main__':`)"
                ) from error

    def _watched(self) -> dict[str, Path]:
        from curate.run.plan import folders

        return folders(self.recipe)

    def say(self, line: str) -> None:
        say(f"  {line}")


def light(parts: Sequence[Path], options: Any = None) -> pl.DataFrame:
    """The rows of shards without the columns that are only carried along. options: of selectors; a source's own column that
    they name, as `fields.score`, is read too, as numbers where all its values are."""
    raw, frames = sorted(_raw(options)), []
    for part in parts:
        there = [c for c in pl.read_parquet_schema(part) if c not in _CARRIED or (raw and c == columns.FIELDS)]
        rows = pl.read_parquet(part, columns=there)
        own = [pl.col(columns.FIELDS).str.json_path_match(f"$.{n.removeprefix(_RAW)}").alias(n) for n in raw]
        frames.append(rows.with_columns(own).drop(columns.FIELDS) if raw else rows)
    whole = pl.concat(frames, how="diagonal") if frames else pl.DataFrame(schema=table.LOAD_SCHEMA)
    return _with_numbers(whole, raw, parts) if whole.height else whole


def touched(rows: pl.DataFrame, where: dict[str, list[str]]) -> pl.Series:
    """Which rows a step may touch: bool (n,)."""
    if not where:
        return pl.repeat(True, rows.height, eager=True)
    mask = pl.all_horizontal(pl.col(column).is_in(values) for column, values in where.items())
    return rows.select(mask.fill_null(False).alias("where")).to_series()


def link(source: Path, target: Path) -> None:
    """A second name for a file; a copy where the disk has no second names."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        write_bytes(target, source.read_bytes())


def _in_a_process(
    function: tuple[str, Path, str], arguments: tuple[Any, ...], folders: list[Path]
) -> tuple[Any, set[Path]]:
    with trace.reading(folders) as opened:
        result = _function(function)(*arguments)
    return result, opened


def _through(
    path: Path, folder: Path, title: str, number: int, function: tuple[str, Path, str], arguments: tuple[Any, ...]
) -> None:
    _put(folder, title, number, *_function(function)(pl.read_parquet(path), *arguments))


def _reference(function: Callable[..., Any]) -> tuple[str, Path, str]:
    """A function of a module by its name, so that a process finds it that has not imported a recipe's own files."""
    return function.__module__, Path(str(sys.modules[function.__module__].__file__)), function.__name__


def _function(reference: tuple[str, Path, str]) -> Callable[..., Any]:
    module, path, name = reference
    return getattr(import_file(module, path), name)


def _put(folder: Path, title: str, number: int, kept: pl.DataFrame, removed: pl.DataFrame | None) -> None:
    if removed is not None:
        _write_removed(folder, title, number, removed)
    table.write_shard(folder / "kept", number, kept)


def _write_removed(folder: Path, title: str, number: int, removed: pl.DataFrame) -> None:
    table.write_shard(folder / "removed", number, removed.with_columns(pl.lit(title).alias(columns.STAGE)))


def _raw(options: Any) -> set[str]:
    """The names that begin with `fields.` anywhere in options."""
    if isinstance(options, dict):
        return _raw(list(options)).union(*map(_raw, options.values()))
    if isinstance(options, list | tuple):
        return set().union(*map(_raw, options))
    return {options} if isinstance(options, str) and options.startswith(_RAW) else set()


def _with_numbers(whole: pl.DataFrame, raw: list[str], parts: Sequence[Path]) -> pl.DataFrame:
    """A source's own columns as numbers where all their values are; refused where no row has one."""
    for name in raw:
        values, number = whole[name], whole[name].cast(pl.Float64, strict=False)
        if values.null_count() == whole.height:
            there = pl.read_parquet(parts[0], columns=[columns.FIELDS], n_rows=1)[columns.FIELDS][0]
            raise ContractError(
                f"no row has a column `{name.removeprefix(_RAW)}` of its own; those of the first row are "
                f"{', '.join(json.loads(there or '{}'))}"
            )
        whole = whole.with_columns(number if number.null_count() == values.null_count() else values)
    return whole
