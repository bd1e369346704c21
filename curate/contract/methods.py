"""Methods: a name in a recipe is a file in a folder, and the function in that file says which options there are.

    select: {facility_location: {budget: 1000}}   ->   curate/select/facility_location.py, def select(pool, budget, *, ...)

Nothing is registered. A method is found among the files of its kind's folder, in ``methods/<kind>/`` beside the recipe,
and among the entry points of the group ``tamis.methods`` (named ``select.mine``, value the module). Signatures are read
from the source with ``ast``, so that listing methods and checking a recipe import nothing heavy.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import importlib
import importlib.metadata
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from curate.contract.errors import MethodError

_ROOT = Path(__file__).resolve().parent.parent.parent
TEXTS = (
    "prompt",
    "response",
    "record",
)  # what a step's `text:` may name; a method's TEXT may be another column, for good
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "required"})()


@dataclass(frozen=True)
class Kind:
    """A folder of methods. verb: the function each file must define. data: how many leading parameters are data, not
    options. filled: parameters that the caller fills by name."""

    folder: str
    verb: str
    data: int = 1
    filled: tuple[str, ...] = ("seed", "workers", "base", "constraints")


KINDS: dict[str, Kind] = {
    "load": Kind("curate/load", "load", data=0),
    "filter": Kind("curate/filter", "reject"),
    "dedup": Kind("curate/dedup", "duplicates"),
    "embed": Kind("curate/embed", "embed"),
    "cluster": Kind("curate/cluster", "cluster"),
    "select": Kind("curate/select", "select"),
    "tuning": Kind("train/tuning", "tune"),
    "objectives": Kind("train/objectives", "weights", data=2),
}


@dataclass(frozen=True)
class Parameter:
    """One option: its word in a recipe, the annotation as written, the default or REQUIRED."""

    name: str
    annotation: str
    default: Any

    @property
    def word(self) -> str:
        return self.name.rstrip("_")

    def __str__(self) -> str:
        return self.word if self.default is REQUIRED else f"{self.word}={self.default!r}"


@dataclass(frozen=True)
class Method:
    """A method that was found; nothing of it has been imported."""

    kind: str
    name: str
    path: Path
    module: str
    parameters: tuple[Parameter, ...]
    summary: str
    docstring: str = ""  # of the function, which says what each option means
    text: str | None = None  # the column it reads by default, where it reads text
    takes: tuple[str, ...] = field(default=())  # which of the filled parameters it takes
    reads_vectors: bool = False  # whether it asks the pool for vectors, told from its source

    def function(self, verb: str | None = None) -> Callable[..., Any]:
        """The function, imported now."""
        return getattr(_import(self.module, self.path), verb or KINDS[self.kind].verb)

    def call_options(self, options: dict[str, Any], **filled: Any) -> dict[str, Any]:
        """Options under their Python names, plus those of ``filled`` that the function takes."""
        words = {parameter.word: parameter.name for parameter in self.parameters}
        return {words[word]: value for word, value in options.items() if word in words} | {
            name: value for name, value in filled.items() if name in self.takes
        }


def find(kind: str, name: str, base: Path | None = None) -> Method:
    """The method ``name`` of ``kind``, or MethodError with the nearest name. base: the recipe's folder."""
    methods = all_of(kind, base)
    if name not in methods:
        raise MethodError(
            f"unknown {kind} method '{name}'{nearest(name, methods)}; there are: {', '.join(sorted(methods))}"
        )
    return methods[name]


def all_of(kind: str, base: Path | None = None) -> dict[str, Method]:
    """All methods of a kind by name; a file beside the recipe wins over an entry point, and that over ours."""
    shape = KINDS[kind]
    found: dict[str, Method] = {}
    for path in sorted((_ROOT / shape.folder).glob("*.py")):
        _add(found, kind, path.stem, path, f"{shape.folder.replace('/', '.')}.{path.stem}")
    for point in importlib.metadata.entry_points(group="tamis.methods"):
        if point.name.startswith(f"{kind}."):
            spec = importlib.util.find_spec(point.value)
            if spec and spec.origin:
                _add(found, kind, point.name.split(".", 1)[1], Path(spec.origin), point.value)
    if base is not None:
        for path in sorted((base / "methods" / kind).glob("*.py")):
            _add(found, kind, path.stem, path, f"tamis_methods.{kind}.{path.stem}")
    return found


