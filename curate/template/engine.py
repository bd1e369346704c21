"""Renders rows through one template set: columns to roles, roles to a record, a record to messages.

    engine = Engine(load_set("flan/sentiment/sst2"), seed=0)
    engine.record({"sentence": "a fine film", "label": 1})                  Record(prompt="A fine film", response="positive", …)
    engine.render("id-1", {"sentence": "a fine film", "label": 1})         [Rendered(template="lean", …)]
    Engine(…, no_options=0.5)                                              half of the records are shown no list of options
    Engine(…, styles={"canonical": 1}, inversions=0)                       every record is asked for as people ask

Every text is compiled once, when a row first needs it; reading the file has checked it. A row that the set does not take raises RowSkipped; a set that is
wrong raises TemplateError. Cost: about 10 microseconds a row. An engine is for one thread at a time.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

from jinja2.exceptions import UndefinedError

from curate.contract.draws import draw, pair
from curate.contract.errors import RowSkipped, TemplateError
from curate.template import sandbox
from curate.template.invert import derive
from curate.template.options import EVERY_STYLE, draw_options, unshown, without_options
from curate.template.sets import Template, TemplateSet

Message = dict[str, str]

STYLES = {"canonical": 0.6}  # with INVERSIONS, half of all records are asked for as people ask
INVERSIONS = 0.15  # 87 of FLAN's 610 templates are turned around (google-research/FLAN, flan/templates.py)


class Record(NamedTuple):
    """What curation sees of a row. For a conversation: prompt is all user turns and response all assistant turns, each
    joined by blank lines, so that filters and dedup read every word; the system message is in neither. messages: the
    row's own conversation, where it has one; extra: JSON of what it held besides role and content, else None."""

    prompt: str
    response: str
    messages: list[Message] | None = None
    extra: str | None = None


class Typed(NamedTuple):
    """A row before its texts. roles: with ``answer`` where there are no choices. label: the right one of the choices, -1 where
    there are none. references: the other right answers. when: which conditions of the templates hold."""

    roles: dict[str, Any]
    label: int
    choices: tuple[str, ...]
    references: tuple[str, ...]
    when: tuple[bool, ...]


class Rendered(NamedTuple):
    """One phrasing of one row. choices: what the target would say for each option, in the order shown, with the index of
    the right one in answer; both None where no choice is asked for. references: every right target, this one first."""

    template: str
    kind: str
    options_style: str | None
    choices: list[str] | None
    answer: int | None
    references: list[str]
    messages: list[Message]
    shots: int = 0


def as_is(messages: list[Message]) -> Rendered:
    """A row that brings its own conversation."""
    last = next(message["content"] for message in reversed(messages) if message["role"] == "assistant")
    return Rendered("as_is", "forward", None, None, None, [last], messages)


