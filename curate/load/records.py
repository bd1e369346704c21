"""Rows of a source to records: what every source has in common, whatever it reads.

    for kept, removed in records("files", {"path": "alpaca/*.jsonl"}, data=folder, seed=0): ...

A loader is a file of this folder (or of ``methods/load/`` beside a recipe) with a function ``load`` that yields Raw rows.
Beside it may stand ``describe(**options) -> str``, the source's name where the recipe gives none (else the loader's name),
``fingerprint(**options) -> dict``, facts that change when the content does (else the options themselves), and the constant
TEMPLATE, the set that fits what it yields (else the shape is recognised).

A template set says how a row becomes prompt and response. It is named with ``shape:`` or ``template:``, or recognised, file by
file, where the columns of exactly one shape are there:

    shape              its columns, in a row
    messages           {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    conversations      {"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]}
    dolly              {"instruction": "Sum up.", "context": "It rained all day.", "response": "Rain."}
    alpaca             {"instruction": "Name a prime.", "output": "2"}
    alpaca             {"instruction": "Add.", "input": "1, 2", "response": "3"}
    prompt_completion  {"prompt": "1 + 2 =", "completion": "3"}
    prompt_completion  {"prompt": "1 + 2 =", "response": "3"}
    inputs_targets     {"inputs": "1 + 2 =", "targets": "3"}

The second spellings of Alpaca and of prompt and completion are read as if ``response`` had the shape's own name. Further
columns do not matter (Alpaca's ``input`` is read where it is there). Where the columns of two shapes are there, as in a Dolly
row with an ``output``, nothing is guessed.

A row that cannot be read goes to ``removed`` with its place, the reason and its bytes as they stand in the file. More than
5 % of a file's rows stop the run, and so do unreadable rows that hold more than 5 % of its bytes, as behind a quote that never
closes; unless ``on_error: remove``. Rows that a ``keep`` or a set's ``when`` leaves out were meant to go and do not count.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

import polars as pl

from curate.contract import methods
from curate.contract.errors import MethodError, RequestError, RowSkipped, SourceError, TemplateError
from curate.contract.files import sha256
from curate.contract.methods import Method
from curate.rows.fields import dumps
from curate.rows.table import LOAD_SCHEMA, REMOVED_SCHEMA
from curate.rows.task_clusters import AUTO
from curate.template import sandbox
from curate.template.engine import Engine, Record
from curate.template.guard import at, guard, outside
from curate.template.sets import TemplateSet, load_set

CHUNK_ROWS = 50_000
CHUNK_CHARACTERS = 64_000_000  # of the raw columns as JSON: long rows make shorter chunks
LOOK_AHEAD = 1_000  # rows of a file that are looked at to tell its shape
BAD_SHARE = 0.05
_GUARDED_ROWS = 256  # that go to the process with limits at once
_GUARDED_BYTES = 8 << 20
KEPT_BYTES = 65_536  # of a row that cannot be read
RENAMED = {"as": "shape", "where": "keep"}

_SHAPES: tuple[tuple[str, tuple[str, ...], dict[str, str]], ...] = (  # shape, columns, renamed (new: old)
    ("messages", ("messages",), {}),
    ("conversations", ("conversations",), {}),
    ("dolly", ("instruction", "context", "response"), {}),
    ("alpaca", ("instruction", "output"), {}),
    ("alpaca", ("instruction", "input", "response"), {"output": "response"}),
    ("prompt_completion", ("prompt", "completion"), {}),
    ("prompt_completion", ("prompt", "response"), {"completion": "response"}),
    ("inputs_targets", ("inputs", "targets"), {}),
)


class Raw(NamedTuple):
    """One row as a loader found it.

    key: names the row inside its source, for ever; the id is made of it. fields: its columns, as JSON has them, or None
    where the row cannot be read, and then problem says why. where: the place to look at, "train.jsonl:3", or
    "train.parquet:row:3" where there are no lines. file: rows of one file have one shape and are judged together. size: the
    row's bytes in the file, 0 where that is not told. raw: the bytes of a row that cannot be read. text: the fields as
    orjson writes them, where the loader has that already. The rest: what the loader knows of the row.
    """

    key: str
    fields: dict[str, Any] | None
    where: str
    problem: str | None = None
    file: str = ""
    split: str | None = None
    revision: str | None = None
    license: str | None = None
    task: str | None = None
    size: int = 0
    raw: bytes | None = None
    text: str | None = None


@dataclass(frozen=True)
class Common:
    """The options of every source, as ``common`` takes them, and the source's name."""

    name: str
    template: str | None
    license: str | None
    task: str | None
    task_cluster: str | None
    columns: dict[str, str]
    keep: dict[str, frozenset[str]]
    on_error: str

    def cluster_of(self, template_set: TemplateSet | None) -> str | None:
        """The cluster of the source's rows, or what their templates say; to be found later where it is "auto"."""
        if self.task_cluster not in (None, AUTO):
            return self.task_cluster
        return template_set.task_cluster if template_set else None


