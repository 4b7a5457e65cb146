"""What loading tries out of a family, on those that fail it."""

from types import SimpleNamespace

import pytest
import torch
from families_common import ENDS, train_tokenizer
from model_samples import ANSWERS, MIXED, SEVERAL, TEXT, logprobs, picture, record, rows_of

from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import collate, encode_prompt
from mmrlhf.models.generate import generate
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import find_head
from mmrlhf.models.placeholders import named_placeholders, same_kind
from mmrlhf.models.vlm import answer_logits, hidden_states
from mmrlhf.types import Row


@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_a_row_that_reads_the_first_rows_picture_is_seen_in_any_precision(checkpoint, dtype, close) -> None:
    """Molmo 2 names patches by their number in a processor's call, so that every row of a plain batch reads the first
    row's; its pictures are encoded one prompt at a time instead."""
    vlm = load_vlm(ModelConfig(path=checkpoint("molmo2"), dtype=dtype))
    assert vlm.one_by_one
    assert vlm.apart_because
    shown = [picture("red"), picture("blue"), picture("green")]
    records = [record(str(i), 0, "What color?", images=[image]) for i, image in enumerate(shown)]
    rows = rows_of(vlm, records, ANSWERS[:3])
    for row, together in zip(rows, logprobs(vlm, rows), strict=True):
        torch.testing.assert_close(together, logprobs(vlm, [row])[0], rtol=close, atol=close)


def test_positions_that_count_pictures_over_a_batch_are_counted_a_prompt_at_a_time(checkpoint) -> None:
    """HunYuan-VL gives a picture the number that it has in the batch."""
    vlm = load_vlm(ModelConfig(path=checkpoint("hunyuan_vl")))
    assert (vlm.counts_apart, vlm.one_by_one) == (True, False)
    rows = rows_of(vlm, [SEVERAL, TEXT, SEVERAL, *MIXED[1:2]], ANSWERS[:4])
    for row, together in zip(rows, logprobs(vlm, rows), strict=True):
        torch.testing.assert_close(together, logprobs(vlm, [row])[0], rtol=1e-4, atol=1e-4)


def test_a_family_that_makes_no_cache_is_given_one(checkpoint) -> None:
    """Granite 4 Vision: what it samples greedily is what its training forward finds likeliest."""
    vlm = load_vlm(ModelConfig(path=checkpoint("granite4_vision")))
    prompts = [encode_prompt(vlm, item) for item in (MIXED[1], TEXT)]
    rows = [Row(p, a) for p, a in zip(prompts, generate(vlm, prompts, 5, temperature=0), strict=True)]
    batch = collate(vlm, rows)
    with torch.no_grad():
        hidden = hidden_states(vlm, batch)
        best = answer_logits(vlm, hidden[torch.arange(2).unsqueeze(1), batch.at_BT]).argmax(-1)
    for i, row in enumerate(rows):
        assert best[i, : len(row.answer_ids)].tolist() == row.answer_ids.tolist()


def test_a_head_that_is_the_language_models() -> None:
    """Nemotron's: the outer model names none."""
    head = torch.nn.Linear(2, 3)
    inner = SimpleNamespace(get_output_embeddings=lambda: head)
    assert find_head(SimpleNamespace(get_output_embeddings=lambda: None, language_model=inner)) is head
    assert find_head(SimpleNamespace(get_output_embeddings=lambda: None)) is None


def test_what_a_processor_can_write_is_never_sampled_though_no_picture_shows_it() -> None:
    """By a processor's attributes, a config's ids, and special tokens' text; not ends, turns, nor other marks."""
    names = [
        "<pad>",
        "<unk>",
        "<end>",
        "<turn>",
        "<think>",
        "<box_start>",
        "<|audio_start|>",
        "<im_low>",
        "<frame_end>",
    ]
    tokenizer = train_tokenizer(
        [*names, "<slice>", "<sep_x>"], eos_token="<end>", pad_token="<pad>", unk_token="<unk>"
    )
    ids = tokenizer.get_vocab()
    processor = SimpleNamespace(
        tokenizer=tokenizer, pad_token="<pad>", separator="<sep_x>", image_token_ids=[ids["<im_low>"]]
    )
    config = SimpleNamespace(
        to_dict=lambda: {"thinker": {"video_end_token_id": ids["<frame_end>"], "pad_token_id": 0}}
    )
    found = named_placeholders(SimpleNamespace(config=config), processor)
    # all names here are special tokens: by their text alone, sound, frames and slices are known
    assert {tokenizer.convert_ids_to_tokens(i) for i in found} == {
        "<|audio_start|>",
        "<im_low>",
        "<frame_end>",
        "<slice>",
        "<sep_x>",
    }


def test_one_of_a_numbered_kind_stands_for_all() -> None:
    marks = [f"<row_{r}_col_{c}>" for r in (1, 2, 10) for c in (1, 2)]
    tokenizer = train_tokenizer([ENDS["pad_token"], ENDS["eos_token"], "<row>", "<step_1>", *marks], **ENDS)
    ids = tokenizer.get_vocab()
    assert same_kind(tokenizer, {ids["<row_1_col_1>"]}) == {ids[mark] for mark in marks}
    assert same_kind(tokenizer, {ids["<row>"]}) == {ids["<row>"]}
