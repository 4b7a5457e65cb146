"""Answers side by side behind their prompt: the same numbers as in rows of their own, for every family."""

import contextlib
import dataclasses
from collections.abc import Callable

import pytest
import torch
from families import BUILDERS
from model_samples import ANSWERS, MIXED, ONE, SEVERAL, TEXT, plain_logprobs, record

from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import collate, encode_answer, encode_prompt, micro_batches, padded_tokens
from mmrlhf.models.load import load_vlm
from mmrlhf.models.masks import allowed
from mmrlhf.models.policy import Policy
from mmrlhf.models.prefix import answers_a_row, lay_out
from mmrlhf.models.vlm import VLM
from mmrlhf.types import EncodedPrompt, Row

WINDOWED = ["gemma3", "aya_vision", "cohere2_narrow", "llama4_chunks", "mistral3_window", "exaone4_5"]
LONG_TEXT_ASKED = "Name a colour, and say why it is the one that you like most of all."


@pytest.fixture(params=["tiny", *BUILDERS, "gemma3_wide"])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def groups(vlm: VLM) -> list[Row]:
    """Two answers to a text, three to one picture, four to three pictures, and in mixed order."""
    rows = []
    for item, count in ((TEXT, 2), (ONE, 3), (SEVERAL, 4)):
        prompt = encode_prompt(vlm, item)
        rows += [Row(prompt, encode_answer(vlm, answer)) for answer in ANSWERS[:count]]
    return [rows[i] for i in (3, 0, 8, 2, 5, 7, 1, 6, 4)]


def test_layout_by_hand() -> None:
    """Two prompt tokens, answers of two and one; then one prompt token with an answer of one, and padding."""
    layout = lay_out([2, 1], [[2, 1], [1]])
    assert layout.segment_RT.tolist() == [[0, 0, 1, 1, 2], [0, 1, -1, -1, -1]]
    assert layout.shift_RT.tolist() == [[0, 0, 0, 0, 2], [0, 0, 0, 0, 0]]
    assert allowed(layout)[0, 0].int().tolist() == [
        [1, 1, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_every_family_here_shares_its_prefix(vlm: VLM) -> None:
    assert vlm.rows_because == ""
    batch = collate(vlm, groups(vlm))
    assert batch.layout is not None
    assert len(batch.inputs["input_ids"]) == 3


def test_log_probs_and_gradients_are_those_of_single_rows(vlm: VLM) -> None:
    rows = groups(vlm)
    results = []
    weights = [p for p in vlm.core.base_model.parameters() if p.dim() > 1]
    for shared in (True, False):
        model = dataclasses.replace(vlm, shares_prefix=shared)
        batch = collate(model, rows)
        assert (batch.layout is not None) == shared
        for weight in weights:
            weight.requires_grad_(True)
        try:
            out = Policy(model)(batch)
            loss = (out.logprobs_BT * batch.answer_mask_BT).sum()
            grads = torch.autograd.grad(loss, weights, allow_unused=True)
        finally:
            for weight in weights:
                weight.requires_grad_(False)
        results.append((out.logprobs_BT.detach() * batch.answer_mask_BT, grads))
    torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-4, atol=1e-4)
    assert results[0][0].std() > 0.1
    used = [(a, b) for a, b in zip(results[0][1], results[1][1], strict=True) if b is not None]
    assert len(used) > 10
    for ours, theirs in used:
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * theirs.abs().max().item() + 1e-6)


@pytest.fixture(params=WINDOWED)
def windowed(request: pytest.FixtureRequest, checkpoint: Callable[[str], str]) -> VLM:
    return load_vlm(ModelConfig(path=checkpoint(request.param)))


def test_rows_longer_than_a_window_are_shared_exactly(windowed: VLM) -> None:
    """A group with a picture, a group without, and a row of one answer: all longer than the window, and each with the
    log-probs that transformers alone gives it in a row of its own."""
    texts = [
        "What color is the triangle?",
        "Describe it, and say what is to the left of it.",
        LONG_TEXT_ASKED,
    ]
    items = [record("a", 0, texts[0], images=[ONE.images[0]]), record("b", texts[1]), record("c", texts[2])]
    rows, asked = [], []
    for item, text, count in zip(items, texts, (3, 2, 1), strict=True):
        prompt = encode_prompt(windowed, item)
        rows += [Row(prompt, encode_answer(windowed, answer)) for answer in ANSWERS[:count]]
        asked += [(item, text)] * count
    assert windowed.window is not None
    assert (windowed.rows_because, windowed.shared_tokens) == ("", None)
    assert min(len(row.prompt.input_ids) + len(row.answer_ids) for row in rows) > windowed.window
    batch = collate(windowed, rows)
    assert len(batch.inputs["input_ids"]) == 3
    with torch.no_grad():
        ours = Policy(windowed)(batch).logprobs_BT
    for row, logprobs, (item, text) in zip(rows, ours, asked, strict=True):
        plain = plain_logprobs(windowed, item, text, row.answer_ids)
        torch.testing.assert_close(logprobs[: len(row.answer_ids)], plain, rtol=1e-4, atol=1e-4)


