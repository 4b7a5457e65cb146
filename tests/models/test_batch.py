"""What a batch may not change: the log-probs of each row, and which picture it sees.

The bundled model and random checkpoints of families whose pixels are laid out otherwise: patches of all images in one
tensor (Qwen), tiles in a sample's own list (Idefics3, SmolVLM), in an image's own (LLaVA-NeXT) or in one (InternVL).
"""

import dataclasses

import pytest
import torch
from model_samples import (
    ANSWERS,
    LONG_TEXT,
    MIXED,
    ONE,
    OTHER,
    SEVERAL,
    TEXT,
    WIDE,
    chat,
    logprobs,
    picture,
    plain_logprobs,
    record,
    rows_of,
)

from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord, assistant, user
from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import PromptTooLong, collate, encode_answer, encode_prompt, plain_text
from mmrlhf.models.generate import _go_on, _parts, generate, sample, uniforms
from mmrlhf.models.load import load_vlm
from mmrlhf.models.policy import Policy
from mmrlhf.models.vlm import VLM, answer_logits, decode, hidden_states
from mmrlhf.types import EncodedPrompt, Row

CLOSE = {"rtol": 1e-5, "atol": 1e-4}


def image_tokens(vlm: VLM, ids: torch.Tensor) -> int:
    return int((ids == vlm.core.config.image_token_id).sum())


def test_a_batch_gives_each_row_its_own_log_probs(vlm: VLM) -> None:
    rows = rows_of(vlm, MIXED, ANSWERS)
    together = logprobs(vlm, rows)
    for row, batched in zip(rows, together, strict=True):
        torch.testing.assert_close(batched, logprobs(vlm, [row])[0], **CLOSE)
    backwards = logprobs(vlm, rows[::-1])[::-1]
    for batched, other_order in zip(together, backwards, strict=True):
        torch.testing.assert_close(batched, other_order, **CLOSE)


@pytest.mark.parametrize(("item", "text"), [(ONE, "What color is the triangle?"), (TEXT, "Name a colour.")])
def test_log_probs_are_those_of_a_plain_forward(vlm: VLM, item: PreferenceRecord, text: str) -> None:
    row, _ = rows_of(vlm, [item, SEVERAL], ["It is green and large.", "Yes."])
    expected = plain_logprobs(vlm, item, text, row.answer_ids)
    in_a_batch = logprobs(vlm, [row, *rows_of(vlm, [SEVERAL], ["Yes."])])[0]
    torch.testing.assert_close(in_a_batch, expected, **CLOSE)


def test_rows_that_exchange_pictures_exchange_log_probs(vlm: VLM) -> None:
    wide, square = picture("red", WIDE), picture("blue")

    def rows(first, second) -> list[Row]:
        ask = "What color is the triangle?"
        records = [record("a", 0, ask, images=[first]), TEXT, record("b", 0, ask, images=[second])]
        return rows_of(vlm, records, ["It is green."] * 3)

    a, text, b = logprobs(vlm, rows(wide, square))
    swapped_a, same_text, swapped_b = logprobs(vlm, rows(square, wide))
    torch.testing.assert_close(a, swapped_b, **CLOSE)
    torch.testing.assert_close(b, swapped_a, **CLOSE)
    torch.testing.assert_close(text, same_text, **CLOSE)
    assert (a - b).abs().max() > 1e-3  # the picture counts, so the equalities above say something


def test_pictures_of_one_row_keep_their_order(vlm: VLM) -> None:
    red, blue = picture("red"), picture("blue")
    records = [
        record("ab", 0, " or ", 1, "?", images=[red, blue]),
        record("ba", 0, " or ", 1, "?", images=[blue, red]),
    ]
    ab, ba = logprobs(vlm, rows_of(vlm, records, ["Red."] * 2))
    assert (ab - ba).abs().max() > 1e-4
    alone = logprobs(vlm, rows_of(vlm, records[1:], ["Red."]))[0]
    torch.testing.assert_close(ba, alone, **CLOSE)


