"""Families that keep a picture's shape: patches of all images in one tensor, and a grid for each image."""

from __future__ import annotations

from pathlib import Path

from families_common import ENDS, chatml, language, save, train_tokenizer

NAMES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
NAMES += ["<|image_pad|>", "<|video_pad|>"]
SYSTEM = (
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}"
)
TOWER = {"depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32}
CHAT = chatml("<|vision_start|><|image_pad|><|vision_end|>", SYSTEM)


def build_qwen2_5_vl(folder: Path) -> None:
    """Positions in three dimensions."""
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = train_tokenizer(NAMES, **ENDS)
    ids = dict(zip(NAMES, tokenizer.convert_tokens_to_ids(NAMES), strict=True))
    # at most 4 x 4 patches of 14 pixels an image: 1 to 4 vision tokens, by its shape
    pixels = {"size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**pixels), tokenizer, Qwen2VLVideoProcessor(**pixels), chat_template=CHAT
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    config = Qwen2_5_VLConfig(
        text_config=language(tokenizer, rope_parameters=rope),
        vision_config={**TOWER, "window_size": 56, "fullatt_block_indexes": [1]},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    save(Qwen2_5_VLForConditionalGeneration, config, processor, folder)


def build_qwen3_vl(folder: Path) -> None:
    """Features of an inner layer of the tower are added behind the language model's first one."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3VLConfig,
        Qwen3VLForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = train_tokenizer(NAMES, **ENDS)
    ids = dict(zip(NAMES, tokenizer.convert_tokens_to_ids(NAMES), strict=True))
    pixels = {"size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}, "patch_size": 16}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**pixels), tokenizer, Qwen3VLVideoProcessor(**pixels), chat_template=CHAT
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = Qwen3VLConfig(
        text_config=language(tokenizer, rope_parameters=rope, head_dim=8),
        vision_config={**TOWER, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    save(Qwen3VLForConditionalGeneration, config, processor, folder)


def build_qwen3_5(folder: Path) -> None:
    """Layers that carry a state from token to token, between those with attention."""
    from transformers import (
        Qwen2VLImageProcessor,
        Qwen3_5Config,
        Qwen3_5ForConditionalGeneration,
        Qwen3VLProcessor,
        Qwen3VLVideoProcessor,
    )

    tokenizer = train_tokenizer(NAMES, **ENDS)
    ids = dict(zip(NAMES, tokenizer.convert_tokens_to_ids(NAMES), strict=True))
    pixels = {"size": {"shortest_edge": 32 * 32, "longest_edge": 64 * 64}, "patch_size": 16}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessor(**pixels), tokenizer, Qwen3VLVideoProcessor(**pixels), chat_template=CHAT
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1], "mrope_interleaved": True}
    config = Qwen3_5Config(
        text_config=language(
            tokenizer,
            rope_parameters={**rope, "partial_rotary_factor": 1.0},
            head_dim=8,
            layer_types=["linear_attention", "full_attention"],
            linear_key_head_dim=8,
            linear_value_head_dim=8,
            linear_num_key_heads=2,
            linear_num_value_heads=4,
        ),
        vision_config={**TOWER, "num_position_embeddings": 16},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    save(Qwen3_5ForConditionalGeneration, config, processor, folder)


def build_glm4v(folder: Path) -> None:
    """A tower of another make, and the language model's gates in one matrix."""
    from transformers import (
        Glm4vConfig,
        Glm4vForConditionalGeneration,
        Glm4vImageProcessor,
        Glm4vProcessor,
        Glm4vVideoProcessor,
    )

    marks = ["<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"]
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<|video|>", *marks]
    tokenizer = train_tokenizer(names, **ENDS)
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))
    # its sizes count two frames
    pixels = {"size": {"shortest_edge": 2 * 28 * 28, "longest_edge": 2 * 56 * 56}}
    processor = Glm4vProcessor(
        Glm4vImageProcessor(**pixels),
        tokenizer,
        Glm4vVideoProcessor(**pixels),
        chat_template=chatml("<|begin_of_image|><|image|><|end_of_image|>"),
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}
    config = Glm4vConfig(
        text_config=language(tokenizer, rope_parameters=rope),
        vision_config={**TOWER, "image_size": 56},
        image_token_id=ids["<|image|>"],
        video_token_id=ids["<|video|>"],
        image_start_token_id=ids["<|begin_of_image|>"],
        image_end_token_id=ids["<|end_of_image|>"],
        video_start_token_id=ids["<|begin_of_video|>"],
        video_end_token_id=ids["<|end_of_video|>"],
    )
    save(Glm4vForConditionalGeneration, config, processor, folder)
