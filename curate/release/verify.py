"""Checks a release offline, by the rules that the Hub and `datasets` hold it to.

    problems = verify(Path("work/release"))     # [] where all is well

The rules: the card's metadata has the right keys and only values that the Hub accepts; every split's files are there, and
no other table is; counts, sizes and columns are those of the Parquet files; every file has the hash in manifest.json.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from curate.contract.errors import RequestError
from curate.contract.files import read_json, sha256
from curate.rows.licences import HUB_LICENCES

SIZE_CATEGORIES = (
    *("n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B"),
    *("1B<n<10B", "10B<n<100B", "100B<n<1T", "n>1T"),
)
# The Hub's tasks (packages/tasks/src/pipelines.ts of huggingface.js) that a text or table data set can have.
_TASKS = """
    feature-extraction fill-mask multiple-choice other question-answering reinforcement-learning sentence-similarity
    summarization table-question-answering table-to-text tabular-classification tabular-regression tabular-to-text
    text-classification text-generation text-ranking text-retrieval text2text-generation time-series-forecasting
    token-classification translation zero-shot-classification
"""
TASK_CATEGORIES = frozenset(_TASKS.split())
_CREATORS = frozenset({"crowdsourced", "expert-generated", "found", "machine-generated", "other"})
_ALLOWED = {
    "annotations_creators": _CREATORS | {"no-annotation"},
    "language_creators": _CREATORS,
    "multilinguality": frozenset({"monolingual", "multilingual", "translation", "other"}),
    "size_categories": frozenset({*SIZE_CATEGORIES, "unknown"}),
    "task_categories": TASK_CATEGORIES,
    "license": HUB_LICENCES,
}
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*|code|multilingual")
_SOURCE = re.compile(r"original|extended(\|[\w.\-/]+)?|[\w.\-]+(/[\w.\-]+)?")
_TEXT = ("license_name", "license_link", "pretty_name", "paperswithcode_id")


def verify(folder: Path) -> list[str]:
    """What is wrong with a release, a sentence each; nothing where all is well. Reads every file once."""
    folder = Path(folder)
    if not (folder / "README.md").is_file():
        raise RequestError(f"{folder} is no release: it holds no README.md; give the folder that `release:` wrote")
    metadata, problem = read_metadata(folder / "README.md")
    if metadata is None:
        return [f"README.md: {problem}"]
    problems = [f"README.md: {problem}" for problem in metadata_problems(metadata)]
    try:
        problems += [f"README.md: {problem}" for problem in _data_problems(folder, metadata)]
    except (pa.ArrowException, OSError) as error:
        problems.append(f"a table cannot be read ({str(error).splitlines()[0]}); make the release again")
    return problems + list(_manifest_problems(folder))


def read_metadata(card: Path) -> tuple[dict[str, Any] | None, str]:
    """The YAML between the first two lines of `---`, or None and what is wrong with it."""
    parts = re.split(r"^---\s*$", card.read_text("utf-8"), maxsplit=2, flags=re.MULTILINE)
    if len(parts) < 3 or parts[0].strip():
        return None, "the metadata is missing: the card must begin with YAML between two lines of `---`"
    try:
        metadata = yaml.safe_load(parts[1])
    except yaml.YAMLError as error:
        return None, f"the metadata is not YAML: {' '.join(str(error).split())}"
    return (metadata, "") if isinstance(metadata, dict) else (None, "the metadata is not a mapping")


def metadata_problems(metadata: dict[str, Any]) -> list[str]:
    """What the Hub would say against a card's metadata, as far as it can be said without the data."""
    problems = [f"`{key}` is missing" for key in ("license", "configs", "dataset_info") if not metadata.get(key)]
    for key, allowed in _ALLOWED.items():
        for value in _list(metadata.get(key)):
            if value not in allowed:
                problems.append(f"`{key}` does not take {value!r}; it takes {_some(allowed)}")
    problems += [
        f"`{key}` has {value!r}, which is not {what}"
        for key, form, what in (("language", _LANGUAGE, "a language code"), ("source_datasets", _SOURCE, "a source"))
        for value in _list(metadata.get(key))
        if not (isinstance(value, str) and form.fullmatch(value))
    ]
    problems += [f"`{key}` is not text" for key in _TEXT if key in metadata and not isinstance(metadata[key], str)]
    if not all(isinstance(tag, str) for tag in _list(metadata.get("tags"))):
        problems.append("`tags` holds something that is not text")
    if "other" in _list(metadata.get("license")):
        problems += [f"`license: other` needs `{k}`" for k in ("license_name", "license_link") if not metadata.get(k)]
    return problems


def size_category(rows: int) -> str:
    """The Hub's word for a number of rows: 1,000 is "1K<n<10K"."""
    below = (10**power for power in range(3, 13))
    return next((SIZE_CATEGORIES[i] for i, limit in enumerate(below) if rows < limit), SIZE_CATEGORIES[-1])


