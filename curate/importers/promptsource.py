"""P3's templates: promptsource's YAML as typed values, and what its ``Template.apply`` renders, byte for byte.

    file = read(Path("super_glue/rte/templates.yaml"))
    file.templates[0].apply({"premise": …, "hypothesis": …, "label": 0})      ["Suppose … Yes or no?", "Yes"]
    converted = convert(file, compat="raw")                                   our own sets, each proven equal, and findings

The semantics are those of bigscience-workshop/promptsource, promptsource/templates.py (the main branch): the whole source
is rendered once, split at ``|||``, and each part stripped, so that the list has one part where a row is filtered, two as a
rule, three where a nested text holds the separator. With compat "t0" every ``}}`` cuts what it prints at 2,048 characters,
targets included, which is how P3 was made; "raw" cuts nothing. Three things differ on purpose. The YAML is read by a safe
loader that knows two tags. Templates run in Jinja's sandbox with a short list of globals, filters and methods; time and
memory are bounded where the caller sees to it (``curate.template.guard``, as `tamis templates import` does). ``choice`` and ``random`` are drawn
from the seed, the template and the row's id, where promptsource draws from Python's global generator.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from types import BuiltinMethodType, MethodType
from typing import Any, Literal

import yaml
from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateSyntaxError, meta, nodes, pass_context
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context, LoopContext, Macro, Undefined
from jinja2.sandbox import SandboxedEnvironment, safe_range
from jinja2.utils import Namespace

from curate.contract.draws import draw
from curate.contract.errors import TemplateError
from curate.template.sandbox import WATCH

Compat = Literal["t0", "raw"]

SEPARATOR = "|||"
CUT = 2048  # characters of a printed expression, where compat is "t0"
_STANDIN = "3ed2dface8203c4c9dfb1a5dc58e41e0"  # what promptsource puts for a separator in the row's own texts
MOST_OUTCOMES = 500  # renderings of one row that are compared
_DEEPEST = 30
_MOST_NODES = 100_000  # of a file, with every alias written out

# --- the sandbox -----------------------------------------------------------------------------------------------------

_METHODS: dict[type, frozenset[str]] = {
    str: frozenset({
        "capitalize", "casefold", "count", "endswith", "find", "index", "isalpha", "isdecimal", "isdigit", "islower",
        "isnumeric", "isspace", "isupper", "join", "lower", "lstrip", "partition", "removeprefix", "removesuffix", "replace",
        "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split", "splitlines", "startswith", "strip", "swapcase",
        "title", "upper",
    }),
    list: frozenset({"append", "clear", "copy", "count", "extend", "index", "insert", "pop", "remove", "reverse", "sort"}),
    dict: frozenset({"clear", "copy", "get", "items", "keys", "pop", "popitem", "setdefault", "update", "values"}),
    tuple: frozenset({"count", "index"}),
}  # fmt: skip
_GLOBALS: dict[str, Any] = {"range": safe_range, "zip": zip, "dict": dict, "namespace": Namespace}
_NO_FILTERS = ("attr", "center", "filesizeformat", "indent", "pprint", "urlize", "wordwrap", "xmlattr")
_FORMATS = re.compile(r"(?:[^%]|%%|%(?:\(\w{1,40}\))?[-+ 0]{0,4}\d{0,2}(?:\.\d{1,2})?[dfgs])*", re.DOTALL)
_LOADING = (nodes.Extends, nodes.Include, nodes.Import, nodes.FromImport)
_DRAWS = " draws"  # the name of the row's draws in the context; no template can say a name with a space


class _Sandbox(SandboxedEnvironment):
    """Not the immutable one: templates of P3 append to lists that they make. Only listed methods of texts, lists and
    mappings can be called; what is not allowed raises, where Jinja's own sandbox often prints nothing."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" or not (isinstance(left, int | float) and isinstance(right, int | float)):
            raise SecurityError(f"the operator {operator} works on numbers only, and ** not at all")
        return left * right if operator == "*" else left % right

    def is_safe_callable(self, obj: Any) -> bool:
        if isinstance(obj, BuiltinMethodType):
            return obj.__name__ in _METHODS.get(type(obj.__self__), ())
        if isinstance(obj, MethodType):
            return isinstance(obj.__self__, LoopContext) and obj.__name__ in ("cycle", "changed")
        return isinstance(obj, Macro | LoopContext) or any(obj is allowed for allowed in _GLOBALS.values())

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(__obj, Undefined):
            __obj._fail_with_undefined_error()
        if not __self.is_safe_callable(__obj):
            raise SecurityError(f"`{getattr(__obj, '__name__', type(__obj).__name__)}` must not be called")
        return __context.call(__obj, *args, **kwargs)

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        raise SecurityError(f"it tries to reach '{attribute}', which the sandbox forbids")