def test_a_window_that_places_do_not_move_bounds_shared_rows(checkpoint: Callable[[str], str]) -> None:
    """Where windows aren't made by transformers' functions, only what fits into one is shared."""
    narrow = load_vlm(ModelConfig(path=checkpoint("gemma3")))
    assert narrow.window == 12
    rows = groups(narrow)
    assert collate(dataclasses.replace(narrow, shared_tokens=12), rows).layout is None
    prompt = len(rows[1].prompt.input_ids)
    texts = [row for row in rows if row.prompt is rows[1].prompt]
    longest = max(len(row.answer_ids) for row in texts)
    for room, count in ((prompt + 2 * longest, 1), (prompt + 2 * longest - 1, 2)):
        batch = collate(dataclasses.replace(narrow, shared_tokens=room), texts)
        assert len(batch.inputs["input_ids"]) == count


def test_a_family_that_hands_over_masks_of_its_making_is_bounded_by_its_window(
    checkpoint: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its windows count the answers between: seen at load, so that rows beyond the window stay single."""
    monkeypatch.setattr("mmrlhf.models.prefix.masks_for", lambda layout, configs: contextlib.nullcontext())
    wide = load_vlm(ModelConfig(path=checkpoint("gemma3_wide")))
    assert (wide.rows_because, wide.window, wide.shared_tokens) == ("", 400, 400)


def test_a_changed_answer_changes_no_other(vlm: VLM) -> None:
    prompt = encode_prompt(vlm, ONE)
    found = []
    for first in ("Red.", "A circle"):
        rows = [Row(prompt, encode_answer(vlm, text)) for text in (first, "It is green and large.")]
        with torch.no_grad():
            found.append(Policy(vlm)(collate(vlm, rows)).logprobs_BT[1])
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-4)


def test_how_many_answers_a_row() -> None:
    """By hand at width 1 (work of n tokens: n (6 + n)): with a prefix of 100 and answers of 1, sixteen in a row cost
    116 * 122 / 16 = 884.5 each, one alone 101 * 107; with a prefix of 1 and answers of 100, one alone 101 * 107 =
    10,807, two 201 * 207 / 2 = 20,803.5."""
    assert answers_a_row(100, 1, 16, 1) == 16
    assert answers_a_row(1, 100, 16, 1) == 1


def test_micro_batches_keep_groups_together(vlm: VLM) -> None:
    rows = groups(vlm)
    batches = micro_batches(rows, 4)
    assert sorted(i for batch in batches for i in batch) == list(range(9))
    assert max(map(len, batches)) <= 4
    together = [{id(rows[i].prompt) for i in batch} for batch in batches]
    assert sum(map(len, together)) == 3  # no group is cut
    singles = [Row(encode_prompt(vlm, item), encode_answer(vlm, "Red.")) for item in MIXED]
    assert [len(batch) for batch in micro_batches(singles, 2)] == [2, 2, 1]


def rows_of_lengths(lengths: list[tuple[int, list[int]]]) -> list[Row]:
    """Prompts of so many tokens, each with answers of so many."""
    found = []
    for number, (prefix, answers) in enumerate(lengths):
        prompt = EncodedPrompt(record(f"{number}", "?"), torch.ones(prefix, dtype=torch.int64))
        found += [Row(prompt, torch.ones(answer, dtype=torch.int64)) for answer in answers]
    return found


def test_micro_batches_are_filled_to_a_number_of_tokens() -> None:
    # rows of 10, 12, 30, 11 tokens
    rows = rows_of_lengths([(8, [2]), (8, [4]), (20, [10]), (8, [3])])
    assert micro_batches(rows, 8) == [[0, 3, 1, 2]]
    assert micro_batches(rows, 8, tokens=120) == [[0, 3, 1, 2]]  # 4 rows of 30
    assert micro_batches(rows, 8, tokens=119) == [[0, 3, 1], [2]]  # 3 of 12, then 1 of 30
    assert micro_batches(rows, 2, tokens=119) == [[0, 3], [1, 2]]
    assert micro_batches(rows, 8, tokens=22) == [[0, 3], [1], [2]]  # the last is over it, alone
    assert micro_batches(rows, 8, tokens=1) == [[0], [3], [1], [2]]


def test_answers_side_by_side_count_as_they_are_laid_out() -> None:
    """A prompt of 100 tokens with four answers of 10 is one row of 140 tokens, or four of 110."""
    vlm = load_vlm(ModelConfig())
    assert vlm.shares_prefix
    rows = rows_of_lengths([(100, [10] * 4), (100, [10] * 4)])
    apart = dataclasses.replace(vlm, shares_prefix=False)
    assert [padded_tokens(rows[:4], model) for model in (vlm, apart, None)] == [140, 440, 440]
    assert [padded_tokens(rows[:5], model) for model in (vlm, apart)] == [280, 550]
    assert collate(vlm, rows[:5]).inputs["input_ids"].numel() == 280
    assert micro_batches(rows, 8, 280, vlm) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert micro_batches(rows, 8, 279, vlm) == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert micro_batches(rows, 8, 130, vlm) == [[0, 1, 2], [3], [4, 5, 6], [7]]
    assert micro_batches(rows, 8, 280, apart) == [[0, 1], [2, 3], [4, 5], [6, 7]]
