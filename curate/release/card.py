"""The release: rows as Parquet that `datasets` loads and chat trainers read, and a card that says where they come from.

    FOLDER/README.md            the card, with the Hub's metadata
    FOLDER/data/train-00000-of-00001.parquet
    FOLDER/funnel.png  manifest.json  LICENSE.md (where no one licence holds for all rows)

Everything the card says is computed from the rows, the stages' manifests and the recipe. No folder of the machine, no
time and no host name is in it, and the same input gives the same bytes.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import math
import re
from collections import Counter
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import jinja2
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from curate.contract import columns, methods
from curate.contract.errors import ContractError, MethodError, MissingExtra, RequestError
from curate.contract.files import sha256, whole, write_bytes, write_json, write_text
from curate.contract.paths import library
from curate.contract.progress import bar
from curate.diversity import against_random as diversity_report
from curate.release.verify import features, size_category, split_facts, verify
from curate.rows import licences

__all__ = ["release", "verify"]

SHARD_BYTES = 500_000_000  # of a shard in memory; on disk it is a third of that or less
_GROUP_ROWS, _GROUP_BYTES = 10_000, 100_000_000  # a Parquet row group: what the Hub's viewer reads at once
_LICENCE_FILE = "LICENSE.md"
_PICTURE = "funnel.png"
_SHOWN = 400  # characters of a text in the card's example

# The columns of a release in their order. Others that the recipe made (scores, clusters) stand behind them.
_COLUMNS = {
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


def release(
    folder: Path,
    table: pl.DataFrame,
    *,
    recipe: dict[str, Any],
    manifests: list[dict[str, Any]],
    config: str = "default",
    license: str = "auto",
    pretty_name: str | None = None,
    language: list[str] | None = None,
) -> dict[str, Any]:
    """Writes a release of rendered rows into ``folder`` and returns what its manifest.json holds.

    table: the contract's columns after render. recipe: the resolved recipe; it is printed in the card, less the places of
    this machine. manifests: one mapping a stage, in order. config: the name of the Hub's configuration. license: "auto"
    works it out from the rows (see curate/rows/licences.py), else an identifier. language: codes such as `en`; a language
    that nobody states is not claimed. Rows stand in the order of ``rank`` where there is one, else as in the table.

    Raises ContractError for rows without messages or with one id twice, RequestError for a name that cannot be used,
    MissingExtra without matplotlib. Cost: about 10 s and twice the table's memory for a million rows.
    """
    _check(table, config)
    title = _line(pretty_name or str(recipe["name"]))
    rows = _columns(table)
    licence = licences.release_licence(dict(table[columns.LICENSE].value_counts().iter_rows()), license)
    data = "data" if config == "default" else config
    shards = _write_shards(folder, data, rows)
    write_bytes(folder / _PICTURE, _picture(table, manifests))
    schema = pq.read_schema(shards[0])
    metadata = _metadata(table, title, config, data, licence, recipe, features(schema), split_facts(shards), language)
    facts = _facts(table, rows, title, config, licence, recipe, manifests) | {"metadata": _yaml(metadata)}
    write_text(folder / "README.md", _environment().get_template("dataset_card.md.jinja").render(facts))
    names = ["README.md", _PICTURE, *(f"{data}/{path.name}" for path in shards)]
    if licence.id == "other":
        write_text(folder / _LICENCE_FILE, _environment().get_template("license.md.jinja").render(facts))
        names.append(_LICENCE_FILE)
    else:
        (folder / _LICENCE_FILE).unlink(missing_ok=True)
    manifest = {
        "name": title,
        "config": config,
        "rows": table.height,
        "license": {"id": licence.id, "name": licence.name, "rows": dict(licence.rows)},
        "files": {
            name: {"sha256": sha256(folder / name), "bytes": (folder / name).stat().st_size} for name in sorted(names)
        },
        "recipe": _printed(recipe),
        "stages": without_places(manifests),
    }
    write_json(folder / "manifest.json", manifest)
    if problems := verify(folder):
        raise ContractError(f"{folder}: the release does not pass its own check: {'; '.join(problems)}")
    return manifest


def without_places(value: Any) -> Any:
    """A copy of JSON-like data in which absolute paths keep only their last part, and what looks like a key is starred."""
    if isinstance(value, dict):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if not isinstance(value, str):
        return value
    if PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute() or value.startswith("~"):
        return f"…/{PureWindowsPath(value).name}"  # takes both kinds of slashes
    value = re.sub(r"(?<![\w.:/…])[~/][^\s'\",:;]*/([^\s'\",:;/]+)", r"…/\1", value)
    value = re.sub(r"(?<=://)[^/@\s]+@", "***@", value)
    return re.sub(r"\b(hf_|sk-|ghp_|AKIA)[A-Za-z0-9_-]{16,}", r"\1***", value)


# --- rows ------------------------------------------------------------------------------------------------------------


def _check(table: pl.DataFrame, config: str) -> None:
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


def _columns(table: pl.DataFrame) -> pl.DataFrame:
    """The rows in their order with the columns of a release: known ones first, none without a value."""
    if columns.RANK in table.columns:
        table = table.sort(columns.RANK, columns.ID, nulls_last=True)
    order = [name for name in _COLUMNS if name in table.columns]
    order += [name for name in table.columns if name not in _COLUMNS and name not in _LEFT_OUT]
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


def _write_shards(folder: Path, data: str, rows: pl.DataFrame) -> list[Path]:
    """Files of about equal length, each below SHARD_BYTES in memory; those of an older release are taken away."""
    schema = pa.schema([pa.field(field.name, _plain(field.type)) for field in rows.head(0).to_arrow().schema])
    size = max(int(rows.estimated_size()), 1)
    count = min(rows.height, math.ceil(size / SHARD_BYTES))
    step = max(1, min(_GROUP_ROWS, rows.height * _GROUP_BYTES // size))
    bounds = [rows.height * i // count for i in range(count + 1)]
    paths = [folder / data / f"train-{i:05d}-of-{count:05d}.parquet" for i in range(count)]
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
    for stale in set((folder / data).glob("train-*-of-*.parquet")) - set(paths):
        stale.unlink()
    return paths


# Chunks are cut by content, so that a later release with a few other rows uploads only what changed.
_PARQUET: dict[str, Any] = {"use_content_defined_chunking": True, "write_page_index": True}


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type as every reader knows it: string and list, not their large forms or views."""
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind) or pa.types.is_dictionary(kind):
        return pa.string()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_plain(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(field.name, _plain(field.type)) for field in kind])
    return kind


