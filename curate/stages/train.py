"""Train: a model fine-tuned on the rendered rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import train as trainer
from curate.contract import methods
from curate.contract.code import missing_packages
from curate.contract.methods import Parameter
from curate.rows import training
from curate.run import base_model
from curate.run.job import Job
from curate.run.stage import Before, Step

if TYPE_CHECKING:
    from curate.run.ask import Ask

SECTION = "train"
NEEDS = {"render": "training reads rendered rows; add `render: {templates: one}`"}
PRODUCT = "model"
PLACES = {"model": "model"}
EXAMPLE = """\
train:
  model: HuggingFaceTB/SmolLM2-135M
  tuning: {lora: {rank: 16}}
  objective: response_only
  epochs: 3"""
_FILES = sorted(Path(trainer.__file__).parent.glob("*.py"))
_FILLED = ("seed", "base_texts", "folder")


def options() -> tuple[Parameter, ...]:
    pretrain = (
        "sources, as in `load`, whose text `model: tiny` is pretrained on, where none is set aside of the pool's own"
    )
    return (
        *methods.signature("train/run.py", "train", 2, without=_FILLED),
        Parameter("pretrain", "list | None", None, pretrain),
    )


def bind(given: Any, ask: Ask) -> Step | None:
    bound = ask.bind("train", options(), given)
    chosen = {"tuning": ask.method("tuning", bound["tuning"], "tuning")}
    chosen["objective"] = ask.method("objectives", bound["objective"], "objective")
    for word, method in chosen.items():
        if method is not None:
            bound[word] = {method.method.name: method.options}
    sources = base_model.sources(bound, ask)
    return Step(
        kind="train",
        name="train",
        method="train",
        options=bound,
        written=bound,
        methods=tuple(method.method for method in chosen.values() if method is not None),
        bound=sources,
    )


def reads(step: Step, before: Before) -> dict[str, Any]:
    return base_model.reads(step, before)


def code(step: Step) -> list[Path]:
    return _FILES


def ready(step: Step, before: Before) -> list[str]:
    return missing_packages("training", [*_FILES, *(method.path for method in step.methods)])


def compute(job: Job, step: Step) -> dict[str, Any]:
    from train.run import train

    rows = job.folder / "rows.parquet"
    training.write_rows(rows, job.rows())
    return train(
        rows,
        job.folder,
        base_texts=base_model.texts(job),
        seed=job.seed,
        folder=job.recipe.folder,
        **base_model.settings(step, job.recipe.folder),
    )