def _add(found: dict[str, Method], kind: str, name: str, path: Path, module: str) -> None:
    if name.startswith("_"):
        return
    method = _read(kind, name, path, module, path.stat().st_mtime_ns)
    if method is not None:
        found[name] = method


@cache
def _read(kind: str, name: str, path: Path, module: str, _changed: int) -> Method | None:
    source = path.read_text("utf-8")
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise MethodError(
            f"{path}:{error.lineno}: the {kind} method '{name}' is not valid Python: {error.msg}"
        ) from error
    shape = KINDS[kind]
    function = _function(tree, shape.verb)
    if function is None:
        return None
    text = next(
        (
            node.value.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Constant)
            and any(isinstance(target, ast.Name) and target.id == "TEXT" for target in node.targets)
        ),
        None,
    )
    parameters = _parameters(function, path, skip=shape.data)
    return Method(
        kind=kind,
        name=name,
        path=path,
        module=module,
        parameters=tuple(parameter for parameter in parameters if parameter.name not in shape.filled),
        summary=(ast.get_docstring(tree) or ast.get_docstring(function) or "").split("\n\n")[0].replace("\n", " "),
        docstring=ast.get_docstring(function) or "",
        text=text if isinstance(text, str) else None,
        takes=tuple(parameter.name for parameter in parameters if parameter.name in shape.filled),
        reads_vectors=".need_vectors(" in source or "from curate.vectors.unit import" in source,
    )


@cache
def signature(file: str, function: str, skip: int = 0) -> tuple[Parameter, ...]:
    """The parameters of a function of ours that a recipe's section is bound to: ``signature("train/run.py", "train")``."""
    path = _ROOT / file
    node = _function(ast.parse(path.read_text("utf-8")), function)
    if node is None:
        raise MethodError(f"{path} defines no function {function}")
    return tuple(_parameters(node, path, skip))


