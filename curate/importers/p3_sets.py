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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, zip_longest
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import TemplateSyntaxError, meta, nodes
from jinja2.exceptions import SecurityError

from curate.contract.errors import RowSkipped, TemplateError
from curate.importers import setfile
from curate.importers.p3_proof import ROWS, Trials, made_up
from curate.importers.p3_text import NotConverted, Text, columns, renamed
from curate.importers.promptsource import ENVIRONMENT, SEPARATOR, Compat, P3File, P3Template, compatible, parsed
from curate.template import sandbox
from curate.template.engine import Engine
from curate.template.sets import TYPED, Finding, read_set

_OWN = "answer_choices"  # P3's name for the choices
_METRICS = {"Accuracy": "accuracy", "ROUGE": "rouge_l", "BLEU": "bleu", "Squad": "f1"}
_SEGMENTS = re.compile(r"\{\{.*?\}\}+|\{%.*?%\}|\{#.*?#\}", re.DOTALL)
_WHOLE_IF = re.compile(r"\{%-?\s*if\s(.+?)-?%\}(.*)\{%-?\s*endif\s*-?%\}", re.DOTALL)
_SETS = re.compile(r"\{%-?\s*set\s[^%]*?=[^%]*%\}")
_BETWEEN = "¦¦¦"  # choices that are put together as a text; |||, which a row may hold, is none of our separators
_CHOSEN = re.compile(r"\{\{-?\s*answer_choices\s*\[(.+)\]\s*-?\}\}", re.DOTALL)
_LISTED = re.compile(r"""\{\{(.+)\|\s*join\(\s*(?:"\s*\|\|\|\s*"|'\s*\|\|\|\s*')\s*\)\s*\}\}""", re.DOTALL)


class Set(NamedTuple):
    """A converted set. name: for its file, without an ending. names: of its templates, by P3's id."""

    name: str
    yaml: str
    names: dict[str, str]

    @property
    def templates(self) -> int:
        return len(self.names)


@dataclass(frozen=True)
class Converted:
    """What became of a file of P3. total: how many templates it holds."""

    sets: list[Set]
    findings: list[Finding]
    total: int

    @property
    def converted(self) -> int:
        return sum(one.templates for one in self.sets)


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


def convert(file: P3File, compat: Compat = "raw", rows: Sequence[dict[str, Any]] = ()) -> Converted:
    """A file of P3 as sets of ours, and a finding for each template that is not among them. rows: real ones, for the proof."""
    drafts, findings, trials = [], [], {}
    shared = list(islice(made_up(list(file.templates)), ROWS))
    for template in file.templates:
        try:
            trials[template.name] = _trials(template, compat, shared)
            trials[template.name].add(rows)
            drafts.append(_proven(file, trials[template.name], compat))
        except NotConverted as reason:
            findings.append(_finding(template, str(reason)))
    sets, groups = [], _groups(_told_apart(drafts))
    while groups:
        group = groups.pop(0)
        made, reasons = _together(file, _set_name(file, len(sets)), group, trials)
        if made is not None:
            sets.append(made)
        apart = [draft for draft, _ in reasons]
        if apart and len(group) > 1:  # what is proven by itself goes to a set of its own
            groups += [apart] if made is not None else [[draft] for draft in apart]
        else:
            findings += [_finding(draft.p3, reason) for draft, reason in reasons]
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


# --- one template ----------------------------------------------------------------------------------------------------


def _trials(template: P3Template, compat: Compat, shared: list[dict[str, Any]]) -> Trials:
    try:
        _refuse(parsed(compatible(template.jinja, compat)))
        _refuse(parsed(template.choices or ""))
        return Trials.made_up(template, compat, shared)
    except (TemplateSyntaxError, SecurityError) as error:
        raise NotConverted(f"it is not valid Jinja: {getattr(error, 'message', None) or error}") from error
    except RecursionError as error:
        raise NotConverted("it is nested too deep") from error


def _proven(file: P3File, trials: Trials, compat: Compat) -> _Draft:
    """The first of the ways to write the template that renders the same as P3."""
    reason = ""
    try:
        for draft in _drafts(trials.template, compat):
            made, reasons = _together(file, "one", [draft], {trials.template.name: trials})
            if made is not None:
                return draft
            reason = reasons[0][1]
    except (TemplateSyntaxError, SecurityError, TemplateError) as error:
        raise NotConverted(f"it is not valid Jinja: {getattr(error, 'message', None) or error}") from error
    except RecursionError as error:
        raise NotConverted("it is nested too deep") from error
    raise NotConverted(reason)