def features(schema: pa.Schema) -> list[dict[str, Any]]:
    """The columns as `dataset_info.features` lists them."""
    return [{"name": field.name, **_feature(field.type)} for field in schema]


def split_facts(paths: Sequence[Path]) -> dict[str, int]:
    """num_bytes (in memory, as `datasets` counts them), num_examples and the size on disk of a split's files."""
    num_bytes = num_examples = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            num_examples += file.metadata.num_rows
            for group in range(file.num_row_groups):
                num_bytes += file.read_row_group(group).nbytes
    return {
        "num_bytes": num_bytes,
        "num_examples": num_examples,
        "download_size": sum(path.stat().st_size for path in paths),
    }


def _data_problems(folder: Path, metadata: dict[str, Any]) -> Iterator[str]:
    infos = {info.get("config_name", "default"): info for info in _mappings(metadata.get("dataset_info"))}
    used: set[Path] = set()
    total = 0
    for config in _mappings(metadata.get("configs")):
        name = config.get("config_name", "default")
        splits: dict[str, list[Path]] = {}
        for entry in _mappings(config.get("data_files")):
            patterns = [pattern for pattern in _list(entry.get("path")) if isinstance(pattern, str)]
            splits[str(entry.get("split"))] = sorted({path for pattern in patterns for path in folder.glob(pattern)})
        if not splits:
            yield f"config '{name}' names no files: `data_files` lists a `split` and a `path` for each"
        for split, paths in splits.items():
            if not paths:
                yield f"split '{split}' of config '{name}' has no file: nothing matches its `path`"
        used.update(path for paths in splits.values() for path in paths)
        facts = {split: split_facts(paths) for split, paths in splits.items() if paths}
        total += sum(fact["num_examples"] for fact in facts.values())
        if name in infos:
            yield from _info_problems(f"config '{name}'", infos[name], splits, facts)
        else:
            yield f"config '{name}' has no entry in `dataset_info`"
    for path in sorted(set(folder.rglob("*.parquet")) - used):
        yield f"{path.relative_to(folder)} belongs to no split"
    if [size_category(total)] != _list(metadata.get("size_categories")):
        yield f"`size_categories` is {metadata.get('size_categories')}, but {total} rows are {size_category(total)}"
    link = metadata.get("license_link")
    if isinstance(link, str) and "://" not in link and not (folder / link).is_file():
        yield f"`license_link` names {link}, which is not there"


def _info_problems(
    config: str, info: dict[str, Any], splits: dict[str, list[Path]], facts: dict[str, dict[str, int]]
) -> Iterator[str]:
    said = {str(split.get("name")): split for split in _mappings(info.get("splits"))}
    for split in sorted(said.keys() ^ splits.keys()):
        yield f"split '{split}' of {config} is only in `{'dataset_info' if split in said else 'data_files'}`"
    for split in said.keys() & facts.keys():
        for key in ("num_bytes", "num_examples"):
            if said[split].get(key) != facts[split][key]:
                yield f"split '{split}' of {config}: `{key}` is {said[split].get(key)}, the files have {facts[split][key]}"
    for key, of in (("download_size", "download_size"), ("dataset_size", "num_bytes")):
        if info.get(key) != (sum_of := sum(fact[of] for fact in facts.values())):
            yield f"`{key}` of {config} is {info.get(key)}, the files have {sum_of}"
    for path in sorted(path for paths in splits.values() for path in paths):
        if features(pq.read_schema(path)) != info.get("features"):
            yield f"`features` of {config} are not the columns of {path.name}"


def _manifest_problems(folder: Path) -> Iterator[str]:
    try:
        manifest = read_json(folder / "manifest.json")
    except (OSError, ValueError):
        yield "manifest.json is missing or is not JSON"
        return
    files = manifest.get("facts", manifest).get("files", {})  # a stage's manifest holds the release's as its facts
    if not files:
        yield "manifest.json lists no files"
    for name, facts in files.items():
        if not (folder / name).is_file():
            yield f"{name} is missing; manifest.json lists it"
        elif sha256(folder / name) != facts["sha256"]:
            yield f"{name} was changed: its hash is not the one in manifest.json"


def _feature(kind: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _feature(kind.value_type)
        return {"list": inner.get("struct", inner["dtype"] if set(inner) == {"dtype"} else inner)}
    if pa.types.is_struct(kind):
        return {"struct": [{"name": field.name, **_feature(field.type)} for field in kind]}
    names = {"double": "float64", "float": "float32", "halffloat": "float16"}
    return {"dtype": names.get(str(kind), str(kind))}


def _list(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in _list(value) if isinstance(item, dict)]


def _some(allowed: frozenset[str]) -> str:
    few = sorted(allowed)
    return ", ".join(few) if len(few) <= 16 else ", ".join(few[:8]) + f" and {len(few) - 8} more"