def test_text_only_rows_get_no_pixel(vlm: VLM) -> None:
    rows = rows_of(vlm, [TEXT, LONG_TEXT], ["Red.", "It is."])
    assert all(row.prompt.vision == {} and row.prompt.modality == "text" for row in rows)
    inputs = collate(vlm, rows).inputs
    assert not [name for name in inputs if "pixel" in name or "image" in name]
    assert logprobs(vlm, rows)[0].isfinite().all()
    # in a mixed batch there are the pixels of the rows with pictures and no more
    alone = collate(vlm, rows_of(vlm, [ONE], ["Red."])).inputs
    mixed = collate(vlm, rows_of(vlm, [TEXT, ONE, LONG_TEXT], ["Red."] * 3)).inputs
    assert torch.equal(mixed["pixel_values"], alone["pixel_values"])


# tiny: 3 x 3 patches whatever the size. Qwen: 28 x 28 pixels a token, and none of the pictures is resized. Idefics3:
# the longer side is scaled to two tiles, a tile is a token, and the whole picture is one more; SmolVLM is alike.
# LLaVA-NeXT: 4 tokens for the whole picture, the patches of the tiles (2 x 4, the square picture in a 2 x 2 part of
# it, 4 x 2) and a mark behind each row of them; LLaVA-OneVision too, but where there are several only the whole
# picture and a mark. InternVL: a token a tile and, where there are several, one for the whole picture. Gemma 3: 4.
TOKENS = {
    "tiny": {"one": 9, "other": 9, "several": 27},
    "qwen2_5_vl": {"one": 2, "other": 1, "several": 1 + 2 + 2},
    "idefics3": {"one": 3, "other": 5, "several": 5 + 3 + 3},
    "llava_next": {"one": 4 + 8 + 2, "other": 4 + 4 + 2, "several": 10 + 16 + 14},
    "llava_onevision": {"one": 4 + 8 + 2, "other": 4 + 4 + 2, "several": 3 * 5},
    "qwen3_vl": {"one": 2, "other": 1, "several": 1 + 2 + 2},
    "smolvlm": {"one": 3, "other": 5, "several": 5 + 3 + 3},
    "internvl": {"one": 3, "other": 1, "several": 1 + 3 + 3},
    "gemma3": {"one": 4, "other": 4, "several": 12},
}


