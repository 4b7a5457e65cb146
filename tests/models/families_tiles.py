"""Families that cut a picture into tiles, whose number differs from image to image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from families_common import ENDS, VISION, chatml, language, save, train_tokenizer

IDEFICS_CHAT = (
    "<|begin_of_text|>{% for message in messages %}{{ message['role'].capitalize() }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
MISTRAL_CHAT = (
    "{% for message in messages %}{{ '[INST] ' if message['role'] == 'user' else ' ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{{ ' [/INST]' if message['role'] == 'user' else '</s>' }}{% endfor %}"
)
# tiles of 28 pixels, (height, width)
GRIDS = [[28, 56], [56, 28], [56, 56]]


def _idefics_tokenizer() -> Any:
    tiles = [f"<row_{i + 1}_col_{j + 1}>" for i in range(6) for j in range(6)]
    names = ["<pad>", "<|begin_of_text|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    return train_tokenizer(
        [*names, "<global-img>", *tiles],
        bos_token="<|begin_of_text|>",
        eos_token="<end_of_utterance>",
        pad_token="<pad>",
        extra_special_tokens={"fake_image_token": "<fake_token_around_image>", "image_token": "<image>"},
    )


def build_idefics3(folder: Path) -> None:
    """Tiles are padded within a sample, in pixels and in number."""
    from transformers import (
        Idefics3Config,
        Idefics3ForConditionalGeneration,
        Idefics3ImageProcessor,
        Idefics3Processor,
    )

    tokenizer = _idefics_tokenizer()
    # tiles of 28 pixels, in 2 x 2 patches of 14, merged to one vision token a tile
    images = Idefics3ImageProcessor(size={"longest_edge": 56}, max_image_size={"longest_edge": 28})
    processor = Idefics3Processor(images, tokenizer, image_seq_len=1, chat_template=IDEFICS_CHAT)
    config = Idefics3Config(
        text_config={"model_type": "llama", **language(tokenizer)},
        vision_config=VISION,
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    save(Idefics3ForConditionalGeneration, config, processor, folder)


def build_smolvlm(folder: Path) -> None:
    """As Idefics3, and features come as one tensor an image list of a sample."""
    from transformers import (
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        SmolVLMImageProcessor,
        SmolVLMProcessor,
        SmolVLMVideoProcessor,
    )

    tokenizer = _idefics_tokenizer()
    pixels = {"size": {"longest_edge": 56}, "max_image_size": {"longest_edge": 28}}
    processor = SmolVLMProcessor(
        SmolVLMImageProcessor(**pixels),
        tokenizer,
        SmolVLMVideoProcessor(**pixels),
        image_seq_len=1,
        chat_template=IDEFICS_CHAT,
    )
    config = SmolVLMConfig(
        text_config={"model_type": "llama", **language(tokenizer)},
        vision_config=VISION,
        scale_factor=2,
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    save(SmolVLMForConditionalGeneration, config, processor, folder)


def build_llava_next(folder: Path) -> None:
    """A learned mark ends each row of patches, what the tiles padded is cut off again, and the tokenizer adds its
    first token itself."""
    from transformers import (
        LlavaNextConfig,
        LlavaNextForConditionalGeneration,
        LlavaNextImageProcessor,
        LlavaNextProcessor,
    )

    names = ["<unk>", "<s>", "</s>", "<image>", "<pad>"]
    tokenizer = train_tokenizer(
        names, adds_bos="<s>", bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}, image_grid_pinpoints=GRIDS
    )
    processor = LlavaNextProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=MISTRAL_CHAT,
    )
    config = LlavaNextConfig(
        text_config={"model_type": "mistral", **language(tokenizer, sliding_window=None)},
        vision_config={"model_type": "clip_vision_model", **VISION},
        image_grid_pinpoints=GRIDS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    save(LlavaNextForConditionalGeneration, config, processor, folder)


def build_llava_onevision(folder: Path) -> None:
    """As LLaVA-NeXT; but of several images in a prompt, none is cut."""
    from transformers import (
        LlavaOnevisionConfig,
        LlavaOnevisionForConditionalGeneration,
        LlavaOnevisionImageProcessor,
        LlavaOnevisionProcessor,
        LlavaOnevisionVideoProcessor,
    )

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
    tokenizer = train_tokenizer(names, **ENDS)
    size = {"height": 28, "width": 28}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=GRIDS),
        tokenizer,
        LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=4,
        vision_feature_select_strategy="full",
        chat_template=chatml("<image>\n"),
    )
    config = LlavaOnevisionConfig(
        text_config={"model_type": "qwen2", **language(tokenizer)},
        vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
        image_grid_pinpoints=GRIDS,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
    )
    save(LlavaOnevisionForConditionalGeneration, config, processor, folder)


def build_internvl(folder: Path) -> None:
    """The tiles of all images in one tensor, with nothing that tells which are whose."""
    from transformers import (
        GotOcr2ImageProcessor,
        InternVLConfig,
        InternVLForConditionalGeneration,
        InternVLProcessor,
        InternVLVideoProcessor,
    )

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
    marks = {"start_image_token": "<img>", "end_image_token": "</img>"}
    marks |= {"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"}
    tokenizer = train_tokenizer(names, **ENDS, extra_special_tokens=marks)
    size = {"height": 28, "width": 28}
    # a tile is 2 x 2 patches, merged to one vision token
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size=size, crop_to_patches=True, max_patches=4),
        tokenizer,
        InternVLVideoProcessor(size=size),
        image_seq_length=1,
        chat_template=chatml("<IMG_CONTEXT>\n"),
    )
    config = InternVLConfig(
        text_config={"model_type": "qwen2", **language(tokenizer)},
        vision_config={**VISION, "image_size": [28, 28], "patch_size": [14, 14]},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=1,
        tie_word_embeddings=False,
    )
    save(InternVLForConditionalGeneration, config, processor, folder)
