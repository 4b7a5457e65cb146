"""Log-probs, entropies and values at real answer tokens, in chunks or at once: the same numbers and gradients."""

from typing import NamedTuple

import pytest
import torch
from model_samples import ANSWERS, MIXED, ONE, TEXT, rows_of
from torch import Tensor

import mmrlhf.models.policy
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.batch import collate
from mmrlhf.models.load import load_vlm
from mmrlhf.models.policy import Policy, PolicyOutput
from mmrlhf.models.vlm import VLM, hidden_states
from mmrlhf.types import TokenBatch

WORDS = 768  # of the bundled model's vocabulary


@pytest.fixture
def model() -> VLM:
    """The bundled model with its head in training, and adapters that are at work."""
    torch.manual_seed(0)
    vlm = load_vlm(ModelConfig(lora=LoraSettings(r=2)), trainable=True)
    for name, value in vlm.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(value, std=0.05)
    vlm.core.get_output_embeddings().weight.requires_grad_(True)
    return vlm


class Read(NamedTuple):
    out: PolicyOutput
    gradients: dict[str, Tensor]
    logits: list[int]  # made at a time, by each call of the head


def read(model: VLM, batch: TokenBatch, entropies, values: float = 1.0) -> Read:
    made: list[int] = []
    handle = model.core.get_output_embeddings().register_forward_hook(
        lambda m, i, out: made.append(out.numel())
    )
    torch.manual_seed(1)
    policy = Policy(model, critics=2)
    assert policy.value_head is not None
    torch.nn.init.normal_(policy.value_head.weight, std=0.1)
    policy.zero_grad()
    try:
        out = policy(batch, 0.7, entropies)
        weights = torch.arange(out.logprobs_BT.numel()).reshape(out.logprobs_BT.shape) / 10
        assert out.values_BTK is not None
        loss = (out.logprobs_BT * weights).sum() + values * out.values_BTK.square().sum()
        if entropies == "grad":
            loss = loss + (out.entropy_BT * weights.flip(0)).sum()
        loss.backward()
    finally:
        handle.remove()
    found = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    return Read(out, found, made)


@pytest.mark.parametrize("entropies", ["none", "plain", "grad"])
def test_chunks_give_the_numbers_and_gradients_of_the_whole(
    model: VLM, monkeypatch: pytest.MonkeyPatch, entropies: str
) -> None:
    batch = collate(model, rows_of(model, MIXED, ANSWERS))
    tokens = int(batch.answer_mask_BT.sum())
    whole = read(model, batch, entropies)
    assert whole.logits == [tokens * WORDS]  # once, and no position of padding
    monkeypatch.setattr(mmrlhf.models.policy, "LOGITS", 4 * WORDS + 5)
    parts = read(model, batch, entropies)
    assert max(parts.logits) == 4 * WORDS
    assert sum(parts.logits) == 2 * tokens * WORDS  # forward, and again in the backward pass
    for ours, theirs in zip(parts.out, whole.out, strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert parts.gradients.keys() == whole.gradients.keys()
    assert len(whole.gradients) == 2 * 7 * 6 + 1 + 2  # adapters on 7 layers of 6 blocks, head, value head
    for name, theirs in whole.gradients.items():
        torch.testing.assert_close(
            parts.gradients[name], theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item()
        )


def test_numbers_and_gradients_are_those_of_logits_at_every_position(model: VLM) -> None:
    """By hand: a softmax over all positions of the padded batch, and the mask last."""
    batch = collate(model, rows_of(model, MIXED, ANSWERS))
    ours = read(model, batch, "grad", values=0.0)
    model.model.zero_grad()
    hidden = hidden_states(model, batch)[batch.row_B.unsqueeze(1), batch.at_BT]
    logits = model.core.get_output_embeddings()(hidden) / 0.7
    logits[..., list(model.placeholder_ids)] = -1e9
    logprobs = torch.log(logits.softmax(-1) + 1e-30)
    mask = batch.answer_mask_BT
    chosen = logprobs.gather(-1, batch.answer_ids_BT.unsqueeze(-1)).squeeze(-1).masked_fill(~mask, 0.0)
    spread = -(logprobs.exp() * logprobs).sum(-1).masked_fill(~mask, 0.0)
    torch.testing.assert_close(ours.out.logprobs_BT, chosen, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.out.entropy_BT, spread, rtol=1e-4, atol=1e-4)
    weights = torch.arange(mask.numel()).reshape(mask.shape) / 10
    ((chosen * weights).sum() + (spread * weights.flip(0)).sum()).backward()
    theirs = {name: p.grad for name, p in model.model.named_parameters() if "lora_" in name}
    assert len(theirs) == 84
    for name, value in theirs.items():
        torch.testing.assert_close(ours.gradients[f"model.{name}"], value, rtol=1e-3, atol=1e-3)


def test_without_gradients_nothing_is_made_twice(model: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = collate(model, rows_of(model, [TEXT, ONE], ["Red.", "It is green."]))
    monkeypatch.setattr(mmrlhf.models.policy, "LOGITS", 1)  # fewer than one token needs: one at a time
    made: list[int] = []
    model.core.get_output_embeddings().register_forward_hook(lambda m, i, out: made.append(out.numel()))
    with torch.no_grad():
        Policy(model)(batch)
    assert made == [WORDS] * int(batch.answer_mask_BT.sum())


def test_a_batch_of_empty_answers(model: VLM) -> None:
    rows = [row.__class__(row.prompt, row.answer_ids[:0]) for row in rows_of(model, [TEXT, ONE], ["", ""])]
    out = Policy(model, critics=1)(collate(model, rows), entropies="plain")
    assert (out.logprobs_BT.shape, out.entropy_BT.shape, out.values_BTK.shape) == ((2, 0), (2, 0), (2, 0, 1))
    out.logprobs_BT.sum().backward()
