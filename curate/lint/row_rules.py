"""The rules of `tamis templates check` that look at rows as the templates put them: the set's examples, or real rows."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from jinja2 import nodes
from jinja2.runtime import Undefined

from curate.contract.errors import RowSkipped, TemplateError
from curate.lint.metrics import METRICS
from curate.lint.subject import LIMITS, Findings, Row, Rule, Subject, seams
from curate.template import sandbox
from curate.template.engine import Rendered
from curate.template.sets import Finding

# --- examples --------------------------------------------------------------------------------------------------------


def example(subject: Subject) -> Findings:
    """The set's own examples must make a record each, and every template must render for one of them."""
    unseen = {template.name: template for template in subject.set.templates}
    for i, fields in enumerate(subject.set.examples):
        try:
            for one in subject.engine.unfold(fields):
                subject.engine.record(one)
                for rendered in subject.engine.render("example", one, which="all"):
                    unseen.pop(rendered.template, None)
        except (RowSkipped, TemplateError) as error:
            why, mend = f"the example does not render: {error}", "mend the example or the set"
            yield Finding("example", subject.example_at(i), why, mend)
            return
    for template in unseen.values():
        why = "applies to none of the examples"
        yield subject.at(template, "example", why, "add an example for which its `when` holds")


def uncalled_method(subject: Subject) -> Findings:
    """A method that is named and not called: `{{ text.strip }}` prints where it lies in memory, and `if text.isupper` is true."""
    roles = [one for fields in subject.set.examples for one in _roles(subject, fields)]
    mend = "write `()` after it, or use a filter"
    for template in subject.set.templates:
        for number, (_, source) in enumerate(template.messages):
            for said, line in _uncalled(source, roles):
                why = f"names the method `{said}` and does not call it"
                yield subject.at(template, "uncalled-method", why, mend, number, line)
    texts = [(("record", key), source) for key, source in subject.set.record.items()]
    texts += [(("templates", i, "when"), _printed(template.when)) for i, template in enumerate(subject.set.templates)]
    texts += [
        ((key,), _printed(source)) for key, source in (("when", subject.set.when), ("answer", subject.set.answer))
    ]
    for keys, source in texts:
        for said, _ in _uncalled(source, roles):
            why = f"`{keys[-1]}` names the method `{said}` and does not call it"
            yield subject.at_key("uncalled-method", keys, why, mend)
    for role, source in subject.set.columns.items():
        for said, _ in _uncalled("" if sandbox.is_path(source) else _printed(source), subject.set.examples):
            why = f"the role `{role}` is the method `{said}`, which is not called"
            yield subject.at_key("uncalled-method", ("columns", role), why, mend)


def _printed(expression: str | None) -> str:
    return "{{ " + expression + " }}" if expression else ""


def _roles(subject: Subject, fields: dict[str, Any]) -> list[dict[str, Any]]:
    try:
        return [subject.engine.roles(one) for one in subject.engine.unfold(fields)]
    except (RowSkipped, TemplateError):  # which is a finding of `example`
        return []


def _uncalled(source: str, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, int]]:
    """The methods of what rows hold that a text names and does not call, with their lines from 0."""
    if not _ATTRIBUTE.search(source):
        return
    tree = sandbox.ENVIRONMENT.parse(source)
    called = {id(call.node) for call in tree.find_all(nodes.Call)}
    for node in tree.find_all((nodes.Getattr, nodes.Getitem)):
        if id(node) not in called and any(callable(_value(node, row)) for row in rows):
            yield node.attr if isinstance(node, nodes.Getattr) else node.arg.as_const(), node.lineno - 1


_ATTRIBUTE = re.compile(r"[\w)\]]\s*(?:\.\s*[A-Za-z]|\[\s*[\"'])")


