from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from curate.contract.errors import TrainingError
from train.batches import Stream, packs
from train.encode import Encoded, Encoder
from train.fit import _backward, _share, fit, steps_of
from train.objectives import instruction_modelling, response_only
from train.scoring.perplexity import evaluate
from train.tuning import lora

EXACT = {"weights": response_only.weights, "dtype": "float32", "examples": 8, "learning_rate": 1e-3}


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    theirs = other.state_dict()
    return all(torch.equal(tensor, theirs[name]) for name, tensor in one.state_dict().items())


def gradients(model, documents, rows, capacity) -> list[torch.Tensor]:
    model.zero_grad()
    weights = [instruction_modelling.weights(d.role, d.turn, prompt_weight=0.3) for d in documents]
    _backward(model, packs(documents, weights, rows, capacity), torch.float32)
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("capacity", [1, 60, 130, 10_000])
def test_the_gradient_of_a_step_does_not_depend_on_the_packing(llama, documents, capacity):
    model = llama(dtype=torch.float64)
    rows = Stream([d.id for d in documents], 12, 0).step(0)
    for one, other in zip(
        gradients(model, documents, rows, 500), gradients(model, documents, rows[::-1], capacity), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_documents_without_a_target_change_neither_loss_nor_gradient(llama, documents):
    """A pack may hold nothing to learn; it is divided by the targets of the whole step."""
    model = llama(dtype=torch.float64)
    silent = [dataclasses.replace(d, role=np.zeros_like(d.role)) for d in documents[:6]]
    rows = documents[6:14]
    alone = gradients(model, rows, range(8), 60)
    for one, other in zip(alone, gradients(model, [*silent, *rows], range(14), 60), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-9)
    assert (
        _backward(
            model, packs(silent, [np.zeros(len(d.role), np.float32) for d in silent], range(6), 60), torch.float32
        )
        == 0
    )


def test_training_twice_gives_the_same_bits_whatever_else_was_drawn_before(llama, documents):
    one, other = llama(attention_dropout=0.1), llama(attention_dropout=0.1)
    torch.manual_seed(1)
    first = fit(one, documents, steps=3, seed=5, **EXACT)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = fit(other, documents, steps=3, seed=5, **EXACT)
    assert first.losses == second.losses
    assert same(one, other)
    assert torch.equal(before, torch.random.get_rng_state())  # the caller's own draws go on as if nothing had been


def test_another_seed_gives_another_run(llama, documents):
    one, other = llama(), llama()
    fit(one, documents, steps=2, seed=5, **EXACT)
    fit(other, documents, steps=2, seed=6, **EXACT)
    assert not same(one, other)


def test_the_first_loss_of_a_random_model_is_the_logarithm_of_its_vocabulary(llama, documents, tokenizer):
    loss = fit(llama(), documents, steps=1, **EXACT).losses[0]
    assert abs(loss - math.log(len(tokenizer))) < 0.1


def test_one_batch_can_be_learnt_by_heart(llama, documents, tokenizer, conversation):
    """And the model stops where the turn ends."""
    rows = [("a", conversation("Name a planet.", "Jupiter")), ("b", conversation("Seven times eight?", "fifty-six"))]
    encoder = Encoder(tokenizer, "plain")
    model = llama(hidden_size=64)
    taught, _ = encoder.encode_all(rows)
    losses = fit(
        model, taught, weights=response_only.weights, steps=150, examples=2, learning_rate=1e-2, dtype="float32"
    ).losses
    assert losses[-1] < 0.01
    model.set_attn_implementation("sdpa")
    for _, messages in rows:
        prompt = torch.from_numpy(encoder.prompt(messages[:1]))[None].long()
        out = model.generate(prompt, max_new_tokens=20, do_sample=False, eos_token_id=encoder.end_id, pad_token_id=0)
        assert tokenizer.decode(out[0, prompt.shape[1] :]) == messages[1]["content"] + "<|end|>"


def test_training_in_bfloat16_keeps_float32_weights_and_tracks_float32(llama, documents):
    exact, half = llama(), llama()
    start = copy.deepcopy(exact)
    options = {"weights": response_only.weights, "steps": 100, "examples": 4, "learning_rate": 1e-5}
    full = fit(exact, documents, dtype="float32", **options)
    low = fit(half, documents, dtype="bfloat16", **options)
    assert (full.dtype, low.dtype) == ("float32", "bfloat16")
    assert {p.dtype for p in half.parameters()} == {torch.float32}
    assert abs(full.losses[-1] - low.losses[-1]) < 0.01 * full.losses[-1]
    used = torch.from_numpy(np.unique(np.concatenate([d.input_ids for d in documents]))).long()
    for (name, a), b, c in zip(exact.named_parameters(), half.parameters(), start.parameters(), strict=True):
        a, b, c = (x[used] if "embed" in name else x for x in (a, b, c))
        assert (b != c).float().mean() > 0.99, name  # at a rate where bfloat16 weights would not move
        assert torch.nn.functional.cosine_similarity((a - c).flatten(), (b - c).flatten(), dim=0) > 0.9, name


def test_the_optimiser_keeps_its_moments_in_float32(llama, documents):
    states = []
    fit(
        llama(),
        documents,
        weights=response_only.weights,
        steps=1,
        dtype="bfloat16",
        on_step=lambda step, state: states.append(state()),
    )
    assert {tensor.dtype for tensor in states[0].tensors.values()} == {torch.float32}


def test_a_loss_that_is_not_finite_stops_and_names_the_step_and_the_rows(llama, documents):
    model = llama()
    seen = []

    def poison(step, state):
        seen.append(copy.deepcopy(model.state_dict()))
        with torch.no_grad():
            model.model.norm.weight[0] = float("nan") if step.step == 2 else 1.0

    rows = [documents[i].id for i in Stream([d.id for d in documents], 8, 0).step(2)]
    with pytest.raises(
        TrainingError, match=f"step 3 of 9: the loss is nan; the rows in its batch are {', '.join(rows)}; "
    ):
        fit(model, documents, steps=9, on_step=poison, **EXACT)
    assert len(seen) == 2
    assert torch.equal(model.model.layers[0].mlp.up_proj.weight, seen[-1]["model.layers.0.mlp.up_proj.weight"])


def test_a_gradient_that_is_not_finite_stops_too(llama, documents):
    model = llama()
    model.model.layers[0].mlp.up_proj.weight.register_hook(lambda g: g * float("inf"))
    with pytest.raises(TrainingError, match="step 1 of 2: a gradient is not finite"):
        fit(model, documents, steps=2, **EXACT)


def test_what_cannot_be_trained_on_is_refused(llama, documents):
    with pytest.raises(TrainingError, match="there are no documents"):
        fit(llama(), [], steps=1, **EXACT)
    with pytest.raises(TrainingError, match="gives no token of any of the 2 documents a weight, first row 'row-00'"):
        fit(llama(), documents[:2], steps=1, **{**EXACT, "weights": lambda role, turn: np.zeros(len(role), np.float32)})
    with pytest.raises(TrainingError, match="was not prepared"):
        fit(llama(prepared=False), documents, steps=1, **EXACT)
    with pytest.raises(TrainingError, match="'exponential' is not one of"):
        fit(llama(), documents, steps=1, schedule="exponential", **EXACT)


def test_dropout_is_off_again_after_training(llama, documents):
    model = llama()
    fit(model, documents, steps=1, **EXACT)
    assert not model.training
    assert all(p.grad is None for p in model.parameters())


def test_the_learning_rate_climbs_then_falls_to_nothing():
    rates = [_share(step, 100, "linear", 0.03) for step in range(100)]
    assert rates[:4] == [1 / 3, 2 / 3, 1.0, 1.0]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[-1] == pytest.approx(1 / 97)
    assert _share(99, 100, "cosine", 0.03) == pytest.approx(0.5 - 0.5 * math.cos(math.pi / 97))
    assert _share(99, 100, "constant", 0.03) == 1.0
    assert _share(0, 24, "linear", 0.0) == 1.0


def test_matrices_decay_and_vectors_do_not(llama, documents):
    heavy, light = llama(), llama()
    fit(heavy, documents, steps=1, weight_decay=100.0, **EXACT)
    fit(light, documents, steps=1, weight_decay=0.0, **EXACT)
    assert torch.equal(heavy.model.norm.weight, light.model.norm.weight)
    assert heavy.lm_head.weight.norm() < 0.95 * light.lm_head.weight.norm()


def test_a_run_has_at_least_24_steps():
    assert steps_of(64, epochs=3, examples=32) == 6
    assert steps_of(1000, epochs=3, examples=32) == 94
    assert steps_of(1, epochs=0.1, examples=32) == 1
    assert steps_of(64, epochs=3, examples=32, at_least=24) == 24


def test_the_report_counts_what_went_through_the_model(llama, documents):
    steps = []
    report = fit(llama(), documents, steps=5, on_step=lambda step, state: steps.append(step), **EXACT)
    taken = tokens_of([d for s in range(5) for d in Stream([d.id for d in documents], 8, 0).step(s)], documents)
    assert report.tokens == taken == sum(step.tokens for step in steps)
    assert report.targets == sum(step.targets for step in steps)
    assert report.losses == [step.loss for step in steps]
    assert (report.examples, report.epochs, steps[-1].epoch) == (40, 1.0, 1.0)


def tokens_of(rows: list[int], documents: list[Encoded]) -> int:
    return sum(len(documents[i].input_ids) for i in rows)


def test_training_lowers_the_bits_per_byte_of_what_it_saw(llama, documents):
    model = llama()
    before = evaluate(model, documents)
    fit(model, documents, steps=40, **{**EXACT, "learning_rate": 3e-3})
    assert evaluate(model, documents).bits.sum() < 0.8 * before.bits.sum()


def test_an_adapter_leaves_its_base_untouched(llama, documents):
    base = llama()
    tuned = lora.tune(copy.deepcopy(base), seed=0, rank=4)
    fit(tuned, documents, steps=3, **EXACT)
    theirs = dict(tuned.get_base_model().named_parameters())
    for name, p in base.named_parameters():
        other = theirs.get(name, theirs.get(name.replace("_proj.", "_proj.base_layer.")))
        assert torch.equal(p, other), name


@pytest.mark.gpu
def test_training_on_a_gpu_repeats_itself_and_tracks_the_cpu(llama, documents):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cpu = fit(llama(), documents, steps=20, **EXACT)
    one, other = llama().cuda(), llama().cuda()
    first = fit(one, documents, steps=20, **{**EXACT, "dtype": "bfloat16"})
    second = fit(other, documents, steps=20, **{**EXACT, "dtype": "bfloat16"})
    assert first.losses == second.losses
    assert same(one, other)
    assert abs(first.losses[-1] - cpu.losses[-1]) < 0.05


def test_a_model_of_which_nothing_trains_is_refused(llama, documents):
    with pytest.raises(TrainingError, match="no parameter of the model is set to train"):
        fit(llama().requires_grad_(False), documents, weights=response_only.weights, steps=1)
