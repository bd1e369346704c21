"""Docstrings of Python files, read with ``ast`` and never imported: a plain script of the standard library alone.

    python -I -S docstring_parser.py < paths > objects      one JSON line in: [path, module]; one JSON list out: its objects

A worker of the source ``docstrings`` is this file run as a script, so that it starts in 20 ms, shares no state with the
process that asked, and works from any kind of ``__main__``. As a module: ``objects(source, module)``.
"""

from __future__ import annotations

import ast
import gc
import inspect
import json
import re
import sys
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

SECTIONS = ("summary", "parameters", "returns", "raises", "examples", "notes")

_WORDS = {
    "parameters": ("parameters", "other parameters", "args", "arguments", "params", "keyword args", "keyword arguments"),
    "returns": ("returns", "return", "yields"),
    "raises": ("raises",),
    "examples": ("examples", "example"),
    "notes": ("notes", "note"),
    "": (  # headings that end a section and begin none of ours
        "attributes", "methods", "see also", "references", "warnings", "warning", "warns", "receives", "shape", "inputs",
        "outputs", "variables", "tip", "todo",
    ),
}  # fmt: skip
_SECTION_OF = {word: section for section, words in _WORDS.items() for word in words}
_UNDERLINED = re.compile(r"^(?P<word>[A-Za-z][A-Za-z ]*?)[ ]*:?\n(?:-{3,}|={3,})[ ]*$", re.MULTILINE)
_COLON = re.compile(
    r"^(?:\.\. (?P<directive>[a-z]+)::[ ]*(?P<inline>.*)|(?P<word>[A-Z][A-Za-z ]*?)[ ]?::?)[ ]*$", re.MULTILINE
)
_FIELD_LIST = re.compile(r"^:(param|type|returns?|rtype|raises?)\b", re.MULTILINE)
_PARAMETER = re.compile(r"\*{0,2}\w+ \(.*\):")  # how a docstring starts whose summary a decorator writes
_UNFILLED = re.compile(r"%\(\w+\)[sd]")  # left where a decorator writes the text at import


def objects(source: bytes, module: str) -> list[dict[str, Any]]:
    """The documented public objects of one module, in the order of the file.

    Each is {module, name (qualified inside the module), kind (function, method, class, property, object), signature
    ("(by, ascending=True)", without annotations; empty where there is none), text (the docstring, cleaned), sections
    (name -> text, dedented)}. Raises SyntaxError where the file is not Python that this interpreter reads.
    """
    try:
        tree = ast.parse(source)
    except ValueError as error:  # a null byte
        raise SyntaxError(str(error)) from error
    attached = list(_attached(tree, module)) if _attaches(source) else []
    classes = {name.rpartition(".")[0] for _, name, *_ in attached}  # their attributes have docstrings too
    documented = [*_defined(tree.body, ""), *attached]
    return [
        _object(module, owner, name, "class" if name in classes else kind, *rest)
        for owner, name, kind, *rest in documented
    ]


def _object(module: str, owner: str | None, name: str, kind: str, signature: str, text: str) -> dict[str, Any]:
    return {
        "module": owner or module,
        "name": name,
        "kind": kind,
        "signature": signature,
        "text": text,
        "sections": sections(text),
    }


# --- what a file defines ---------------------------------------------------------------------------------------------

_Found = tuple[str | None, str, str, str, str]  # module where it is another one, name, kind, signature, docstring


def _defined(body: list[ast.stmt], prefix: str) -> Iterator[_Found]:
    for node in body:
        if isinstance(node, ast.If | ast.Try):
            for branch in (node.body, node.orelse, *(handler.body for handler in getattr(node, "handlers", []))):
                yield from _defined(branch, prefix)
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        text = ast.get_docstring(node)
        if text:
            yield None, prefix + node.name, _kind(node, prefix), _signature(node, prefix), _tidy(text)
        if isinstance(node, ast.ClassDef):
            yield from _defined(node.body, f"{prefix}{node.name}.")


def _kind(node: ast.AST, prefix: str) -> str:
    if isinstance(node, ast.ClassDef):
        return "class"
    if not prefix:
        return "function"
    return "property" if any("property" in name for name in _decorators(node)) else "method"


def _decorators(node: ast.AST) -> list[str]:
    nodes = [item.func if isinstance(item, ast.Call) else item for item in getattr(node, "decorator_list", [])]
    return [item.attr if isinstance(item, ast.Attribute) else getattr(item, "id", "") for item in nodes]