@pass_context
def _choice(context: Context, items: Any) -> Any:
    """promptsource's ``choice`` and Jinja's ``random``. It takes the context so that Jinja does not draw while compiling."""
    if not len(items):
        raise IndexError("there is nothing to choose from")
    return items[context.resolve_or_missing(_DRAWS)(len(items))]


@pass_context
def _random(context: Context, items: Any) -> Any:
    return (
        _choice(context, items) if len(items) else context.environment.undefined("No random item, sequence was empty.")
    )


def _most_frequent(items: Iterable[Any]) -> list[Any] | None:
    """The items that occur most often, in the order of first sight; None where there is none."""
    counts = Counter(items or ())
    return [item for item, count in counts.items() if count == max(counts.values())] or None


def _highlight(text: str) -> str:
    return "".join(("<span style='color: #F08080'>", text, "</span>"))


def _format(text: str, *values: Any, **named: Any) -> str:
    """Jinja's ``format`` of texts and numbers, with widths of two digits at most: "%999999999d" would be a gigabyte."""
    if not isinstance(text, str) or not _FORMATS.fullmatch(text):
        raise SecurityError("`format` takes %d, %f, %g and %s, with two digits of width at most")
    if not all(isinstance(value, str | int | float) for value in (*values, *named.values())):
        raise SecurityError("`format` prints texts and numbers only")
    return text % (named or values)


def _environment() -> _Sandbox:
    environment = _Sandbox(cache_size=0)
    environment.globals.clear()
    environment.globals.update(_GLOBALS)
    for name in _NO_FILTERS:
        del environment.filters[name]
    environment.filters.update(choice=_choice, random=_random, most_frequent=_most_frequent, highlight=_highlight)
    environment.filters["format"] = _format
    return environment


ENVIRONMENT = _environment()


def parsed(source: str) -> nodes.Template:
    """The source as Jinja's tree. Raises TemplateSyntaxError; SecurityError where it loads other files or reaches for what
    begins with an underscore."""
    try:
        tree = ENVIRONMENT.parse(source)
        meta.find_undeclared_variables(tree)  # refuses filters and tests that there are none of
    except RecursionError as error:
        raise TemplateSyntaxError("it is nested too deep", 1) from error
    for node in tree.find_all((*_LOADING, nodes.Getattr)):
        if isinstance(node, _LOADING):
            raise TemplateSyntaxError("include, import and extends are not available", node.lineno)
        if isinstance(node, nodes.Getattr) and node.attr.startswith("_"):
            raise SecurityError(f"it tries to reach '{node.attr}', which the sandbox forbids")
    return tree


@lru_cache(maxsize=8192)
def _compiled(source: str) -> JinjaTemplate:
    parsed(source)
    return ENVIRONMENT.from_string(source)


def compatible(jinja: str, compat: Compat) -> str:
    """The source as promptsource gives it to Jinja. The text of ``}}`` is replaced wherever it stands, so that the cut
    binds tighter than an operator: ``{{ a + b }}`` cuts b only."""
    if compat not in ("t0", "raw"):
        raise TemplateError(f"there is no compat '{compat}'; it is t0 or raw")
    return jinja.replace("}}", f" | string | truncate({CUT}) }}}}") if compat == "t0" else jinja


