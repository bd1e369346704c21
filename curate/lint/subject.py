"""What the rules of `tamis templates check` look at: a set, and its examples or real rows as the set's own engine sees them.

Real rows and examples differ in what counts: in an example each hit is a finding, in real rows a hit is one only where it
makes up more than a share of them (``Limits``).
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from curate.contract.errors import RowSkipped, TemplateError
from curate.lint.pieces import Piece, pieces
from curate.template import guard, sandbox
from curate.template.engine import Engine, Rendered
from curate.template.sets import Finding, Template, TemplateSet

Raw = tuple[str, Mapping[str, Any]]  # where the row stands, and its columns


@dataclass(frozen=True)
class Limits:
    """How many rows are looked at, and the shares of them above which a rule speaks. characters: of prompt and target together."""

    rows: int = 1_000
    hits: float = 0.05
    dropped: float = 0.05
    left_out: float = 0.5
    colliding: float = 0.05
    inverted_colliding: float = 0.2
    invented: float = 0.1
    long: float = 0.01
    characters: int = 32_000
    same_answer: int = 50  # rows from which on one answer for all of them is no chance


LIMITS = Limits()


class Row(NamedTuple):
    """A row that the set takes. prompt, response: of its record; rendered: in each template that applies, by name."""

    where: str
    roles: dict[str, Any]
    prompt: str
    response: str
    rendered: dict[str, Rendered]


class Seam(NamedTuple):
    """A value that a template prints, outside every block, with the literal text on both sides. line: as Piece's."""

    message: int
    before: str
    source: str
    after: str
    line: int


class Subject:
    """A set with its rows, which are rendered when the first rule asks for them. raw: real rows; None: the examples."""

    def __init__(self, template_set: TemplateSet, raw: Iterable[Raw] | None = None):
        self.set = template_set
        self.real = raw is not None
        self._raw = raw
        self.rows: list[Row] = []
        self.total = 0
        self.dropped: Counter[str] = Counter()
        self.left_out = 0  # by `when`
        self.unrendered: defaultdict[str, Counter[str]] = defaultdict(Counter)  # template: why it takes a row out
        self.failed: dict[str, str] = {}  # where: the error
        self._looked = False

    def look(self) -> Subject:
        """Renders the rows, once."""
        if not self._looked:
            self._looked = True
            for where, fields in self._fields():
                try:
                    unfolded = self.engine.unfold(dict(fields))
                except RowSkipped as error:
                    self.total += 1
                    self._drop(error)
                    continue
                for one in unfolded:
                    self._row(where, one)
        return self

    @cached_property
    def engine(self) -> Engine:
        return Engine(self.set)

    @cached_property
    def _number(self) -> dict[str, int]:
        return {template.name: i for i, template in enumerate(self.set.templates)}

    def _fields(self) -> Iterable[Raw]:
        return (
            self._raw if self._raw is not None else [(self.example_at(i), e) for i, e in enumerate(self.set.examples)]
        )

    def _row(self, where: str, fields: dict[str, Any]) -> None:
        self.total += 1
        guard.at(f"{self.set.path}: {where}")
        try:
            roles, record = self.engine.roles(fields), self.engine.record(fields)
            self.rows.append(
                Row(where, roles, record.prompt, record.response, self._rendered(f"row {self.total}", fields))
            )
        except RowSkipped as error:
            self._drop(error)
        except TemplateError as error:
            self.failed[where] = str(error)

    def _rendered(self, id: str, fields: dict[str, Any]) -> dict[str, Rendered]:
        try:
            return {rendered.template: rendered for rendered in self.engine.render(id, fields, which="all")}
        except RowSkipped:
            return {name: one for name in self._number for one in self._one(id, fields, name)}

    def _one(self, id: str, fields: dict[str, Any], name: str) -> list[Rendered]:
        try:
            return self.engine.render(id, fields, which=name)
        except RowSkipped as error:
            if "does not apply" not in str(error):
                self.unrendered[name][_reason(error)] += 1
            return []

    def _drop(self, error: RowSkipped) -> None:
        if str(error).startswith("when:"):
            self.left_out += 1
        else:
            self.dropped[_reason(error)] += 1

    # --- what rules ask ----------------------------------------------------------------------------------------------

    def renderings(self, template: Template) -> Iterator[tuple[Row, Rendered]]:
        """The rows for which a template applies."""
        for row in self.look().rows:
            if template.name in row.rendered:
                yield row, row.rendered[template.name]

    def often(self, hits: int, of: int, share: float = LIMITS.hits) -> bool:
        """Whether it is a finding that so many of the rows are hit."""
        return hits > share * of if self.real else hits > 0

    def share(self, hits: int, of: int) -> str:
        return f"{100 * hits / of:.0f} % of the rows" if self.real else "the example"

    def names(self, template: Template, row: Row, source: str) -> Iterator[dict[str, Any]]:
        """What a template may read on a row: the roles, with each answer that could be the right one."""
        if "answer" not in reads(source):
            yield row.roles
            return
        for answer in answers(self.set, template, row.roles):
            yield {**row.roles, "answer": answer}

    def values(self, template: Template, row: Row, source: str) -> Iterator[str]:
        """What ``{{ source }}`` prints on a row, for each answer that could be the right one; nothing where it depends on
        the options shown."""
        if "options" in reads(source):
            return
        guard.at(f"{self.set.path}: {row.where}")
        for names in self.names(template, row, source):
            try:
                yield _text(source)(names)
            except Exception:  # a template that fails is a finding of `example` or `failing-rows`
                return

    def every_value(self, template: Template, source: str) -> list[str]:
        """``values`` of all rows for which a template applies."""
        return [value for row, _ in self.renderings(template) for value in self.values(template, row, source)]

    # --- places ------------------------------------------------------------------------------------------------------

    def at(
        self, template: Template, rule: str, why: str, mend: str, message: int | None = None, line: int = 0
    ) -> Finding:
        """A finding about a template, at the line of one of its messages where that is known."""
        place = template.line if message is None else self._line(template, message, line)
        return Finding(rule, f"{self.set.path}:{place}", f"the template '{template.name}' {why}", mend)

    def at_key(self, rule: str, keys: tuple[str | int, ...], why: str, mend: str) -> Finding:
        """A finding about something else of the file."""
        known = (keys[:end] for end in range(len(keys), 0, -1) if keys[:end] in self.set.lines)
        return Finding(rule, f"{self.set.path}:{self.set.lines.get(next(known, ()), 1)}", why, mend)

    def example_at(self, i: int) -> str:
        keys = ("example", i) if ("example", i) in self.set.lines else ("example",)
        return f"{self.set.path}:{self.set.lines.get(keys, 1)}"

    def _line(self, template: Template, message: int, line: int) -> int:
        at: tuple[str | int, ...] = ("templates", self._number[template.name])
        for keys in ((*at, "messages", message, "content"), (*at, ("input", "target")[min(message, 1)])):
            if keys in self.set.lines:
                start = self.set.lines[keys]
                head = self._source[start - 1] if start <= len(self._source) else ""
                return start + 1 + line if re.search(r":\s*\|[+-]?\s*(#.*)?$", head) else start
        return template.line

    @cached_property
    def _source(self) -> list[str]:
        try:
            return self.set.path.read_text("utf-8").splitlines()
        except OSError:
            return []


