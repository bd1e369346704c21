from __future__ import annotations

import numpy as np
import torch

from train.encode import END_OF_TURN, INSTRUCTION, RESPONSE, SYSTEM, TEMPLATE, Encoder
from train.objectives import instruction_modelling, response_only

ROLE = np.array([TEMPLATE, SYSTEM, INSTRUCTION, RESPONSE, END_OF_TURN], np.uint8)
TURN = np.array([0, 0, 1, 2, 2], np.int32)


def test_response_only_weighs_responses_and_their_ends():
    assert response_only.weights(ROLE, TURN).tolist() == [0, 0, 0, 1, 1]
    assert response_only.weights(ROLE, TURN).dtype == np.float32


def test_instruction_modelling_weighs_all_but_the_template():
    assert instruction_modelling.weights(ROLE, TURN).tolist() == [0, 1, 1, 1, 1]
    assert instruction_modelling.weights(ROLE, TURN).dtype == np.float32


def test_prompt_weight_leads_from_one_objective_to_the_other(documents):
    for document in documents:
        none = instruction_modelling.weights(document.role, document.turn, prompt_weight=0.0)
        np.testing.assert_array_equal(none, response_only.weights(document.role, document.turn))
        some = instruction_modelling.weights(document.role, document.turn, prompt_weight=0.25)
        assert set(some[document.role == INSTRUCTION].tolist()) == {0.25}


def test_template_words_are_never_a_target_of_instruction_modelling(tokenizer, conversation):
    """The released code of the paper masked them by searching for strings, one of them misspelt; here they have a role."""
    document = Encoder(tokenizer, "plain").encode(conversation("a", "b", "c", "d"))
    weight = instruction_modelling.weights(document.role, document.turn)
    assert tokenizer.decode(document.input_ids[weight > 0]) == "ab<|end|>cd<|end|>"


def test_a_step_divides_the_weighted_sum_by_the_weight_of_its_tokens(llama, documents):
    """Against transformers' own logits, document by document."""
    from train.batches import packs
    from train.fit import _backward

    model = llama(dtype=torch.float64)
    plain = llama(prepared=False, dtype=torch.float64).eval()
    weights = [instruction_modelling.weights(d.role, d.turn, prompt_weight=0.3) for d in documents[:9]]
    loss = _backward(model, packs(documents, weights, range(9), 100), torch.float32)
    total = weight = 0.0
    for document, w in zip(documents[:9], weights, strict=True):
        ids = torch.from_numpy(document.input_ids.astype(np.int64))
        logp = plain(ids[None]).logits[0, :-1].double().log_softmax(-1)
        total -= float(logp.detach()[torch.arange(len(ids) - 1), ids[1:]] @ torch.from_numpy(w[1:]).double())
        weight += float(w[1:].sum())
    assert abs(loss - total / weight) < 1e-6
