"""Families whose image tokens look at each other in both directions, as token types tell them."""

from __future__ import annotations

from pathlib import Path

from families_common import VISION, language, save, train_tokenizer

GEMMA_CHAT = (
    "<bos>{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<start_of_image>{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)


def build_gemma3(folder: Path, window: int = 12) -> None:
    """Every other layer looks back a few tokens only, so that padding in a cache would push out what it sees."""
    from transformers import (
        Gemma3Config,
        Gemma3ForConditionalGeneration,
        Gemma3ImageProcessor,
        Gemma3Processor,
    )

    names = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    marks = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    marks["image_token"] = "<image_soft_token>"
    tokenizer = train_tokenizer(
        [*names, *marks.values()],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=marks,
    )
    size = {"height": 28, "width": 28}
    processor = Gemma3Processor(
        Gemma3ImageProcessor(size=size, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokenizer,
        image_seq_length=4,
        chat_template=GEMMA_CHAT,
    )
    config = Gemma3Config(
        text_config=language(
            tokenizer,
            head_dim=8,
            query_pre_attn_scalar=8,
            sliding_window=window,
            layer_types=["sliding_attention", "full_attention"],
        ),
        vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
    )
    save(Gemma3ForConditionalGeneration, config, processor, folder)


def build_gemma3_wide(folder: Path) -> None:
    """A window that no row here is longer than, as in the real ones."""
    build_gemma3(folder, window=400)


PALI_CHAT = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% if message['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
)


def build_paligemma(folder: Path) -> None:
    """The whole prompt looks in both directions, and the answer is told apart by its token type; no prompt is without
    an image. Its own checkpoints have no chat template."""
    from transformers import (
        PaliGemmaConfig,
        PaliGemmaForConditionalGeneration,
        PaliGemmaProcessor,
        SiglipImageProcessor,
    )

    names = ["<pad>", "<eos>", "<bos>", "<image>"]
    tokenizer = train_tokenizer(
        names,
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    images = SiglipImageProcessor(size={"height": 28, "width": 28})
    images.image_seq_length = 4
    processor = PaliGemmaProcessor(images, tokenizer, chat_template=PALI_CHAT)
    config = PaliGemmaConfig(
        text_config={"model_type": "gemma", **language(tokenizer, head_dim=8)},
        vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
        projection_dim=32,
        hidden_size=32,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    save(PaliGemmaForConditionalGeneration, config, processor, folder)