Findings = Iterator[Finding]
Rule = Callable[[Subject], Findings]


def _reason(error: RowSkipped) -> str:
    """A reason without the values that differ from row to row."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", str(error))


def answers(template_set: TemplateSet, template: Template, roles: dict[str, Any]) -> list[Any]:
    """What ``{{ answer }}`` may print where no options are shown: each choice, or the one right text."""
    if template_set.answer is None:
        return []
    if isinstance(template_set.choices, tuple):
        return list(template.choices or template_set.choices)
    source = template_set.answer if template_set.choices is None else template_set.choices
    try:
        value = _expression(source)(roles)[0]
    except Exception:  # as in `Subject.values`
        return []
    return [value] if template_set.choices is None else list(map(str, value))


def seams(template: Template) -> Iterator[Seam]:
    """Each value that is printed outside every block."""
    for number, (_, source) in enumerate(template.messages):
        parts = pieces(source)
        for i, piece in enumerate(parts):
            if piece.kind == "print" and not piece.guards:
                before, after = (parts[i - 1] if i else None), (parts[i + 1] if i + 1 < len(parts) else None)
                yield Seam(number, _beside(before), piece.text, _beside(after), piece.line)


def _beside(piece: Piece | None) -> str:
    return piece.text if piece is not None and piece.kind == "text" else "\x00" if piece is not None else ""


@lru_cache(maxsize=4096)
def _text(source: str) -> sandbox.Text:
    return sandbox.Text.of("{{ " + source + " }}")


@lru_cache(maxsize=4096)
def _expression(source: str) -> sandbox.Expressions:
    return sandbox.Expressions.of([source])


@lru_cache(maxsize=8192)
def reads(source: str) -> frozenset[str]:
    """The names that an expression, or a column's path, reads."""
    return frozenset({source.split(".")[0]}) if sandbox.is_path(source) else sandbox.expression_reads(source)