def _signature(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef, prefix: str) -> str:
    """``(by, ascending=True)``; empty for a property and for a class without __init__."""
    function: ast.stmt | None = node
    if isinstance(node, ast.ClassDef):
        function = next(
            (item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"), None
        )
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef) or _kind(node, prefix) == "property":
        return ""
    bound = bool(prefix or isinstance(node, ast.ClassDef)) and "staticmethod" not in _decorators(node)
    return f"({', '.join(_arguments(function.args)[bound:])})"


def _arguments(arguments: ast.arguments) -> list[str]:
    positional = arguments.posonlyargs + arguments.args
    defaults = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    words = [_argument(argument, default) for argument, default in zip(positional, defaults, strict=True)]
    if arguments.posonlyargs:
        words.insert(len(arguments.posonlyargs), "/")
    if arguments.vararg or arguments.kwonlyargs:
        words.append(f"*{arguments.vararg.arg}" if arguments.vararg else "*")
    words += [_argument(*pair) for pair in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]
    return words + ([f"**{arguments.kwarg.arg}"] if arguments.kwarg else [])


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    if default is None:
        return argument.arg
    value = ast.unparse(default)
    return f"{argument.arg}={value if len(value) <= 40 else '...'}"


def _tidy(text: str) -> str:
    return "\n".join(line.rstrip() for line in inspect.cleandoc(text).splitlines()).strip()


# --- what a file attaches to objects of C: add_newdoc in numpy, add_docstr in torch ----------------------------------


def _attaches(source: bytes) -> bool:
    return b"add_newdoc" in source or b"add_docstr" in source


def _attached(tree: ast.Module, module: str) -> Iterator[_Found]:
    names: dict[str, Any] = {}
    for node in tree.body:
        value = getattr(node, "value", None)
        target = node.targets[0].id if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) else ""
        if isinstance(value, ast.Call) and (function := _called(value)) in (
            "add_newdoc",
            "add_docstr",
            "add_docstr_all",
        ):
            pairs = (
                _newdocs(value, names) if function == "add_newdoc" else _docstr(value, names, function, module, target)
            )
            for owner, name, text in pairs:
                if name and not any(part.startswith("_") for part in name.split(".")):
                    yield owner, name, *_headed(name, _tidy(text))
        elif target and (known := _value(value, names)) is not None:
            names[target] = known


def _called(call: ast.Call) -> str:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name.lstrip("_")