def _refuse(tree: nodes.Template) -> None:
    """What P3's templates can do and ours cannot."""
    filters = {f.name for f in tree.find_all(nodes.Filter)}
    methods = {c.node.attr for c in tree.find_all(nodes.Call) if isinstance(c.node, nodes.Getattr)}
    if missing := filters - set(sandbox.ENVIRONMENT.filters) - {"choice", "random"}:
        raise NotConverted(f"our templates have no filter `{min(missing)}`")
    if changing := methods & {"extend", "insert", "remove", "clear", "setdefault", "popitem", "reverse", "sort"}:
        raise NotConverted(f"it changes a list or a mapping while it renders (`{min(changing)}`)")


def _drafts(template: P3Template, compat: Compat) -> Iterator[_Draft]:
    """The ways to write the template, the one that says most first: with its choices and the index of the right one, where the
    target is one of them; the same with its conditions; as plain texts."""
    keys = [_RENAMED.get(name, name) for name in columns([template.jinja, template.choices or ""])]
    choices = _choices(template, keys)
    names, lead = dict(_RENAMED), ""
    if choices is not None:
        names[_OWN] = json.dumps(choices, ensure_ascii=False) if isinstance(choices, tuple) else choices
    elif template.choices is not None:
        lead = _chosen_text(template.choices, keys)
    elif _OWN in template.jinja:
        names[_OWN] = "none"
    written = Text.of(compatible(template.jinja, compat), names, keys).halves()
    bare = Text.of(template.jinja, _RENAMED, keys)
    for halves, raw in zip(written, bare.halves(), strict=True):
        record = _printed(raw.input) if _OWN not in raw.input else None
        plain = _Draft(
            template,
            _snake_case(template.name),
            _trimmed(_led(lead, halves.input)),
            _trimmed(_led(lead, halves.target)),
            None if halves.when is None else _led("", halves.when),
            record={},
        )
        plain = replace(plain, record={"prompt": record or plain.input, "response": plain.target})
        if choices is not None:
            yield from _choosing(plain, raw.target, choices, bare, names)
        yield plain


_RENAMED = {name: f"{name}_" for name in TYPED}  # other words for the names that our engine adds


def _led(lead: str, source: str) -> str:
    return lead + source if _OWN in source else source


def _snake_case(name: str) -> str:
    name = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    return name if name[:1].isalpha() else f"p3_{name}"


def _choosing(
    plain: _Draft, target: str, choices: tuple[str, ...] | str, bare: Text, names: dict[str, str]
) -> Iterator[_Draft]:
    """The draft with a typed answer, where the target is one of the choices: `{{ answer_choices[…] }}`, also in a condition."""
    guard, body = _guard(re.sub(_SETS, "", target).strip())
    chosen = _CHOSEN.fullmatch(body)
    if chosen is None or _OWN in chosen[1]:
        return
    answer = bare.inlined(chosen[1].strip())
    guarded = guard and bare.inlined(guard)
    if any(sandbox.expression_reads(one) & bare.local for one in (answer, guarded) if one):
        return
    record = {**plain.record, "response": "{{ answer }}"}
    typed = replace(plain, target="{{ answer }}", choices=choices, answer=answer, record=record)
    if guard is None or re.fullmatch(rf"{re.escape(chosen[1].strip())}\s*(!=\s*-1|>=\s*0|>\s*-1)", guard):
        yield typed
    if guarded:
        guarded = renamed(guarded, names)
    conditions = [condition for condition in (typed.when, guarded) if condition]
    if conditions:
        yield replace(typed, when=" and ".join(f"({c})" if len(conditions) > 1 else c for c in conditions))


def _choices(template: P3Template, keys: list[str]) -> tuple[str, ...] | str | None:
    """The choices as texts, or as an expression that gives a row's own; None where there are none, or where they are more than
    that."""
    if template.choices is None or template.fixed_choices is not None:
        return template.fixed_choices
    if listed := _LISTED.fullmatch(template.choices.strip()):
        return f'({renamed(listed[1].strip(), _RENAMED, keys)} | map("string") | map("trim") | list)'
    parts = [part.strip() for part in template.choices.split(SEPARATOR)]
    if all(part.startswith("{{") and part.endswith("}}") and part.count("{{") == 1 for part in parts):
        return "[" + ", ".join(f"{renamed(part[2:-2].strip(), _RENAMED, keys)} | string | trim" for part in parts) + "]"
    return None


