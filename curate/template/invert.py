"""Templates turned around by rule: from a forward template and the roles that it prints, the tasks that give the answer and
ask for what stood in the prompt (the input inversion of Flan 2022, arXiv 2301.13688, section 3.3, which was worth 9 points of
MMLU there; MetaICL's noisy channel, arXiv 2110.15943).

    derive(load_set("flan/natural_language_inference/rte"))      [Template("must_be_true~premise", kind="inverted", …), …]

An inversion shows the forward prompt with one role taken out, the answer as text, and the role's first words and length, so
that no two rows ask the same and the task can be done; and it is drawn only for rows where the role has no more words than
what is left of the prompt, so that it never asks to invent more than it gives. Which inversions are legal follows from the
template:

- it is forward, one question and one target, and the target is made of the answer and literal text alone;
- the role is printed, and by itself: an expression or a condition that mixes it with others cannot be blanked;
- no other role in the prompt is cut from the same column, and could hold the target;
- the role is none of those that the answer, the choices or the references are read from.
"""

from __future__ import annotations

import re
from dataclasses import replace

from curate.contract.draws import draw
from curate.template import sandbox
from curate.template.options import without_options
from curate.template.sets import Template, TemplateSet

GAP = "[…]"
FEWEST_WORDS = 6  # of the role in a row: of a shorter one the first words give too much away
_WORD = 4  # letters of a role's name that says something; "mr" and "s1" do not
_PRINTED = re.compile(r"\{\{-?(.*?)-?\}\}", re.DOTALL)
_FRAMES = (
    'Somebody sent this, with {role} where {gap} stands:\n\n"""\n{asked}\n"""\n\nThe reply was: {target}\n\n'
    'Write out {role}. It begins with "{start}" and has {length} words.',
    "Reply: {target}\n\nIt was given to the prompt below, out of which a part was cut ({gap}).\n\n{asked}\n\n"
    'The part that was cut, {length} words long, starts "{start}". Restore it.',
    "# Prompt with a gap\n{asked}\n\n# What came back\n{target}\n\n# Your job\nSupply {role}, marked {gap} above, so that what "
    'came back is right. Length: {length} words. Opening: "{start}"',
    'Work backwards. An assistant said "{target}" when it was shown what follows, but {gap} stood for {role}. Give {role} in '
    'about {length} words, opening with "{start}".\n\n{asked}',
)


def derive(template_set: TemplateSet) -> tuple[Template, ...]:
    """The legal inversions of the set's forward templates, in their order; none of a set without an answer."""
    if template_set.answer is None:
        return ()
    right = (template_set.answer, template_set.references, template_set.choices)
    reads = (sandbox.expression_reads(source) for source in right if isinstance(source, str))
    given = frozenset({"answer", "options"}).union(*reads)
    told = template_set.answer if template_set.choices is None and template_set.answer in template_set.columns else None
    return tuple(
        inversion
        for template in template_set.templates
        for role in sorted(template.input_reads - given)
        if not _shared(template_set, role, template.input_reads - {role} - given)
        and (inversion := _inversion(template, role, told)) is not None
    )


def _shared(template_set: TemplateSet, role: str, others: frozenset[str]) -> bool:
    """Whether another role that stays in the prompt is cut from the same column."""
    sources = {name: template_set.columns[name] for name in {role, *others} & template_set.columns.keys()}
    needs = {
        name: {source.split(".")[0]} if sandbox.is_path(source) else sandbox.expression_needs(source)
        for name, source in sources.items()
    }
    return any(needs[role] & needs[other] for other in others if other in needs)


def _inversion(template: Template, role: str, told: str | None) -> Template | None:
    """told: the role that the answer is, where it is one."""
    if template.kind != "forward" or [name for name, _ in template.messages] != ["user", "assistant"]:
        return None
    if template.target_reads != {"answer"} or (template.when and role in sandbox.expression_reads(template.when)):
        return None
    asked = without_options(template.messages[0][1])
    blanked = _PRINTED.sub(lambda printed: GAP if _reads_only(printed[1], role) else printed[0], asked)
    if GAP in asked or role in sandbox.text_reads(blanked) or not _plainly_printed(asked, role):
        return None
    words = f"{role}.split() | length"
    enough = f"{role} is string and {words} >= {FEWEST_WORDS} and {words} <= {_given(blanked, told)}"
    texts = {
        "asked": blanked,
        "target": template.target,
        "role": "the " + (role.replace("_", " ") if len(role) >= _WORD else "missing part"),
        "gap": GAP,
        "start": f"{{{{ {role} | first_words(3) }}}}",
        "length": f"{{{{ {role}.split() | length }}}}",
    }
    frame = _FRAMES[draw(0, "invert.frame", f"{template.name}\0{role}") % len(_FRAMES)]
    return replace(
        template,
        name=f"{template.name}~{role}",
        kind="inverted",
        messages=(("user", _filled(frame, texts)), ("assistant", f"{{{{ {role} }}}}")),
        when=f"({template.when}) and {enough}" if template.when else enough,
        inversion_of=template.name,
    )


def _given(blanked: str, told: str | None) -> str:
    """An expression for how many words are given at least: the prompt's own, those of the roles that it prints whole, and those
    of the answer."""
    roles = [*(printed.strip() for printed in _PRINTED.findall(blanked)), *([told] if told else [])]
    own = len(re.sub(r"\{\{.*?\}\}|\{%.*?%\}", " ", blanked, flags=re.DOTALL).split())
    plain = dict.fromkeys(role for role in roles if role.isidentifier() and role != "answer")
    return " + ".join([str(own), *(f"(({role} if {role} is string else '').split() | length)" for role in plain)])


def _filled(frame: str, texts: dict[str, str]) -> str:
    return re.sub(r"\{(\w+)\}", lambda name: texts[name[1]], frame)


def _reads_only(expression: str, role: str) -> bool:
    return sandbox.text_reads("{{" + expression + "}}") == {role}


def _plainly_printed(text: str, role: str) -> bool:
    """Whether the role is printed whole somewhere, as ``{{ role }}``."""
    return any(printed.strip() == role for printed in _PRINTED.findall(text))