def test_placeholders_are_as_many_as_image_features(vlm: VLM, family: str) -> None:
    counts = {
        item.id: image_tokens(vlm, encode_prompt(vlm, item).input_ids) for item in (ONE, OTHER, SEVERAL)
    }
    assert counts == TOKENS[family]
    features: list[int] = []
    trunk = vlm.core.base_model
    own = trunk.get_image_features

    def count(*args, **kwargs):
        output = own(*args, **kwargs)
        found = output if isinstance(output, torch.Tensor) else output.pooler_output
        found = [found] if isinstance(found, torch.Tensor) else found
        features.extend(part.numel() // part.shape[-1] for part in found)
        return output

    trunk.get_image_features = count
    try:
        logprobs(vlm, rows_of(vlm, MIXED, ANSWERS))
    finally:
        del trunk.get_image_features
    assert sum(features) == sum(TOKENS[family].values())


def test_words_of_the_user_are_never_special_tokens(vlm: VLM) -> None:
    """Every token that the tokenizer would read out of text, the family's placeholders and ends among them."""
    harmless = encode_prompt(vlm, ONE).input_ids
    special = dict(vlm.tokenizer.get_added_vocab())
    assert vlm.processor.image_token in special
    for text in special:
        item = record("sly", 0, f"What color {text} is the triangle?", images=[picture("red", WIDE)])
        ids = encode_prompt(vlm, item).input_ids
        for other, i in special.items():
            assert (ids == i).sum() == (harmless == i).sum(), f"{text} in a prompt is read as {other}"
        answer = encode_answer(vlm, f"It {text} is.").tolist()
        assert [i for i in answer if i in special.values()] == [vlm.end_id], text


def test_a_placeholder_in_two_pieces_is_taken_apart(vlm: VLM) -> None:
    token = vlm.processor.image_token
    sly = record("sly", token[:3], token[3:], "what is it?")
    assert image_tokens(vlm, encode_prompt(vlm, sly).input_ids) == 0
    assert plain_text(vlm, token) == f"{token[0]} {token[1:]}"


def test_an_over_long_prompt_is_refused_whole(vlm: VLM) -> None:
    length = len(encode_prompt(vlm, ONE).input_ids)
    assert len(encode_prompt(vlm, ONE, max_tokens=length).input_ids) == length
    with pytest.raises(
        PromptTooLong, match=f"record one: a prompt of {length} tokens is over the limit of {length - 1}"
    ):
        encode_prompt(vlm, ONE, max_tokens=length - 1)


def test_an_answer_ends_as_the_chat_template_ends_it(vlm: VLM) -> None:
    """The template's own rendering of both turns starts with our tokens and goes on with white space at most."""
    row = rows_of(vlm, [TEXT], ["It is green and large."])[0]
    messages = chat([("user", "Name a colour.", 0), ("assistant", "It is green and large.", 0)])
    whole = vlm.processor.apply_chat_template(messages, tokenize=False)
    ids = vlm.tokenizer(whole, add_special_tokens=not vlm.template_adds_bos)["input_ids"]
    ours = [*row.prompt.input_ids.tolist(), *row.answer_ids.tolist()]
    assert ids[: len(ours)] == ours
    assert vlm.tokenizer.decode(ids[len(ours) :]).strip() == ""
    assert decode(vlm, row.answer_ids) == "It is green and large."


def test_an_answer_is_cut_at_its_end(vlm: VLM) -> None:
    whole = encode_answer(vlm, "It is green.").tolist()
    assert encode_answer(vlm, "It is green.", 2).tolist() == whole[:2]
    assert vlm.end_id not in whole[:-1]


def test_a_conversation_keeps_its_turns(vlm: VLM) -> None:
    turns = (user(0, "What color is it?"), assistant("Red."), user("And the triangle?"))
    talk = PreferenceRecord(id="talk", source="test", prompt=turns, images=(picture("red", WIDE),))
    first = record("first", 0, "What color is it?", images=[picture("red", WIDE)])
    row = rows_of(vlm, [first], ["Red."])[0]
    start = [*row.prompt.input_ids.tolist(), *row.answer_ids.tolist()]
    assert encode_prompt(vlm, talk).input_ids.tolist()[: len(start)] == start


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_an_image_placeholder_is_never_sampled(vlm: VLM, temperature: float) -> None:
    prompts = [encode_prompt(vlm, item) for item in (TEXT, ONE)]
    rows = rows_of(vlm, [TEXT, ONE], ["Red.", "It is."])
    before = logprobs(vlm, rows)
    forbidden = list(vlm.placeholder_ids)
    assert vlm.tokenizer.convert_tokens_to_ids(vlm.processor.image_token) in forbidden

    def tempt(module, inputs, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., forbidden] = 1e4
        return logits

    handle = vlm.core.get_output_embeddings().register_forward_hook(tempt)
    try:
        torch.manual_seed(0)
        answers = generate(vlm, prompts, 5, temperature)
        after = logprobs(vlm, rows)
    finally:
        handle.remove()
    assert not set(torch.cat(answers).tolist()) & set(forbidden)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, **CLOSE)


