"""Methods: a name in a recipe is a file in a folder, and the function in that file says which options there are.

    select: {facility_location: {budget: 1000}}   ->   curate/select/facility_location.py, def select(pool, budget, *, ...)

Nothing is registered. A *room* is a package of ``curate`` or ``train`` whose ``__init__.py`` names the function that each of
its methods defines (``VERB = "select"``); a folder ``methods/<room>/`` beside a recipe adds methods to a room, or is a room
of its own with such an ``__init__.py``; entry points of the group ``tamis.methods`` (named ``select.mine``, value the module)
add methods too. Signatures and docstrings are read from the source with ``ast``, so that listing methods and checking a recipe
import nothing heavy, and a file that is not valid Python stops only the recipes that name it.
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
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from curate.contract.code import PACKAGES, ROOT, constants, stamp, tree
from curate.contract.errors import MethodError

TEXTS = (
    "prompt",
    "response",
    "record",
)  # what a step's `text:` may name; a method's TEXT may be another column, for good
FILLED = ("seed", "workers", "data", "folder", "constraints")  # parameters that the caller fills by name
_WHOLE = r"(?<=[.;]) (?=(?:Raises|Returns|Gives|Cost|Memory|Time|Gain|Facts?|Every prefix|Steps)\b)"
_beside: Path | None = None  # the folder of a recipe's own files that plain imports find
REQUIRED: Any = type("Required", (), {"__repr__": lambda self: "required"})()


@dataclass(frozen=True)
class Room:
    """A folder of methods. verb: the function each file must define. data: how many of its leading parameters are data, not
    options. folder: None where all methods of the room stand beside recipes."""

    name: str
    verb: str
    data: int = 1
    folder: Path | None = None


@dataclass(frozen=True)
class Parameter:
    """One option: its word in a recipe, the annotation as written, the default or REQUIRED, what it means."""

    name: str
    annotation: str
    default: Any
    about: str = field(default="", compare=False)

    @property
    def word(self) -> str:
        return self.name.rstrip("_")

    def __str__(self) -> str:
        return self.word if self.default is REQUIRED else f"{self.word}={self.default!r}"


@dataclass(frozen=True)
class Method:
    """A method that was found; nothing of it has been imported."""

    kind: str  # the name of its room
    name: str
    path: Path
    module: str
    verb: str
    parameters: tuple[Parameter, ...]
    summary: str
    docstring: str = ""  # of the function, which says what each option means
    text: str | None = None  # the column it reads by default, where it reads text
    takes: tuple[str, ...] = field(default=())  # which of the filled parameters it takes
    reads_vectors: bool = False  # whether it asks the pool for vectors, told from its source
    renamed: dict[str, str] = field(default_factory=dict, compare=False)  # old words of options, and the new ones
    broken: str | None = None  # why its file cannot be read

    def function(self, verb: str | None = None) -> Callable[..., Any]:
        """The function, imported now."""
        return getattr(import_file(self.module, self.path), verb or self.verb)

    def beside(self, name: str) -> Any:
        """What else the method's file defines under a name, or None."""
        return getattr(import_file(self.module, self.path), name, None)

    def call_options(self, options: dict[str, Any], **filled: Any) -> dict[str, Any]:
        """Options under their Python names, plus those of ``filled`` that the function takes."""
        words = {parameter.word: parameter.name for parameter in self.parameters}
        return {words[word]: value for word, value in options.items() if word in words} | {
            name: value for name, value in filled.items() if name in self.takes
        }


# --- finding ---------------------------------------------------------------------------------------------------------


def rooms(folder: Path | None = None) -> dict[str, Room]:
    """Every room by name: those of the packages, and those that stand only beside a recipe. folder: the recipe's."""
    places = [path for package in PACKAGES for path in sorted((ROOT / package).glob("*/__init__.py"))]
    known = {room.name: room for path in places if (room := _room(path, ours=True))}
    if folder is not None:
        for path in sorted((folder / "methods").glob("*/__init__.py")):
            if path.parent.name not in known and (room := _room(path, ours=False)):
                known[room.name] = room
    return known


def room(name: str, folder: Path | None = None) -> Room:
    """One room, or MethodError."""
    known = rooms(folder)
    if name not in known:
        raise MethodError(
            f"there is no folder of {name} methods; make methods/{name}/__init__.py beside the recipe with "
            f'`VERB = "{name}"`, and a file a method in it'
        )
    return known[name]


