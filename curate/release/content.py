"""What a release holds: rows in their order, the columns that say something, the licence of it all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import polars as pl

from curate.contract import columns
from curate.contract.errors import ContractError, RequestError
from curate.rows.licences import ReleaseLicence

# The columns of a release in their order. Others that the recipe made (scores, clusters) stand behind them.
COLUMNS = {
    columns.ID: "name of the row: a hash of its source, the source's revision and its place there",
    columns.MESSAGES: "the example: a list of turns, each with `role` (system, user, assistant) and `content`",
    columns.SOURCE: "the source that the record came from",
    columns.LICENSE: "the licence that the source states for it",
    columns.REVISION: "the source's revision",
    columns.SPLIT: "the source's own split",
    columns.TASK: "the task, as the source or its templates name it",
    columns.TASK_CLUSTER: "the cluster of tasks that the templates belong to",
    columns.ORIGIN: "`source` for a record as it was found, `synthetic` for one that a model wrote for this set",
    columns.RECORD: "the record's id, where several rows phrase one record",
    columns.TEMPLATE_SET: "the template file",
    columns.TEMPLATE: "the template in it",
    columns.TEMPLATE_KIND: "`forward`, `inverted` (the answer is given, the question asked for) or `cot` (with reasoning)",
    columns.OPTIONS_STYLE: "how the choices were written",
    columns.CHOICES: "the choices, as they were shown",
    columns.ANSWER: "the place of the right choice, from 0",
    columns.REFERENCES: "all right answers, where there are several",
    columns.SHOTS: "how many solved examples stand before the question",
    columns.RANK: "the order of picking: from 0",
    columns.GAIN: "what the pick added to the selector's own objective",
    "cluster": "the cluster of the record's vector",
    "cluster_distance": "the distance of the record's vector to the centre of its cluster",
    columns.REPEAT: "how often the mixture counts the row",
    columns.EXTRA: "what the source's messages held beside role and content, as JSON",
}
# The record's own text is in the messages, and a column `prompt` would make a trainer take the rows for another format.
_LEFT_OUT = (columns.PROMPT, columns.RESPONSE, columns.FIELDS)


@dataclass(frozen=True)
class Content:
    """title: as people read it. config: of the Hub. table: rendered rows with all their columns. rows: the same, as they are
    released. recipe: the resolved one, with the places of this machine. manifests: one a stage, in order."""

    title: str
    config: str
    table: pl.DataFrame
    rows: pl.DataFrame
    licence: ReleaseLicence
    recipe: dict[str, Any]
    manifests: list[dict[str, Any]]

    @property
    def data(self) -> str:
        """The folder of the tables."""
        return "data" if self.config == "default" else self.config

    def of_role(self, role: str) -> list[dict[str, Any]]:
        return [manifest for manifest in self.manifests if manifest["role"] == role]

    @property
    def sources(self) -> list[dict[str, Any]]:
        """What the loading stages say of each source that they read."""
        return [source for manifest in self.of_role("sources") for source in manifest["facts"]["sources"]]


def check(table: pl.DataFrame, config: str) -> None:
    """Raises RequestError for a config that the Hub would not take, ContractError for rows that cannot be released."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", config) or config == "data":
        raise RequestError(
            f"release: config '{config}' cannot be used; take letters, digits, dots, hyphens, and another name than `data`"
        )
    if table.is_empty():
        raise ContractError("release: no row is left; see the funnel for the stage where the last ones went")
    if columns.MESSAGES not in table.columns or (
        empty := int(table[columns.MESSAGES].list.len().fill_null(0).eq(0).sum())
    ):
        count = table.height if columns.MESSAGES not in table.columns else empty
        raise ContractError(f"release: {count} of {table.height} rows have no messages; render them first")
    if twice := table[columns.ID].filter(table[columns.ID].is_duplicated()).to_list():
        raise ContractError(f"release: the id {twice[0]} stands on several rows; ids must be unique")


def released(table: pl.DataFrame) -> pl.DataFrame:
    """The rows in their order with the columns of a release: known ones first, none without a value."""
    if columns.RANK in table.columns:
        table = table.sort(columns.RANK, columns.ID, nulls_last=True)
    order = [name for name in COLUMNS if name in table.columns]
    order += [name for name in table.columns if name not in COLUMNS and name not in _LEFT_OUT]
    return table.select(name for name in order if not _says_nothing(table, name))


def _says_nothing(table: pl.DataFrame, name: str) -> bool:
    column = table[name]
    if name == columns.RECORD:
        return bool((column == table[columns.ID]).all())
    if name == columns.REPEAT:
        return bool((column == 1).all())
    if name == columns.SHOTS:
        return bool((column.fill_null(0) == 0).all())
    if column.dtype.is_float():
        return bool(column.fill_nan(None).is_null().all())
    return column.null_count() == table.height or (column.dtype == pl.List and not column.list.len().sum())
