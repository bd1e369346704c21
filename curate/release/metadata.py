"""The YAML block at the head of a card, in the order in which the Hub documents it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from curate.contract import columns
from curate.release.content import Content
from curate.release.verify import features, size_category, split_facts

LICENCE_FILE = "LICENSE.md"

_TASK_CATEGORIES = (  # a task cluster with this word in its name, a category of the Hub
    ("inference", "text-classification"),
    ("sentiment", "text-classification"),
    ("paraphrase", "text-classification"),
    ("comprehension", "question-answering"),
    ("qa", "question-answering"),
    ("commonsense", "multiple-choice"),
    ("struct_to_text", "table-to-text"),
    ("summarization", "summarization"),
    ("translation", "translation"),
)


def metadata(content: Content, shards: Sequence[Path], language: list[str] | None) -> dict[str, Any]:
    """What the Hub reads of a release whose tables are written. language: codes; None claims nothing."""
    licence, synthetic = content.licence, "synthetic" in content.table[columns.ORIGIN].to_list()
    block: dict[str, Any] = {"language": language} if language else {}
    block |= {"license": licence.id}
    if licence.id == "other":
        block |= {"license_name": licence.name, "license_link": LICENCE_FILE}
    block |= {
        "pretty_name": content.title,
        "tags": ["instruction-tuning", "tamis", *(["synthetic"] if synthetic else [])],
        "annotations_creators": ["found", *(["machine-generated"] if synthetic else [])],
        "language_creators": ["found", *(["machine-generated"] if synthetic else [])],
    }
    if language:
        block["multilinguality"] = ["monolingual" if len(language) == 1 else "multilingual"]
    return block | {
        "size_categories": [size_category(content.table.height)],
        "source_datasets": _source_datasets(content.recipe, set(content.table[columns.SOURCE])),
        "task_categories": _task_categories(content.table),
        "configs": [
            {"config_name": content.config, "data_files": [{"split": "train", "path": f"{content.data}/train-*"}]}
        ],
        "dataset_info": [_dataset_info(content.config, shards)],
    }


def _dataset_info(config: str, shards: Sequence[Path]) -> dict[str, Any]:
    split = split_facts(shards)
    numbers = {"num_bytes": split["num_bytes"], "num_examples": split["num_examples"]}
    return {
        "config_name": config,
        "features": features(pq.read_schema(shards[0])),
        "splits": [{"name": "train", **numbers}],
        "download_size": split["download_size"],
        "dataset_size": split["num_bytes"],
    }


def _source_datasets(recipe: dict[str, Any], present: set[str]) -> list[str]:
    """Hub data sets by their id, docstrings as `original`, anything else as an extension of what it is called."""
    names = []
    for entry in recipe.get("load", []):
        for loader, options in entry.items():
            name = str(options.get("name", loader))
            if name not in present:
                continue
            if loader == "hub":
                names.append(str(options["path"]))
            else:
                names.append(
                    "original" if loader == "docstrings" else f"extended|other-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
                )
    return sorted(set(names)) or ["original"]


def _task_categories(table: pl.DataFrame) -> list[str]:
    clusters = table[columns.TASK_CLUSTER].drop_nulls().unique().to_list()
    named = {category for word, category in _TASK_CATEGORIES for cluster in clusters if word in cluster}
    return ["text-generation", *sorted(named)]
