"""Template sets against the Hub: `tamis templates check --hub`. Asks for the first 100 rows of each dataset that a set names.

The columns that a set reads must be there, the names of its labels must be the Hub's, in the Hub's order, and the rows go
through every template. `datasets` streams them; code of a repository is never run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, NamedTuple

from curate.contract.errors import MissingExtra, SourceError
from curate.lint.choice_rules import label_names, out_of_order, plain_label
from curate.lint.subject import Subject, reads
from curate.template.sets import Finding, TemplateSet

ROWS = 100
_TIMEOUT = 10.0  # seconds


class Fetched(NamedTuple):
    """What the Hub holds. columns: their names; labels: of each ClassLabel column, its names in order."""

    columns: list[str]
    labels: dict[str, list[str]]
    rows: list[dict[str, Any]]


Fetch = Callable[[str, str | None, str | None, str], Fetched]  # path, config, revision, split


def fetch(path: str, config: str | None, revision: str | None, split: str) -> Fetched:
    """The first rows of a split. Raises SourceError in one sentence: no network, no such dataset, a login is needed."""
    try:
        import datasets
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtra("`--hub` needs the package `datasets`: pip install 'tamis[hub]'") from error
    silent = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        HfApi().dataset_info(path, revision=revision, timeout=_TIMEOUT)  # a quick question before anything that retries
        stream = datasets.load_dataset(
            f"hf://datasets/{path}", config, revision=revision, split=split, streaming=True
        )  # hf:// keeps a folder of that name from being read in its place
        rows: list[dict[str, Any]] = list(islice(iter(stream), ROWS))  # type: ignore[arg-type]
    except Exception as error:  # the libraries raise whatever their readers and their network do
        first = " ".join(str(error).split())[:200] or type(error).__name__
        raise SourceError(
            f"--hub: {path} cannot be read from the Hub ({first}); is the network there, and are you logged in if it asks for it?"
        ) from error
    finally:
        if not silent:
            datasets.enable_progress_bars()
    features = stream.features or {}
    labels = {name: list(feature.names) for name, feature in features.items() if getattr(feature, "names", None)}
    return Fetched(list(features or (rows[0] if rows else ())), labels, rows)


def fetched(template_set: TemplateSet, fetch: Fetch) -> Iterator[tuple[str, Fetched]]:
    """What the Hub holds for each configuration of a set: where, what."""
    hub = template_set.hub or {}
    configs = hub.get("config")
    for config in configs if isinstance(configs, list) else [configs]:
        path, revision, split = str(hub["path"]), hub.get("revision"), str(hub.get("split") or "train")
        where = f"{path}{f' ({config})' if config else ''}, {split}"
        yield where, fetch(path, config, str(revision) if revision else None, split)


def hub_columns(subject: Subject, where: str, there: Fetched) -> Iterator[Finding]:
    """A column that the set reads is not in the Hub's dataset."""
    missing = sorted(subject.set.needs - set(there.columns))
    if missing:
        why = f"{where} has no column {', '.join(missing)}; there are: {', '.join(there.columns)}"
        yield subject.at_key("hub-columns", ("columns",), why, "read the columns that are there")


def hub_labels(subject: Subject, where: str, there: Fetched) -> Iterator[Finding]:
    """The label names of a set, or its choices, stand in another order than the Hub's."""
    for role, source in subject.set.columns.items():
        ours = label_names(source)
        for column in reads(source) & there.labels.keys():
            theirs = there.labels[column]
            choices = subject.set.choices if role == subject.set.answer else None
            ours = ours or (choices if isinstance(choices, tuple) else ())
            if ours and (len(ours) != len(theirs) or out_of_order(theirs, ours, by_synonyms=True)):
                why = f"`{role}` has the labels {', '.join(ours)}; {where} has {', '.join(theirs)}"
                mend = (
                    f"write label_index({', '.join(repr(plain_label(name)) for name in theirs)}), and the choices alike"
                )
                yield subject.at_key("hub-labels", ("columns", role), why, mend)


HUB = (hub_columns, hub_labels)