# --- a template ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class P3Template:
    """One of P3's templates. where: file:line. choices: the source of the answer choices, itself Jinja, split at ``|||``."""

    id: str
    name: str
    jinja: str
    choices: str | None
    reference: str
    original_task: bool | None
    choices_in_prompt: bool | None
    metrics: tuple[str, ...]
    languages: tuple[str, ...]
    where: str

    def apply(self, row: Mapping[str, Any], *, compat: Compat = "t0", id: str = "", seed: int = 0) -> list[str]:
        """The parts of the rendered text: [prompt, target] as a rule, [""] for a row that the template filters out.

        The row is not changed. Raises TemplateError: the template is not valid, leaves the sandbox, or fails on the row.
        """
        source = compatible(self.jinja, compat)
        return self._parts(row, lambda: _compiled(source), _drawing(seed, f"promptsource.{self.id}", id), id)

    def outcomes(self, row: Mapping[str, Any], text: JinjaTemplate, more: Mapping[str, Any]) -> Iterator[list[str]]:
        """The parts for every way in which ``choice`` and ``random`` can fall out, at most so many; one where the template draws
        nothing. text: the compiled source. more: names besides the row's. Raises TemplateError as ``apply``, and where it draws
        one of more than so many."""
        fallen: list[tuple[int, int]] = []  # which of how many, draw by draw
        for _ in range(MOST_OUTCOMES):
            drawn = 0

            def next_draw(of: int) -> int:
                nonlocal drawn
                if drawn == len(fallen):
                    fallen.append((0, of))
                drawn += 1
                return fallen[drawn - 1][0] % of

            parts = self._parts(row, lambda: text, next_draw, more=more)
            if any(of > MOST_OUTCOMES for _, of in fallen):
                raise TemplateError(f"{self.where}: it draws one of more than {MOST_OUTCOMES:,}")
            yield parts
            del fallen[drawn:]
            while fallen and fallen[-1][0] + 1 == fallen[-1][1]:
                fallen.pop()
            if not fallen:
                return
            fallen[-1] = (fallen[-1][0] + 1, fallen[-1][1])

    def _parts(
        self,
        row: Mapping[str, Any],
        text: Callable[[], JinjaTemplate],
        drawing: Callable[[int], int],
        id: str = "",
        more: Mapping[str, Any] | None = None,
    ) -> list[str]:
        if "answer_choices" in row:
            raise TemplateError(f"{self.where}: the row has a column `answer_choices`, a name that P3 keeps for itself")
        names = {name: _guarded(value) for name, value in row.items()}
        names[_DRAWS] = drawing
        try:
            with WATCH:
                names["answer_choices"] = self._choices(names)
                rendered = text().render({**names, **(more or {})})
        except TemplateError:
            raise
        except Exception as error:
            raise TemplateError(f"{self.where}: the template '{self.name}' {_reason(error, id)}") from error
        return [part.replace(_STANDIN, SEPARATOR).strip() for part in rendered.split(SEPARATOR)]

    def answer_choices(self, row: Mapping[str, Any], *, id: str = "", seed: int = 0) -> list[str] | None:
        """The choices of a row, each stripped; None where the template has none."""
        names = {name: _guarded(value) for name, value in row.items()}
        names[_DRAWS] = _drawing(seed, f"promptsource.{self.id}", id)
        try:
            return self._choices(names)
        except Exception as error:
            raise TemplateError(f"{self.where}: the choices of '{self.name}' {_reason(error, id)}") from error

    @cached_property
    def fixed_choices(self) -> tuple[str, ...] | None:
        """The choices where they are the same for every row, else None."""
        if self.choices is None:
            return None
        try:
            tree = parsed(self.choices)
        except (TemplateSyntaxError, SecurityError) as error:
            raise TemplateError(f"{self.where}: the choices of '{self.name}' {_reason(error)}") from error
        if meta.find_undeclared_variables(tree) or any(
            f.name in ("choice", "random") for f in tree.find_all(nodes.Filter)
        ):
            return None
        try:
            return tuple(_split_choices(_compiled(self.choices).render()))
        except Exception as error:
            raise TemplateError(f"{self.where}: the choices of '{self.name}' {_reason(error)}") from error

    def _choices(self, names: Mapping[str, Any]) -> list[str] | None:
        if self.choices is None:
            return None
        if self.fixed_choices is not None:
            return list(self.fixed_choices)
        return _split_choices(_compiled(self.choices).render(names))


def _split_choices(text: str) -> list[str]:
    return [choice.strip().replace(_STANDIN, SEPARATOR) for choice in text.split(SEPARATOR)]


def _guarded(value: Any) -> Any:
    """A text without the separator, and a copy of what a template could change."""
    if isinstance(value, str):
        return value.replace(SEPARATOR, _STANDIN)
    return value if isinstance(value, int | float | None) else copy.deepcopy(value)


def _drawing(seed: int, stream: str, id: str) -> Callable[[int], int]:
    """Draw after draw for one row, each one of so many: the n-th is keyed by (seed, stream, id, n)."""
    drawn = 0

    def next_draw(of: int) -> int:
        nonlocal drawn
        drawn += 1
        return draw(seed, stream, f"{id}\0{drawn}") % of

    return next_draw


def _reason(error: Exception, id: str = "") -> str:
    at = f" at the row {id}" if id else ""
    if isinstance(error, TemplateSyntaxError):
        return f"is not valid Jinja: {error.message}"
    if isinstance(error, SecurityError):
        return f"leaves the sandbox{at}: {error}"
    return f"fails{at}: {' '.join(str(error).split()) or type(error).__name__}"


