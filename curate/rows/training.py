"""What the trainer is handed: rendered rows as it reads them, the model's place, and the text that a tiny base learns from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from curate.contract import columns
from curate.contract.files import whole
from curate.contract.model_files import stands_in
from curate.rows.holdout import PRETRAIN_REASON
from curate.rows.table import text_of

_COLUMNS = (columns.ID, columns.MESSAGES, columns.TASK, columns.SOURCE, columns.REPEAT)


def write_rows(path: Path, rendered: pl.DataFrame, **more: pl.Series) -> None:
    """The columns of rendered rows that training and scoring read, as one Parquet file, and more by name."""
    with whole(path) as temporary:
        wanted = [column for column in _COLUMNS if column in rendered.columns]
        table = rendered.select(wanted).with_columns(**more)
        table.write_parquet(temporary, compression="zstd", statistics=False)


def pretraining_texts(removed: Sequence[Path]) -> list[str] | None:
    """The records that the holdout set aside for a tiny base model, in the order of ids; None where there are none. removed:
    the shards of what it removed."""
    parts = [pl.read_parquet(part).filter(pl.col(columns.REASON) == PRETRAIN_REASON) for part in removed]
    aside = pl.concat(parts, how="diagonal") if parts else pl.DataFrame()
    return text_of(aside.sort(columns.ID), "record").to_list() if aside.height else None


def model_path(folder: Path, model: Any) -> str:
    """A model's folder beside the recipe, or its name as it is."""
    local = folder / str(model)
    return str(local) if local.is_dir() else str(model)


def model_content(folder: Path, model: Any) -> dict[str, Any]:
    """A local model's files, by size and time of change; a Hub id is its own name, beside a package that stands in for it."""
    place = folder / str(model)
    if not place.is_dir():
        package = stands_in(str(model))
        return {"package": package} if package else {}
    files = (path for path in sorted(place.iterdir()) if path.is_file())
    return {path.name: [path.stat().st_size, path.stat().st_mtime_ns] for path in files}
