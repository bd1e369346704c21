"""A training run on disk: rows in, a tuned model out, resumable at any moment.

OUT/model/             the tuned model and its tokenizer, safetensors; adapters folded in
OUT/adapter/           the adapter alone, where tuning trained one
OUT/metrics.jsonl      a line a step: epoch, loss, learning rate, gradient norm, tokens; the same every time
OUT/training.json      facts of the run, and its seconds
OUT/checkpoint.safetensors   while it runs; written every CHECKPOINT_SECONDS
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import peft
import pyarrow.parquet as pq
import torch
import transformers

from curate.contract.code import source_and_versions
from curate.contract.columns import ID, MESSAGES, REPEAT
from curate.contract.errors import ContractError, TrainingError
from curate.contract.files import digest, read_json, sha256, write_json
from curate.contract.model_files import contents
from curate.contract.progress import bar
from train import checkpoint
from train.encode import Encoded, Encoder
from train.fit import State, Step, steps_of
from train.loading import quiet
from train.models import MODEL_FILES, load_model, merge, save_model
from train.settings import Settings, base_model, resolve
from train.tuned import tuned

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
    min_steps: int | None = None,
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    seed: int = 0,
    base_texts: list[str] | None = None,
    folder: Path | None = None,
) -> dict[str, Any]:
    """Fine-tunes ``model`` on the conversations of a parquet file and writes the result into ``out``.

    rows_path: columns id, messages (list of {role, content}) and, where there is one, repeat (int: how often a row counts).
    model: a local folder, a Hub id, or "tiny", the small Llama pretrained on ``base_texts``. tuning: which parameters train,
    a name or {name: {options}}. objective: what each token's loss weighs, a name or {name: {options}}. epochs: how often every
    row is seen. learning_rate: the largest; null takes the tuning's own (2e-5 full, 2e-4 LoRA).
    batch: examples an optimiser step, and tokens: the most that go through the model at once (4,096; a matter of memory, not
    of the result). max_length: tokens after which a conversation is too long. over_length: what becomes of one that is:
    "terminate" cuts it and ends the response there, "keep" only cuts, "drop" leaves it out. chat: the chat format, a name in
    templates/chat or the path of a .jinja file; null is the tokenizer's own. schedule: how the learning rate falls after the
    warm-up. warmup: share of the steps in which the learning rate climbs. weight_decay: of AdamW, on matrices only. min_steps: the fewest optimiser steps, though
    the epochs come to less. dtype: of
    the large products; "auto" is bfloat16 where the processor or the GPU multiplies it itself. seed: of the order of the rows
    and of all that is drawn. base_texts: what ``model: tiny`` is pretrained on. folder: the recipe's, where tuning methods and objectives of its own may stand.

    The same call goes on where it was stopped, to the same bytes; a finished one returns its facts at once.
    """
    rows_path, out = Path(rows_path), Path(out)
    settings = resolve(
        tuning=tuning, objective=objective, epochs=epochs, learning_rate=learning_rate, batch=batch,
        max_length=max_length, over_length=over_length, chat=chat, schedule=schedule, warmup=warmup,
        weight_decay=weight_decay, min_steps=min_steps, dtype=dtype, folder=folder,
    )  # fmt: skip
    base = base_model(model, base_texts, seed)
    asked = {**settings.facts, "seed": seed, "versions": versions()}
    key = _key(asked, settings, rows_path, base)
    if (done := _finished(out, key)) is not None:
        return done

    began = time.perf_counter()
    _sweep(out)
    loaded, tokenizer = load_model(str(base))
    encoder = Encoder(tokenizer, chat, max_length=max_length, over_length=over_length)
    documents, counts = encoder.encode_all(_rows(rows_path))
    if not documents:
        raise TrainingError(f"{rows_path}: no row has a response within {max_length:,} tokens ({_said(counts)})")
    steps = steps_of(len(documents), epochs=epochs, examples=settings.examples, at_least=min_steps)
    start = checkpoint.load(out / "checkpoint.safetensors", key)
    with _journal(out, key, steps, start) as on_step:
        trained, report = tuned(loaded, documents, settings, steps=steps, seed=seed, start=start, on_step=on_step)
    facts = {**asked, **_facts(trained, documents, counts, report.dtype, out)}
    _save(trained, tokenizer, encoder, out)
    seconds = time.perf_counter() - began
    here = {"model": str(base), "seconds": seconds, "steps": len(report.losses), "tokens": report.tokens}
    write_json(out / "training.json", {"key": key, "facts": facts, "this_call": here})
    (out / "checkpoint.safetensors").unlink(missing_ok=True)
    return facts


def versions() -> dict[str, str]:
    """Of the libraries that a trained model depends on."""
    return {package.__name__: package.__version__ for package in (torch, transformers, peft)}


def _key(asked: dict[str, Any], settings: Settings, rows_path: Path, base: Path) -> str:
    """All that decides the result."""
    code = source_and_versions([Path(__file__)])[0]
    model = contents(base, *MODEL_FILES)
    return digest([asked, sha256(rows_path), model, settings.pack_tokens, code, settings.code])


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


def _save(trained: Any, tokenizer: Any, encoder: Encoder, out: Path) -> None:
    """The adapter, if there is one, then the whole model; it stops where it was taught to stop."""
    tokenizer.chat_template = encoder.template
    if hasattr(trained, "merge_and_unload"):
        with quiet():
            trained.save_pretrained(out / "adapter")
    model = merge(trained)
    if model.generation_config is not None:
        model.generation_config.eos_token_id = encoder.end_id
    save_model(model, tokenizer, out / "model")


def _facts(trained: Any, documents: list[Encoded], counts: dict[str, int], dtype: str, out: Path) -> dict[str, Any]:
    """What the run was, the same every time."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    parameters = list(trained.parameters())
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
        done = read_json(out / "training.json")
    except (FileNotFoundError, ValueError):
        return None
    return done["facts"] if done.get("key") == key and (out / "model").is_dir() else None