def _value(node: nodes.Node, row: dict[str, Any]) -> Any:
    """What Jinja finds there in a row: an item before a method in brackets, a method before an item after a dot. None elsewhere."""
    if isinstance(node, nodes.Name):
        return row.get(node.name)
    found = None
    if isinstance(node, nodes.Getattr) and (inner := _value(node.node, row)) is not None:
        found = sandbox.ENVIRONMENT.getattr(inner, node.attr)
    elif isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        inner = _value(node.node, row)
        found = None if inner is None else sandbox.ENVIRONMENT.getitem(inner, node.arg.value)
    return None if isinstance(found, Undefined) else found


# --- rows, or examples where there are none --------------------------------------------------------------------------

_HEADING = re.compile(r"(?:^|\n)[^\n\x00]*:[ ]?\n?\Z")


def empty_heading(subject: Subject) -> Findings:
    """A line that ends with a colon and has nothing after it, because what is printed there is empty."""
    for template in subject.set.templates:
        for seam in seams(template):
            heads = _HEADING.search(seam.before) and (not seam.after or seam.after.startswith("\n"))
            if not heads or seam.message == len(template.messages) - 1:
                continue
            values = subject.every_value(template, seam.source)
            empty = sum(not value.strip() for value in values)
            if empty and subject.often(empty, len(values)):
                heading = seam.before.strip().rpartition("\n")[2]
                why = f"leaves nothing after `{heading}` where `{seam.source}` is empty ({subject.share(empty, len(values))})"
                mend = f"put the heading in `{{% if {seam.source} %}}…{{% endif %}}`, or give the template a `when`"
                yield subject.at(template, "empty-heading", why, mend, seam.message, seam.line)


def empty_gap(subject: Subject) -> Findings:
    """Two empty lines in a row that no value holds: an empty value left them."""
    for template in subject.set.templates:
        hits, of = 0, 0
        meant = any("\n\n\n" in source for _, source in template.messages)  # that is `white-space`
        for row, rendered in subject.renderings(template) if not meant else ():
            of += 1
            if any("\n\n\n" in message["content"] for message in rendered.messages):
                hits += "\n\n\n" not in str([*row.roles.values()]).replace("\\n", "\n")
        if hits and subject.often(hits, of):
            why = f"leaves two empty lines in a row ({subject.share(hits, of)})"
            mend = "put what may be empty in `{% if … %}`, with its line break"
            yield subject.at(template, "empty-gap", why, mend)


def untrimmed_target(subject: Subject) -> Findings:
    """A target that begins or ends with white space, which a model would learn."""
    for template in subject.set.templates:
        targets = [rendered.messages[-1]["content"] for _, rendered in subject.renderings(template)]
        hits = sum(target != target.strip() for target in targets)
        if hits and subject.often(hits, len(targets)):
            why = f"has white space around its target ({subject.share(hits, len(targets))})"
            yield subject.at(template, "untrimmed-target", why, "`| trim` the column")


def inverted_enumerator(subject: Subject) -> Findings:
    """An inverted prompt that gives a letter of options as the answer, and the options are nowhere."""
    if subject.set.choices is not None or subject.set.answer is None:
        return
    for template in subject.set.templates:
        if template.kind != "inverted" or "answer" not in template.input_reads:
            continue
        given = subject.every_value(template, "answer")
        listed = any(re.search(r"(?m)^\W*A[.):]|\(A\)", _prompt(r)) for _, r in subject.renderings(template))
        if given and not listed and all(re.fullmatch(r"\(?[A-Ea-e][.)]?\)?", value) for value in given):
            why = f"gives the letter `{given[0]}` as the answer and shows no options"
            yield subject.at(template, "inverted-enumerator", why, "print the option's text")


