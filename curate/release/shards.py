"""The rows of a release as Parquet files that the Hub's viewer, `datasets` and every other reader take."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from curate.contract.files import whole
from curate.contract.progress import bar

SHARD_BYTES = 500_000_000  # of a shard in memory; on disk it is a third of that or less
GROUP_ROWS, _GROUP_BYTES = 10_000, 100_000_000  # a Parquet row group: what the Hub's viewer reads at once
# Chunks are cut by content, so that a later release with a few other rows uploads only what changed.
_PARQUET: dict[str, Any] = {"use_content_defined_chunking": True, "write_page_index": True}


def write_shards(folder: Path, rows: pl.DataFrame) -> list[Path]:
    """Files of about equal length, each below SHARD_BYTES in memory; those of an older release are taken away."""
    schema = pa.schema([pa.field(field.name, plain(field.type)) for field in rows.head(0).to_arrow().schema])
    size = max(int(rows.estimated_size()), 1)
    count = min(rows.height, math.ceil(size / SHARD_BYTES))
    step = max(1, min(GROUP_ROWS, rows.height * _GROUP_BYTES // size))
    bounds = [rows.height * i // count for i in range(count + 1)]
    paths = [folder / f"train-{i:05d}-of-{count:05d}.parquet" for i in range(count)]
    with bar(rows.height, "release: rows") as advance:
        for path, start, end in zip(paths, bounds, bounds[1:], strict=False):
            with (
                whole(path) as temporary,
                pq.ParquetWriter(temporary, schema, compression="zstd", **_PARQUET) as writer,
            ):
                for first in range(start, end, step):
                    # Gathered, not sliced: a slice drags the offsets of the whole table along, past what 32 bits hold.
                    group = rows[np.arange(first, min(first + step, end))]
                    writer.write_table(group.to_arrow().cast(schema))
                    advance(group.height)
    for stale in set(folder.glob("train-*-of-*.parquet")) - set(paths):
        stale.unlink()
    return paths


def plain(kind: pa.DataType) -> pa.DataType:
    """The type as every reader knows it: string and list, not their large forms or views."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_dictionary(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, plain(field.type)) for field in kind])
    return kind