def find(kind: str, name: str, folder: Path | None = None) -> Method:
    """The method ``name`` of a room, or MethodError with the nearest name. folder: the recipe's."""
    known = _files(room(kind, folder), folder)
    if name not in known:
        there = sorted(all_of(kind, folder))
        raise MethodError(
            f"unknown {kind} method '{name}'{nearest(name, there)}; there are: {', '.join(there) or 'none'}"
        )
    method = known[name]
    if method.broken is not None:
        raise MethodError(method.broken)
    return method


def all_of(kind: str, folder: Path | None = None) -> dict[str, Method]:
    """All methods of a room by name, those whose files can be read; a file beside the recipe wins over an entry point, and
    that over ours. MethodError where there is none."""
    known = {n: method for n, method in _files(room(kind, folder), folder).items() if method.broken is None}
    if not known:
        raise MethodError(
            f"the folder of {kind} methods holds no method: no file in it defines `{room(kind, folder).verb}`"
        )
    return known


def _room(path: Path, *, ours: bool) -> Room | None:
    try:
        values = constants(tree(path))
    except SyntaxError as error:
        raise MethodError(f"{path}:{error.lineno}: this is not valid Python: {error.msg}") from error
    if not isinstance(values.get("VERB"), str):
        return None
    return Room(path.parent.name, values["VERB"], int(values.get("DATA", 1)), path.parent if ours else None)


def _files(room: Room, folder: Path | None) -> dict[str, Method]:
    known: dict[str, Method] = {}
    if room.folder is not None:
        package = ".".join(room.folder.relative_to(ROOT).parts)
        for path in sorted(room.folder.glob("*.py")):
            _add(known, room, path.stem, path, f"{package}.{path.stem}")
    for point in importlib.metadata.entry_points(group="tamis.methods"):
        if point.name.startswith(f"{room.name}."):
            spec = importlib.util.find_spec(point.value)
            if spec and spec.origin:
                _add(known, room, point.name.split(".", 1)[1], Path(spec.origin), point.value)
    if folder is not None:
        for path in sorted((folder / "methods" / room.name).glob("*.py")):
            _add(known, room, path.stem, path, f"{package_of(path.parent)}.{path.stem}")
    return known


def _add(known: dict[str, Method], room: Room, name: str, path: Path, module: str) -> None:
    if name.startswith("_"):
        return
    method = _read(room, name, path, module, *stamp(path))
    if method is not None:
        known[name] = method


@cache
def _read(room: Room, name: str, path: Path, module: str, _changed: int, _size: int) -> Method | None:
    try:
        module_tree = tree(path)
        function = _function(module_tree, room.verb)
        if function is None:
            return None
        parameters = _parameters(function, path, room.data)
    except SyntaxError as error:
        broken = f"{path}:{error.lineno}: the {room.name} method '{name}' is not valid Python: {error.msg}"
        return Method(room.name, name, path, module, room.verb, (), "", broken=broken)
    except MethodError as error:
        return Method(room.name, name, path, module, room.verb, (), "", broken=str(error))
    values, source = constants(module_tree), path.read_text("utf-8")
    text = values.get("TEXT")
    return Method(
        kind=room.name,
        name=name,
        path=path,
        module=module,
        verb=room.verb,
        parameters=tuple(parameter for parameter in parameters if parameter.name not in FILLED),
        summary=(ast.get_docstring(module_tree) or ast.get_docstring(function) or "")
        .split("\n\n")[0]
        .replace("\n", " "),
        docstring=ast.get_docstring(function) or "",
        text=text if isinstance(text, str) else None,
        takes=tuple(parameter.name for parameter in parameters if parameter.name in FILLED),
        reads_vectors=".need_vectors(" in source or "from curate.vectors.unit import" in source,
        renamed=_renamed(values),
    )


# --- reading sources -------------------------------------------------------------------------------------------------


def signature(file: str, function: str, skip: int = 0, without: Iterable[str] = ()) -> tuple[Parameter, ...]:
    """The parameters of a function of ours that a recipe's section is bound to: ``signature("train/run.py", "train")``.
    skip: leading ones. without: those that the caller fills."""
    path = ROOT / file
    node = _function(tree(path), function)
    if node is None:
        raise MethodError(f"{path} defines no function {function}")
    left_out = set(without)
    return tuple(parameter for parameter in _parameters(node, path, skip) if parameter.name not in left_out)