def inverted_invention(subject: Subject) -> Findings:
    """An inverted template that asks for more words than its prompt gives: in over 10 % of the rows what it asks for is made up."""
    for template in subject.set.templates if subject.set.messages is None else ():
        if template.kind != "inverted":
            continue
        sizes = [
            (_words(_prompt(rendered)), _words(rendered.messages[-1]["content"]))
            for _, rendered in subject.renderings(template)
        ]
        more = [(given, asked) for given, asked in sizes if asked > given]
        if more and subject.often(len(more), len(sizes), LIMITS.invented):
            given, asked = max(more, key=lambda size: size[1] - size[0])
            why = f"asks for {asked} words and gives {given} ({subject.share(len(more), len(sizes))})"
            mend = "give more of the row in its input, or leave long rows out: `when: text | wordcount <= 60`"
            yield subject.at(template, "inverted-invention", why, mend)


_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def _words(text: str) -> int:
    """How many words a text has; two characters of a script that puts no spaces between words count as one."""
    spaced, unspaced = _UNSPACED.subn(" ", text)
    return len(spaced.split()) + unspaced // 2


def gold_round_trip(subject: Subject) -> Findings:
    """The right target, scored by the set's own metrics, must get all points, and a wrong choice must not."""
    metrics = [(name, METRICS[name]) for name in subject.set.metrics if name in METRICS]
    for template in subject.set.templates if metrics else ():
        if template.kind == "inverted":
            continue
        failing: dict[str, list[str]] = defaultdict(list)  # what is wrong: the targets
        of = 0
        for _, rendered in subject.renderings(template):
            of += 1
            gold = rendered.messages[-1]["content"]
            right = [rendered.choices[rendered.answer]] if rendered.choices and rendered.answer is not None else []
            for name, metric in metrics:
                if metric(gold, right or rendered.references) < 1:
                    failing[f"`{name}` does not give its own right target all points"].append(gold)
                elif any(metric(other, right) >= 1 for other in _others(rendered)):
                    failing[f"`{name}` gives a wrong choice all points"].append(gold)
        for why, golds in failing.items():
            if subject.often(len(golds), of):
                mend = "name another metric, or put the choices so that it tells them apart"
                said = f"has targets such as `{golds[0][:60]}`; {why}"
                yield subject.at(template, "gold-round-trip", said, mend)


def _others(rendered: Rendered) -> list[str]:
    return [choice for i, choice in enumerate(rendered.choices or ()) if i != rendered.answer]


def too_long(subject: Subject) -> Findings:
    """Prompt and target together are longer than most models take."""
    for template in subject.set.templates:
        lengths = [
            sum(len(message["content"]) for message in rendered.messages)
            for _, rendered in subject.renderings(template)
        ]
        hits = sum(length > LIMITS.characters for length in lengths)
        if hits and subject.often(hits, len(lengths), LIMITS.long):
            share, longest = subject.share(hits, len(lengths)), max(lengths)
            why = f"comes out longer than {LIMITS.characters:,} characters ({share}, up to {longest:,})"
            yield subject.at(template, "too-long", why, "shorten the column, or leave such rows out with `when`")


# --- real rows only --------------------------------------------------------------------------------------------------


def dropped_rows(subject: Subject) -> Findings:
    """Rows that the set or one of its templates does not take, over 5 %; or that the set's `when` leaves out, over half."""
    if not subject.real:
        return
    subject.look()
    dropped = subject.dropped.total()
    if dropped > LIMITS.dropped * subject.total:
        why = f"{dropped:,} of {subject.total:,} rows would be dropped: {_reasons(subject.dropped)}"
        yield subject.at_key(
            "dropped-rows", ("columns",), why, "mend the columns, or say in the set's `when` which rows stay"
        )
    if subject.left_out > LIMITS.left_out * subject.total:
        why = f"`when` leaves {subject.left_out:,} of {subject.total:,} rows out"
        yield subject.at_key("dropped-rows", ("when",), why, "ask for less, or for other rows")
    for template in subject.set.templates:
        reasons = subject.unrendered[template.name]
        if reasons.total() > LIMITS.dropped * len(subject.rows):
            why = f"drops {reasons.total():,} of {len(subject.rows):,} rows: {_reasons(reasons)}"
            yield subject.at(template, "dropped-rows", why, "give it a `when` that leaves them to other templates")


