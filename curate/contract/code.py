"""Python source, read and not run: its syntax tree, what it imports, and what a result that it computes depends on."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import re
import site
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGES = ("curate", "train")


def tree(path: Path) -> ast.Module:
    """The syntax tree of a file. SyntaxError where it is not valid Python."""
    return _parsed(path, *stamp(path))


def stamp(path: Path) -> tuple[int, int]:
    """When a file was changed last, and its size: what is read once is read again when this differs."""
    status = path.stat()
    return status.st_mtime_ns, status.st_size


@cache
def _parsed(path: Path, _changed: int, _size: int) -> ast.Module:
    return ast.parse(path.read_text("utf-8"))


def public_functions(path: Path) -> dict[str, int]:
    """The public functions that a file defines, with their lines. SyntaxError where it is not valid Python."""
    nodes = tree(path).body
    return {n.name: n.lineno for n in nodes if isinstance(n, ast.FunctionDef) and not n.name.startswith("_")}


def constants(tree: ast.Module) -> dict[str, Any]:
    """The module's constants that are literals."""
    values: dict[str, Any] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            try:
                values[node.targets[0].id] = ast.literal_eval(node.value)
            except ValueError:
                continue
    return values


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


def source_and_versions(paths: Iterable[Path]) -> tuple[str, dict[str, str]]:
    """A hash over files and all modules of ours or of the user's that they import, directly or not, and the versions of the
    distributions that any of them imports. What a cache key needs to know of code.

    Followed are our packages, modules beside a file (``import helper``, ``from .helper import …``), and others that are found
    on the path outside the standard library and what pip installed.
    """
    queue, seen, packages = list(paths), dict[Path, str](), set[str]()
    while queue:
        path = queue.pop()
        if path in seen:
            continue
        seen[path], imports = _digest_and_imports(path, *stamp(path))
        for level, name in imports:
            local = _local_files(path, level, name)
            queue += [file for file in local if file not in seen]
            if not local and not level:
                packages.add(name.split(".")[0])
    total = hashlib.blake2b(digest_size=16)
    for path in sorted(seen, key=lambda path: (path.name, seen[path])):
        total.update(path.name.encode() + bytes.fromhex(seen[path]))
    versions = dict(entry.split(" ") for package in sorted(packages) if (entry := distribution_of(package)))
    return total.hexdigest(), versions


def missing_packages(what: str, paths: Iterable[Path]) -> list[str]:
    """A sentence for each package that files import outright and that is not installed, with the extra of Tamis that brings it.
    what: needs it. Imports inside ``try`` do not count."""
    wanted = {
        name.split(".")[0] for path in paths for name in _needed_imports(tree(path)) if not _local_files(path, 0, name)
    }
    return [
        f"{what} needs the package {name}, which is not installed; run: pip install {_brought_by(name)}"
        for name in sorted(wanted)
        if not installed(name)
    ]


@cache
def _digest_and_imports(path: Path, changed: int, size: int) -> tuple[str, tuple[tuple[int, str], ...]]:
    """The hash of a file, and what it imports: (how many dots, dotted name)."""
    names: list[tuple[int, str]] = []
    for node in _nodes(_parsed(path, changed, size)):
        if isinstance(node, ast.Import):
            names += [(0, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            stem = f"{node.module}." if node.module else ""
            names += [(node.level, stem + alias.name) for alias in node.names]
    return hashlib.blake2b(path.read_bytes(), digest_size=32).hexdigest(), tuple(names)


def _local_files(path: Path, level: int, name: str) -> list[Path]:
    """The files of ours or of the user's that an import runs: the module, or the module that holds the name, and the
    ``__init__.py`` of the packages above it."""
    parts = name.split(".")
    if level:
        return _module_files(path.parents[level - 1], parts)
    if parts[0] in (*PACKAGES, "tamis"):
        return _module_files(ROOT, parts)
    if (
        beside := _module_files(path.parent, parts)
        if not any(path.is_relative_to(ROOT / package) for package in PACKAGES)
        else []
    ):
        return beside
    top = _user_root(parts[0])
    return _module_files(top, parts) if top else []


def _module_files(root: Path, parts: list[str]) -> list[Path]:
    files: list[Path] = []
    for end in range(1, len(parts) + 1):
        stem = root.joinpath(*parts[:end])
        if stem.with_suffix(".py").is_file():
            return [*files, stem.with_suffix(".py")]
        if (stem / "__init__.py").is_file():
            files.append(stem / "__init__.py")
    return files


@cache
def _user_root(package: str) -> Path | None:
    """The folder on the path that a module of the user's own stands in; None for the standard library and what pip installed."""
    if package in sys.stdlib_module_names or distribution_of(package):
        return None
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    origin = Path(spec.origin).resolve()
    if any(origin.is_relative_to(installed) for installed in _installed_folders()):
        return None
    return origin.parent.parent if origin.name == "__init__.py" else origin.parent


@cache
def _installed_folders() -> tuple[Path, ...]:
    paths = sysconfig.get_paths()
    folders = [paths["stdlib"], paths["purelib"], paths["platlib"], *site.getsitepackages(), site.getusersitepackages()]
    return tuple({Path(folder).resolve() for folder in folders})


def _needed_imports(module: ast.Module) -> Iterator[str]:
    """Names imported outside ``try`` and ``if TYPE_CHECKING``."""
    for node in _nodes(module, without_try=True):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def _nodes(module: ast.Module, *, without_try: bool = False) -> Iterator[ast.AST]:
    """All nodes but those that are there for the type checker alone."""
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if without_try and isinstance(node, ast.Try):
            continue
        yield node
        waiting += ast.iter_child_nodes(node)


def installed(package: str) -> bool:
    """Whether a package can be imported."""
    try:
        return package in sys.modules or importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _brought_by(package: str) -> str:
    """What to install for a package: the extra of Tamis that brings it, else the package itself."""
    known = (
        {"sklearn": "scikit-learn", "yaml": "PyYAML", "PIL": "pillow"}.get(package, package).replace("_", "-").lower()
    )
    for line in importlib.metadata.requires("tamis") or []:
        extra = re.search(r"""extra == ['"](\w+)['"]""", line)
        if extra and re.split(r"[^\w.-]", line, maxsplit=1)[0].replace("_", "-").lower() == known:
            return repr(f"tamis[{extra[1]}]")
    return package