def common(
    *,
    name: str | None = None,
    shape: Literal["alpaca", "dolly", "prompt_completion", "messages", "conversations", "inputs_targets"] | None = None,
    template: str | None = None,
    license: str | None = None,
    task: str | None = None,
    task_cluster: str | None = None,
    columns: dict[str, str] | None = None,
    keep: dict[str, Any] | None = None,
    on_error: Literal["stop", "remove"] = "stop",
) -> Common:
    """The options that every source takes beside its loader's own.

    name: in the column `source`. shape: of the rows, where their columns do not tell it. template: the set that reads the rows,
    in place of a shape. license: of all rows, in place of what the loader or the template set knows. task: of all rows, in place
    of what the loader or the template set knows. task_cluster: of all rows, in place of what the template set knows; or "auto":
    found from the records (curate/rows/task_clusters.py). columns: raw columns to rename first, new name: old name. keep:
    columns and the values that rows to keep have, as in ``{category: [open_qa, closed_qa]}``; read after the renaming. on_error:
    what happens when more than 5 % of a file cannot be read.
    """
    if shape and template:
        raise RequestError(f"the source '{name}' has `shape: {shape}` and `template: {template}`; give one of the two")
    values = {column: value if isinstance(value, list) else [value] for column, value in (keep or {}).items()}
    return Common(
        name=name or "",
        template=f"pools/{shape}" if shape else template,
        license=license,
        task=task,
        task_cluster=task_cluster,
        columns=columns or {},
        keep={column: frozenset(map(_word, allowed)) for column, allowed in values.items()},
        on_error=on_error,
    )