def _reasons(reasons: Counter[str]) -> str:
    return "; ".join(f"{reason} ({count:,})" for reason, count in reasons.most_common(3))


def failing_rows(subject: Subject) -> Findings:
    """Rows on which a template fails; a run would stop there."""
    subject.look()
    if subject.real and subject.failed:
        where, error = next(iter(subject.failed.items()))
        why = f"{len(subject.failed):,} of {subject.total:,} rows make a template fail, the first at {where}: {error}"
        yield subject.at_key("failing-rows", ("templates",), why, "read only what every row has")


def target_not_choice(subject: Subject) -> Findings:
    """Rows whose answer is none of the choices."""
    subject.look()
    count = sum(
        n for reason, n in subject.dropped.items() if re.match(r"the answer .* is none of the \d+ choices", reason)
    )
    if subject.real and count:
        why = f"the answer of {count:,} of {subject.total:,} rows is none of the choices"
        mend = "mend `answer` or `choices`, or leave the rows out with `when`"
        yield subject.at_key("target-not-choice", ("answer",), why, mend)


def never_drawn(subject: Subject) -> Findings:
    """A template that no real row gets."""
    if subject.real and len(subject.look().rows) > 1:
        for template in subject.set.templates:
            if not any(template.name in row.rendered for row in subject.rows):
                why = f"applies to none of {len(subject.rows):,} rows"
                yield subject.at(template, "never-drawn", why, "mend its `when`")


def prompt_collision(subject: Subject) -> Findings:
    """A template that puts different rows into one prompt with different targets: over 5 % of the rows, 20 % of those of an
    inverted one. Rows whose own prompts are the same are the data's affair."""
    if not subject.real:
        return
    for template in subject.set.templates:
        groups: defaultdict[str, list[tuple[Row, Rendered]]] = defaultdict(list)
        for row, rendered in subject.renderings(template):
            groups[_prompt(rendered)].append((row, rendered))
        hits = [prompt for prompt, group in groups.items() if _differ(group)]
        rows, of = sum(len(groups[prompt]) for prompt in hits), sum(map(len, groups.values()))
        if hits and rows > (LIMITS.inverted_colliding if template.kind == "inverted" else LIMITS.colliding) * of:
            first = " ".join(max(hits, key=lambda prompt: len(groups[prompt])).split())[:60]
            why = f"gives {100 * rows / of:.0f} % of the rows a prompt that others have with another target (`{first}`)"
            yield subject.at(template, "prompt-collision", why, "tell more of the row in the prompt")


def _differ(group: list[tuple[Row, Rendered]]) -> bool:
    """Whether rows that differ have a common prompt here, and targets of which not each is right for each."""
    row, rendered = group[0]
    return any(
        other.prompt != row.prompt and again.messages[-1]["content"] not in rendered.references
        for other, again in group[1:]
    )


def one_answer(subject: Subject) -> Findings:
    """All real rows have the same answer: the rows are sorted, or a column is read wrong."""
    answers = {row.response for row in subject.look().rows}
    if subject.real and len(answers) == 1 and len(subject.rows) >= LIMITS.same_answer:
        why = f"all of {len(subject.rows):,} rows have the answer `{next(iter(answers))[:40]}`"
        mend = "look at rows from all over the file, and at the column that `answer` reads"
        yield subject.at_key("one-answer", ("answer",), why, mend)


def _prompt(rendered: Rendered) -> str:
    return "\n\n".join(message["content"] for message in rendered.messages[:-1])


EXAMPLES: tuple[Rule, ...] = (example, uncalled_method)
ROWS: tuple[Rule, ...] = (
    empty_heading, empty_gap, untrimmed_target, inverted_enumerator, inverted_invention, gold_round_trip, too_long,
)  # fmt: skip
REAL: tuple[Rule, ...] = (
    dropped_rows, failing_rows, target_not_choice, never_drawn, prompt_collision, one_answer,
)  # fmt: skip