# --- card ------------------------------------------------------------------------------------------------------------


def _metadata(
    table: pl.DataFrame,
    title: str,
    config: str,
    data: str,
    licence: licences.ReleaseLicence,
    recipe: dict[str, Any],
    listed: list[dict[str, Any]],
    split: dict[str, int],
    language: list[str] | None,
) -> dict[str, Any]:
    """The YAML block of the card, in the order in which the Hub documents it."""
    synthetic = "synthetic" in table[columns.ORIGIN].to_list()
    found = {"language": language} if language else {}
    found |= {"license": licence.id}
    if licence.id == "other":
        found |= {"license_name": licence.name, "license_link": _LICENCE_FILE}
    found |= {
        "pretty_name": title,
        "tags": ["instruction-tuning", "tamis", *(["synthetic"] if synthetic else [])],
        "annotations_creators": ["found", *(["machine-generated"] if synthetic else [])],
        "language_creators": ["found", *(["machine-generated"] if synthetic else [])],
    }
    if language:
        found["multilinguality"] = ["monolingual" if len(language) == 1 else "multilingual"]
    numbers = {"num_bytes": split["num_bytes"], "num_examples": split["num_examples"]}
    return found | {
        "size_categories": [size_category(table.height)],
        "source_datasets": _source_datasets(recipe, set(table[columns.SOURCE])),
        "task_categories": _task_categories(table),
        "configs": [{"config_name": config, "data_files": [{"split": "train", "path": f"{data}/train-*"}]}],
        "dataset_info": [
            {
                "config_name": config,
                "features": listed,
                "splits": [{"name": "train", **numbers}],
                "download_size": split["download_size"],
                "dataset_size": split["num_bytes"],
            }
        ],
    }


