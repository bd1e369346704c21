"""What a training run is asked to do, checked and resolved: tuning, objective, batch, base model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from curate.contract.code import source_and_versions
from curate.contract.errors import MethodError, RequestError, TrainingError
from curate.contract.methods import Method, accepts, find, nearest
from curate.contract.model_files import find_model

TINY = ("tiny", "tiny-3m", "tiny-10m")  # models that are pretrained here (train/tiny.py)


@dataclass(frozen=True)
class Chosen:
    """A method of tuning or an objective, by name, with its options. It goes to other processes as names, so the function is
    found anew there. folder: the recipe's, where methods of its own may stand."""

    kind: str
    name: str
    options: dict[str, Any]
    folder: Path | None

    @property
    def method(self) -> Method:
        return find(self.kind, self.name, self.folder)

    @property
    def written(self) -> dict[str, Any]:
        """As a recipe writes it."""
        return {self.name: self.options}

    def function(self, seed: int) -> Callable[..., Any]:
        """The function with its options filled in, and the seed where it takes one."""
        return functools.partial(self.method.function(), **self.method.call_options(self.options, seed=seed))


@dataclass(frozen=True)
class Settings:
    """The options of `train.run.train`, with its defaults."""

    tuning: Chosen
    objective: Chosen
    epochs: float
    learning_rate: float
    examples: int
    pack_tokens: int
    max_length: int
    over_length: Any
    chat: str | None
    schedule: Any
    warmup: float
    weight_decay: float
    min_steps: int | None
    dtype: Any

    @property
    def facts(self) -> dict[str, Any]:
        """As JSON has them. The size of a pack is left out: it is a matter of memory, not of the result."""
        methods = {"tuning": self.tuning.written, "objective": self.objective.written}
        return {**{name: value for name, value in vars(self).items() if name != "pack_tokens"}, **methods}

    @property
    def code(self) -> tuple[str, dict[str, str]]:
        """A hash of the files of the tuning and the objective and of all that these import, and the versions of the
        distributions that they import."""
        return source_and_versions([self.tuning.method.path, self.objective.method.path])


def resolve(
    *,
    tuning: str | dict[str, Any],
    objective: str | dict[str, Any],
    batch: dict[str, Any],
    learning_rate: float | None,
    folder: Path | None,
    **others: Any,
) -> Settings:
    """The settings that options mean. Raises MethodError, RequestError."""
    tuned_by = choose("tuning", tuning, folder)
    if (least := others["min_steps"]) is not None and least < 1:
        raise RequestError(f"train: min_steps is {least}; it is a whole number above 0, or null for none")
    examples, pack_tokens = _batch(batch)
    return Settings(
        tuning=tuned_by,
        objective=choose("objectives", objective, folder),
        learning_rate=_learning_rate(tuned_by) if learning_rate is None else learning_rate,
        examples=examples,
        pack_tokens=pack_tokens,
        **others,
    )


def choose(kind: str, choice: str | dict[str, Any], folder: Path | None = None) -> Chosen:
    """A method by ``name`` or ``{name: {options}}``, its options checked against its signature."""
    name, options = (choice, {}) if isinstance(choice, str) else next(iter(choice.items()))
    options = dict(options or {})
    method = find(kind, name, folder)
    annotations = {parameter.word: parameter.annotation for parameter in method.parameters}
    for word, value in options.items():
        if word in method.renamed:
            raise MethodError(f"{kind} {name}: `{word}` is called `{method.renamed[word]}` now; rename it")
        if word not in annotations:
            takes = f"it takes {', '.join(annotations)}" if annotations else "it takes no options"
            raise MethodError(f"{kind} {name} does not take '{word}'{nearest(word, annotations)}; {takes}")
        if not accepts(annotations[word], value):
            raise MethodError(f"{kind} {name}: `{word}` is {value!r}; it should be {annotations[word]}")
    return Chosen(kind, name, options, folder)


def base_model(model: str, base_texts: list[str] | None, seed: int) -> Path:
    """The folder of the model that a run starts from. model: a folder, a Hub id, or one of TINY, which is pretrained here."""
    if model not in TINY:
        return find_model("train", model, error=TrainingError)
    if not base_texts:
        raise RequestError(
            f"model {model} is pretrained on text of its own and was given none; "
            "set some aside, as in `holdout: {fraction: 0.05, pretrain: 0.2}`, or name another model"
        )
    from train.tiny import tiny_model

    return tiny_model(base_texts, size=model, seed=seed)


def _learning_rate(tuning: Chosen) -> float:
    rate = tuning.method.beside("LEARNING_RATE")
    if rate is None:
        raise MethodError(
            f"the tuning method '{tuning.name}' brings no learning rate; give one with `learning_rate:`, or write a constant "
            f"LEARNING_RATE into {tuning.method.path}"
        )
    return rate


def _batch(batch: dict[str, Any]) -> tuple[int, int]:
    """(examples a step, tokens a pack)."""
    if unknown := set(batch) - {"examples", "tokens"}:
        raise RequestError(f"train: batch takes examples and tokens, not {', '.join(sorted(unknown))}")
    examples, tokens = batch.get("examples", 32), batch.get("tokens", 4096)
    if not (isinstance(examples, int) and isinstance(tokens, int) and examples > 0 and tokens > 0):
        raise RequestError(f"train: batch is {batch}; examples and tokens are whole numbers above 0")
    return examples, tokens