def test_greedy_answers_are_the_likeliest_of_the_training_forward(vlm: VLM) -> None:
    """Padded on the left and with a cache in one, on the right and whole in the other."""
    prompts = [encode_prompt(vlm, item) for item in MIXED]
    answers = generate(vlm, prompts, 6, temperature=0)
    rows = [Row(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]
    batch = collate(vlm, rows)
    with torch.no_grad():
        hidden = hidden_states(vlm, batch)
        logits = answer_logits(vlm, hidden[torch.arange(len(rows)).unsqueeze(1), batch.at_BT])
    best = logits.argmax(-1)
    for i, answer in enumerate(answers):
        assert best[i, : len(answer)].tolist() == answer.tolist(), MIXED[i].id


def test_sampling_a_batch_in_parts_keeps_the_order(vlm: VLM) -> None:
    prompts = [encode_prompt(vlm, item) for item in MIXED]
    whole = generate(vlm, prompts, 4, temperature=0)
    parts = generate(vlm, prompts, 4, temperature=0, batch_size=2)
    assert [a.tolist() for a in whole] == [a.tolist() for a in parts]


def test_answers_to_a_prompt_in_several_passes_are_those_of_one(
    vlm: VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [encode_prompt(vlm, item) for item in (TEXT, SEVERAL)]
    draws = uniforms([3, 4], 5, 4)
    whole = sample(vlm, prompts, 4, draws, batch_size=64, answers=5)
    sizes = []

    def go_on(vlm, state, *others):
        sizes.append(len(state.hidden_ND))
        return _go_on(vlm, state, *others)

    monkeypatch.setattr("mmrlhf.models.generate._go_on", go_on)
    parts = sample(vlm, prompts, 4, draws, batch_size=2, answers=5)
    assert sizes == [2, 2, 1, 2, 2, 1]
    assert [answer.ids.tolist() for answer in parts] == [answer.ids.tolist() for answer in whole]
    for one, other in zip(whole, parts, strict=True):
        torch.testing.assert_close(one.logprobs, other.logprobs, **CLOSE)
    assert len({tuple(answer.ids.tolist()) for answer in whole}) > 2


def test_padding_never_pushes_a_prompt_out_of_a_window() -> None:
    """Prompts of unlike length are sampled together only where the longest row stays within the narrowest window."""
    vlm = load_vlm(ModelConfig())
    prompts = [encode_prompt(vlm, item) for item in (TEXT, LONG_TEXT, TEXT)]
    longest = len(prompts[1].input_ids)
    order = [0, 2, 1]
    for window, parts in ((None, [[0, 2, 1]]), (longest + 5, [[0, 2, 1]]), (longest + 4, [[0, 2], [1]])):
        assert _parts(dataclasses.replace(vlm, window=window), prompts, order, 8, 5) == parts


def test_a_temperature_divides_the_logits(vlm: VLM) -> None:
    batch = collate(vlm, rows_of(vlm, [ONE], ["It is."]))
    with torch.no_grad():
        hidden = hidden_states(vlm, batch)[0, batch.at_BT[0]]
        logits = vlm.core.get_output_embeddings()(hidden) / 0.5
        logits[:, list(vlm.placeholder_ids)] = float("-inf")
        expected = logits.log_softmax(-1)
        out = Policy(vlm)(batch, temperature=0.5, entropies="plain")
    torch.testing.assert_close(
        out.logprobs_BT[0], expected.gather(1, batch.answer_ids_BT[0].unsqueeze(1)).squeeze(1)
    )
    probabilities = expected.exp()
    by_hand = -(probabilities * probabilities.clamp(min=1e-30).log()).sum(-1)
    torch.testing.assert_close(out.entropy_BT[0], by_hand, rtol=1e-4, atol=1e-4)


def test_the_value_head_starts_at_zero(vlm: VLM) -> None:
    batch = collate(vlm, rows_of(vlm, [TEXT, ONE], ["Red.", "It is."]))
    out = Policy(vlm, critics=2)(batch)
    assert out.values_BTK is not None
    assert out.values_BTK.abs().max().item() == 0.0
    assert Policy(vlm)(batch).values_BTK is None


def test_an_unreadable_image_is_the_users_error(vlm: VLM) -> None:
    from data_tools.schema import ImageRef

    broken = record("broken", 0, "What?", images=[ImageRef.of_bytes(b"\x89PNG\r\n\x1a\n broken")])
    with pytest.raises(UserError, match="image"):
        encode_prompt(vlm, broken)


def test_a_tensor_that_only_some_pictures_have_is_joined_of_those() -> None:
    """Step 3.7 and DeepSeek OCR 2 cut large pictures into tiles, and make no tensor of tiles for small ones."""
    vlm = load_vlm(ModelConfig())
    ids = torch.arange(3)
    small = {"pixel_values": torch.full((1, 2), 1.0), "num_tiles": torch.tensor([0])}
    large = {
        "pixel_values": torch.full((1, 2), 2.0),
        "num_tiles": torch.tensor([2]),
        "tiles": torch.ones(2, 4),
    }
    prompts = [EncodedPrompt(TEXT, ids, vision=vision) for vision in (small, {}, large, small)]
    batch = collate(vlm, [Row(prompt, ids) for prompt in prompts])
    assert batch.inputs["pixel_values"].tolist() == [[1.0, 1.0], [2.0, 2.0], [1.0, 1.0]]
    assert batch.inputs["num_tiles"].tolist() == [0, 2, 0]
    assert batch.inputs["tiles"].shape == (2, 4)