def without_hyphens(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with ``-`` in column names as ``_``, as promptsource's callers (its app, t-zero) hand it to ``apply``."""
    return {name.replace("-", "_"): value for name, value in row.items()}


# --- a file ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class P3File:
    """A ``templates.yaml``: the templates of one dataset or of one of its configurations."""

    path: Path
    dataset: str
    subset: str | None
    templates: tuple[P3Template, ...]


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with promptsource's two tags; each becomes a plain mapping."""


def _as_mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    return loader.construct_mapping(node, deep=True)


for _tag in ("!Template", "!TemplateMetadata"):
    _Loader.add_constructor(_tag, _as_mapping)


def read(path: Path) -> P3File:
    """Reads a ``templates.yaml``. Raises TemplateError with file:line: not UTF-8 or not YAML, a tag other than the two,
    aliases that multiply, a name that stands twice, a template without a text."""
    try:
        text = Path(path).read_bytes().decode("utf-8")
    except OSError as error:
        raise TemplateError(f"{path}: the file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise TemplateError(f"{path}:{line}: this is not UTF-8; save the file as UTF-8") from error
    try:
        _refuse_tricks(path, text)
        loader = _Loader(text)
        root = loader.get_single_node()
        _refuse_bombs(path, root)
        data = loader.construct_document(root) if root is not None else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise TemplateError(
            f"{path}:{mark.line + 1 if mark else 1}: this is not valid YAML: {error.problem}"
        ) from error
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise TemplateError(f"{path}:1: this is not valid YAML: {' '.join(str(error).split())}") from error
    return _file(Path(path), data, _template_lines(root))


def _refuse_tricks(path: Path, text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
        where = f"{path}:{event.start_mark.line + 1}"
        if getattr(event, "tag", None) not in (None, "!Template", "!TemplateMetadata"):
            raise TemplateError(f"{where}: unknown tag {event.tag}; P3 has !Template and !TemplateMetadata only")
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            raise TemplateError(f"{where}: this is nested more than {_DEEPEST} levels deep")


def _refuse_bombs(path: Path, root: yaml.Node | None) -> None:
    """Aliases are read, as PyYAML writes them where a value stands twice; but not one in itself, nor ones that multiply."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if id(node) not in sizes:
            sizes[id(node)] = _MOST_NODES + 1  # until it is known: an alias in its own value is endless
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            sizes[id(node)] = 1 + sum(
                size(part) for parts in inner for part in (parts if isinstance(parts, tuple) else (parts,))
            )
        if sizes[id(node)] > _MOST_NODES:
            where = f"{path}:{node.start_mark.line + 1}"
            raise TemplateError(
                f"{where}: with its aliases written out, this holds more than {_MOST_NODES:,} values; write it out"
            )
        return sizes[id(node)]

    if root is not None:
        size(root)


def _template_lines(root: Any) -> list[int]:
    """The line of each template's key, in the file's order; raises nothing where the shape is wrong, ``_file`` does."""
    for key, value in root.value if isinstance(root, yaml.MappingNode) else ():
        if key.value == "templates" and isinstance(value, yaml.MappingNode):
            return [name.start_mark.line + 1 for name, _ in value.value]
    return []


def _file(path: Path, data: Any, lines: list[int]) -> P3File:
    if not isinstance(data, dict) or not isinstance(data.get("templates"), dict) or "dataset" not in data:
        raise TemplateError(f"{path}:1: this is no file of P3; it needs the keys `dataset` and `templates`")
    if len(data["templates"]) != len(lines):
        raise TemplateError(f"{path}:{lines[0]}: two templates have the same id; an id stands once in a file")
    templates, seen = [], {}
    for (id, entry), line in zip(data["templates"].items(), lines, strict=True):
        template = _template(f"{path}:{line}", str(id), entry)
        if template.name in seen:
            raise TemplateError(
                f"{template.where}: the name '{template.name}' stands twice, here and on line {seen[template.name]}; "
                "names are unique within a file"
            )
        seen[template.name] = line
        templates.append(template)
    subset = data.get("subset")
    return P3File(path, str(data["dataset"]), None if subset is None else str(subset), tuple(templates))


def _template(where: str, id: str, entry: Any) -> P3Template:
    if not isinstance(entry, dict) or not isinstance(entry.get("jinja"), str) or entry.get("name") in (None, ""):
        raise TemplateError(f"{where}: a template of P3 is a mapping with a `name` and a text `jinja`")
    choices = entry.get("answer_choices", entry.get("answer_choices_key"))  # the older name, until 2022
    if not isinstance(choices, str | None):
        raise TemplateError(f"{where}: `answer_choices` should be a text, not {choices!r}; quote it")
    metadata = entry.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise TemplateError(f"{where}: `metadata` should be a mapping")
    return P3Template(
        id=id,
        name=str(entry["name"]),
        jinja=entry["jinja"],
        choices=choices,
        reference=str(entry.get("reference") or ""),
        original_task=metadata.get("original_task"),
        choices_in_prompt=metadata.get("choices_in_prompt"),
        metrics=tuple(map(str, metadata.get("metrics") or ())),
        languages=tuple(map(str, metadata.get("languages") or ())),
        where=where,
    )
