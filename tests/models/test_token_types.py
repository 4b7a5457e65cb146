"""PaliGemma: prompts that look in both directions, answers that token types tell apart, and no prompt without image."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from model_samples import ANSWERS, LONG_TEXT, ONE, OTHER, SEVERAL, logprobs, rows_of

from data_tools.errors import UserError
from data_tools.images import read_image
from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import collate, encode_answer, encode_prompt
from mmrlhf.models.generate import generate
from mmrlhf.models.load import load_vlm
from mmrlhf.models.policy import Policy
from mmrlhf.models.vision_cache import CachedVision, VisionCache
from mmrlhf.models.vlm import VLM, answer_logits, hidden_states
from mmrlhf.types import Row

CLOSE = {"rtol": 1e-5, "atol": 1e-4}
SHOWN = [ONE, SEVERAL, OTHER]


@pytest.fixture
def pali(checkpoint: Callable[[str], str], _loaded: dict[str, VLM]) -> VLM:
    if "paligemma" not in _loaded:
        _loaded["paligemma"] = load_vlm(ModelConfig(path=checkpoint("paligemma")))
    return _loaded["paligemma"]


def test_log_probs_are_those_of_a_prompt_with_its_suffix(pali: VLM) -> None:
    """The processor's own way to lay out prompt and answer for training, its token types and all."""
    text = "It is green and large."
    prompt = "<image>What color is the triangle?"
    inputs = pali.processor(
        text=[prompt], images=[read_image(ONE.images[0])], suffix=[text], return_tensors="pt"
    )
    labels = inputs.pop("labels")[0]
    assert pali.answer_type == 1
    with torch.no_grad():
        logits = pali.core(**inputs).logits[0]
    logits[:, list(pali.placeholder_ids)] = float("-inf")
    answer = labels[labels >= 0]
    before = logits[-len(answer) - 1 : -1].log_softmax(-1)
    row = rows_of(pali, [ONE], [text])[0]
    assert row.answer_ids.tolist() == answer.tolist()
    expected = before[torch.arange(len(answer)), answer]
    torch.testing.assert_close(
        logprobs(pali, [*rows_of(pali, SHOWN, ["Red.", "It is.", "So"]), row])[3], expected, **CLOSE
    )
    # with the type that other families give to text, an answer would be seen before it is said
    leaky = logprobs(dataclasses.replace(pali, answer_type=0), [row])[0]
    assert (leaky - expected).abs().max() > 1e-2


def test_a_batch_gives_each_row_its_own_log_probs(pali: VLM) -> None:
    rows = rows_of(pali, SHOWN, ANSWERS[:3])
    for row, batched in zip(rows, logprobs(pali, rows), strict=True):
        torch.testing.assert_close(batched, logprobs(pali, [row])[0], **CLOSE)


def test_greedy_answers_are_the_likeliest_of_the_training_forward(pali: VLM) -> None:
    prompts = [encode_prompt(pali, item) for item in SHOWN]
    rows = [Row(p, a) for p, a in zip(prompts, generate(pali, prompts, 6, temperature=0), strict=True)]
    batch = collate(pali, rows)
    with torch.no_grad():
        hidden = hidden_states(pali, batch)
        best = answer_logits(pali, hidden[torch.arange(3).unsqueeze(1), batch.at_BT]).argmax(-1)
    for i, row in enumerate(rows):
        assert best[i, : len(row.answer_ids)].tolist() == row.answer_ids.tolist()


def test_answers_share_their_prompt_and_kept_features(pali: VLM) -> None:
    assert pali.rows_because == ""
    rows = []
    for item in SHOWN:
        prompt = encode_prompt(pali, item)
        rows += [Row(prompt, encode_answer(pali, answer)) for answer in ANSWERS[:3]]
    apart = dataclasses.replace(pali, shares_prefix=False)
    kept = dataclasses.replace(pali, vision=CachedVision(pali, VisionCache(1 << 20, 1 << 20)))
    with torch.no_grad():
        expected = Policy(apart)(collate(apart, rows)).logprobs_BT
        for model in (pali, kept, kept):
            batch = collate(model, rows)
            assert len(batch.inputs["input_ids"]) == 3
            torch.testing.assert_close(Policy(model)(batch).logprobs_BT, expected, rtol=1e-4, atol=1e-4)


def test_a_prompt_without_image_is_refused(pali: VLM) -> None:
    with pytest.raises(
        UserError, match="record long-text: PaliGemmaProcessor can't read its prompt: `images` are expected"
    ):
        encode_prompt(pali, LONG_TEXT)
