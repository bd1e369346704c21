"""The docstrings of installed packages: real, human-written, licensed text on every machine, without a download.

    - docstrings: {packages: [numpy, polars, sklearn, torch]}

One record an object: a question about one section of what its docstring says (`task`: summary, parameters, returns, raises,
examples or notes), drawn by hash among those of 120 characters or more. Packages are read with ``ast`` and never imported;
private objects, tests and vendored copies are passed over, and a docstring that stands twice counts once. Licence and
version come from the package's metadata. Cost: 2 seconds of one core for 1,000 files; the default packages have 5,600.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from curate.contract.draws import draw
from curate.contract.errors import DataError, SourceError
from curate.contract.files import digest, sha256
from curate.contract.progress import track
from curate.load import docstring_parser
from curate.load.records import Raw
from curate.rows import licences

TEMPLATE = "pools/docstrings"
MINIMUM = 120  # characters of a section that is asked for

_PASSED_OVER = {
    "tests", "test", "_internal", "conftest", "benchmarks",
    "externals", "external", "_external", "extern", "_extern", "vendor", "vendored", "_vendor", "_vendored", "third_party",
}  # fmt: skip
_STDLIB = "stdlib"  # Python's own library, which is no package
_NOT_LIBRARY = {
    "site-packages",
    "dist-packages",
    "idlelib",
    "lib2to3",
    "turtledemo",
    "ensurepip",
    "pydoc_data",
    "__phello__",
}
_FILES_A_CALL = 256  # half a second of work: a worker's start costs 20 ms


def load(
    *,
    packages: list[str] = ["numpy", "polars", "sklearn", "scipy", "pandas", "torch", "transformers"],  # noqa: B006
    seed: int = 0,
    workers: int = 2,
) -> Iterator[Raw]:
    """Documented public objects of packages, each with one section drawn by (seed, module:name).

    packages: import names, or "stdlib", Python's own library. The fields are package, module, name (inside the module), kind (function, method, class,
    property, object), signature (names and defaults), summary (the first paragraph, in one line), section and text (what
    the docstring says under it). Raises SourceError where a package is not installed. The workers change nothing but time.
    """
    seen: set[bytes] = set()
    for package in map(_find, packages):
        files = package.files()
        for path, answer in zip(files, track(_parsed(files, workers), package.name, len(files)), strict=True):
            if isinstance(answer, str):
                yield Raw(path[1], None, path[1], answer, package.name, raw=_bytes(path[0]))
                continue
            for documented in answer:
                mark = hashlib.blake2b(documented["text"].encode(), digest_size=16).digest()
                key = f"{documented['module']}:{documented['name']}"
                marks = {mark, hashlib.blake2b(key.encode(), digest_size=16).digest()}
                if not seen.isdisjoint(marks):
                    continue
                row = _row(package, documented, key, seed)
                if row is not None:
                    seen |= marks
                    yield row


def describe(*, packages: list[str]) -> str:
    """The word "docstrings"."""
    del packages
    return "docstrings"


def fingerprint(*, packages: list[str]) -> dict[str, Any]:
    """The version of each package; for one without metadata (a folder on the path) a hash of its files."""
    return {"packages": {package.name: package.version or package.content() for package in map(_find, packages)}}


def _bytes(path: str) -> bytes | None:
    try:
        return Path(path).read_bytes()
    except OSError:
        return None


def _row(package: _Package, documented: dict[str, Any], key: str, seed: int) -> Raw | None:
    sections = documented["sections"]
    choice = [name for name in docstring_parser.SECTIONS if len(sections.get(name, "")) >= MINIMUM]
    if not choice or "summary" not in sections:
        return None
    section = choice[draw(seed, "docstrings.section", key) % len(choice)]
    fields = {
        "package": package.name,
        "module": documented["module"],
        "name": documented["name"],
        "kind": documented["kind"],
        "signature": documented["signature"],
        "summary": " ".join(sections["summary"].split("\n\n")[0].split()),
        "section": section,
        "text": sections[section],
    }
    return Raw(
        key=key,
        fields=fields,
        where=key,
        file=package.name,
        revision=package.version,
        license=package.license,
        task=section,
    )


# --- packages --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Package:
    """An installed package, found without importing it."""

    name: str
    folders: tuple[Path, ...]
    version: str | None
    license: str | None

    def files(self) -> list[tuple[str, str]]:
        """(path, module) of the files that hold public objects, by path."""
        files = []
        for folder in self.folders:
            for path in sorted(folder.rglob("*.py")):
                parts = (self.name, *path.relative_to(folder).with_suffix("").parts)
                if not _passed_over(parts):
                    inside = parts[1:] if self.name == _STDLIB else parts
                    files.append((str(path), ".".join(inside).removesuffix(".__init__")))
        return files

    def content(self) -> str:
        return digest({module: sha256(Path(path)) for path, module in self.files()})


def _passed_over(parts: tuple[str, ...]) -> bool:
    """Tests and vendored code; a package's own private folders (torch/_inductor), but numpy/_core, where numpy.sum lives."""
    package, *folders, file = parts
    internal = any(folder.startswith("_") and folder != "_core" for folder in folders[:1])
    library = package != _STDLIB or (not file.startswith("_") and _NOT_LIBRARY.isdisjoint(parts))
    return internal or not library or file.startswith("test_") or not _PASSED_OVER.isdisjoint(parts)


def _find(name: str) -> _Package:
    if name == _STDLIB:
        return _Package(name, (Path(sysconfig.get_path("stdlib")),), platform.python_version(), "PSF-2.0")
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            f"docstrings: the package '{name}' is not installed; install it, or leave it out of `packages`"
        )
    folders = tuple(Path(folder) for folder in spec.submodule_search_locations)
    metadata = _metadata(name)
    return _Package(name, folders, *((metadata["Version"], _license(metadata)) if metadata else (None, None)))


def _metadata(package: str) -> Any:
    """Of the distribution of that name, else of the one that brings the package (scikit-learn, for sklearn), else None."""
    try:
        return importlib.metadata.metadata(package)
    except importlib.metadata.PackageNotFoundError:
        distributions = importlib.metadata.packages_distributions().get(package)  # reads all metadata: 0.3 s
        return importlib.metadata.metadata(distributions[0]) if distributions else None


def _license(metadata: Any) -> str | None:
    """The identifier that the metadata tells: of License-Expression, of the text of License, of a classifier."""
    classifiers = [entry for entry in metadata.get_all("Classifier") or [] if entry.startswith("License ::")]
    stated = [licences.normalise(text) for text in (metadata["License-Expression"], metadata["License"], *classifiers)]
    return next((one for one in stated if all(map(licences.link, licences.members(one)))), None)


# --- workers ---------------------------------------------------------------------------------------------------------


def _parsed(files: list[tuple[str, str]], workers: int) -> Iterator[list[dict[str, Any]] | str]:
    """What each file defines, in order; a sentence for a file that is not Python."""
    calls = [files[start : start + _FILES_A_CALL] for start in range(0, len(files), _FILES_A_CALL)]
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        for answers in pool.map(_call, calls):
            yield from answers


def _call(files: list[tuple[str, str]]) -> list[Any]:
    command = [sys.executable, "-I", "-S", str(Path(docstring_parser.__file__))]
    questions = b"\n".join(map(orjson.dumps, files))
    done = subprocess.run(command, input=questions, capture_output=True, check=False)
    answers = done.stdout.splitlines()
    if done.returncode or len(answers) != len(files):
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no message"])[-1]
        raise DataError(
            f"docstrings: a worker stopped with exit code {done.returncode} ({last}); run the command again"
        )
    return list(map(orjson.loads, answers))
