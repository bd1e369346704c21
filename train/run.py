"""A training run on disk: rows in, a tuned model out, resumable at any moment.

OUT/model/             the tuned model and its tokenizer, safetensors; adapters folded in
OUT/adapter/           the adapter alone, where tuning trained one
OUT/metrics.jsonl      a line a step: epoch, loss, learning rate, gradient norm, tokens; the same every time
OUT/training.json      facts of the run, and its seconds
OUT/checkpoint.safetensors   while it runs; written every CHECKPOINT_SECONDS
"""

from __future__ import annotations

import difflib
import functools
import importlib
import inspect
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import peft
import pyarrow.parquet as pq
import torch
import transformers

from curate.contract.columns import ID, MESSAGES, REPEAT
from curate.contract.errors import ContractError, MethodError, RequestError, TrainingError
from curate.contract.files import digest, read_json, sha256, write_json
from curate.contract.progress import bar
from train import checkpoint
from train.encode import Encoded, Encoder
from train.fit import State, Step, fit, minimum_steps
from train.models import load_model, merge, quiet, save_model

CHECKPOINT_SECONDS = 60.0


def train(
    rows_path: Path,
    out: Path,
    *,
    model: str,
    tuning: str | dict = "full",
    objective: str | dict = "response_only",
    epochs: float = 3.0,
    learning_rate: float | None = None,
    batch: dict = {"examples": 32},  # noqa: B006  # read, never written; a recipe's defaults are literals
    max_length: int = 1024,
    over_length: Literal["terminate", "keep", "drop"] = "terminate",
    chat: str | None = None,
    schedule: Literal["linear", "cosine", "constant"] = "linear",
    warmup: float = 0.03,
    weight_decay: float = 0.0,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    seed: int = 0,
    base_texts: list[str] | None = None,
) -> dict[str, Any]:
    """Fine-tunes ``model`` on the conversations of a parquet file and writes the result into ``out``.

    rows_path: columns id, messages (list of {role, content}) and, where there is one, repeat (int: how often a row counts).
    model: a local folder, a Hub id, or "tiny", the small Llama pretrained on ``base_texts``. tuning, objective: a name or
    {name: {options}}. learning_rate: None takes the tuning's own (2e-5 full, 2e-4 LoRA). batch: examples an optimiser
    step, and tokens: the most that go through the model at once (4,096; a matter of memory, not of the result).
    Steps: max(24, epochs × rows / examples, rounded up). over_length, chat: see train.encode.Encoder.

    The same call goes on where it was stopped, to the same bytes; a finished one returns its facts at once.
    """
    rows_path, out = Path(rows_path), Path(out)
    tuner, tuning_options = _method("tuning", tuning)
    loss, loss_options = _method("objectives", objective)
    examples, pack_tokens = _batch(batch)
    rate = tuner.LEARNING_RATE if learning_rate is None else learning_rate
    path = _model_path(model, base_texts, seed)
    asked = {
        "tuning": {_name(tuner): tuning_options},
        "objective": {_name(loss): loss_options},
        "epochs": epochs,
        "learning_rate": rate,
        "examples": examples,
        "max_length": max_length,
        "over_length": over_length,
        "chat": chat,
        "schedule": schedule,
        "warmup": warmup,
        "weight_decay": weight_decay,
        "dtype": dtype,
        "seed": seed,
        "versions": {package.__name__: package.__version__ for package in (torch, transformers, peft)},
    }
    key = digest([asked, sha256(rows_path), _content_of(path), pack_tokens])
    if (done := _finished(out, key)) is not None:
        return done

    began = time.perf_counter()
    _sweep(out)
    loaded, tokenizer = load_model(path)
    encoder = Encoder(tokenizer, chat, max_length=max_length, over_length=over_length)
    documents, counts = encoder.encode_all(_rows(rows_path))
    if not documents:
        raise TrainingError(f"{rows_path}: no row has a response within {max_length:,} tokens ({_said(counts)})")
    tuned = tuner.tune(loaded, seed=seed, **tuning_options)
    steps = minimum_steps(len(documents), epochs=epochs, examples=examples)
    start = checkpoint.load(out / "checkpoint.safetensors", key)
    with _journal(out, key, steps, start) as on_step:
        report = fit(
            tuned,
            documents,
            weights=functools.partial(loss.weights, **loss_options),
            steps=steps,
            examples=examples,
            learning_rate=rate,
            schedule=schedule,
            warmup=warmup,
            weight_decay=weight_decay,
            seed=seed,
            dtype=dtype,
            pack_tokens=pack_tokens,
            start=start,
            on_step=on_step,
        )
    facts = {**asked, **_facts(tuned, documents, counts, report.dtype, out)}
    _save(tuned, tokenizer, encoder, out)
    here = {"model": path, "seconds": time.perf_counter() - began, "steps": len(report.losses), "tokens": report.tokens}
    write_json(out / "training.json", {"key": key, "facts": facts, "this_call": here})
    (out / "checkpoint.safetensors").unlink(missing_ok=True)
    return facts


def _method(kind: str, choice: str | dict[str, Any]) -> tuple[ModuleType, dict[str, Any]]:
    """The module of train/<kind>/<name>.py and the options for it, checked against its verb's signature."""
    name, options = (choice, {}) if isinstance(choice, str) else next(iter(choice.items()))
    folder = Path(__file__).parent / kind
    names = sorted(path.stem for path in folder.glob("[a-z]*.py"))
    if name not in names:
        raise MethodError(f"unknown {kind} method {name!r}{_nearest(name, names)}; there are: {', '.join(names)}")
    module = importlib.import_module(f"train.{kind}.{name}")
    verb = module.tune if kind == "tuning" else module.weights
    allowed = [
        p.name for p in inspect.signature(verb).parameters.values() if p.kind == p.KEYWORD_ONLY and p.name != "seed"
    ]
    for option in options or {}:
        if option not in allowed:
            takes = ", ".join(allowed) or "no options"
            raise MethodError(f"{kind} {name} does not take {option!r}{_nearest(option, allowed)}; it takes {takes}")
    return module, dict(options or {})


