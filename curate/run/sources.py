"""A source as a recipe names it: its loader found, its options bound, and what its content depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from curate.contract import methods
from curate.contract.methods import nearest
from curate.load import records
from curate.load.source import Source
from curate.run.overrides import kind_and_choice
from curate.run.stage import Before

if TYPE_CHECKING:
    import polars as pl

    from curate.run.ask import Ask
    from curate.run.job import Job

_FILLED = ("data", "folder", "seed", "templates", "workers")  # what the stage fills in a loader's common options


def options() -> tuple[methods.Parameter, ...]:
    return methods.signature("curate/load/records.py", "common", without=_FILLED)


def read_source(entry: Any, ask: Ask, *at: Any) -> Source | None:
    """A source as a recipe writes it, its options bound; None where something is wrong, which is then said. at: the keys of its
    place in the section."""
    known = methods.all_of("load", ask.folder)
    word, given = kind_and_choice(entry, known)
    if word is None and isinstance(entry, dict) and len(entry) == 1:  # a loader whose file is broken is named so
        word, given = kind_and_choice(entry, [str(next(iter(entry)))])
    if word not in known:
        named = next(iter(entry), "") if isinstance(entry, dict) else entry
        words = ", ".join(sorted(known))
        ask.say(f"unknown source '{named}'{nearest(str(named), known)}; a source is one of: {words}", *at)
        return None
    if given is not None and not isinstance(given, dict):
        ask.say(f"the options of `{word}` are a mapping, as in `- {word}: {{path: …}}`", *at, word)
        return None
    before = ask.count
    method = known[word]
    renamed = {**methods.renamed("curate/load/records.py"), **method.renamed}
    bound = ask.bind(f"source {word}", method.parameters + options(), given or {}, *at, word, renamed=renamed)
    described = records.describe(word, bound, ask.folder) if ask.count == before else f"{word}-{at[-1]}"
    name = str(bound.pop("name", None) or described)
    return Source(name, method, bound)


def content(source: Source, before: Before) -> dict[str, Any]:
    """Facts that change when the content of a source does."""
    given = {**source.options, "name": source.name}
    recipe = before.recipe
    return records.fingerprint(source.method.name, given, data=recipe.data, folder=recipe.folder)


def rows(source: Source, job: Job) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """(kept, removed) of a source, chunk by chunk, with the seed and the folders of a run."""
    return records.records(
        source.method.name,
        {**source.options, "name": source.name},
        data=job.recipe.data,
        seed=job.seed,
        folder=job.recipe.folder,
        workers=job.workers,
    )