def _newdocs(call: ast.Call, names: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """add_newdoc(module, object, text), or (attribute, text), or a list of such pairs, in the place of the text."""
    if len(call.args) != 3:
        return
    owner, name, docs = call.args[0], _value(call.args[1], names), call.args[2]
    if not isinstance(name, str) or not isinstance(owner, ast.Constant):
        return
    pairs = docs.elts if isinstance(docs, ast.List) else [docs]
    for pair in pairs:
        attribute, text = pair.elts if isinstance(pair, ast.Tuple) and len(pair.elts) == 2 else (None, pair)
        word, text = _value(attribute, names), _value(text, names)
        if isinstance(text, str) and (attribute is None or isinstance(word, str)):
            yield str(owner.value), name if attribute is None else f"{name}.{word}", text


def _docstr(
    call: ast.Call, names: dict[str, Any], function: str, module: str, target: str
) -> Iterator[tuple[str, str, str]]:
    """``add_docstr(torch.abs, text)``; ``cross = add_docstr(_linalg.linalg_cross, text)``; add_docstr_all("abs", text)."""
    text = _value(call.args[1], names) if len(call.args) == 2 else None
    if not isinstance(text, str):
        return
    if target:
        yield module, target, text
    elif function == "add_docstr_all":
        word = _value(call.args[0], names)
        if module.endswith("_tensor_docs") and isinstance(word, str):
            yield module.split(".")[0], f"Tensor.{word}", text
    else:
        package, _, name = ast.unparse(call.args[0]).partition(".")
        yield package, name, text


def _headed(name: str, text: str) -> tuple[str, str, str]:
    """Kind, signature and text of a docstring that opens with the signature, as those of C functions do."""
    last = name.rpartition(".")[2]
    head, _, rest = text.partition("\n\n")
    if not re.match(rf"(?:[\w.]+\.)?{re.escape(last)}\s*\(", head):
        return "property" if "." in name else "object", "", text
    signature = re.sub(r"\n--$", "", head.strip())
    signature = re.sub(r"\s*\n\s*", " ", signature.split("\n" + last)[0])  # the first of several forms
    signature = "(" + signature.partition("(")[2].lstrip()
    return "method" if "." in name else "function", signature, rest.strip()


def _value(node: ast.AST | None, names: dict[str, Any]) -> Any:
    """A text or a mapping of texts that can be told without running the file; else None.

    Knows literals, names assigned above, ``+``, ``.format(**names)``, and torch's two helpers for shared paragraphs.
    """
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _value(node.left, names), _value(node.right, names)
        return left + right if isinstance(left, str) and isinstance(right, str) else None
    if isinstance(node, ast.Dict):
        pairs = {_value(key, names): _value(value, names) for key, value in zip(node.keys, node.values, strict=True)}
        return {key: value for key, value in pairs.items() if isinstance(key, str) and isinstance(value, str)}
    if (
        isinstance(node, ast.Call)
        and _called(node) == "parse_kwargs"
        and isinstance(text := _value(node.args[0], names), str)
    ):
        entries = [entry.strip() for entry in re.split(r"\n {4}(?!\s)", text)]
        return {entry.split(" ")[0]: entry for entry in entries if entry}
    if isinstance(node, ast.Call) and _called(node) == "merge_dicts":
        merged: dict[str, str] = {}
        for argument in node.args:
            merged |= _value(argument, names) or {}
        return merged
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format":
        return _formatted(_value(node.func.value, names), node.keywords, names)
    return None


def _formatted(text: Any, keywords: list[ast.keyword], names: dict[str, Any]) -> str | None:
    fill: dict[str, Any] = {}
    for keyword in keywords:
        value = _value(keyword.value, names)
        fill |= (value or {}) if keyword.arg is None else {keyword.arg: value}
    try:
        return text.format(**fill) if isinstance(text, str) and None not in fill.values() else None
    except (KeyError, IndexError, ValueError):
        return None


# --- sections --------------------------------------------------------------------------------------------------------


def sections(text: str) -> dict[str, str]:
    """A docstring by section, numpydoc (underlined headings) or Google style (``Args:``, ``Example::``, ``.. note::``).

    "summary" is all that stands before and between the headings. Sections that a decorator fills at import are left out.
    """
    parts_of = _numpydoc(text) if any(_known(match) for match in _UNDERLINED.finditer(text)) else _google(text)
    if _PARAMETER.match(text):
        parts_of.setdefault("parameters", []).insert(0, parts_of["summary"].pop(0))
    joined = {
        name: "\n\n".join(part for part in (_block(part) for part in parts) if part) for name, parts in parts_of.items()
    }
    return {name: joined[name] for name in SECTIONS if joined.get(name) and not _UNFILLED.search(joined[name])}


def _known(match: re.Match[str]) -> bool:
    return match["word"].strip().lower() in _SECTION_OF


def _numpydoc(text: str) -> dict[str, list[str]]:
    heads = list(_UNDERLINED.finditer(text))
    parts_of: dict[str, list[str]] = {"summary": [_before_fields(text[: heads[0].start()])]}
    ends = [head.start() for head in heads[1:]] + [len(text)]
    for head, end in zip(heads, ends, strict=True):
        section = _SECTION_OF.get(head["word"].strip().lower(), "")
        parts_of.setdefault(section, []).append(text[head.end() : end])
    return parts_of


def _google(text: str) -> dict[str, list[str]]:
    """A heading owns the indented block below it, or, where what follows is not indented, all up to the next heading."""
    heads = [(match, section) for match in _COLON.finditer(text) if (section := _heads(match)) is not None]
    parts_of: dict[str, list[str]] = {"summary": [_before_fields(text[: heads[0][0].start()] if heads else text)]}
    ends = [head.start() for head, _ in heads[1:]] + [len(text)]
    for (head, section), end in zip(heads, ends, strict=False):
        body = text[head.end() : end]
        indented = re.match(r"\s*\n(?=[ \t])(?:[ \t].*(?:\n|$)|[ \t]*(?:\n|$))*", body)
        own = indented.group() if indented else "" if head["directive"] else body
        parts_of.setdefault(section, []).append("\n".join(filter(None, (head["inline"], _block(own)))))
        parts_of["summary"].append(body[len(own) :])
    return parts_of


def _heads(match: re.Match[str]) -> str | None:
    if match["directive"]:
        return {"note": "notes", "warning": "", "seealso": ""}.get(match["directive"])
    return _SECTION_OF.get(match["word"].lower())


def _before_fields(text: str) -> str:
    match = _FIELD_LIST.search(text)
    return text[: match.start()] if match else text


def _block(text: str) -> str:
    return textwrap.dedent(text.strip("\n")).strip()


def main() -> None:
    """Answers each line [path, module] on stdin with one line on stdout: a list of objects, or a sentence."""
    warnings.simplefilter("ignore")
    gc.disable()  # a syntax tree is a million small objects without cycles; the collector doubles the time
    for line in sys.stdin.buffer:
        path, module = json.loads(line)
        try:
            with open(path, "rb") as file:
                answer: Any = objects(file.read(), module)
        except (OSError, SyntaxError, RecursionError) as error:
            answer = f"not a Python file that this interpreter reads ({error})"
        sys.stdout.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
