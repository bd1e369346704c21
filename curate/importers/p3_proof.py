"""The proof that a template of ours says what P3's says: rows, made up or real, on which both are rendered.

    trials = Trials.made_up(template, "raw", shared_rows)
    trials.difference(lambda row: engine.render("row", row, which="ask"))       why they are not the same; None where they are

What P3 draws at random is compared with every way in which the draws can fall out. Rows are made until each branch of the
template (curate/importers/branches.py) was taken a few times; one that no row reaches leaves the template unproven.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

from curate.contract.errors import RowSkipped, TemplateError
from curate.importers import guess
from curate.importers.branches import Branches
from curate.importers.p3_text import NotConverted
from curate.importers.promptsource import CUT, ENVIRONMENT, MOST_OUTCOMES, Compat, P3Template, compatible
from curate.template.guard import at
from curate.template.sandbox import Stopped

ROWS = 40  # made-up rows that every template is tried on
_MORE = 600  # that are looked through for a branch that those have not taken
_TIMES = 3  # how often each branch is taken, where rows do
_DRAWN = 12  # how often one that is taken at random is expected to be
_PROVEN = 3  # rows that must render, and be equal

Parts = tuple[str, ...]
Render = Callable[[dict[str, Any]], list[str]]


class Trial(NamedTuple):
    """A row and all that P3 can make of it, with the branches taken on the way. typed: no column has a type that its use
    speaks against."""

    row: dict[str, Any]
    ends: dict[Parts, frozenset[tuple[int, bool]]]
    typed: bool
    real: bool = False

    @property
    def kept(self) -> bool:
        return any(map(_kept, self.ends))


def _kept(parts: Parts) -> bool:
    return len(parts) == 2 and all(parts)


@dataclass
class Trials:
    """Rows of one template, with what P3 makes of them."""

    template: P3Template
    branches: Branches
    rows: list[Trial] = field(default_factory=list)

    @classmethod
    def of(cls, template: P3Template, compat: Compat) -> Trials:
        """Without rows. Raises TemplateSyntaxError, SecurityError."""
        return cls(template, Branches.of([compatible(template.jinja, compat)]))

    @classmethod
    def made_up(cls, template: P3Template, compat: Compat, shared: list[dict[str, Any]]) -> Trials:
        """shared: rows for all the templates of a file, which give the columns that this one does not read."""
        trials = cls.of(template, compat)
        wanted, taken, drawn = trials.branches.wanted, Counter(), set()
        for number, row in enumerate(islice(made_up([template]), ROWS + _MORE)):
            short = {key for key in wanted if taken[key] < (_DRAWN if key in drawn else _TIMES)}
            if number >= ROWS and not short:
                break
            trial = trials.trial({**shared[number % len(shared)], **row}, number % 2 == 0)
            if trial is None:
                continue
            some = Counter(key for seen in trial.ends.values() for key in seen)
            if number < ROWS or short & some.keys():
                trials.rows.append(trial)
                if trial.kept:  # ours takes one of the ways in which the draws fall out
                    taken.update({key: times / len(trial.ends) for key, times in some.items()})
                    drawn |= {key for key, times in some.items() if times < len(trial.ends)}
        return trials

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Real rows; those that P3 fails on are passed over."""
        trials = [trial for row in rows if (trial := self.trial(row, True)) is not None]
        self.rows += [trial._replace(real=True) for trial in trials]

    def trial(self, row: dict[str, Any], typed: bool) -> Trial | None:
        """None where P3 fails, or draws in more ways than are compared. Raises NotConverted: it is too slow."""
        ends: dict[Parts, frozenset[tuple[int, bool]]] = {}
        seen: set[tuple[int, bool]] = set()
        count = 0
        here = f"{self.template.where}: '{self.template.name}'"
        at(here)
        try:
            for parts in self.template.outcomes(row, self.branches.texts[0], {Branches.SEEN: seen}):
                at(here)
                ends.setdefault(tuple(parts), frozenset(seen))
                seen.clear()
                count += 1
        except TemplateError as error:
            if isinstance(error.__cause__, Stopped):
                raise NotConverted(f"{error.__cause__} on one row") from error
            return None
        return Trial(row, ends, typed) if count < MOST_OUTCOMES else None

    def difference(self, render: Render) -> str | None:
        """Why ours, which gives prompt and target of a row, is not P3's; None where it is. It may take fewer rows, and may fail
        loudly where a column has an odd type; no row may render otherwise. Every branch must have been compared."""
        equal, real, failed, skipped = 0, 0, 0, "P3 renders none of the made-up rows"
        seen: set[tuple[int, bool]] = set()
        for trial in self.rows:
            at(f"{self.template.where}: '{self.template.name}', put in our form")
            try:
                ours = tuple(render(trial.row))
            except RowSkipped as error:
                skipped = f"{error}" if trial.kept else skipped
                seen.update(*(taken for parts, taken in trial.ends.items() if not _kept(parts)))
                continue
            except TemplateError as error:
                if trial.kept and trial.real:
                    return f"ours fails on a real row: {error.__cause__ or error}"
                if trial.kept and trial.typed:
                    failed, skipped = failed + 1, str(error.__cause__ or error)
                continue
            if not trial.kept:
                return "ours renders a row that P3 drops"
            if ours not in trial.ends:
                return f"ours renders {_where_they_part(ours, next(filter(_kept, trial.ends)))}"
            equal += 1
            real += trial.real
            seen |= trial.ends[ours]
        if equal < max(_PROVEN, failed):
            return skipped
        if not real and any(trial.real and trial.kept for trial in self.rows):
            return f"ours takes none of the real rows: {skipped}"
        missed = self.branches.missed(seen)
        return f"no row shows all of it: {missed[0]}" if missed else None


def made_up(templates: list[P3Template]) -> Iterator[dict[str, Any]]:
    """Rows without end; every fifth has texts longer than P3's cut, every seventh texts with space around them."""
    known = {"answer_choices": next((fixed for t in templates if (fixed := _fixed(t))), [])}
    sources = [source for template in templates for source in (template.jinja, template.choices or "")]
    for number, row in enumerate(guess.rows(sources, ENVIRONMENT, known, None)):
        for name, value in row.items():
            if isinstance(value, str) and len(value) > 20 and number % 5 == 4:
                row[name] = f"{value} " * (2 * CUT // len(value))
            elif isinstance(value, str) and len(value) > 20 and number % 7 == 6:
                row[name] = f" {value}\n"
        yield row


def _fixed(template: P3Template) -> list[str]:
    try:
        return list(template.fixed_choices or ())
    except TemplateError:
        return []


def _where_they_part(ours: Parts, theirs: Parts) -> str:
    one, other = next((a, b) for a, b in zip(ours, theirs, strict=True) if a != b)
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"{one[max(0, at - 10) : at + 20]!r} where P3 renders {other[max(0, at - 10) : at + 20]!r}"