def _source_datasets(recipe: dict[str, Any], present: set[str]) -> list[str]:
    """Hub data sets by their id, docstrings as `original`, anything else as an extension of what it is called."""
    found = []
    for entry in recipe.get("load", []):
        for kind, options in entry.items():
            name = str(options.get("name", kind))
            if name not in present:
                continue
            if kind == "hub":
                found.append(str(options["path"]))
            else:
                found.append(
                    "original" if kind == "docstrings" else f"extended|other-{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}"
                )
    return sorted(set(found)) or ["original"]


def _task_categories(table: pl.DataFrame) -> list[str]:
    clusters = table[columns.TASK_CLUSTER].drop_nulls().unique().to_list()
    named = {category for word, category in _TASK_CATEGORIES for cluster in clusters if word in cluster}
    return ["text-generation", *sorted(named)]


def _facts(
    table: pl.DataFrame,
    rows: pl.DataFrame,
    title: str,
    config: str,
    licence: licences.ReleaseLicence,
    recipe: dict[str, Any],
    manifests: list[dict[str, Any]],
) -> dict[str, Any]:
    """What the card's layout reads."""
    printed = _printed(recipe)
    templates = _templates(table)
    schema = rows.head(0).to_arrow().schema
    nested = all(manifest["facts"].get("nested", True) for manifest in manifests if manifest["kind"] == "select")
    return {
        "title": title,
        "config": config,
        "summary": _summary(table, manifests, licence),
        "picture": {
            "name": _PICTURE,
            "about": "Rows left after each stage, what the rows are, and the length of the responses",
        },
        "funnel": [_funnel_row(manifest) for manifest in manifests],
        "sources": _sources(table, manifests),
        "steps": [_step(manifest) for manifest in manifests if manifest["kind"] not in ("load", "render")],
        "selections": [_selection(manifest) for manifest in manifests if manifest["kind"] == "select"],
        "templates": templates,
        "template_sets": sorted({row[0] for row in templates}),
        "columns": [_column(field) for field in schema],
        "nested": nested and columns.RANK in rows.columns and rows[columns.RANK].to_list() == list(range(rows.height)),
        "example": json.dumps(_shortened(rows.row(0, named=True)), indent=2, ensure_ascii=False),
        "repeats": columns.REPEAT in rows.columns,
        "recipe": _yaml(_stated(printed)),
        "data_left_out": printed.get("data", ".") != ".",
        "places_left_out": printed != recipe,
        "versions": _versions(manifests),
        "limits": _limits(table, manifests),
        "licence_sentence": _licence_sentence(licence),
        "licences": [_licence_row(name, count) for name, count in licence.rows],
        "warnings": licence.warnings,
        "citations": _citations(templates, manifests),
    }


def _summary(table: pl.DataFrame, manifests: list[dict[str, Any]], licence: licences.ReleaseLicence) -> str:
    loaded = _loaded(manifests)
    read = sum(source["rows"] + source["removed"] for source in loaded)
    chosen = [f"`{manifest['method']}`" for manifest in manifests if manifest["kind"] == "select"]
    how = f" chosen by {' then '.join(chosen)}" if chosen else " kept"
    turns = table[columns.MESSAGES].list.len()
    longest = f", of {turns.min()} to {turns.max()} messages each" if turns.max() != turns.min() else ""
    templates = table.select(columns.TEMPLATE_SET, columns.TEMPLATE).n_unique()
    name = licence.id if licence.id != "other" else f"{licence.name} (see {_LICENCE_FILE})"
    return (
        f"{_count(table.height, 'instruction example')}{longest},{how} from {_count(read, 'record')} of "
        f"{_count(len(loaded), 'source')} and phrased by {_count(templates, 'template')}. Licence: {name}. "
        "Made with Tamis; every number here is computed from the rows and from what each stage recorded."
    )