def _chosen_text(choices: str, keys: list[str]) -> str:
    """What puts choices together that are a text of their own, before a text that reads them."""
    written = Text.of(choices.replace(SEPARATOR, _BETWEEN), _RENAMED, keys).source
    cut = f'{_OWN}.split("{_BETWEEN}") | map("trim") | list'
    return f"{{% set {_OWN} %}}{written}{{% endset %}}{{% set {_OWN} = {cut} %}}"


def _guard(target: str) -> tuple[str | None, str]:
    """(test, body) of a target that stands in one `if` without an else; (None, target) of another."""
    whole = _WHOLE_IF.fullmatch(target)
    if whole is None:
        return None, target
    tree = ENVIRONMENT.parse(target).body
    alone = len(tree) == 1 and isinstance(tree[0], nodes.If) and not tree[0].else_ and not tree[0].elif_
    return (whole[1].strip(), whole[2].strip()) if alone else (None, target)


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


def _groups(drafts: list[_Draft]) -> list[list[_Draft]]:
    """The drafts of each set: templates whose answers are told alike; those that ask for no choice go with the most."""
    sizes = Counter(draft.group for draft in drafts if draft.answer is not None)
    main = sizes.most_common(1)[0][0] if sizes else (None, None)
    groups: dict[tuple[Any, ...], list[_Draft]] = {main: []}
    for draft in drafts:
        groups.setdefault(draft.group if draft.answer is not None else main, []).append(draft)
    return [group for group in groups.values() if group]


def _set_name(file: P3File, number: int) -> str:
    name = re.sub(r"[^\w.-]+", "_", f"{file.dataset}_{file.subset}" if file.subset else file.dataset)
    return f"{name}_{number + 1}" if number else name


def _together(
    file: P3File, name: str, drafts: list[_Draft], trials: dict[str, Trials]
) -> tuple[Set | None, list[tuple[_Draft, str]]]:
    """The set of those drafts that are equal to P3 in it, and why the others are not."""
    reasons: list[tuple[_Draft, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        while drafts:
            text = _yaml(file, name, drafts, [])
            engine, wrong = _engine(Path(folder), text)
            if engine is None:
                return None, reasons + [(draft, wrong) for draft in drafts]
            failed = []
            for draft in drafts:
                if why := trials[draft.p3.name].difference(partial(_rendered, engine, draft.name)):
                    failed.append((draft, why))
            if not failed:
                examples = _examples(engine, drafts, trials)
                names = {draft.p3.id: draft.name for draft in drafts}
                return Set(name, _yaml(file, name, drafts, examples), names), reasons
            reasons += failed
            drafts = [draft for draft in drafts if draft not in [one for one, _ in failed]]
    return None, reasons


def _rendered(engine: Engine, template: str, row: dict[str, Any]) -> list[str]:
    with sandbox.WATCH:
        return [message["content"] for message in engine.render("row", row, which=template)[0].messages]


def _engine(folder: Path, text: str) -> tuple[Engine | None, str]:
    path = folder / f"{len(list(folder.iterdir()))}.yaml"
    path.write_text(text, "utf-8")
    template_set, findings = read_set(str(path))
    return (Engine(template_set), "") if template_set is not None else (None, findings[0].why)


def _examples(engine: Engine, drafts: list[_Draft], trials: dict[str, Trials]) -> list[dict[str, Any]]:
    """As few of the made-up rows as it takes for every template to render."""
    unseen, examples = {draft.name for draft in drafts}, []
    rows = [[trial.row for trial in trials[draft.p3.name].rows] for draft in drafts]
    for row in (row for several in zip_longest(*rows) for row in several if row is not None):
        if not unseen:
            break
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
    columns = _roles(drafts, own)
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


def _roles(drafts: list[_Draft], own_choices: str | None) -> dict[str, str]:
    """Every column that is read as a role of its name, or of its name with `_` where our engine has that; and the row's own
    choices."""
    raw = {f"{name}_": name for name in TYPED}
    reads = sorted(set().union(*(draft.reads for draft in drafts)) - {_OWN})
    columns = {role: raw.get(role, role) for role in reads}
    if own_choices is not None:
        columns[_OWN] = renamed(own_choices, raw)
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
