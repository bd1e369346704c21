"""P3's templates as our own sets: `tamis templates import promptsource`.

    for one in convert(read(path), compat="raw").sets: print(one.name, one.yaml)

A template is converted where that is proven: on made-up rows (curate/importers/guess.py) the set, read back from its
own YAML, renders the same bytes as ``P3Template.apply`` for every row that it takes, and takes no row that P3 drops. It may
take fewer: a row with a null or a missing column leaves with that reason, where P3 prints "None" or nothing. Every other
template becomes a finding that says why. Where the target is one of the choices, the set gets `choices` and `answer`, so
that rank classification and the metrics work; templates whose choices differ in number or in the index go to further sets.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError

from curate.contract.errors import RowSkipped, TemplateError
from curate.importers import guess, setfile
from curate.importers.promptsource import ENVIRONMENT, SEPARATOR, Compat, P3File, P3Template, compatible, parsed
from curate.template import sandbox
from curate.template.engine import Engine
from curate.template.sets import TYPED, Finding, read_set

_OWN = "answer_choices"  # P3's name for the choices
_ROWS = 40
_PROVEN = 3  # rows that must render, and be equal
_METRICS = {"Accuracy": "accuracy", "ROUGE": "rouge_l", "BLEU": "bleu", "Squad": "f1"}
_TOKENS = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|(?<![\w.])[A-Za-z_]\w*|\s+|.""", re.DOTALL)
_SEGMENTS = re.compile(r"\{\{.*?\}\}+|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_WHOLE_IF = re.compile(r"\{%-?\s*if\s(.+?)-?%\}(.*)\{%-?\s*endif\s*-?%\}", re.DOTALL)
_SET = re.compile(r"\{%-?\s*set\s[^%]*?=[^%]*%\}")
_CHOSEN = re.compile(r"\{\{-?\s*answer_choices\s*\[(.+)\]\s*-?\}\}", re.DOTALL)
_LISTED = re.compile(r"""\{\{(.+)\|\s*join\(\s*(?:"\s*\|\|\|\s*"|'\s*\|\|\|\s*')\s*\)\s*\}\}""", re.DOTALL)


class Set(NamedTuple):
    """A converted set. name: for its file, without an ending."""

    name: str
    yaml: str
    templates: int


@dataclass(frozen=True)
class Converted:
    """What became of a file of P3. total: how many templates it holds."""

    sets: list[Set]
    findings: list[Finding]
    total: int

    @property
    def converted(self) -> int:
        return sum(one.templates for one in self.sets)


class _NotConverted(Exception):
    """Why a template of P3 does not become one of ours."""


@dataclass(frozen=True)
class _Draft:
    """A template of P3 in our form. choices: as many texts, or an expression; answer: the index of the right one. Both None
    where the target is no choice. reads: the columns."""

    p3: P3Template
    name: str
    input: str
    target: str
    when: str | None = None
    choices: tuple[str, ...] | str | None = None
    answer: str | None = None
    record: dict[str, str] = field(default_factory=dict)

    @property
    def reads(self) -> set[str]:
        names = sandbox.text_reads(self.input) | sandbox.text_reads(self.target)
        for expression in (self.when, self.answer, self.choices):
            if isinstance(expression, str):
                names |= sandbox.expression_reads(expression)
        return set(names) - {"answer" if self.answer else ""}

    def with_role(self, choices: str) -> _Draft:
        """The same, with the row's own choices read from a role."""
        texts = {name: getattr(self, name).replace(choices, _OWN) for name in ("input", "target")}
        record = {key: text.replace(choices, _OWN) for key, text in self.record.items()}
        when = self.when and self.when.replace(choices, _OWN)
        answer = self.answer and self.answer.replace(choices, _OWN)
        own = _OWN if self.choices == choices else self.choices
        return replace(self, **texts, when=when, answer=answer, record=record, choices=own)

    @property
    def group(self) -> tuple[Any, ...]:
        return (self.answer, len(self.choices) if isinstance(self.choices, tuple) else self.choices)


def convert(file: P3File, compat: Compat = "raw") -> Converted:
    """A file of P3 as sets of ours, and a finding for each template that is not among them."""
    drafts, findings, rows = [], [], {}
    shared = list(_rows(file.templates))
    for template in file.templates:
        rows[template.name] = [{**all, **own} for all, own in zip(shared, _rows([template]), strict=True)]
        try:
            drafts.append(_proven(file, template, rows[template.name], compat))
        except _NotConverted as reason:
            findings.append(_finding(template, str(reason)))
    sets = []
    for name, group in _groups(file, _told_apart(drafts)):
        made, reasons = _together(file, name, group, rows, compat)
        findings += [_finding(draft.p3, reason) for draft, reason in reasons]
        if made is not None:
            sets.append(made)
    return Converted(sets, findings, len(file.templates))


def _told_apart(drafts: list[_Draft]) -> list[_Draft]:
    """With a number after a name that is taken; in snake_case two names of P3 can be one."""
    taken: Counter[str] = Counter()
    apart = []
    for draft in drafts:
        taken[draft.name] += 1
        apart.append(replace(draft, name=f"{draft.name}_{taken[draft.name]}") if taken[draft.name] > 1 else draft)
    return apart


def _finding(template: P3Template, reason: str) -> Finding:
    why = f"the template '{template.name}' is not converted: {reason}"
    return Finding(
        "not-converted", template.where, why, "render it with P3Template.apply, or put it in words of your own"
    )


def _rows(templates: Any) -> Iterator[dict[str, Any]]:
    """Rows for the templates; every fifth has texts longer than P3's cut, every seventh texts with space around them."""
    known = {"answer_choices": next((list(t.fixed_choices) for t in templates if t.fixed_choices), [])}
    sources = [source for template in templates for source in (template.jinja, template.choices or "")]
    for number, row in enumerate(guess.rows(sources, ENVIRONMENT, known, _ROWS)):
        for name, value in row.items():
            if isinstance(value, str) and len(value) > 20 and number % 5 == 4:
                row[name] = f"{value} " * 120
            elif isinstance(value, str) and len(value) > 20 and number % 7 == 6:
                row[name] = f" {value}\n"
        yield row


# --- one template ----------------------------------------------------------------------------------------------------


def _proven(file: P3File, template: P3Template, rows: list[dict[str, Any]], compat: Compat) -> _Draft:
    """The first of the ways to write the template that renders the same as P3."""
    try:
        _refuse(parsed(compatible(template.jinja, compat)))
        _refuse(parsed(template.choices or ""))
        reason = ""
        for draft in _drafts(template, compat):
            made, reasons = _together(file, "one", [draft], {template.name: rows}, compat)
            if made is not None:
                return draft
            reason = reasons[0][1]
    except (TemplateSyntaxError, SecurityError) as error:
        raise _NotConverted(f"it is not valid Jinja: {error}") from error
    raise _NotConverted(reason)


def _refuse(tree: nodes.Template) -> None:
    """What P3's templates can do and ours cannot."""
    filters = {f.name for f in tree.find_all(nodes.Filter)}
    calls = {c.node.name for c in tree.find_all(nodes.Call) if isinstance(c.node, nodes.Name)}
    methods = {c.node.attr for c in tree.find_all(nodes.Call) if isinstance(c.node, nodes.Getattr)}
    if drawn := filters & {"choice", "random"}:
        raise _NotConverted(f"it draws at random inside the text (`{min(drawn)}`)")
    if missing := filters - set(sandbox.ENVIRONMENT.filters):
        raise _NotConverted(f"our templates have no filter `{min(missing)}`")
    if calls:
        raise _NotConverted(f"our templates have no `{min(calls)}`")
    if changing := methods & {"append", "update", "pop", "extend", "insert"}:
        raise _NotConverted(f"it changes a list or a mapping while it renders (`{min(changing)}`)")


def _drafts(template: P3Template, compat: Compat) -> Iterator[_Draft]:
    """The ways to write the template, the one that says most first: with its choices and the index of the right one, where the
    target is one of them; the same with its conditions; as plain texts."""
    when, source, target = _split(template.jinja)
    if _assigned(source) & meta.find_undeclared_variables(ENVIRONMENT.parse(target)):
        target = "".join(_SET.findall(source)) + target.strip()
    choices = _choices(template)
    names = _names(template, choices)
    asked, told = (_trimmed(_renamed(compatible(part, compat), names)) for part in (source, target))
    plain = _Draft(
        template,
        _snake_case(template.name),
        asked,
        told,
        None if when is None else _renamed_expression(when.strip(), names),
        record={"prompt": _printed(_renamed(source, names)) or asked, "response": told},
    )
    if choices is not None:
        yield from _choosing(plain, target.strip(), choices, names)
    yield plain


def _names(template: P3Template, choices: tuple[str, ...] | str | None) -> dict[str, str]:
    """What stands for P3's names: the choices themselves, and other words for those that our engine adds."""
    names = {name: f"{name}_" for name in TYPED}
    if choices is not None:
        names[_OWN] = json.dumps(choices, ensure_ascii=False) if isinstance(choices, tuple) else choices
    elif _OWN in template.jinja:
        names[_OWN] = "none"
    return names


def _snake_case(name: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return name if name[:1].isalpha() else f"p3_{name}"


def _choosing(plain: _Draft, target: str, choices: tuple[str, ...] | str, names: dict[str, str]) -> Iterator[_Draft]:
    """The draft with a typed answer, where the target is one of the choices: `{{ answer_choices[…] }}`, also in a condition."""
    guard, body = _guard(target)
    chosen = _CHOSEN.fullmatch(body)
    if chosen is None or _OWN in chosen[1]:
        return
    answer = _renamed_expression(chosen[1].strip(), names)
    record = {**plain.record, "response": "{{ answer }}"}
    typed = replace(plain, target="{{ answer }}", choices=choices, answer=answer, record=record)
    if guard is None or re.fullmatch(rf"{re.escape(chosen[1].strip())}\s*(!=\s*-1|>=\s*0|>\s*-1)", guard):
        yield typed
    guarded = guard and _renamed_expression(guard.strip(), names)
    conditions = [condition for condition in (typed.when, guarded) if condition]
    if conditions:
        yield replace(typed, when=" and ".join(f"({c})" if len(conditions) > 1 else c for c in conditions))


def _split(source: str) -> tuple[str | None, str, str]:
    """(when, input, target): the source at its one separator outside of blocks; a block around everything is a `when`."""
    source = source.strip()
    if SEPARATOR not in source:
        raise _NotConverted(f"it has no {SEPARATOR} between prompt and target")
    cuts = _cuts(source)
    if len(cuts) == 1:
        return None, *cuts[0]
    if len(cuts) > 1:
        raise _NotConverted(f"{SEPARATOR} stands in it {len(cuts)} times")
    whole = _WHOLE_IF.fullmatch(source)
    cuts = _cuts(whole[2]) if whole else []
    if whole and len(cuts) == 1:
        return whole[1].strip(), *cuts[0]
    raise _NotConverted(f"{SEPARATOR} stands inside a block")


def _cuts(source: str) -> list[tuple[str, str]]:
    """Every way to cut at a separator that leaves two valid templates."""
    cuts = []
    for match in re.finditer(re.escape(SEPARATOR), source):
        halves = source[: match.start()], source[match.end() :]
        try:
            for half in halves:
                parsed(half)
        except TemplateSyntaxError:
            continue
        cuts.append(halves)
    return cuts


def _assigned(source: str) -> set[str]:
    targets = (node.target for node in ENVIRONMENT.parse(source).find_all(nodes.Assign))
    return {target.name for target in targets if isinstance(target, nodes.Name)}


def _choices(template: P3Template) -> tuple[str, ...] | str | None:
    """The choices as texts, or as an expression that gives a row's own."""
    if template.choices is None or template.fixed_choices is not None:
        return template.fixed_choices
    names = {name: f"{name}_" for name in TYPED}
    if listed := _LISTED.fullmatch(template.choices.strip()):
        return f'({_renamed_expression(listed[1].strip(), names)} | map("string") | map("trim") | list)'
    parts = [part.strip() for part in template.choices.split(SEPARATOR)]
    if all(part.startswith("{{") and part.endswith("}}") and part.count("{{") == 1 for part in parts):
        return (
            "[" + ", ".join(f"{_renamed_expression(part[2:-2].strip(), names)} | string | trim" for part in parts) + "]"
        )
    raise _NotConverted("its choices are more than a list of the row's own values")


def _guard(target: str) -> tuple[str | None, str]:
    """(test, body) of a target that stands in one `if` without an else; (None, target) of another."""
    whole = _WHOLE_IF.fullmatch(target)
    if whole is None:
        return None, target
    tree = ENVIRONMENT.parse(target).body
    alone = len(tree) == 1 and isinstance(tree[0], nodes.If) and not tree[0].else_ and not tree[0].elif_
    return (whole[1].strip(), whole[2].strip()) if alone else (None, target)


def _renamed(source: str, names: dict[str, str]) -> str:
    """The source with other names in its braces."""
    return _SEGMENTS.sub(lambda match: match[0] if match[0][1] == "#" else _renamed_expression(match[0], names), source)


def _renamed_expression(source: str, names: dict[str, str]) -> str:
    return _TOKENS.sub(lambda token: names.get(token[0], token[0]), source)


def _trimmed(source: str) -> str:
    """A text that renders without white space around it: the source itself where it begins and ends with words."""
    source = source.strip()
    body = sandbox.ENVIRONMENT.parse(source).body
    edges = [body[0].nodes[0], body[-1].nodes[-1]] if body and all(isinstance(n, nodes.Output) for n in (body[0], body[-1])) else []  # type: ignore[attr-defined]  # fmt: skip
    words = [edge.data for edge in edges if isinstance(edge, nodes.TemplateData)]
    if len(words) == 2 and not words[0][:1].isspace() and not words[1][-1:].isspace():
        return source
    return f"{{% filter trim %}}{source}{{% endfilter %}}"


def _printed(source: str) -> str | None:
    """What the text prints of the row, without its words; None where it has blocks, or prints nothing of the row."""
    if any(not isinstance(node, nodes.Output) for node in sandbox.ENVIRONMENT.parse(source).body):
        return None
    printed = [part for part in _SEGMENTS.findall(source) if part.startswith("{{")]
    printed = [
        part for part in dict.fromkeys(printed) if meta.find_undeclared_variables(sandbox.ENVIRONMENT.parse(part))
    ]
    return "\n\n".join(printed) or None


# --- a set -----------------------------------------------------------------------------------------------------------


def _groups(file: P3File, drafts: list[_Draft]) -> list[tuple[str, list[_Draft]]]:
    """(name, drafts) of each set: templates whose answers are told alike; those that ask for no choice go with the most."""
    sizes = Counter(draft.group for draft in drafts if draft.answer is not None)
    main = sizes.most_common(1)[0][0] if sizes else (None, None)
    groups: dict[tuple[Any, ...], list[_Draft]] = {main: []}
    for draft in drafts:
        groups.setdefault(draft.group if draft.answer is not None else main, []).append(draft)
    name = re.sub(r"[^\w.-]+", "_", f"{file.dataset}_{file.subset}" if file.subset else file.dataset)
    return [(name if i == 0 else f"{name}_{i + 1}", group) for i, group in enumerate(groups.values()) if group]


def _together(
    file: P3File, name: str, drafts: list[_Draft], rows: dict[str, list[dict[str, Any]]], compat: Compat
) -> tuple[Set | None, list[tuple[_Draft, str]]]:
    """The set of those drafts that are equal to P3 in it, and why the others are not."""
    reasons: list[tuple[_Draft, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        while drafts:
            text = _yaml(file, name, drafts, [])
            engine, wrong = _engine(Path(folder), text)
            if engine is None:
                return None, reasons + [(draft, wrong) for draft in drafts]
            failed = [
                (draft, why) for draft in drafts if (why := _difference(engine, draft, rows[draft.p3.name], compat))
            ]
            if not failed:
                examples = _examples(engine, drafts, rows)
                return Set(name, _yaml(file, name, drafts, examples), len(drafts)), reasons
            reasons += failed
            drafts = [draft for draft in drafts if draft not in [one for one, _ in failed]]
    return None, reasons


def _engine(folder: Path, text: str) -> tuple[Engine | None, str]:
    path = folder / f"{len(list(folder.iterdir()))}.yaml"
    path.write_text(text, "utf-8")
    template_set, findings = read_set(str(path))
    return (Engine(template_set), "") if template_set is not None else (None, findings[0].why)


def _difference(engine: Engine, draft: _Draft, rows: list[dict[str, Any]], compat: Compat) -> str | None:
    """Why the set's template is not P3's; None where it is. A made-up row of the wrong type may fail loudly in ours; no row
    may render otherwise."""
    equal, failed, skipped = 0, 0, "P3 renders none of the made-up rows"
    for number, row in enumerate(rows):
        try:
            parts = draft.p3.apply(row, compat=compat)
        except TemplateError:
            continue
        kept = len(parts) == 2 and all(parts)
        try:
            rendered = [message["content"] for message in engine.render("row", row, which=draft.name)[0].messages]
        except RowSkipped as error:
            skipped = f"{error}" if kept else skipped
            continue
        except TemplateError as error:
            if kept and number < len(rows) // 2:
                failed, skipped = failed + 1, str(error.__cause__ or error)
            continue
        if not kept:
            return "ours renders a row that P3 drops"
        if rendered != parts:
            return f"ours renders {_where_they_part(rendered, parts)}"
        equal += 1
    return None if equal >= max(_PROVEN, failed) else skipped


def _where_they_part(ours: list[str], theirs: list[str]) -> str:
    one, other = next((a, b) for a, b in zip(ours, theirs, strict=True) if a != b)
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return f"{one[max(0, at - 10) : at + 20]!r} where P3 renders {other[max(0, at - 10) : at + 20]!r}"


def _examples(engine: Engine, drafts: list[_Draft], rows: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """As few of the made-up rows as it takes for every template to render."""
    unseen, examples = {draft.name for draft in drafts}, []
    for row in (rows[draft.p3.name][number] for number in range(_ROWS) for draft in drafts):
        try:
            engine.record(row)
            names = {rendered.template for rendered in engine.render("example", row, which="all")}
        except (RowSkipped, TemplateError):
            continue
        if names & unseen:
            examples.append(row)
            unseen -= names
    return examples


def _yaml(file: P3File, name: str, drafts: list[_Draft], examples: list[dict[str, Any]]) -> str:
    original = [draft for draft in drafts if draft.p3.original_task is not False]
    main = next((draft for draft in drafts if draft.answer), (original or drafts)[0])
    own = main.choices if isinstance(main.choices, str) else None
    if own is not None:  # a row's own choices become a role
        drafts, main = [draft.with_role(own) for draft in drafts], main.with_role(own)
    columns = _columns(drafts, own)
    data: dict[str, Any] = {
        "dataset": name,
        "about": f"P3's templates for {file.dataset}{f' {file.subset}' if file.subset else ''}, from promptsource.",
        "hub": {"path": file.dataset, "config": file.subset} if file.subset else {"path": file.dataset},
        "license": "unknown",  # P3's templates are Apache-2.0; what counts is the data's
        "columns": columns,
        "record": main.record,
    }
    if main.answer is not None:
        data["choices"] = list(main.choices) if isinstance(main.choices, tuple) else main.choices
        data["answer"] = main.answer
    if metrics := _metrics(main):
        data["metrics"] = metrics
    used = set().union(*(sandbox.expression_reads(source) for source in columns.values()))
    data["example"] = [{key: value for key, value in row.items() if key in used} for row in examples] or {}
    data["templates"] = [_entry(draft, main) for draft in drafts]
    return setfile.dump(data)


def _columns(drafts: list[_Draft], own_choices: str | None) -> dict[str, str]:
    """Every column that is read as a role of its name, or of its name with `_` where our engine has that; and the row's own
    choices."""
    raw = {f"{name}_": name for name in TYPED}
    reads = sorted(set().union(*(draft.reads for draft in drafts)) - {_OWN})
    columns = {role: raw.get(role, role) for role in reads}
    if own_choices is not None:
        columns[_OWN] = _renamed_expression(own_choices, raw)
    return columns


def _metrics(main: _Draft) -> list[str]:
    """Ours for P3's; accuracy is the exact match where there are no choices to pick from."""
    metrics = dict.fromkeys(_METRICS[metric] for metric in main.p3.metrics if metric in _METRICS)
    return [metric if main.answer is not None or metric != "accuracy" else "exact_match" for metric in metrics]


def _entry(draft: _Draft, main: _Draft) -> dict[str, Any]:
    words = len(re.sub(_SEGMENTS, " ", draft.input).split())
    forward = draft.p3.original_task is not False if main.answer is None else draft.answer is not None
    entry: dict[str, Any] = {
        "name": draft.name,
        "kind": "forward" if forward else "inverted",
        "style": "terse" if words < 8 else "plain" if words < 30 else "detailed",
    }
    if draft.when is not None:
        entry["when"] = draft.when
    if isinstance(draft.choices, tuple) and draft.choices != main.choices:
        entry["choices"] = list(draft.choices)
    return {**entry, "input": draft.input, "target": draft.target}
