"""`tamis templates import`: a library of another project as files of ours."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import count, islice
from pathlib import Path
from typing import Any, TextIO, get_args

from curate.contract.errors import RequestError, TemplateError
from curate.contract.files import whole
from curate.contract.progress import track
from curate.importers import flan, p3_sets, promptsource, superni
from curate.importers.promptsource import Compat
from curate.template.guard import at, guard
from curate.template.sets import Finding

FORMATS = {"promptsource": (".yaml", ".yml"), "superni": (".json", ".json.gz"), "flan": (".json", ".py")}


@dataclass
class Imported:
    """What came out. files: by name, with their text. total and converted: templates, or instances of SuperNI."""

    files: dict[str, str] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    total: int = 0
    converted: int = 0

    def report(self, folder: Path | None) -> dict[str, Any]:
        """For JSON: summary, total, converted, files (where they were written, else their texts) and findings."""
        where = f" in {folder}" if folder is not None else ""
        return {
            "summary": f"{self.converted:,} of {self.total:,} converted, {len(self.files):,} files{where}, "
            f"{len(self.findings):,} findings.",
            "total": self.total,
            "converted": self.converted,
            "files": self.files if folder is None else {name: str(folder / name) for name in self.files},
            "findings": [asdict(finding) for finding in self.findings],
        }

    def write_to(self, screen: TextIO) -> None:
        """The one file there is. Raises RequestError where there are several."""
        if len(self.files) > 1:
            raise RequestError(f"this makes {len(self.files):,} files; say with --out FOLDER where they go")
        screen.write("".join(self.files.values()))

    def write(self, folder: Path) -> None:
        if folder.exists() and not folder.is_dir():
            raise RequestError(f"{folder} is a file; give a folder for the sets with --out")
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in self.files.items():
            with whole(folder / name) as temporary:
                temporary.write_text(text, "utf-8")


def imported(
    format: str,
    path: Path,
    compat: str = "raw",
    *,
    data: str | None = None,
    header: list[str] | None = None,
    limit: int = 1_000,
) -> Imported:
    """Reads a file, or every file of the format in a folder and below. promptsource and flan give template sets (``.yaml``),
    superni gives rows for the set pools/superni (``.jsonl``).

    data, header: a path that the source `files` reads, whose first ``limit`` rows the templates of the one file of promptsource
    are tried on. Raises RequestError: an unknown format, no such file. Raises TemplateError or SourceError: a file that is
    not of the format, with file:line; one among several of promptsource is a finding.
    """
    if format not in FORMATS:
        raise RequestError(f"there is no format '{format}'; the formats are {', '.join(FORMATS)}")
    if compat not in get_args(Compat):
        raise RequestError(f"there is no compat '{compat}'; it is {' or '.join(get_args(Compat))}")
    endings = FORMATS[format]
    paths = sorted(p for p in path.rglob("*") if p.name.endswith(endings)) if path.is_dir() else [path]
    if not paths or not all(p.is_file() for p in paths):
        raise RequestError(f"{path}: there is no file that ends in {' or '.join(endings)}")
    if data is not None and (format != "promptsource" or len(paths) > 1):
        raise RequestError("--data: name the one file of promptsource that these rows are for")
    rows = [] if data is None else list(islice(_rows(data, header), limit))
    out = Imported()
    for one in track(paths, "importing"):
        if format == "promptsource":
            _promptsource(one, "t0" if compat == "t0" else "raw", rows, out, alone=len(paths) == 1)
        else:
            (_superni if format == "superni" else _flan)(one, out)
    return out


def _rows(data: str, header: list[str] | None) -> Iterator[dict[str, Any]]:
    from curate.load import files

    for raw in files.load(path=data, header=header, data=Path()):
        if raw.fields is not None:  # a line that is no row is told by a run
            yield dict(raw.fields)


def _promptsource(path: Path, compat: Compat, rows: list[dict[str, Any]], out: Imported, *, alone: bool) -> None:
    try:
        converted = guard(_converted, path, compat, rows)
    except TemplateError as error:
        if alone:
            raise
        where, _, why = str(error).partition(": ")
        out.findings.append(Finding("not-read", where, why, "mend the file; the others were imported without it"))
        return
    for one in converted.sets:
        names = (f"{one.name}{f'_{number}' if number > 1 else ''}.yaml" for number in count(1))
        out.files[next(name for name in names if name not in out.files)] = one.yaml
    out.findings += converted.findings
    out.total += converted.total
    out.converted += converted.converted


def _converted(path: Path, compat: Compat, rows: list[dict[str, Any]]) -> p3_sets.Converted:
    """In the process with limits: a file of P3 holds templates of anybody's."""
    at(str(path))
    return p3_sets.convert(promptsource.read(path), compat, rows)


def _superni(path: Path, out: Imported) -> None:
    task = superni.read(path)
    lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in superni.rows(task)]
    out.files[f"{task.name}.jsonl"] = "".join(lines)
    out.total += len(lines)
    out.converted += len(lines)


def _flan(path: Path, out: Imported) -> None:
    for name, patterns in flan.read(path).items():
        text, findings = flan.convert(name, patterns)
        out.findings += findings
        out.total += len(patterns)
        out.converted += len(patterns) - sum(finding.rule != "stray-n" for finding in findings)
        if text is not None:
            out.files[re.sub(r"[^\w.-]+", "_", name) + ".yaml"] = text
