"""Fine-tuning a Llama of 6.9 million parameters on Alpaca rows: non-pad tokens a second, after warm-up.

Everyone trains on the same token ids, with the loss on the same tokens, float32 weights under the same autocast, AdamW and
clipping at 1, each in a process of its own. TRL packs with best fit over sdpa, as it comes (with gradient checkpointing)
and without gradient checkpointing, which is faster; unpacked it runs without, with its default sampling and with batches
grouped by length. The bare loop is the shortest correct one: best-fit packs of 1,024 tokens through transformers, whose
sdpa mask keeps documents apart. A step holds about as many tokens in each.

    TAMIS_DATA=... python -m benchmarks trainer          # TRL's rows need trl and accelerate
"""

from __future__ import annotations

import gzip
import importlib.util
import multiprocessing
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, pre_tokenizers, trainers
from tokenizers import models as token_models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from train.encode import Encoded, Encoder
from train.fit import fit
from train.models import compute_dtype, prepare, quiet
from train.objectives import response_only
from train.packing import best_fit

VOCABULARY, PACK, EXAMPLES = 8192, 1024, 12
WARM, STEPS = 5, 50
ROUNDS = 2  # each in turn, the faster counts: machines are lent to others too
RATE = 1e-4
CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<|user|>' if m.role == 'user' else '<|assistant|>' }}{{ m.content }}"
    "{{ eos_token if m.role == 'assistant' else '' }}{% endfor %}"
)


class Clock:
    """Seconds and processor seconds from the end of the warm-up, and the tokens since."""

    def __init__(self) -> None:
        self.steps = self.tokens = 0
        self.began = (0.0, 0.0)

    def step(self, tokens: float) -> None:
        self.steps += 1
        self.now = (time.perf_counter(), time.process_time())
        if self.steps == WARM:
            self.began = self.now
        elif self.steps > WARM:
            self.tokens += tokens

    @property
    def rates(self) -> tuple[float, float]:
        """Tokens a second, tokens a processor second."""
        wall, processor = (now - began for now, began in zip(self.now, self.began, strict=True))
        return self.tokens / wall, self.tokens / processor


def alpaca(folder: Path) -> tuple[list[Encoded], Any]:
    rows = orjson.loads(gzip.decompress((folder / "alpaca_5000" / "alpaca_5000.json.gz").read_bytes()))
    chats = [
        (
            str(i),
            [
                {"role": "user", "content": f"{row['instruction']}\n{row['input']}".strip()},
                {"role": "assistant", "content": row["output"]},
            ],
        )
        for i, row in enumerate(rows)
        if row["output"].strip()
    ]
    markers = ["<|bos|>", "<|end|>", "<|user|>", "<|assistant|>"]
    bpe = Tokenizer(token_models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=markers, initial_alphabet=alphabet, show_progress=False
    )
    bpe.train_from_iterator((m["content"] for _, chat in chats for m in chat), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token="<|bos|>", eos_token="<|end|>", pad_token="<|end|>"
    )
    tokenizer.chat_template = CHAT
    return Encoder(tokenizer, max_length=PACK).encode_all(chats)[0], tokenizer


def llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    shape = {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6, "num_attention_heads": 8}
    return LlamaForCausalLM(
        LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=2048, tie_word_embeddings=True, **shape)
    )


def labels_of(document: Encoded) -> np.ndarray:
    weights = response_only.weights(document.role, document.turn)
    return np.where(weights > 0, document.input_ids, -100)


def ours(documents: list[Encoded], tokenizer: Any, clock: Clock) -> None:
    options = {"weights": response_only.weights, "learning_rate": RATE, "examples": EXAMPLES, "schedule": "constant"}
    fit(prepare(llama()), documents, steps=WARM + STEPS, on_step=lambda step, state: clock.step(step.tokens), **options)


