"""Kinds of stages: a word in a recipe is a file of curate/stages, and what that file holds is all that is known of the kind.

A kind's file has two functions,

    bind(given, ask) -> Step | None          its section of the recipe, checked (curate/run/ask.py); None where nothing is asked
    compute(job, step) -> facts              through the job alone (curate/run/job.py); the same facts every time

and of these what it needs:

    METHODS = "score"                        the room of its methods (curate/contract/methods.py)
    SECTION = "train"                        the recipe's section that it reads; without it, an entry of `steps`
    FORM = "dict"                            what that section may be, as an annotation
    MUST = True                              every recipe has that section
    NEEDS = {"embed": "a sentence"}          kinds that must stand before it, and what is said where one does not
    IMPLIED = {}                             what it is bound to where another kind needs it and the recipe does not name it
    PRODUCT = "model"                        its folder beside the tables, where it is no table itself
    ROLE = "selection"                       what reports and cards ask for: sources, labels, selection, phrasing, release
    PLACES = {"model": "model"}              what a person looks for in a product: a word, and where it lies
    EXAMPLE = "holdout: {fraction: 0.05}"    as docs/recipe.md shows it
    options() -> tuple[Parameter, ...]       of the section itself; of a kind with methods, what each takes beside its own
    words() -> {word: (about, parameters)}   of a kind without methods, what `tamis methods` lists: the ways of mix
    adds(step) -> columns                    beside the contract's own that it adds: checked for clashes, known to later steps
    reads(step, before) -> facts             what its bytes depend on beside its options: hashes of files, keys of other stages
    code(step) -> paths                      source that its imports do not show
    parent(step, before) -> Stage            whose rows it takes; without it, those of the last table
    ready(step, before) -> problems          what would stop it later: asked for before anything runs
    preview(stage, before) -> facts          for `--plan`: what it would do, where that is known
    says(step, facts) -> lines               for the person who waits
    shows(facts) -> tables and lines         for the person who reads the end of a run
    claims(step, facts) -> claims            what a card may then say was done or checked

Nothing is registered: curate/stages, entry points of the group ``tamis.stages`` (named by the kind, value the module), and
``stages/`` beside the recipe are looked through.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from curate.contract import methods
from curate.contract.code import public_functions
from curate.contract.errors import MethodError
from curate.contract.methods import nearest

STEPS = "steps"
_FOLDER = Path(__file__).resolve().parent.parent / "stages"
_HOOKS: dict[str, Callable[..., Any]] = {  # what a kind does where its file does not say
    "options": lambda: (),
    "words": dict,
    "adds": lambda step: (),
    "reads": lambda step, before: {},
    "code": lambda step: (),
    "parent": lambda step, before: before.table,
    "ready": lambda step, before: (),
    "preview": lambda stage, before: {},
    "says": lambda step, facts: (),
    "shows": lambda facts: (),
    "claims": lambda step, facts: (),
}
_NEEDED = ("bind", "compute")


@dataclass(frozen=True)
class Kind:
    """One kind of stage. Its functions are those of its file, by their names: ``kind.compute(job, step)``."""

    name: str
    path: Path
    module: ModuleType
    section: str
    form: str
    must: bool
    methods: str | None
    needs: dict[str, str]
    implied: Any
    product: str | None
    role: str | None
    places: dict[str, str]
    example: str

    @property
    def about(self) -> str:
        """The first sentence of its file, without its name."""
        about = (self.module.__doc__ or "").strip().partition(": ")[2].partition("\n\n")[0]
        return about[:1].upper() + about[1:]

    def __getattr__(self, hook: str) -> Callable[..., Any]:
        if hook not in (*_HOOKS, *_NEEDED):
            raise AttributeError(hook)
        return getattr(self.module, hook, None) or _HOOKS[hook]


def kinds(folder: Path | None = None) -> dict[str, Kind]:
    """Every kind by name, in alphabetical order. folder: the recipe's, whose ``stages/`` may hold kinds of its own."""
    known: dict[str, Kind] = {}
    for path in sorted(_FOLDER.glob("[!_]*.py")):
        known[path.stem] = _read(path.stem, path, f"curate.stages.{path.stem}")
    others = []
    for point in importlib.metadata.entry_points(group="tamis.stages"):
        spec = importlib.util.find_spec(point.value)
        if spec and spec.origin:
            others.append((point.name, Path(spec.origin), point.value))
    if folder is not None:
        beside = sorted((folder / "stages").glob("[!_]*.py"))
        others += [(path.stem, path, f"{methods.package_of(path.parent)}.{path.stem}") for path in beside]
    for name, path, module in others:
        if name in known:
            raise MethodError(
                f"two kinds of stage are called '{name}': {known[name].path} and {path}; give one of the files another name"
            )
        known[name] = _read(name, path, module)
    return dict(sorted(known.items()))


def in_order(members: Iterable[Kind]) -> list[Kind]:
    """Kinds of one section, each after those that it needs."""
    waiting, placed = list(members), list[Kind]()
    while waiting:
        names = {kind.name for kind in waiting}
        ready = [kind for kind in waiting if not names & kind.needs.keys()] or waiting
        placed += ready
        waiting = [kind for kind in waiting if kind not in ready]
    return placed


def _read(name: str, path: Path, module: str) -> Kind:
    try:
        functions = public_functions(path)
    except SyntaxError as error:
        raise MethodError(
            f"{path}:{error.lineno}: the kind of stage '{name}' is not valid Python: {error.msg}"
        ) from error
    for needed in _NEEDED:
        if needed not in functions:
            raise MethodError(
                f"{path}: the kind of stage '{name}' defines no function `{needed}`; a kind has at least "
                "`bind(given, ask)` and `compute(job, step)` (curate/run/kinds.py lists what else it may have)"
            )
    for function, line in functions.items():
        if function not in (*_NEEDED, *_HOOKS):
            raise MethodError(
                f"{path}:{line}: the kind of stage '{name}' defines `{function}`, which nobody calls"
                f"{nearest(function, (*_NEEDED, *_HOOKS))}; a function of its own begins with an underscore"
            )
    held = methods.import_file(module, path)
    return Kind(
        name=name,
        path=path,
        module=held,
        section=getattr(held, "SECTION", STEPS),
        form=getattr(held, "FORM", "dict"),
        must=getattr(held, "MUST", False),
        methods=getattr(held, "METHODS", None),
        needs=getattr(held, "NEEDS", {}),
        implied=getattr(held, "IMPLIED", None),
        product=getattr(held, "PRODUCT", None),
        role=getattr(held, "ROLE", None),
        places=getattr(held, "PLACES", {}),
        example=getattr(held, "EXAMPLE", ""),
    )