def _nearest(word: str, words: list[str]) -> str:
    found = difflib.get_close_matches(word, words, n=1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def _name(module: ModuleType) -> str:
    return module.__name__.rsplit(".", 1)[1]


def _batch(batch: dict[str, Any]) -> tuple[int, int]:
    """(examples a step, tokens a pack)."""
    if unknown := set(batch) - {"examples", "tokens"}:
        raise RequestError(f"train: batch takes examples and tokens, not {', '.join(sorted(unknown))}")
    examples, tokens = batch.get("examples", 32), batch.get("tokens", 4096)
    if not (isinstance(examples, int) and isinstance(tokens, int) and examples > 0 and tokens > 0):
        raise RequestError(f"train: batch is {batch}; examples and tokens are whole numbers above 0")
    return examples, tokens


def _model_path(model: str, base_texts: list[str] | None, seed: int) -> str:
    if model != "tiny":
        return model
    if not base_texts:
        raise RequestError(
            "model tiny is pretrained on text of its own and was given none; "
            "set some aside, as in `holdout: {fraction: 0.05, base: 0.2}`, or name another model"
        )
    from train.tiny import tiny_model

    return str(tiny_model(base_texts, seed=seed))


def _content_of(model: str) -> Any:
    """Hashes of a local model's files, or the Hub id."""
    folder = Path(model)
    if not folder.is_dir():
        return model
    return {
        path.name: sha256(path)
        for path in sorted(folder.iterdir())
        if path.suffix in (".safetensors", ".json", ".jinja")
    }


def _rows(path: Path) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """(id, messages), a row as often as its ``repeat`` says."""
    file = pq.ParquetFile(path)
    names = set(file.schema_arrow.names)
    if missing := [name for name in (ID, MESSAGES) if name not in names]:
        raise ContractError(
            f"{path}: the column {missing[0]} is missing; training needs id and messages, so render first"
        )
    for part in file.iter_batches(columns=[ID, MESSAGES, *([REPEAT] if REPEAT in names else [])]):
        for row in part.to_pylist():
            copies = row.get(REPEAT)
            for _ in range(1 if copies is None else copies):
                yield row[ID], row[MESSAGES]


def _sweep(out: Path) -> None:
    """Removes what a call that was killed was writing."""
    for path in [*out.glob(".*.tmp"), *out.glob(".tmp*")]:  # ours, and those of safetensors
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _said(counts: dict[str, int]) -> str:
    return ", ".join(f"{name.replace('_', ' ')}: {n:,}" for name, n in counts.items())


@contextmanager
def _journal(
    out: Path, key: str, steps: int, start: State | None
) -> Iterator[Callable[[Step, Callable[[], State]], None]]:
    """A function for each step: a line in metrics.jsonl, the bar, and now and then a checkpoint."""
    metrics = out / "metrics.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    before = metrics.read_text("utf-8").splitlines(keepends=True)[: start.step] if start and metrics.is_file() else []
    saved = time.monotonic()
    with open(metrics, "w", encoding="utf-8") as lines, bar(steps, "train") as advance:
        lines.writelines(before)
        advance(start.step if start else 0)

        def on_step(step: Step, state: Callable[[], State]) -> None:
            nonlocal saved
            lines.write(json.dumps(asdict(step)) + "\n")
            lines.flush()
            advance(1)
            if time.monotonic() - saved >= CHECKPOINT_SECONDS:
                checkpoint.save(out / "checkpoint.safetensors", state(), key)
                saved = time.monotonic()

        yield on_step


def _save(tuned: Any, tokenizer: Any, encoder: Encoder, out: Path) -> None:
    """The adapter, if there is one, then the whole model; it stops where it was taught to stop."""
    tokenizer.chat_template = encoder.template
    if hasattr(tuned, "merge_and_unload"):
        with quiet():
            tuned.save_pretrained(out / "adapter")
    model = merge(tuned)
    if model.generation_config is not None:
        model.generation_config.eos_token_id = encoder.end_id
    save_model(model, tokenizer, out / "model")


def _facts(tuned: Any, documents: list[Encoded], counts: dict[str, int], dtype: str, out: Path) -> dict[str, Any]:
    """What the run was, the same every time."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    parameters = list(tuned.parameters())
    return {
        "rows": counts,
        "steps": len(lines),
        "epochs_done": lines[-1]["epoch"],
        "tokens": sum(line["tokens"] for line in lines),
        "targets": sum(line["targets"] for line in lines),
        "first_loss": lines[0]["loss"],
        "last_loss": lines[-1]["loss"],
        "parameters": sum(p.numel() for p in parameters),
        "trained_parameters": sum(p.numel() for p in parameters if p.requires_grad),
        "response_bytes": sum(document.response_bytes for document in documents),
        "compute_dtype": dtype,
        "device": parameters[0].device.type,
    }


def _finished(out: Path, key: str) -> dict[str, Any] | None:
    """The facts of the run, where it is done and was this one."""
    try:
        found = read_json(out / "training.json")
    except (FileNotFoundError, ValueError):
        return None
    return found["facts"] if found.get("key") == key and (out / "model").is_dir() else None