def bare(documents: list[Encoded], tokenizer: Any, clock: Clock) -> None:
    model = llama().train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.95), weight_decay=0.0, fused=True)
    dtype = compute_dtype("auto", torch.device("cpu"))
    plan = best_fit([len(d.input_ids) for d in documents], PACK)
    for pack in islice(cycle(plan), WARM + STEPS):
        ids = torch.from_numpy(np.concatenate([documents[i].input_ids for i in pack])).long()[None]
        positions = torch.cat([torch.arange(len(documents[i].input_ids)) for i in pack])[None]
        labels = torch.from_numpy(np.concatenate([[*labels_of(documents[i])[1:], -100] for i in pack]))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            logits = model(input_ids=ids, position_ids=positions, use_cache=False).logits[0]
        F.cross_entropy(logits.float(), labels, ignore_index=-100).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        clock.step(ids.shape[1])


def trl(documents: list[Encoded], tokenizer: Any, clock: Clock, **options: Any) -> None:
    """Through SFTTrainer on the same ids and labels; its collator is counted, its callback gives the time of a step."""
    from datasets import Dataset, disable_progress_bars
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    class Ticks(TrainerCallback):
        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.step(float(np.mean(seen)))

    disable_progress_bars()
    seen: list[int] = []
    dtype = compute_dtype("auto", torch.device("cpu"))
    rows = [{"input_ids": d.input_ids.tolist(), "labels": labels_of(d).tolist()} for d in documents]
    with tempfile.TemporaryDirectory() as folder, quiet():
        config = SFTConfig(
            output_dir=folder, use_cpu=True, bf16=dtype == torch.bfloat16, max_steps=WARM + STEPS, learning_rate=RATE,
            max_length=PACK, lr_scheduler_type="constant", max_grad_norm=1.0, report_to=[],
            logging_strategy="no", save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False, **options,
        )  # fmt: skip
        trainer = SFTTrainer(
            llama(), config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer, callbacks=[Ticks()]
        )
        collate = trainer.data_collator

        def counted(examples: list[dict[str, Any]]) -> dict[str, Any]:
            seen.append(sum(len(example["input_ids"]) for example in examples))
            return collate(examples)

        trainer.data_collator = counted
        trainer.train()


def measure(job: str, options: dict[str, Any], documents: list[Encoded], tokenizer: Any) -> tuple[float, float]:
    """Tokens a second and a processor second of one job, in this process."""
    clock = Clock()
    {"ours": ours, "bare": bare, "trl": trl}[job](documents, tokenizer, clock, **options)
    return clock.rates


def main() -> None:
    data = os.environ.get("TAMIS_DATA")
    if not data:
        print("skipped: set TAMIS_DATA to a folder that holds alpaca_5000/alpaca_5000.json.gz")
        return
    documents, tokenizer = alpaca(Path(data))
    mean = np.mean([len(d.input_ids) for d in documents])
    parameters = sum(p.numel() for p in llama().parameters())
    dtype = str(compute_dtype("auto", torch.device("cpu"))).removeprefix("torch.")
    print(
        f"{parameters / 1e6:.1f} M parameters, {dtype}, {torch.get_num_threads()} threads, {len(documents):,} rows of {mean:.0f} tokens"
    )
    jobs: dict[str, tuple[str, dict[str, Any]]] = {"tamis": ("ours", {}), "bare packed loop": ("bare", {})}
    if importlib.util.find_spec("trl"):
        packed = {"packing": True, "per_device_train_batch_size": 1}
        faster = {"per_device_train_batch_size": EXAMPLES, "gradient_checkpointing": False}
        jobs |= {
            "TRL packed": ("trl", packed),
            "TRL packed, no checkpointing": ("trl", packed | {"gradient_checkpointing": False}),
            "TRL unpacked, no checkpointing": ("trl", faster),
            "the same grouped by length": ("trl", faster | {"train_sampling_strategy": "group_by_length"}),
        }
    else:
        print("trl is not installed: `pip install tamis[bench]` brings it")
    rates: dict[str, tuple[float, float]] = {}
    for _ in range(ROUNDS):
        for name, (job, options) in jobs.items():
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
                found = process.submit(measure, job, options, documents, tokenizer).result()
            rates[name] = max(rates.get(name, (0.0, 0.0)), found)
    best = rates["tamis"]
    for name, (wall, processor) in rates.items():
        print(
            f"{name:<34} {wall:>8,.0f} tokens/s  tamis is {best[0] / wall:>5.2f} times as fast; in processor time {best[1] / processor:>5.2f}"
        )


if __name__ == "__main__":
    main()