def functions(file: str) -> list[str]:
    """The public functions of a file of ours."""
    tree = ast.parse((_ROOT / file).read_text("utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]


def _function(tree: ast.Module, name: str) -> ast.FunctionDef | None:
    return next((node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _parameters(function: ast.FunctionDef, path: Path, skip: int) -> list[Parameter]:
    arguments = function.args
    positional = arguments.posonlyargs + arguments.args
    padded: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = list(zip(positional, padded, strict=True))[skip:] + list(
        zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    )
    found = []
    for argument, default in pairs:
        try:
            value = REQUIRED if default is None else ast.literal_eval(default)
        except ValueError as error:
            raise MethodError(
                f"{path}:{argument.lineno}: the default of `{argument.arg}` must be a literal, "
                "since a recipe is checked without importing the method"
            ) from error
        found.append(Parameter(argument.arg, ast.unparse(argument.annotation) if argument.annotation else "Any", value))
    return found


def meanings(docstring: str | None, words: Iterable[str]) -> dict[str, str]:
    """What a docstring says of each of some words: ``neighbours: how many … epsilon: …`` or ``k, seed: …``, from the colon to
    the next of the words or the end of the paragraph."""
    known, found = set(words), dict[str, str]()
    head = re.compile(r"(?:^|(?<=[.;:!?)] ))((?:\w+(?:, | and | to ))*\w+): ")
    for paragraph in re.split(r"\n\s*\n", docstring or ""):
        text = " ".join(paragraph.split())
        heads = [
            (match, named)
            for match in head.finditer(text)
            if (named := [w for w in re.split(r", | and | to ", match[1]) if w in known])
        ]
        ends = [*(match.start() for match, _ in heads[1:]), len(text)]
        for number, (match, named) in enumerate(heads):
            for word in named:
                found.setdefault(word, text[match.end() : ends[number]].strip())
    return found


def nearest(word: str, words: Any) -> str:
    """'. Did you mean "x"?', or nothing."""
    close = difflib.get_close_matches(word, list(words), n=1, cutoff=0.6)
    return f". Did you mean '{close[0]}'?" if close else ""


def accepts(annotation: str, value: Any) -> bool:
    """Whether a value from YAML fits an annotation: int, float, str, bool, None, list, dict, Literal, unions, Any, Path."""
    return _accepts(ast.parse(annotation, mode="eval").body, value)


def _accepts(node: ast.expr, value: Any) -> bool:
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _accepts(node.left, value) or _accepts(node.right, value)
    if isinstance(node, ast.Constant):
        return value is None if node.value is None else value == node.value
    if isinstance(node, ast.Subscript):
        outer = ast.unparse(node.value)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if outer == "Literal":
            return any(
                isinstance(item, ast.Constant) and type(item.value) is type(value) and item.value == value
                for item in inner
            )
        if outer in ("list", "Sequence"):
            return isinstance(value, list) and all(_accepts(inner[0], item) for item in value)
        if outer in ("dict", "Mapping"):
            return isinstance(value, dict) and all(
                _accepts(inner[0], k) and _accepts(inner[1], v) for k, v in value.items()
            )
        return True
    name = ast.unparse(node)
    if name in ("Any", "object"):
        return True
    if name == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    if name == "int":
        return isinstance(value, int) and not isinstance(value, bool)
    simple = {"str": str, "bool": bool, "list": list, "dict": dict, "Path": str}
    return isinstance(value, simple[name]) if name in simple else True


def distribution_of(package: str) -> str | None:
    """The version of the distribution that brings a top-level import name, as "name version"; None for the standard library."""
    if package in sys.stdlib_module_names:
        return None
    known = {"sklearn": "scikit-learn", "yaml": "PyYAML", "PIL": "pillow"}
    for name in (known.get(package, package), package.replace("_", "-")):
        try:
            return f"{name} {importlib.metadata.version(name)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return None


def source_and_versions(paths: list[Path]) -> tuple[str, dict[str, str]]:
    """A hash over files and the first-party modules they import, directly or not, and the versions of the distributions
    that any of them imports. What a stage's cache key needs to know of code."""
    first_party, packages = _closure(tuple((path, path.stat().st_mtime_ns) for path in paths))
    versions = dict(entry.split(" ") for package in packages if (entry := distribution_of(package)))
    return first_party, versions


@cache
def _closure(start: tuple[tuple[Path, int], ...]) -> tuple[str, tuple[str, ...]]:
    queue, seen, packages = [path for path, _ in start], set[Path](), set[str]()
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen.add(path)
        for name in _imports(path):
            if name.split(".")[0] in ("curate", "train", "tamis"):
                queue += [file for file in _files_of(name) if file not in seen]
            else:
                packages.add(name.split(".")[0])
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(seen, key=lambda path: (path.name, str(path))):
        total.update(path.name.encode() + hashlib.blake2b(path.read_bytes()).digest())
    return total.hexdigest(), tuple(sorted(packages))


def _imports(path: Path) -> list[str]:
    names = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    return names


def _files_of(name: str) -> list[Path]:
    """The file a dotted first-party name stands for: the module, or the module that holds the imported name."""
    parts = name.split(".")
    for end in (len(parts), len(parts) - 1):
        stem = _ROOT.joinpath(*parts[:end])
        if stem.with_suffix(".py").is_file():
            return [stem.with_suffix(".py")]
    return []


def _import(module: str, path: Path) -> Any:
    if not module.startswith("tamis_methods."):
        return importlib.import_module(module)
    spec = importlib.util.spec_from_file_location(module, path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    sys.modules[module] = loaded
    spec.loader.exec_module(loaded)
    return loaded