class Engine:
    """A template set, compiled. seed: of the draws of template, options style and order, each keyed by the record's id.
    no_options: the share of records whose template, if it shows options, is put without them: the lines that hold nothing
    but ``{{ options }}`` go, and ``{% if options %}`` is false (the zero-shot half without options of Flan 2022, arXiv
    2301.13688, section 3). inversions: the share of records that are put in a template turned around, where one applies:
    by hand, or by rule (curate/template/invert.py), each half of the time where there are both. styles: of the other
    records, the share of a style where a template of that style applies; the styles that are not named share the rest, each
    of their templates evenly."""

    def __init__(
        self,
        template_set: TemplateSet,
        seed: int = 0,
        no_options: float = 0.0,
        inversions: float = INVERSIONS,
        styles: Mapping[str, float] = STYLES,
    ):
        self.set = template_set
        self.seed = seed
        self.no_options = no_options
        self.inversions = inversions
        self.styles = styles
        self._phrasings = _Phrasings.of(template_set.templates)

    @cached_property
    def _columns(self) -> _Columns:
        return _Columns.of(self.set)

    @cached_property
    def _explode(self) -> _Function:
        return _expression(self.set.explode)

    @cached_property
    def _counts(self) -> _Function:
        return _expression(self.set.when)

    @cached_property
    def _conversation(self) -> _Function:
        return _expression(self.set.messages)

    @cached_property
    def _extra(self) -> _Function:
        return sandbox.Expressions.of(list(self.set.extra.values()))

    @cached_property
    def _answer(self) -> _Function:
        return _expression(self.set.answer)

    @cached_property
    def _references(self) -> _Function:
        return _expression(self.set.references)

    @cached_property
    def _choices(self) -> _Function:
        return _expression(self.set.choices if isinstance(self.set.choices, str) else None)

    @cached_property
    def _prompt(self) -> sandbox.Text:
        return sandbox.Text.of(self.set.record["prompt"])

    @cached_property
    def _response(self) -> sandbox.Text:
        return sandbox.Text.of(self.set.record["response"])

    @cached_property
    def _derived(self) -> _Phrasings:
        """The templates turned around by rule, compiled when one is first drawn."""
        return _Phrasings.of(derive(self.set), checked=True)

    def unfold(self, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """A raw row as one row a record: itself, or with ``explode`` once for each item. Raises RowSkipped: no list there."""
        if self.set.explode is None:
            return [fields]
        try:
            items = self._explode(fields)
        except (sandbox.Stopped, MemoryError) as stopped:
            raise TemplateError(
                f"{self.set.path}: `explode` was stopped: {str(stopped) or sandbox.TOO_MUCH}"
            ) from stopped
        except Exception as error:
            raise RowSkipped(f"explode: `{self.set.explode}` fails: {error}") from error
        if not isinstance(items, list | tuple) or not items:
            raise RowSkipped(f"explode: `{self.set.explode}` gives no list with an item in it")
        return [{**fields, "item": item, "position": position} for position, item in enumerate(items)]

    def roles(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The roles of a raw row. Raises RowSkipped: a column is missing or null, or `when` is false."""
        roles = self._columns.roles(fields)
        if self.set.when is not None and not self._evaluate(self._counts, roles, "when"):
            raise RowSkipped(f"when: {self.set.when} is false")
        return roles

    def typed(self, fields: Mapping[str, Any]) -> Typed | None:
        """What a row's texts are made from. None where the row is not taken or something fails: ``render`` says why."""
        try:
            with sandbox.WATCH:
                roles = self.roles(fields)
                right, when = self._gold(roles), self._phrasings.holding(roles)
        except Exception:
            return None
        if right is None:
            return Typed(roles, -1, (), (), when)
        if right.texts is None:
            return Typed({**roles, "answer": right.answer}, -1, (), right.references, when)
        return Typed(roles, right.answer, right.texts, (), when)

    def record(self, fields: Mapping[str, Any]) -> Record:
        """What curation sees. Raises RowSkipped: as ``roles``, and where prompt or response is null or empty."""
        with sandbox.WATCH:
            return self._record(self.roles(fields))

    def _record(self, roles: dict[str, Any]) -> Record:
        _refuse_null(roles, self._prompt.reads | self._response.reads)
        if self.set.answer is not None:
            roles["answer"] = self._right_text(roles)
        prompt = self._evaluate(self._prompt, roles, "record.prompt")
        response = self._evaluate(self._response, roles, "record.response")
        for name, text in (("prompt", prompt), ("response", response)):
            if not text or text.isspace():
                raise RowSkipped(f"the {name} is empty")
        if self.set.messages is None:
            return Record(prompt, response)
        return Record(prompt, response, self._messages(roles), self._rest(roles))

    def _rest(self, roles: dict[str, Any]) -> str | None:
        values = zip(self.set.extra, self._evaluate(self._extra, roles, "extra"), strict=True)
        rest = {key: value for key, value in values if value not in (None, "", [], {})}
        try:
            return json.dumps(rest, ensure_ascii=False, sort_keys=True) if rest else None
        except (TypeError, ValueError) as error:
            raise RowSkipped(f"`extra` gives what JSON cannot hold: {error}") from error

    def render(self, id: str, fields: Mapping[str, Any], *, which: str = "one") -> list[Rendered]:
        """The row in one phrasing drawn by its id, in ``all`` that apply to it and are written by hand, in ``every`` one with
        those derived by rule, or in the one so named.

        Raises RowSkipped: as ``roles``; no template applies; a role that the template reads is null; a text comes out
        empty; the answer is none of the choices. Raises TemplateError: a template fails on this row.
        """
        roles = self.roles(fields)
        if self.set.messages is not None:
            return [as_is(self._messages(roles, id))]
        for_template, for_options = pair(self.seed, "render", id)
        with sandbox.WATCH:
            phrasings = self._drawn(for_template, id, roles, which)
            right = self._gold(roles, id)
            hidden = self._hidden(id)
            return [self._phrase(phrasing, roles, right, for_options, hidden, id) for phrasing in phrasings]

    def render_like(self, id: str, other: str, fields: Mapping[str, Any], template: str | None) -> Rendered:
        """The row ``other`` as an example for the record ``id``: in the template of that name, with options shown in the same
        style or hidden as the record's are, in an order of its own; with None in a template drawn for the pair."""
        roles = self.roles(fields)
        for_template, for_order = pair(self.seed, "render.like", f"{id}\0{other}")
        phrasing = self._drawn(for_template, other, roles, template or "one")[0]
        number = pair(self.seed, "render", id)[1] % EVERY_STYLE + EVERY_STYLE * for_order
        return self._phrase(phrasing, roles, self._gold(roles, other), number, self._hidden(id), other)

    def _drawn(self, number: int, id: str, roles: dict[str, Any], which: str) -> Sequence[_Phrasing]:
        if which == "one":
            return [self._one(number, id, roles)]
        applying = self._applying(self._phrasings, roles, id)
        if which != "all":
            applying += self._applying(self._derived, roles, id)
        if which not in ("all", "every"):
            applying = [phrasing for phrasing in applying if phrasing.name == which]
        if not applying:
            raise RowSkipped(
                "no template applies" if which in ("all", "every") else f"the template '{which}' does not apply"
            )
        return applying

    def _one(self, number: int, id: str, roles: dict[str, Any]) -> _Phrasing:
        """One of the templates that apply. number: a 64-bit draw."""
        phrasings = self._phrasings
        lot = self.lot(self._holding(phrasings, roles, id))
        if self.turned_around(draw(self.seed, "render.inversions", id)):
            if not lot.inverted or by_rule(number):
                derived = self._applying(self._derived, roles, id)
                if derived:
                    return derived[place(number, len(derived))]
            if lot.inverted:
                return phrasings.templates[lot.inverted[place(number, len(lot.inverted))]]
        if not lot.ends:
            raise RowSkipped("no template applies but those turned around" if lot.inverted else "no template applies")
        group = lot.groups[bisect_right(lot.ends, number >> 32)]
        return phrasings.templates[group[place(number, len(group))]]

    def lot(self, holds: tuple[bool, ...]) -> Lot:
        """What is drawn from where these conditions of the templates hold."""
        phrasings = self._phrasings
        if holds not in phrasings.lots:
            applying = phrasings.where(holds)
            forward = [i for i in applying if self.set.templates[i].kind != "inverted"]
            phrasings.lots[holds] = Lot.of(
                [(i, self.set.templates[i].style) for i in forward],
                tuple(i for i in applying if i not in forward),
                self.styles,
            )
        return phrasings.lots[holds]

    def _holding(self, phrasings: _Phrasings, roles: dict[str, Any], id: str) -> tuple[bool, ...]:
        return self._evaluate(phrasings.holding, roles, "when", id) if phrasings.conditions else ()

    def _applying(self, phrasings: _Phrasings, roles: dict[str, Any], id: str) -> list[_Phrasing]:
        return [phrasings.templates[i] for i in phrasings.where(self._holding(phrasings, roles, id))]

    def _phrase(
        self, phrasing: _Phrasing, roles: dict[str, Any], right: _Right | None, number: int, hidden: bool, id: str
    ) -> Rendered:
        if None in roles.values():
            _refuse_null(roles, phrasing.reads)
        options, answer, texts = None, None, None
        if right is not None and right.texts is None:
            roles = {**roles, "answer": right.answer}
        elif right is not None and right.texts is not None:
            shown = phrasing.shows and not hidden
            texts = None if shown else phrasing.unshown
            choices = phrasing.choices or right.texts
            options = draw_options(choices, number) if shown else unshown(choices)
            answer = options.place(right.answer)
            roles = {**roles, "answer": options.answers[answer], "options": options.block}
        messages = []
        for role, text in texts or phrasing.texts:
            content = self._evaluate(text, roles, phrasing.name, id)
            if not content or content.isspace():
                raise RowSkipped(f"the template '{phrasing.name}' leaves a message empty")
            messages.append({"role": role, "content": content})
        style = None if options is None else options.style
        if options is not None and phrasing.asks:
            choices = self._targets(phrasing, roles, options.answers, id)
            return Rendered(phrasing.name, phrasing.kind, style, choices, answer, [content], messages)
        references = [content]
        if phrasing.asks and right is not None and right.references:
            references = list(dict.fromkeys([content, *self._targets(phrasing, roles, right.references, id)]))
        return Rendered(phrasing.name, phrasing.kind, style, None, None, references, messages)

    def turned_around(self, number: Any) -> Any:
        """Whether the draw ``render.inversions`` of a record, or of many, takes a template turned around."""
        return number <= int(self.inversions * 2**64) - 1

    def hidden(self, number: Any) -> Any:
        """Whether the draw ``render.no_options`` of a record, or of many, takes the options away."""
        return number <= int(self.no_options * 2**64) - 1

    def _hidden(self, id: str) -> bool:
        return self.no_options > 0 and self.hidden(draw(self.seed, "render.no_options", id))

    def _targets(self, phrasing: _Phrasing, roles: dict[str, Any], answers: tuple[str, ...], id: str) -> list[str]:
        """The target as it would be for each of the answers."""
        if phrasing.bare:
            return list(answers)
        text = phrasing.texts[-1][1]
        return [self._evaluate(text, {**roles, "answer": answer}, phrasing.name, id) for answer in answers]

    def _gold(self, roles: dict[str, Any], id: str | None = None) -> _Right | None:
        """The right answer, and the choices or the other right answers."""
        if self.set.answer is None:
            return None
        answer = self._evaluate(self._answer, roles, "answer", id)
        if answer is None:
            raise RowSkipped("the answer is null")
        if self.set.choices is not None:
            fixed = not isinstance(self.set.choices, str)
            texts = self.set.choices if fixed else self._list(self._choices, roles, "choices", id)
            texts = tuple(map(str, texts))
            return _Right(_index(answer, texts), texts)
        if self.set.references is None:
            return _Right(answer, None)
        return _Right(answer, None, tuple(map(str, self._list(self._references, roles, "references", id))))

    def _list(self, compiled: Callable[[Any], Any], roles: dict[str, Any], key: str, id: str | None) -> Sequence[Any]:
        value = self._evaluate(compiled, roles, key, id)
        if value is None and key == "references":
            return ()
        if not isinstance(value, list | tuple | range):
            raise RowSkipped(f"`{key}` gives {value!r:.40}, which is no list")
        return value

    def _messages(self, roles: dict[str, Any], id: str | None = None) -> list[Message]:
        messages = self._evaluate(self._conversation, roles, "messages", id)
        if not isinstance(messages, list) or not all(
            isinstance(one, dict) and isinstance(one.get("role"), str) and isinstance(one.get("content"), str)
            for one in messages
        ):
            raise RowSkipped(f"`messages` gives {messages!r:.40}, which is no list of role and content")
        if not any(one["role"] == "assistant" for one in messages):
            raise RowSkipped("`messages` gives no turn of an assistant")
        return messages

    def _right_text(self, roles: dict[str, Any]) -> Any:
        right = self._gold(roles)
        assert right is not None
        return right.answer if right.texts is None else right.texts[right.answer]

    def _evaluate(self, compiled: Callable[[Any], Any], roles: dict[str, Any], key: str, id: str | None = None) -> Any:
        try:
            return compiled(roles)
        except RowSkipped:
            raise
        except (sandbox.Stopped, MemoryError) as stopped:
            where = f" at the row {id}" if id else ""
            why = str(stopped) or sandbox.TOO_MUCH
            raise TemplateError(f"{self.set.path}: `{key}` was stopped{where}: {why}") from stopped
        except Exception as error:
            raise self._error(error, key, id) from error

    def _error(self, error: Exception, template: str, id: str | None) -> TemplateError:
        row = f" at the row {id}" if id else ""
        why = str(error) or type(error).__name__
        if isinstance(error, UndefinedError):
            why += "; a template may read only what every row has, and `columns` can say `| default(…)`"
        return TemplateError(f"{self.set.path}: `{template}` fails{row}: {why}")


class _Right(NamedTuple):
    """The right answer of a row: an index into texts where there are choices, else the answer itself."""

    answer: Any
    texts: tuple[str, ...] | None
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Columns:
    """A set's `columns`, compiled. needs: raw columns that must be there. direct, nested: roles that are a raw column, or lie
    deeper in one; computed: the others, by expressions."""

    set: TemplateSet
    needs: list[str]
    direct: list[tuple[str, str]]
    nested: list[tuple[str, list[str]]]
    computed: list[str]
    expressions: sandbox.Expressions

    @classmethod
    def of(cls, template_set: TemplateSet) -> _Columns:
        paths = {role: source.split(".") for role, source in template_set.columns.items() if sandbox.is_path(source)}
        computed = [role for role in template_set.columns if role not in paths]
        return cls(
            template_set,
            needs=sorted(template_set.needs),
            direct=[(role, path[0]) for role, path in paths.items() if len(path) == 1],
            nested=[(role, path) for role, path in paths.items() if len(path) > 1],
            computed=computed,
            expressions=sandbox.Expressions.of([template_set.columns[role] for role in computed]),
        )

    def roles(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Raises RowSkipped: a column is missing or null, or does not fit its expression."""
        for column in self.needs:
            if fields.get(column) is None:
                what = "null" if column in fields else f"missing; there are: {', '.join(map(str, fields))}"
                raise RowSkipped(f"the column `{column}` is {what}")
        try:
            roles = dict(zip(self.computed, self.expressions(fields), strict=True)) if self.computed else {}
        except RowSkipped:
            raise
        except (sandbox.Stopped, MemoryError) as stopped:
            raise TemplateError(
                f"{self.set.path}: `columns` was stopped: {str(stopped) or sandbox.TOO_MUCH}"
            ) from stopped
        except Exception as error:
            raise RowSkipped(f"the columns do not fit `columns` of {self.set.name}: {error}") from error
        for role, column in self.direct:
            roles[role] = fields[column]
        for role, path in self.nested:
            roles[role] = _dig(fields, path)
        return roles


@dataclass(frozen=True)
class _Phrasing:
    """A template; its texts are compiled when they are first rendered. shows: its input prints the options. asks: its target
    says the answer, so other answers make other targets (not in chain of thought, where the reasoning has given it away).
    bare: it says nothing else."""

    name: str
    kind: str
    choices: tuple[str, ...] | None
    when: str | None
    messages: tuple[tuple[str, str], ...]
    reads: frozenset[str]
    shows: bool
    asks: bool
    bare: bool

    @classmethod
    def of(cls, template: Template) -> _Phrasing:
        return cls(
            template.name,
            template.kind,
            template.choices,
            template.when,
            template.messages,
            reads=template.input_reads | template.target_reads,
            shows="options" in template.input_reads,
            asks=template.kind == "forward" and "answer" in template.target_reads,
            bare=template.target.replace(" ", "") == "{{answer}}",
        )

    @cached_property
    def texts(self) -> list[tuple[str, sandbox.Text]]:
        return [(role, sandbox.Text.of(source)) for role, source in self.messages]

    @cached_property
    def unshown(self) -> list[tuple[str, sandbox.Text]]:
        """Its texts where no options are shown."""
        bare = ((role, without_options(source)) for role, source in self.messages)
        return [(role, sandbox.Text.of(source)) for role, source in bare] if self.shows else self.texts


class Lot(NamedTuple):
    """Templates to draw one from, by their numbers. ends: where the share of each of the groups ends, of 2**32. inverted: those
    turned around by hand."""

    ends: tuple[int, ...]
    groups: tuple[tuple[int, ...], ...]
    inverted: tuple[int, ...]

    @classmethod
    def of(cls, forward: list[tuple[int, str]], inverted: tuple[int, ...], styles: Mapping[str, float]) -> Lot:
        """forward: number and style of each template. A style of which none is there leaves its share to the others."""
        rest = tuple(number for number, style in forward if style not in styles)
        groups = [
            (styles[name], tuple(number for number, style in forward if style == name)) for name in sorted(styles)
        ]
        groups = [(share, some) for share, some in [*groups, (1 - sum(styles.values()), rest)] if share > 1e-9 and some]
        if not groups and forward:  # all that applies has no share
            groups = [(1.0, tuple(number for number, _ in forward))]
        total, ends, end = sum(share for share, _ in groups), [], 0.0
        for share, _ in groups:
            end += share / total
            ends.append(round(end * 2**32))
        return cls((*ends[:-1], 2**32) if ends else (), tuple(some for _, some in groups), inverted)


def by_rule(number: Any) -> Any:
    """Whether of a record that is turned around, or of many, the template is one derived by rule; ``place`` is drawn apart."""
    return number >= 1 << 63


def place(number: Any, many: Any) -> Any:
    """Which of so many templates a 64-bit draw takes; its upper half has chosen among the groups."""
    return (number & 0xFFFFFFFF) % many


@dataclass(frozen=True)
class _Phrasings:
    """Templates, compiled. conditions: their different `when`, evaluated all at once by ``when``. known: the numbers of those
    that apply where such conditions hold; lots: what the engine draws from then."""

    templates: tuple[_Phrasing, ...]
    conditions: list[str]
    checked: bool
    known: dict[tuple[bool, ...], tuple[int, ...]] = field(default_factory=dict)
    lots: dict[tuple[bool, ...], Lot] = field(default_factory=dict)

    @classmethod
    def of(cls, templates: Sequence[Template], checked: bool = False) -> _Phrasings:
        """checked: as of ``sandbox.Expressions``."""
        conditions = list(dict.fromkeys(template.when for template in templates if template.when))
        return cls(tuple(map(_Phrasing.of, templates)), conditions, checked)

    @cached_property
    def when(self) -> sandbox.Expressions:
        return sandbox.Expressions.of(self.conditions, self.checked)

    def holding(self, roles: dict[str, Any]) -> tuple[bool, ...]:
        """Which of the conditions hold on a row."""
        return tuple(map(bool, self.when(roles))) if self.conditions else ()

    def where(self, holds: tuple[bool, ...]) -> tuple[int, ...]:
        """The numbers of the templates that apply where these conditions hold."""
        if holds not in self.known:
            true = {None, *(when for when, yes in zip(self.conditions, holds, strict=True) if yes)}
            self.known[holds] = tuple(i for i, phrasing in enumerate(self.templates) if phrasing.when in true)
        return self.known[holds]


_Function = Callable[[Any], Any]


def _expression(source: str | None) -> _Function:
    if source is None:
        return lambda roles: None
    if sandbox.expression_reads(source) == {source}:
        return lambda roles: roles[source]
    compiled = sandbox.Expressions.of([source])
    return lambda roles: compiled(roles)[0]


def _dig(fields: Mapping[str, Any], path: list[str]) -> Any:
    value: Any = fields
    for depth, step in enumerate(path):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError, ValueError) as error:
            raise RowSkipped(f"the column `{'.'.join(path)}` is missing at `{'.'.join(path[: depth + 1])}`") from error
    return value


def _refuse_null(roles: dict[str, Any], reads: frozenset[str]) -> None:
    for role in sorted(reads):
        if role in roles and roles[role] is None:
            raise RowSkipped(f"the role `{role}` is null")


def _index(answer: Any, texts: tuple[str, ...]) -> int:
    """The right choice as an index, from an index (also in digits) or from its text."""
    if isinstance(answer, str) and answer in texts:
        return texts.index(answer)
    whole = answer.isdecimal() if isinstance(answer, str) else isinstance(answer, int | float) and answer % 1 == 0
    index = int(answer) if whole else -1
    if not 0 <= index < len(texts):
        raise RowSkipped(f"the answer {str(answer)[:40]!r} is none of the {len(texts)} choices")
    return index