def _loaded(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [s for manifest in manifests if manifest["kind"] == "load" for s in manifest["facts"]["sources"]]


def _funnel_row(manifest: dict[str, Any]) -> dict[str, Any]:
    reasons = sorted(without_places(list(manifest["reasons"].items())), key=lambda item: (-item[1], item[0]))
    kept = manifest["out"] / manifest["in"] if manifest["in"] else None
    return {key: manifest[key] for key in ("stage", "method", "in", "out")} | {"kept": kept, "reasons": reasons}


def _sources(table: pl.DataFrame, manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every source that was read, with what the rows say about it; most rows here first."""
    here = {
        name: part
        for (name,), part in table.select(columns.SOURCE, columns.LICENSE, columns.REVISION).group_by(columns.SOURCE)
    }
    found = []
    for source in _loaded(manifests):
        part = here.get(source["name"])
        named = sorted(
            {licences.normalise(text) for text in (source["license"] if part is None else part[columns.LICENSE])}
        )
        revisions = [] if part is None else sorted(part[columns.REVISION].drop_nulls().unique().to_list())
        found.append(
            {
                "name": source["name"],
                "kind": source["kind"],
                "read": source["rows"] + source["removed"],
                "rows": 0 if part is None else part.height,
                "licences": named or ["unknown"],
                "revisions": [revision[:12] for revision in revisions[:4]] + (["…"] if len(revisions) > 4 else []),
            }
        )
    return sorted(found, key=lambda source: (-source["rows"], source["name"]))


def _step(manifest: dict[str, Any]) -> dict[str, Any]:
    options = without_places({key: value for key, value in manifest["options"].items() if value is not None})
    text = json.dumps(options, ensure_ascii=False)[1:-1].replace("`", "'").replace('"', "") if options else ""
    return {key: manifest[key] for key in ("stage", "method", "seed")} | {
        "options": text,
        "about": _about(manifest["kind"], manifest["method"]),
    }


def _selection(manifest: dict[str, Any]) -> dict[str, Any]:
    """What a selection says of itself: its bound, and how diverse it is beside random subsets of the same size."""
    facts = manifest["facts"]
    return {
        "stage": manifest["stage"],
        "rows": manifest["out"],
        "pool": facts.get("pool", manifest["in"]),
        "certificate": facts.get("certificate"),
        "diversity": diversity_report.rows(facts.get("diversity", [])),
    }


def _about(kind: str, method: str) -> str:
    """The first line of a method's own description; empty for a method that is not found here."""
    try:
        return methods.find(kind, method).summary if kind in methods.rooms() else ""
    except MethodError:
        return ""


def _templates(table: pl.DataFrame) -> list[tuple[str, str, str, int]]:
    """(set, template, kind, rows), set by set, the most used first."""
    by = [columns.TEMPLATE_SET, columns.TEMPLATE, columns.TEMPLATE_KIND]
    counted = table.group_by(by).len("rows").with_columns(pl.col(by).fill_null(""))
    return list(
        counted.sort(columns.TEMPLATE_SET, "rows", columns.TEMPLATE, descending=[False, True, False]).iter_rows()
    )


def _column(field: pa.Field) -> dict[str, str]:
    name = field.name
    about = _COLUMNS.get(name) or (
        f"the score `{name.removeprefix('score_')}` of the record"
        if name.startswith("score_")
        else "made by a step of the recipe"
    )
    return {
        "name": name,
        "type": str(_plain(field.type)).replace("element: ", "").replace("item: ", ""),
        "about": about,
    }


def _shortened(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in _stated(value).items()}
    if isinstance(value, list):
        return [_shortened(item) for item in value]
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 4)
    return value if not isinstance(value, str) or len(value) <= _SHOWN else value[:_SHOWN] + "…"


def _printed(recipe: dict[str, Any]) -> dict[str, Any]:
    """The recipe less the places of this machine; whoever runs it again says where the data is."""
    printed = without_places(recipe)
    return printed | {"data": "…"} if printed.get("data") != recipe.get("data") else printed


def _stated(value: Any) -> Any:
    """Nested data without the keys that hold nothing: an option that is None says what leaving it out says."""
    if isinstance(value, dict):
        return {key: _stated(item) for key, item in value.items() if item is not None}
    return [_stated(item) for item in value] if isinstance(value, list) else value


def _versions(manifests: list[dict[str, Any]]) -> list[str]:
    found = {name: version for manifest in manifests for name, version in manifest["versions"].items()}
    return [
        f"tamis {importlib.metadata.version('tamis')}",
        *(f"{name} {version}" for name, version in sorted(found.items())),
    ]


def _limits(table: pl.DataFrame, manifests: list[dict[str, Any]]) -> list[str]:
    """What a reader may not take for granted, each because of what the recipe did or did not do."""
    kinds = {manifest["kind"] for manifest in manifests}
    done = {(manifest["kind"], manifest["method"]) for manifest in manifests}
    said = ["What the sources say was not checked: wrong, biased or harmful statements may be among the rows."]
    if "decontaminate" not in kinds:
        said.append("No step looked for the test sets of benchmarks; some of their items may be among the rows.")
    if "dedup" not in kinds:
        said.append("No step looked for duplicates.")
    elif all(method == "exact" for kind, method in done if kind == "dedup"):
        said.append("Only exact duplicates (after normalising the text) were taken out; near ones may be left.")
    if ("filter", "script") not in done:
        said.append("No step checked the language of the rows.")
    said.append("No step looked for personal data.")
    synthetic = int((table[columns.ORIGIN] == "synthetic").sum())
    if synthetic:
        said.append(f"A model wrote {_count(synthetic, 'row')}.")
    return said


def _licence_sentence(licence: licences.ReleaseLicence) -> str:
    if licence.id == "other":
        return f"No one licence of the Hub's list holds for all rows ({licence.name}); each row keeps its own."
    if licence.id == licences.UNKNOWN:
        return "No source states a licence."
    return f"The set is released under {licence.id}."


def _licence_row(name: str, count: int) -> dict[str, Any]:
    links = [f"<{url}>" for member in licences.members(name) if (url := licences.link(member))]
    return {"name": name, "rows": count, "terms": str(licences.terms(name)), "links": links}


def _citations(templates: list[tuple[str, str, str, int]], manifests: list[dict[str, Any]]) -> list[str]:
    known = yaml.safe_load((library("templates") / "card" / "citations.yaml").read_text("utf-8"))
    used = [f"{manifest['kind']}/{manifest['method']}" for manifest in manifests]
    used += sorted({f"templates/{name.split('/')[0]}" for name, *_ in templates})
    entries = [entry for name in used if name in known for entry in known[name].strip().split("\n\n")]
    return list(dict.fromkeys(entries))


def _picture(table: pl.DataFrame, manifests: list[dict[str, Any]]) -> bytes:
    try:
        from curate.release.plot import Part, picture
    except ModuleNotFoundError as error:
        raise MissingExtra(
            "release draws a plot with matplotlib, which is not installed: pip install 'tamis[report]'"
        ) from error
    loaded = _loaded(manifests)
    what = "source" if len(loaded) > 1 else "task"
    here = Counter(table[what].fill_null("none").to_list())
    if what == "source":
        parts = [Part(s["name"], here[s["name"]], s["rows"] + s["removed"]) for s in loaded]
    else:
        parts = [Part(name, rows) for name, rows in here.items()]
    content = pl.element().struct.field(columns.CONTENT).str.len_chars()
    answers = table[columns.MESSAGES].list.eval(
        pl.when(pl.element().struct.field(columns.ROLE) == "assistant").then(content)
    )
    return picture([(m["stage"], m["out"]) for m in manifests], what, parts, answers.list.sum().to_numpy())


# --- words -----------------------------------------------------------------------------------------------------------


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(library("templates") / "card"),
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )
    environment.filters |= {"cell": _cell, "number": _number, "percent": _percent, "fenced": _fenced}
    return environment


def _cell(text: object) -> str:
    """Text that cannot leave its cell of a Markdown table."""
    return _line(str(text)).replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"


def _fenced(text: str, language: str) -> str:
    """A code block that its own text cannot close."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.strip()}\n{fence}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _yaml(data: Any) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=110)
