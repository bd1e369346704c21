"""Packed equals alone: values, gradients, and what must raise."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    MambaConfig,
    MambaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from curate.contract.errors import TrainingError
from train import attention
from train.attention import Documents
from train.batches import packs
from train.cross_entropy import Head, token_losses, weighted_loss
from train.models import _states, head_of, predicting_states, prepare
from train.objectives import response_only

SMALL = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
ROPE = {**SMALL, "intermediate_size": 48, "num_key_value_heads": 2, "max_position_embeddings": 256}
LENGTHS = [5, 1, 17, 9, 12]


def build(name: str):
    torch.manual_seed(0)
    if name == "mistral, window of 6":
        return MistralForCausalLM(MistralConfig(**ROPE, sliding_window=6))
    if name == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(**ROPE, head_dim=8))
    if name == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=400, n_embd=32, n_layer=2, n_head=4, n_positions=64, attn_pdrop=0.0)
        )
    if name == "opt":
        return OPTForCausalLM(OPTConfig(**SMALL, ffn_dim=48, word_embed_proj_dim=32, max_position_embeddings=64))
    raise AssertionError(name)


def pack_of(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor, Documents]:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(0, 400, (1, sum(lengths)), generator=generator)
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    return ids, positions, Documents.of(lengths, "cpu")


ARCHITECTURES = ["llama", "mistral, window of 6", "qwen3", "gpt2", "opt"]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_pack_gives_what_transformers_gives_each_document_alone_and_so_do_its_gradients(name, llama):
    """Logits and gradients in float64 against the untouched model with its own attention, one document at a time."""
    plain = (llama(prepared=False) if name == "llama" else build(name)).double().eval()
    model = prepare(copy.deepcopy(plain).float()).double()
    model.load_state_dict(plain.state_dict())  # the round trip through float32 rounded them
    ids, positions, documents = pack_of(LENGTHS)
    packed = head_of(model).logits(_states(model, ids, positions, documents).detach())
    theirs, start = [], 0
    for n in LENGTHS:
        theirs.append(plain(ids[:, start : start + n]).logits[0])
        start += n
    assert (packed - torch.cat(theirs)).abs().max() < 1e-9

    torch.cat(theirs).logsumexp(-1).sum().backward()
    (_states(model, ids, positions, documents) @ head_of(model).weight.T).logsumexp(-1).sum().backward()
    gradients = dict(model.named_parameters())
    for key, parameter in plain.named_parameters():
        if parameter.grad is not None:
            assert (parameter.grad - gradients[key].grad).abs().max() < 1e-9, key


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_a_document_does_not_change_by_a_bit_when_its_neighbours_do(name, llama):
    model = llama() if name == "llama" else prepare(build(name))
    ids, positions, documents = pack_of(LENGTHS)
    before = _states(model, ids, positions, documents)
    changed = ids.clone()
    changed[0, :6] = (ids[0, :6] + 1) % 400
    changed[0, 23:] = (ids[0, 23:] + 1) % 400
    after = _states(model, changed, positions, documents)
    assert torch.equal(before[6:23], after[6:23])
    assert not torch.equal(before[:6], after[:6])


def test_the_loss_of_a_packed_batch_equals_that_of_one_document_a_pack(llama, documents):
    model = llama(dtype=torch.float64)
    weights = [response_only.weights(d.role, d.turn) for d in documents]

    def losses(capacity: int) -> np.ndarray:
        out = np.zeros(len(documents))
        for pack in packs(documents, weights, range(len(documents)), capacity):
            states = predicting_states(model, pack, torch.float32)
            np.add.at(out, pack.owners, token_losses(states, head_of(model), pack.targets).numpy())
        return out

    np.testing.assert_allclose(losses(10_000), losses(1), rtol=0, atol=1e-9)


def test_a_mask_beside_a_pack_raises(llama):
    model = llama()
    ids, positions, documents = pack_of([4, 3])
    with pytest.raises(TrainingError, match="mask"):
        model(input_ids=ids, position_ids=positions, attention_mask=torch.ones(1, 7), documents=documents)
    with pytest.raises(TrainingError, match="mask"):
        model(input_ids=ids, position_ids=positions, attention_mask=torch.zeros(1, 1, 7, 7), documents=documents)


def test_a_call_without_document_lengths_raises(llama):
    ids, positions, _ = pack_of([4, 3])
    with pytest.raises(TrainingError, match="without the document lengths"):
        llama()(input_ids=ids, position_ids=positions)


def test_lengths_that_are_not_those_of_the_row_raise(llama):
    model = llama()
    ids, positions, _ = pack_of([4, 3])
    with pytest.raises(TrainingError, match="8 packed tokens"):
        model(input_ids=ids, position_ids=positions, documents=Documents.of([4, 4], "cpu"))
    with pytest.raises(TrainingError, match="7 packed tokens"):
        model(input_ids=ids.repeat(2, 1), position_ids=positions, documents=Documents.of([4, 3], "cpu"))


def test_architectures_whose_documents_would_see_each_other_are_refused():
    torch.manual_seed(0)
    mamba = MambaForCausalLM(MambaConfig(vocab_size=400, hidden_size=32, num_hidden_layers=1, state_size=4))
    with pytest.raises(TrainingError, match="MambaForCausalLM cannot be trained on packed documents"):
        prepare(mamba)
    gemma = Gemma2ForCausalLM(Gemma2Config(**ROPE, head_dim=8))
    with pytest.raises(TrainingError, match=r"Gemma2ForCausalLM cannot be trained on packed documents.*softcap"):
        prepare(gemma)


def test_an_attention_that_ignores_documents_is_caught_before_training(llama, monkeypatch):
    def careless(module, query, key, value, attention_mask, *, documents=None, scaling=None, **others):
        one = Documents.of([query.shape[2]], query.device)
        return attention.attend(module, query, key, value, None, documents=one, scaling=scaling)

    monkeypatch.setitem(attention.AttentionInterface._global_mapping, attention.NAME, careless)
    with pytest.raises(TrainingError, match="changes with its neighbour"):
        llama()


def test_positions_that_are_not_heeded_are_caught(monkeypatch, llama):
    model = llama(prepared=False)
    forward = model.model.forward
    monkeypatch.setattr(model.model, "forward", lambda *args, position_ids, **kwargs: forward(*args, **kwargs))
    prepare(model)  # rotary positions are relative, so a document does come out the same
    model = build("opt")
    forward = model.model.decoder.forward
    monkeypatch.setattr(model.model.decoder, "forward", lambda *args, position_ids, **kwargs: forward(*args, **kwargs))
    with pytest.raises(TrainingError, match="alone"):
        prepare(model)


def test_a_head_that_is_not_ours_to_compute_is_caught(llama, monkeypatch):
    model = llama(prepared=False)
    monkeypatch.setattr(model.lm_head, "forward", lambda x: torch.nn.functional.linear(x, model.lm_head.weight) * 2)
    with pytest.raises(TrainingError, match="not a linear layer"):
        prepare(model)


@pytest.mark.parametrize("rows", [0, 1, 31, 33, 127, 128, 129, 300])
@pytest.mark.parametrize("head", ["plain", "bias", "softcap", "scale"])
def test_the_chunked_loss_and_its_gradients_are_those_of_torch(rows, head, monkeypatch):
    monkeypatch.setattr("train.cross_entropy.CHUNK", 11 * 128)
    monkeypatch.setattr("train.cross_entropy.BLOCK", 1)  # so that a block is 32 rows
    generator = torch.Generator().manual_seed(rows)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden, weight, bias = random(rows, 6), random(11, 6), random(11) if head == "bias" else None
    leaves = [x.requires_grad_() for x in (hidden, weight, bias) if x is not None]
    ours = Head(weight, bias, scale=0.5 if head == "scale" else 1.0, softcap=2.0 if head == "softcap" else None)
    targets = torch.randint(0, 11, (rows,), generator=generator)
    weights = torch.rand(rows, generator=generator, dtype=torch.float64)

    logits = torch.nn.functional.linear(hidden, weight, bias) * ours.scale
    logits = ours.softcap * torch.tanh(logits / ours.softcap) if ours.softcap else logits
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    expected = torch.autograd.grad((each * weights).sum() / 3, leaves)
    found = torch.autograd.grad(weighted_loss(hidden, ours, targets, weights) / 3, leaves)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
    torch.testing.assert_close(token_losses(hidden.detach(), ours, targets), each.detach(), rtol=0, atol=1e-10)


@pytest.mark.gpu
def test_varlen_attention_on_a_gpu_equals_float32_on_the_cpu(llama):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    model = llama()
    ids, positions, documents = pack_of(LENGTHS)
    expected = _states(model, ids, positions, documents)
    there = copy.deepcopy(model).cuda()
    on_gpu = Documents.of(LENGTHS, "cuda")
    with torch.autocast("cuda", dtype=torch.bfloat16):
        half = _states(there, ids.cuda(), positions.cuda(), on_gpu)
    assert (half.float().cpu() - expected).abs().max() < 5e-2
    exact = _states(there, ids.cuda(), positions.cuda(), on_gpu)
    assert (exact.cpu() - expected).abs().max() < 1e-4
