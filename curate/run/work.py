"""A work folder, read: its stages, their tables, vectors, facts and products. Nothing else looks into one.

    work = Work("work/demo")
    work.stage("select").read()                  # the rows that the last stage called `select` kept
    work.stage(None, role="selection").facts     # of the last stage that selects
    [done.title for done in work.old]            # left by a run of an earlier recipe

A stage's nature stands in its manifest, never in its title. A folder can be read while a run goes on in it, and after one
that was stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from curate.contract import columns
from curate.contract.errors import RequestError, WorkError
from curate.contract.files import ABSENT, has_ended, read_json, sha256
from curate.rows import table

CONTRACT = 2  # raised when the layout of a work folder changes
PLAN, MANIFEST, RUN, VECTORS = "stages.json", "manifest.json", "run.json", "vectors.npy"
HOLDER = ".lock.json"  # who runs in the folder
_DATA = (".parquet", ".npy", ".safetensors")  # files whose hashes a manifest holds


@dataclass(frozen=True)
class Done:
    """A stage that is whole. old: it was left by a run of another recipe (or of other sources, or code), and the last run has
    not come to it."""

    folder: Path
    manifest: dict[str, Any]
    old: bool

    @property
    def title(self) -> str:
        return self.manifest["stage"]

    @property
    def name(self) -> str:
        return self.manifest["name"]

    @property
    def kind(self) -> str:
        return self.manifest["kind"]

    @property
    def role(self) -> str | None:
        """What reports and cards ask for: sources, labels, selection, phrasing, release; most stages have none."""
        return self.manifest["role"]

    @property
    def table(self) -> bool:
        """Whether it holds rows kept and removed; else it is a product, as a release is."""
        return self.manifest["table"]

    @property
    def facts(self) -> dict[str, Any]:
        return self.manifest["facts"]

    @property
    def kept(self) -> list[Path]:
        return table.shards(self.folder / "kept")

    @property
    def removed(self) -> list[Path]:
        return table.shards(self.folder / "removed")

    @property
    def has_vectors(self) -> bool:
        return (self.folder / VECTORS).is_file()

    @cached_property
    def run(self) -> dict[str, Any]:
        """What the run took: seconds, peak_mb, workers, host. Empty where the file was deleted."""
        try:
            return read_json(run_facts(self.folder, self.table))
        except (*ABSENT, ValueError):
            return {}

    @property
    def damage(self) -> list[str]:
        """What is not as the manifest says, a sentence a file. Reads every file that holds data. Of a product whose facts list
        its files, as a release's do, nothing is known here."""
        listed = self.manifest.get("files", {})
        there = {path.relative_to(self.folder).as_posix(): path for path in data_files(self.folder)} if listed else {}
        again = f"delete {self.folder} and run the recipe again"
        problems = []
        for name in sorted({*listed, *there}):
            if name not in there:
                problems.append(f"{self.title}/{name} is missing; {again}")
            elif name not in listed:
                problems.append(f"{self.title}/{name} is not of this stage: its manifest does not list it; {again}")
            elif sha256(there[name]) != listed[name]:
                problems.append(f"{self.title}/{name} was changed: its hash is not the one in the manifest; {again}")
        return problems

    def read(
        self, side: str = "kept", *, without: Sequence[str] = (), only: Sequence[str] | None = None
    ) -> pl.DataFrame:
        """All rows of a side, "kept" or "removed". without, only: columns. WorkError where a part cannot be read."""
        parts = self.kept if side == "kept" else self.removed
        try:
            frames = [_part(part, without, only) for part in parts]
        except (OSError, pl.exceptions.PolarsError) as error:
            raise WorkError(f"{self.folder / side} cannot be read ({error}); run the recipe again") from error
        if not frames and side == "kept":
            raise WorkError(f"{self.folder / side} holds no part-*.parquet; run the recipe again")
        return pl.concat(frames, how="diagonal") if frames else pl.DataFrame(schema=table.REMOVED_SCHEMA)

    @cached_property
    def ids(self) -> pl.Series:
        return self.read(only=[columns.ID])[columns.ID]

    @cached_property
    def vectors(self) -> np.ndarray:
        """float32 (n, d), a memory map, row i for row i of ``ids``."""
        try:
            return np.load(self.folder / VECTORS, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise WorkError(f"{self.folder} cannot be read ({error}); run the recipe again") from error

    def vectors_of(self, ids: pl.Series) -> np.ndarray:
        """The vectors of rows, in their order: the memory map itself where these are all of its rows, as they stand."""
        if len(self.vectors) != self.ids.len():
            raise WorkError(
                f"{self.folder} has {len(self.vectors):,} vectors for {self.ids.len():,} rows; run the recipe again"
            )
        if self.ids.len() == ids.len() and bool((self.ids == ids).all()):
            return self.vectors
        known = self.ids.to_frame().with_row_index("at")
        at = ids.alias(columns.ID).to_frame().join(known, on=columns.ID, how="left", maintain_order="left")["at"]
        if at.null_count():
            raise WorkError(
                f"{self.folder} has {len(self.vectors):,} vectors, and {at.null_count():,} rows of the pool are not among them; "
                "run the recipe again"
            )
        return np.asarray(self.vectors[at.to_numpy()])


class Work:
    """The stages of the last run in a folder, those that are whole, in order."""

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        try:
            plan = read_json(self.folder / PLAN)
        except ValueError as error:
            raise WorkError(
                f"{self.folder / PLAN} is damaged: it is not JSON; `tamis run` on the recipe writes it anew"
            ) from error
        except ABSENT as error:
            raise WorkError(
                f"{self.folder} is not a work folder: it holds no {PLAN}; `tamis run RECIPE --work {self.folder}` makes one"
            ) from error
        if plan.get("contract") != CONTRACT:
            raise WorkError(
                f"{self.folder} was written by {'an older' if plan.get('contract', 1) < CONTRACT else 'a newer'} version of "
                "Tamis, which laid its folders out otherwise; `tamis run` on its recipe computes it anew in place"
            )
        self.plan = plan
        self.recipe: str = plan["recipe"]
        self.stages = tuple(done for planned in plan["stages"] if (done := self._done(planned)))

    def _done(self, planned: dict[str, Any]) -> Done | None:
        folder = self.folder / planned["title"]
        try:
            manifest = read_json(folder / MANIFEST)
        except (*ABSENT, ValueError):
            return None
        if manifest.get("contract") != CONTRACT:
            return None
        return Done(folder, manifest, old=manifest["key"] != planned["key"])

    @property
    def tables(self) -> tuple[Done, ...]:
        return tuple(done for done in self.stages if done.table)

    @property
    def products(self) -> tuple[Done, ...]:
        return tuple(done for done in self.stages if not done.table)

    def of_role(self, role: str) -> list[Done]:
        return [done for done in self.stages if done.role == role]

    def stage(self, asked: str | None = None, *, role: str | None = None, tables: bool = True) -> Done:
        """The last stage with a title or a name, or of a role; RequestError names those that there are."""
        there = [done for done in self.stages if done.table or not tables]
        fits = [
            done for done in there if (role is None or done.role == role) and asked in (None, done.title, done.name)
        ]
        if fits:
            return fits[-1]
        titles = ", ".join(done.title for done in there if role is None or done.role == role)
        what = f"{role} stage" if role else "stage"
        if asked is None or not titles:
            rest = ", ".join(done.title for done in there) or "no stage that is whole"
            raise RequestError(f"{self.folder} has no {what}; it has {rest}")
        raise RequestError(f"{self.folder} has no {what} '{asked}'; it has {titles}")

    def before(self, done: Done) -> tuple[Done, ...]:
        """The stages before a stage, the nearest first."""
        return self.stages[: self.stages.index(done)][::-1]

    def embedded(self, done: Done) -> Done | None:
        """The nearest stage before a stage that holds vectors."""
        return next((other for other in self.before(done) if other.has_vectors), None)

    def history(self, side: str) -> Iterator[tuple[Done, Path]]:
        """The shards of a side, stage by stage."""
        for done in self.tables:
            for part in done.kept if side == "kept" else done.removed:
                yield done, part

    @property
    def old(self) -> tuple[Done, ...]:
        return tuple(done for done in self.stages if done.old)

    @property
    def running(self) -> str:
        """Which process runs in the folder, as far as this machine can tell; empty where none does."""
        holder = holder_of(self.folder)
        return holder[0] if holder and has_ended(holder[1]) is False else ""

    @property
    def missing(self) -> list[str]:
        """Titles of stages that the last run wanted and that are not there, or not whole."""
        there = {done.folder.name for done in self.stages}
        return [planned["title"] for planned in self.plan["stages"] if planned["title"] not in there]


def holder_of(folder: Path) -> tuple[str, str] | None:
    """Who runs in a work folder, or was killed while it did: in words, and the mark of its process."""
    try:
        holder = read_json(folder / HOLDER)
        told = f"process {holder['pid']} on {holder['host']}, `{holder['command']}`, since {holder['since']}"
        return told, holder["mark"]
    except (*ABSENT, ValueError, KeyError):
        return None


def data_files(folder: Path) -> list[Path]:
    """The files of a stage that hold its data: tables, vectors, weights."""
    return sorted(path for path in folder.rglob("*") if path.suffix in _DATA)


def is_work(folder: Path) -> bool:
    """Whether a folder is one that a run writes into, of whatever version."""
    return (folder / PLAN).is_file()


def run_facts(folder: Path, is_table: bool) -> Path:
    """Seconds, memory and host: inside a stage's own folder; beside a product, since a release is pushed as it is."""
    return folder / RUN if is_table else folder.with_name(f"{folder.name}.{RUN}")


def _part(path: Path, without: Sequence[str], only: Sequence[str] | None) -> pl.DataFrame:
    if only is None and not without:
        return pl.read_parquet(path)
    wanted = [c for c in pl.read_parquet_schema(path) if c not in without and (only is None or c in only)]
    return pl.read_parquet(path, columns=wanted)
