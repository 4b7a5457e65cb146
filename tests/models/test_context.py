"""How many tokens a model reads: where it is read from, and what is over it."""

from types import SimpleNamespace

import pytest
from model_samples import record

from data_tools.errors import UserError
from mmrlhf.chat import converse
from mmrlhf.config import ModelConfig, SftConfig
from mmrlhf.models.batch import PromptTooLong, encode_prompt
from mmrlhf.models.context import read_context
from mmrlhf.models.load import load_vlm
from mmrlhf.training.context import fit_context
from mmrlhf.training.feed import Refusals

MAIN = SimpleNamespace(is_main_process=True)


@pytest.mark.parametrize(
    ("settings", "tokens"),
    [
        ({}, None),
        ({"max_position_embeddings": 1024}, 1024),
        ({"n_positions": 2048}, 2048),
        ({"max_position_embeddings": 512, "rope_parameters": {"rope_type": "default", "factor": 4}}, 512),
        # Qwen writes the positions before the stretch, Llama 3 those after it
        ({"max_position_embeddings": 32768, "rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 131072),
        (
            {
                "max_position_embeddings": 65536,
                "rope_parameters": {
                    "rope_type": "yarn",
                    "factor": 4.0,
                    "original_max_position_embeddings": 16384,
                },
            },
            65536,
        ),
    ],
)
def test_where_it_is_read_from(settings: dict, tokens: int | None) -> None:
    text = SimpleNamespace(**settings)
    assert read_context(SimpleNamespace(get_text_config=lambda: text)) == tokens


def test_prompts_over_it_are_refused_by_name_whatever_the_limit() -> None:
    vlm = load_vlm(ModelConfig())
    assert vlm.context == 1024
    long = record("long", "There is a red circle in the picture. " * 300)
    for limit in (None, 8192):
        with pytest.raises(
            PromptTooLong, match=r"record long: a prompt of \d+ tokens is over what the model reads: 1,024"
        ):
            encode_prompt(vlm, long, limit)
    refusals = Refusals(0.1)
    assert refusals.keep([long], lambda item: encode_prompt(vlm, item, 8192)) == []
    assert "1,024" in str(refusals.none_left())


def test_an_answer_keeps_its_room() -> None:
    vlm = load_vlm(ModelConfig())
    short = record("short", "Name a colour.")
    size = len(encode_prompt(vlm, short).input_ids)
    vlm.answer_room = 1024 - size
    encode_prompt(vlm, short)
    vlm.answer_room += 1
    with pytest.raises(PromptTooLong, match="1,024 tokens with the"):
        encode_prompt(vlm, short)
    vlm.answer_room = 24
    with pytest.raises(PromptTooLong, match=r"over the limit of 2 \(the model reads 1,000\)"):
        encode_prompt(vlm, short, 2)


def test_a_config_beyond_it_is_told_before_training(capsys: pytest.CaptureFixture[str]) -> None:
    vlm = load_vlm(ModelConfig())
    capsys.readouterr()
    fit_context(vlm, SftConfig(max_prompt_tokens=1000, max_answer_tokens=24), MAIN)
    assert vlm.answer_room == 24
    # nobody asked for the default of 1024
    fit_context(vlm, SftConfig(max_answer_tokens=512), MAIN)
    assert capsys.readouterr().err == ""
    fit_context(vlm, SftConfig(max_prompt_tokens=8192, max_answer_tokens=16), MAIN)
    told = " ".join(capsys.readouterr().err.split())
    assert "max_prompt_tokens 8,192 and max_answer_tokens 16 are more than the 1,024 tokens" in told
    assert "prompts of more than 1,008 are left out" in told
    with pytest.raises(
        UserError, match="max_answer_tokens: 1,024 leave no room for a prompt in the 1,024 tokens"
    ):
        fit_context(vlm, SftConfig(max_answer_tokens=1024), MAIN)


def test_chat_tells_that_a_question_is_too_long(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        UserError, match=r"^the question is too long: a prompt of [\d,]+ tokens is over what the model"
    ):
        converse("tiny", None, "a" * 12000 + " What is this?", 0.0, 8, None)
    # the answer ends where the model's context does
    converse("tiny", None, "What is " + "a " * 495 + "?", 0.0, 4096, None)
    assert capsys.readouterr().out.strip()
