"""The data contract on disk: schemas, and tables as folders of Parquet shards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import polars as pl

from curate.contract import columns
from curate.contract.files import whole

MESSAGES_TYPE = pl.List(pl.Struct({columns.ROLE: pl.String, columns.CONTENT: pl.String}))

LOAD_SCHEMA: dict[str, pl.DataType] = {
    columns.ID: pl.String(),
    columns.SOURCE: pl.String(),
    columns.REVISION: pl.String(),
    columns.LICENSE: pl.String(),
    columns.SPLIT: pl.String(),
    columns.TASK: pl.String(),
    columns.TASK_CLUSTER: pl.String(),
    columns.PROMPT: pl.String(),
    columns.RESPONSE: pl.String(),
    columns.MESSAGES: MESSAGES_TYPE,
    columns.FIELDS: pl.String(),
    columns.ORIGIN: pl.String(),
    columns.TEMPLATE_SET: pl.String(),
    columns.EXTRA: pl.String(),
}
REMOVED_SCHEMA: dict[str, pl.DataType] = {
    **LOAD_SCHEMA,
    columns.STAGE: pl.String(),
    columns.REASON: pl.String(),
    columns.RAW: pl.Binary(),
    columns.RAW_REST: pl.String(),
}

RENDER_SCHEMA: dict[str, pl.DataType] = {
    columns.RECORD: pl.String(),
    columns.TEMPLATE: pl.String(),
    columns.TEMPLATE_KIND: pl.String(),
    columns.OPTIONS_STYLE: pl.String(),
    columns.CHOICES: pl.List(pl.String),
    columns.ANSWER: pl.Int32(),
    columns.REFERENCES: pl.List(pl.String),
    columns.SHOTS: pl.Int32(),
}


def text_of(table: pl.DataFrame, which: str) -> pl.Series:
    """The text a method reads: the column `prompt` or `response`, or both as `record`. Null counts as empty."""
    if which == "record":
        both = pl.concat_str([pl.col(columns.PROMPT), pl.col(columns.RESPONSE)], separator="\n\n", ignore_nulls=True)
        return table.select(both.alias("text")).to_series()
    return table[which].fill_null("").alias("text")


def write_shard(folder: Path, number: int, table: pl.DataFrame) -> Path:
    """One shard, whole or absent. zstd, no write time inside: the same rows give the same bytes. Level 1: level 3 takes
    twice the time for an eighth of the bytes."""
    path = folder / f"part-{number:05d}.parquet"
    with whole(path) as temporary:
        table.write_parquet(temporary, compression="zstd", compression_level=1, statistics=True)
    return path


def shards(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def read(folder: Path, schema: dict[str, pl.DataType] | None = None) -> pl.DataFrame:
    """All shards of a folder as one table; an empty table of ``schema`` where there is none."""
    parts = shards(folder)
    if not parts:
        return pl.DataFrame(schema=schema or {})
    return pl.concat([pl.read_parquet(part) for part in parts], how="diagonal")


def scan(folder: Path) -> Iterator[pl.DataFrame]:
    """Shard by shard, for what is larger than memory."""
    for part in shards(folder):
        yield pl.read_parquet(part)


def write(folder: Path, table: pl.DataFrame, rows_per_shard: int = 200_000) -> None:
    for number, start in enumerate(range(0, max(table.height, 1), rows_per_shard)):
        write_shard(folder, number, table.slice(start, rows_per_shard))
