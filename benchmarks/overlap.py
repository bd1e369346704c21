"""Which words the library's templates have in common with P3's and FLAN's: none may be the same, and only canonical ones may
share four words in a row.

P3 is read from $TAMIS_P3, a folder of promptsource's templates (else $TAMIS_DATA/promptsource); FLAN from $TAMIS_FLAN, a folder
of Python files that pair inputs with targets (flan/templates.py and flan/v2/ of google-research/FLAN), which are parsed and never
run. Only sets whose names are given are told template by template: ``python -m benchmarks.overlap flan/sentiment/sst2``.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from curate.importers import promptsource
from curate.lint.pieces import four_grams, literal
from curate.template.sets import Template, load_set, names

_PLACE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{\w*\}", re.DOTALL)


def runs(text: str) -> list[list[str]]:
    """The words between the places where a row's text goes."""
    return [found for part in _PLACE.split(text) if (found := re.findall(r"\w+", part.lower()))]


def said(text: str) -> str:
    """A prompt's words, with a mark where the row's text goes: what two templates that are the same agree in."""
    return " ".join(re.findall(r"\w+|\x00", re.sub(r"(?:\x00\s*)+", "\x00", _PLACE.sub("\x00", text.lower()))))


def theirs() -> dict[str, list[str]]:
    """Prompts of the other libraries that are at hand."""
    found: dict[str, list[str]] = {}
    p3 = Path(os.environ.get("TAMIS_P3") or Path(os.environ.get("TAMIS_DATA", "")) / "promptsource")
    for path in sorted(p3.rglob("templates.yaml")):
        try:
            given = promptsource.read(path).templates
        except Exception as error:
            print(f"left out: {error}")
            continue
        found.setdefault("P3", []).extend(template.jinja.split("|||")[0] for template in given)
    for path in sorted(Path(os.environ["TAMIS_FLAN"]).glob("*.py")) if "TAMIS_FLAN" in os.environ else ():
        tree = ast.parse(path.read_text("utf-8"))
        pairs = (node for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) == 2)
        texts = (pair.elts[0].value for pair in pairs if isinstance(pair.elts[0], ast.Constant))
        found.setdefault("FLAN", []).extend(text for text in texts if isinstance(text, str))
    return found


def prompt(template: Template) -> str:
    return "\n".join(literal(source) for _, source in template.messages[:-1])


def main(chosen: Sequence[str] = ()) -> None:
    others = theirs()
    for project, prompts in others.items():
        known = {said(text): text for text in prompts if runs(text)}
        grams = Counter(tuple(run[i : i + 4]) for text in prompts for run in runs(text) for i in range(len(run) - 3))
        same, sharing, canonical, of = [], [], [], Counter[str]()
        for name in names():
            for template in load_set(name).templates:
                shared = sorted(gram for gram in four_grams(template) if gram in grams)
                style = "canonical" if template.style == "canonical" else "other"
                of[style] += 1
                line = f"{name} {template.name}: {'; '.join(' '.join(gram) for gram in shared[:4])}"
                if said(prompt(template)) in known and re.search(r"\w", prompt(template)):
                    same.append(f"{name} {template.name}")
                if shared:
                    (canonical if style == "canonical" else sharing).append(line)
        print(
            f"{project}, {len(prompts):,} prompts: {len(same)} of our templates are the same; four words in a row are shared by "
            f"{len(sharing)} of {of['other']} that are not canonical, and by {len(canonical)} of {of['canonical']} canonical ones"
        )
        for label, lines in (("the same", same), ("shares", sharing), ("canonical, shares", canonical)):
            for line in lines:
                if line.split()[0] in chosen or (not chosen and label != "canonical, shares"):
                    print(f"  {label}: {line}")
    if not others:
        print("set TAMIS_P3 or TAMIS_DATA, and TAMIS_FLAN")


if __name__ == "__main__":
    main(sys.argv[1:])