def records(
    kind: str,
    options: dict[str, Any],
    *,
    data: Path,
    seed: int,
    folder: Path | None = None,
    workers: int = 2,
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """The records of one source, in chunks of (kept, removed).

    kind: the loader's name. options: its own and the common ones, by their words in a recipe. data: the folder that
    relative paths hang from. folder: the recipe's folder, where a template file or a loader of its own may stand.
    kept has the schema LOAD_SCHEMA, removed REMOVED_SCHEMA; the number of workers changes nothing. Raises SourceError where
    there is nothing to read or too little of it can be read. Cost: about 20 microseconds a row; memory for one chunk.
    """
    method = methods.find("load", kind, folder)
    words = {parameter.word: parameter.name for parameter in _common_parameters()}
    given = {words[word]: value for word, value in options.items() if word in words}
    source = common(**{**given, "name": describe(kind, options, folder)})
    template = source.template or _beside(method, "TEMPLATE")
    rows = method.function()(**method.call_options(options, data=data, folder=folder, seed=seed, workers=workers))
    builder = _Builder(source)
    with sandbox.watched():
        for file, group in groupby(rows, key=attrgetter("file")):
            same_file = iter(group)
            head = _head(same_file)
            shape = _shape(file or source.name, head, source, template, folder)
            yield from _file(file or source.name, chain(head, same_file), shape, builder)
    if builder.rows:
        yield builder.flush()
    if not builder.total:
        raise SourceError(f"the source '{source.name}' gives no record; {builder.first_reason or 'it holds no row'}")


def describe(kind: str, options: dict[str, Any], folder: Path | None = None) -> str:
    """The name of a source: its `name:`, else what its loader makes of the options. Imports nothing heavy."""
    if options.get("name"):
        return str(options["name"])
    try:
        method = methods.find("load", kind, folder)
    except MethodError:
        return kind
    named = _beside(method, "describe")
    return named(**_own(method, options)) if named else kind


def fingerprint(kind: str, options: dict[str, Any], *, data: Path, folder: Path | None = None) -> dict[str, Any]:
    """Facts, as JSON has them, that change when the content of the source does. SourceError where there is no content."""
    method = methods.find("load", kind, folder)
    facts = _beside(method, "fingerprint")
    if facts is None:
        files = {word: data / str(value) for word, value in _own(method, options).items() if isinstance(value, str)}
        hashes = {word: sha256(path) for word, path in files.items() if path.is_file()}
        return {"options": _own(method, options), **({"files": hashes} if hashes else {})}
    filled = {"data": data, "folder": folder}
    return facts(**_own(method, options), **{name: value for name, value in filled.items() if name in method.takes})


# --- one file --------------------------------------------------------------------------------------------------------


def _file(
    file: str, rows: Iterable[Raw], shape: _Shape | None, builder: _Builder
) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    tally, count = _Tally(), 0
    for some in _blocks(_unfolded(rows, shape, tally), shape.block if shape else 1):
        for row, (fields, record) in zip(some, shape.read(some) if shape else [(None, None)] * len(some), strict=True):
            count += 1
            problem = builder.add(row, shape, fields, record)
            if problem is not None:
                tally.add(row, problem)
            if builder.full:
                yield builder.flush()
    too_much = tally.too_much(count)
    if too_much and builder.source.on_error == "stop":
        raise SourceError(f"{file}: {too_much}; mend the file, or say `on_error: remove` for this source")


def _unfolded(rows: Iterable[Raw], shape: _Shape | None, tally: _Tally) -> Iterator[Raw]:
    explodes = shape is not None and shape.set.explode is not None
    for row in rows:
        tally.size += row.size
        yield from shape.unfold(row) if explodes and shape else (row,)


def _blocks(rows: Iterator[Raw], most: int) -> Iterator[list[Raw]]:
    """So many rows at once, and a row more than so many bytes at most."""
    block, size = list[Raw](), 0
    for row in rows:
        block.append(row)
        size += row.size
        if len(block) == most or size > _GUARDED_BYTES:
            yield block
            block, size = [], 0
    if block:
        yield block


@dataclass
class _Tally:
    """What of a file could not be read. size: its bytes. bad: rows that are no record. lost: the bytes of those that could not
    be read at all, the longest of which is named."""

    size: int = 0
    bad: int = 0
    lost: int = 0
    longest: int = 0
    first: str = ""
    named: str = ""

    def add(self, row: Raw, problem: str) -> None:
        """Counts a row that was removed."""
        if problem.startswith(("keep:", "when:")):
            return
        said = f"{row.where}: {problem}"
        self.bad += 1
        self.first = self.first or said
        if row.fields is None:
            self.lost += row.size
            if row.size > self.longest:
                self.longest, self.named = row.size, said

    def too_much(self, rows: int) -> str | None:
        """What is wrong with a file of so many rows as a whole, or None."""
        share = f"more than {BAD_SHARE:.0%}"
        if self.lost > BAD_SHARE * self.size:
            longest = "" if self.named == self.first else f"; the longest: {self.named}"
            return (
                f"{self.bad:,} of {rows:,} rows cannot be read, with {self.lost:,} of {self.size:,} bytes, {share}; "
                f"the first: {self.first}{longest}"
            )
        if self.bad > BAD_SHARE * rows:
            return f"{self.bad:,} of {rows:,} rows cannot be read, {share}; the first: {self.first}"
        return None


def _head(rows: Iterator[Raw]) -> list[Raw]:
    """The first rows, enough of them readable to tell the shape."""
    head, readable = [], 0
    for row in rows:
        head.append(row)
        readable += row.fields is not None
        if readable == LOOK_AHEAD:
            break
    return head


def _shape(file: str, head: list[Raw], source: Common, template: str | None, folder: Path | None) -> _Shape | None:
    """How the file is read: through the named template set, else the one of the shape that its columns have."""
    readable = [_rename(row.fields, source.columns) for row in head if row.fields is not None]
    if not readable:
        return None
    seen = {column for row in readable for column in row}
    template, renamed = (template, {}) if template else _recognise(file, seen)
    template_set = load_set(template, folder)
    _need_columns(file, seen | renamed.keys(), template_set, source)
    return _Shape(source, template_set, renamed, folder)


class _Shape:
    """How the rows of one file become records. block: how many are read at once."""

    def __init__(self, source: Common, template_set: TemplateSet, renamed: dict[str, str], folder: Path | None):
        self.set = template_set
        self.named = (template_set.name, folder)
        self.engine = None if outside(template_set.name) else Engine(template_set)  # else in the process with limits
        self.block = 1 if self.engine else _GUARDED_ROWS
        self.renames = [rename for rename in (source.columns, renamed) if rename]
        self.keep = source.keep
        self.cluster = source.cluster_of(template_set)

    def read(self, rows: list[Raw]) -> list[tuple[dict[str, Any] | None, Record | str | None]]:
        """Each row's columns, renamed, and its record, or why it has none; None where it could not be read."""
        fields = [None if row.fields is None else self.fields(row.fields) for row in rows]
        refused = [self.refused(one) if one is not None else row.problem for row, one in zip(rows, fields, strict=True)]
        asked = [
            (row.where, one)
            for row, one, why in zip(rows, fields, refused, strict=True)
            if one is not None and why is None and row.problem is None
        ]
        answers = iter(_records(self.engine, asked) if self.engine else guard(_records_of, *self.named, asked))
        return [
            (one, None if one is None else row.problem or why or next(answers))
            for row, one, why in zip(rows, fields, refused, strict=True)
        ]

    def fields(self, row: dict[str, Any]) -> dict[str, Any]:
        for rename in self.renames:
            row = _rename(row, rename)
        return row

    def unfold(self, row: Raw) -> list[Raw]:
        """Of a set that explodes rows one a record, with the item's place in its key."""
        if row.fields is None:
            return [row]
        try:
            fields = self.fields(row.fields)
            items = self.engine.unfold(fields) if self.engine else guard(_items, *self.named, row.where, fields)
        except RowSkipped as skipped:
            return [row._replace(problem=row.problem or str(skipped))]
        return [row._replace(key=f"{row.key}#{fields['position']}", fields=fields, text=None) for fields in items]

    def refused(self, fields: dict[str, Any]) -> str | None:
        for column, allowed in self.keep.items():
            if _word(fields.get(column)) not in allowed:
                return f"keep: {column} is {_word(fields.get(column))[:60]!r}"
        return None


def _records(engine: Engine, rows: list[tuple[str, dict[str, Any]]]) -> list[Record | str]:
    """The record of each row, given its place and its columns, or why it has none."""
    return [_record(engine, where, fields) for where, fields in rows]


def _records_of(name: str, folder: Path | None, rows: list[tuple[str, dict[str, Any]]]) -> list[Record | str]:
    return _records(_engine(name, folder), rows)


def _record(engine: Engine, where: str, fields: dict[str, Any]) -> Record | str:
    at(f"{where}: {engine.set.path}: `record`")
    try:
        return engine.record(fields)
    except RowSkipped as skipped:
        return str(skipped)
    except TemplateError as error:
        if isinstance(error.__cause__, sandbox.TooSlow):  # so that it may fit another time
            raise TemplateError(f"{where}: {error}") from error
        return str(error).replace(f"{engine.set.path}:", f"{engine.set.name}:")


def _items(name: str, folder: Path | None, where: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
    engine = _engine(name, folder)
    at(f"{where}: {engine.set.path}: `explode`")
    return engine.unfold(fields)


def _engine(name: str, folder: Path | None) -> Engine:
    return _compiled(name, folder, load_set(name, folder).source_hash)


@functools.lru_cache(maxsize=64)
def _compiled(name: str, folder: Path | None, source_hash: str) -> Engine:
    """In the process with limits, which has one thread. The hash stands for the file's content."""
    return Engine(load_set(name, folder))


def _rename(row: dict[str, Any], new_names: dict[str, str]) -> dict[str, Any]:
    """The row with its columns renamed, new: old. A column in the way of a new name gives way."""
    present = {new: old for new, old in new_names.items() if old in row}
    if not present:
        return row
    gone = {*present, *present.values()}
    kept = {column: value for column, value in row.items() if column not in gone}
    return kept | {new: row[old] for new, old in present.items()}


def _recognise(file: str, seen: set[str]) -> tuple[str, dict[str, str]]:
    """The template set of the one shape whose columns are all there, and what is renamed for it."""
    fits: dict[str, dict[str, str]] = {}
    for shape, needed, renamed in _SHAPES:
        if seen.issuperset(needed):
            fits.setdefault(shape, renamed)
    if len(fits) == 1:
        shape, renamed = next(iter(fits.items()))
        return f"pools/{shape}", renamed
    why = f"fit several shapes ({', '.join(fits)})" if fits else f"fit no shape ({_shapes_in_words()})"
    raise SourceError(
        f"{file}: the columns ({_listed(seen)}) {why}; name the shape with `shape:`, rename columns with "
        "`columns: {new: old}`, or name a template set with `template:`" + _header_hint(file)
    )


def _need_columns(file: str, seen: set[str], template_set: TemplateSet, source: Common) -> None:
    missing = sorted((template_set.needs | source.keep.keys()) - seen)
    if missing:
        reader = f"{template_set.name} reads" if missing[0] in template_set.needs else "`keep` reads"
        raise SourceError(
            f"{file}: no row has the column {_listed(missing)}, which {reader}; the columns are: "
            f"{_listed(seen)}; rename with `columns: {{{missing[0]}: …}}`" + _header_hint(file)
        )


def _header_hint(file: str) -> str:
    tabular = file.removesuffix(".gz").endswith((".csv", ".tsv"))
    return ", or, where the file has no header line, name its columns with `header: […]`" if tabular else ""


def _shapes_in_words() -> str:
    return "; ".join(f"{shape}: {', '.join(needed)}" for shape, needed, _ in _SHAPES)


def _listed(columns: set[str] | list[str]) -> str:
    return ", ".join(f"`{column}`" for column in sorted(columns))


# --- tables ----------------------------------------------------------------------------------------------------------


@dataclass
class _Builder:
    """Collects rows until a chunk is full."""

    source: Common
    kept: list[tuple[Any, ...]] = field(default_factory=list)
    removed: list[tuple[Any, ...]] = field(default_factory=list)
    rows: int = 0
    characters: int = 0
    total: int = 0
    first_reason: str = ""

    @property
    def full(self) -> bool:
        return self.rows >= CHUNK_ROWS or self.characters >= CHUNK_CHARACTERS

    def add(
        self, row: Raw, shape: _Shape | None, fields: dict[str, Any] | None, read: Record | str | None
    ) -> str | None:
        """Puts the row on its side. Gives why it was removed, or None."""
        source, problem, text, raw = self.source, row.problem, None, row.raw
        template_set = shape.set if shape else None
        if fields is not None:
            try:
                text = (row.text if fields is row.fields else None) or dumps(fields)
                problem = read if isinstance(read, str) else problem
            except RowSkipped as skipped:
                problem = str(skipped)
                raw = raw if text else repr(fields).encode("utf-8", "backslashreplace")
        record = read if problem is None and isinstance(read, Record) else None
        values = (
            _id(source.name, row.revision, row.key),
            source.name,
            row.revision,
            source.license or row.license or (template_set.license if template_set else None),
            row.split,
            source.task or row.task or (template_set.task if template_set else None),
            shape.cluster if shape else source.cluster_of(None),
            record.prompt if record else None,
            record.response if record else None,
            record.messages if record else None,
            text,
            "source",
            template_set.name if template_set else None,
            record.extra if record else None,
        )
        self.rows += 1
        self.characters += len(text or "")
        if problem is None:
            self.kept.append(values)
            return None
        reason = f"{row.where}: {problem}"
        self.first_reason = self.first_reason or f"the first row was removed: {reason}"
        first, rest = _kept_bytes(raw)
        self.characters += len(first or b"")
        self.removed.append((*values, "load", reason, first, rest))
        return problem

    def flush(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        kept = pl.DataFrame(self.kept, schema=LOAD_SCHEMA, orient="row")
        removed = pl.DataFrame(self.removed, schema=REMOVED_SCHEMA, orient="row")
        self.total += kept.height
        self.kept, self.removed, self.rows, self.characters = [], [], 0, 0
        return kept, removed


def _id(source: str, revision: str | None, key: str) -> str:
    return hashlib.blake2b(f"{source}\0{revision or ''}\0{key}".encode(), digest_size=16).hexdigest()


def _kept_bytes(raw: bytes | None) -> tuple[bytes | None, str | None]:
    """What `removed` keeps of a row that cannot be read: its first bytes, and the number and the hash of the rest."""
    if raw is None or len(raw) <= KEPT_BYTES:
        return raw, None
    rest = raw[KEPT_BYTES:]
    return raw[:KEPT_BYTES], f"{len(rest):,} bytes more, SHA-256 {hashlib.sha256(rest).hexdigest()}"


def _word(value: Any) -> str:
    """A value as the words of `keep` compare it: 1 and "1" alike, true and false as JSON writes them."""
    return value if isinstance(value, str) else dumps(value)


# --- loaders ---------------------------------------------------------------------------------------------------------


@functools.cache
def _common_parameters() -> tuple[methods.Parameter, ...]:
    return methods.signature("curate/load/records.py", "common")


def _own(method: Method, options: dict[str, Any]) -> dict[str, Any]:
    """The loader's own options by their Python names, defaults filled in."""
    return {parameter.name: options.get(parameter.word, parameter.default) for parameter in method.parameters}


def _beside(method: Method, name: str) -> Any:
    """What else the loader's file defines, or None."""
    try:
        return method.function(name)
    except AttributeError:
        return None