def summary_of(file: str, function: str) -> str:
    """The first line of its documentation."""
    node = _function(tree(ROOT / file), function)
    return "" if node is None else (ast.get_docstring(node) or "").split("\n")[0]


def renamed(file: str) -> dict[str, str]:
    """Old words of options that a file of ours names, with the new ones: its constant RENAMED."""
    path = ROOT / file
    return _renamed(constants(tree(path)))


def _renamed(values: dict[str, Any]) -> dict[str, str]:
    words = values.get("RENAMED")
    return words if isinstance(words, dict) else {}


def _function(module: ast.Module, name: str) -> ast.FunctionDef | None:
    return next((node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == name), None)


def _parameters(function: ast.FunctionDef, path: Path, skip: int) -> list[Parameter]:
    arguments = function.args
    positional = arguments.posonlyargs + arguments.args
    padded: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = list(zip(positional, padded, strict=True))[skip:] + list(
        zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    )
    names = [argument.arg for argument, _ in pairs]
    said = meanings(ast.get_docstring(function), [*names, *(name.rstrip("_") for name in names)])
    parameters = []
    for argument, default in pairs:
        try:
            value = REQUIRED if default is None else ast.literal_eval(default)
        except ValueError as error:
            raise MethodError(
                f"{path}:{argument.lineno}: the default of `{argument.arg}` must be a literal, "
                "since a recipe is checked without importing the method"
            ) from error
        annotation = ast.unparse(argument.annotation) if argument.annotation else "Any"
        about = said.get(argument.arg) or said.get(argument.arg.rstrip("_"), "")
        parameters.append(Parameter(argument.arg, annotation, value, about))
    return parameters


def meanings(docstring: str | None, words: Iterable[str]) -> dict[str, str]:
    """What a docstring says of each of some words: ``neighbours: how many … epsilon: …`` or ``k, seed: …``, from the colon to
    the next of the words, to what the docstring says of the whole (what it raises, costs, gives), or to the end of the
    paragraph."""
    known, said = set(words), dict[str, str]()
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
                said.setdefault(word, re.split(_WHOLE, text[match.end() : ends[number]])[0].strip())
    return said


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


# --- importing -------------------------------------------------------------------------------------------------------


def package_of(folder: Path) -> str:
    """The package name under which the files of a folder beside a recipe are imported: one a folder, so that two recipes in
    one program do not share theirs."""
    return f"tamis_methods_{hashlib.blake2b(str(folder.resolve()).encode(), digest_size=6).hexdigest()}"


def import_file(module: str, path: Path) -> Any:
    """A module of a package, or a file beside a recipe, with what stands beside it: ``import helper`` and ``from . import
    helper`` work there. Files that were changed since are imported again."""
    if not module.startswith("tamis_methods_"):
        return importlib.import_module(module)
    package = module.rpartition(".")[0]
    stamps = {file: stamp(file) for file in sorted(path.parent.rglob("*.py"))}
    if package not in sys.modules or getattr(sys.modules[package], "stamps", None) != stamps:
        _forget(path.parent)
        parent = types.ModuleType(package)
        parent.__path__ = [str(path.parent)]
        parent.stamps = stamps  # type: ignore[attr-defined]
        sys.modules[package] = parent
        importlib.invalidate_caches()
    _on_the_path(path.parent)
    return importlib.import_module(module)


def _on_the_path(folder: Path) -> None:
    """Lets plain imports find what stands beside a file; what stands beside the file of another recipe is let go of, so that two
    recipes may each have a `helper`."""
    global _beside
    if _beside == folder:
        return
    if _beside is not None and str(_beside) in sys.path:
        sys.path.remove(str(_beside))
        _forget(_beside, plain=True)
    _beside = folder
    sys.path.append(str(folder))


def _forget(folder: Path, *, plain: bool = False) -> None:
    """Lets go of all modules that came from a folder, or of those that were imported by a plain name."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and Path(file).is_relative_to(folder) and not (plain and name.startswith("tamis_methods_")):
            del sys.modules[name]
