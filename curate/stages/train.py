"""Train: a model fine-tuned on the rendered rows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import train as trainer
from curate.contract import methods
from curate.contract.code import missing_packages
from curate.contract.methods import Parameter
from curate.rows import training
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
    return methods.signature("train/run.py", "train", 2, without=_FILLED)


def bind(given: Any, ask: Ask) -> Step | None:
    bound = ask.bind("train", options(), given)
    chosen = {"tuning": ask.method("tuning", bound["tuning"], "tuning")}
    chosen["objective"] = ask.method("objectives", bound["objective"], "objective")
    for word, method in chosen.items():
        if method is not None:
            bound[word] = {method.method.name: method.options}
    holdout = ask.before("holdout")
    if bound["model"] == "tiny" and not (holdout and holdout.options.get("pretrain")):
        ask.say(
            "`model: tiny` is pretrained on text of its own; set aside a share, as in "
            "`holdout: {fraction: 0.05, pretrain: 0.2}`",
            "model",
        )
    return Step(
        kind="train",
        name="train",
        method="train",
        options=bound,
        written=bound,
        methods=tuple(method.method for method in chosen.values() if method is not None),
    )


def reads(step: Step, before: Before) -> dict[str, Any]:
    return {"model": training.model_content(before.recipe.folder, step.options["model"])}


def code(step: Step) -> list[Path]:
    return _FILES


def ready(step: Step, before: Before) -> list[str]:
    return missing_packages("training", [*_FILES, *(method.path for method in step.methods)])


def compute(job: Job, step: Step) -> dict[str, Any]:
    from train.run import train

    rows = job.folder / "rows.parquet"
    training.write_rows(rows, job.rows())
    asked = {**step.options, "model": training.model_path(job.recipe.folder, step.options["model"])}
    holdout = job.before.nearest("holdout")
    texts = training.pretraining_texts(job.done(holdout).removed) if holdout else None
    return train(rows, job.folder, base_texts=texts, seed=job.seed, folder=job.recipe.folder, **asked)
