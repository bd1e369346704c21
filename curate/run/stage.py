"""The nouns of a run: a step of a recipe, the stage that it becomes, and what stands before it.

A *kind* of stage is a file of curate/stages (or of ``stages/`` beside a recipe); curate/run/kinds.py says what such a file holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curate.contract.methods import Method

if TYPE_CHECKING:
    from curate.run.kinds import Kind
    from curate.run.recipe import Recipe


@dataclass(frozen=True)
class Step:
    """One step of a recipe, checked, every option bound.

    kind: of stage. name: what `--set` and `--until` call it. method: the word that manifests and cards tell. options: as JSON
    has them; a part of the stage's key. written: how the resolved recipe writes the step. methods: those that it calls. text:
    the column that its method reads. where: rows that it touches, by the values of columns; others pass through. values: what
    is known of a column's values after it. bound: what else its kind wants to remember until it computes.
    """

    kind: str
    name: str
    method: str
    options: dict[str, Any]
    written: Any
    methods: tuple[Method, ...] = ()
    text: str | None = None
    where: dict[str, list[str]] = field(default_factory=dict)
    values: dict[str, frozenset[str]] = field(default_factory=dict)
    bound: Any = None


@dataclass(frozen=True)
class Stage:
    """A step with its place and its key. title: of its folder. static: a hash of all that is known beforehand of what its bytes
    depend on; key: the same with the files that its last run was seen to read. code, versions: of what it runs. parent: the
    stage whose kept rows it takes. known: facts of the plan that the stage compares with what it finds."""

    title: str
    step: Step
    kind: Kind
    seed: int
    static: str
    key: str
    code: str
    versions: dict[str, str]
    parent: Stage | None
    known: dict[str, Any]

    @property
    def table(self) -> bool:
        return self.kind.product is None


@dataclass(frozen=True)
class Before:
    """A recipe, and the stages that stand before one of its steps. work: the folder that they are in, or None."""

    recipe: Recipe
    stages: tuple[Stage, ...]
    work: Path | None = None

    def nearest(self, kind: str) -> Stage | None:
        return next((stage for stage in reversed(self.stages) if stage.step.kind == kind), None)

    def first(self, kind: str) -> Stage | None:
        return next((stage for stage in self.stages if stage.step.kind == kind), None)

    def need(self, kind: str) -> Stage:
        """The nearest stage of a kind that the recipe check has made sure of."""
        stage = self.nearest(kind)
        assert stage is not None, f"the recipe check lets nothing through without {kind}"
        return stage

    @property
    def table(self) -> Stage | None:
        """The last stage that is a table."""
        return next((stage for stage in reversed(self.stages) if stage.table), None)
