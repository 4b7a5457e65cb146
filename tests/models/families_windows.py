"""Families whose layers differ: some with a window and some without, some that take in features of the tower."""

from __future__ import annotations

from pathlib import Path

from families_common import ENDS, VISION, chatml, language, save, train_tokenizer
from families_qwen import CHAT, NAMES, TOWER

LAYERS = ["sliding_attention", "full_attention"]


def build_exaone4_5(folder: Path) -> None:
    """Qwen's tower in front of layers with and without a window."""
    from transformers import (
        Exaone4_5_Config,
        Exaone4_5_ForConditionalGeneration,
        Exaone4_5_Processor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    tokenizer = train_tokenizer(NAMES, **ENDS)
    ids = dict(zip(NAMES, tokenizer.convert_tokens_to_ids(NAMES), strict=True))
    pixels = {"size": {"shortest_edge": 28 * 28, "longest_edge": 56 * 56}}
    processor = Exaone4_5_Processor(
        Qwen2VLImageProcessor(**pixels), tokenizer, Qwen2VLVideoProcessor(**pixels), chat_template=CHAT
    )
    text = language(tokenizer, head_dim=8, sliding_window=10, sliding_window_pattern=2, layer_types=LAYERS)
    config = Exaone4_5_Config(
        text_config={"model_type": "exaone4", **text},
        vision_config={**TOWER, "num_key_value_heads": 2, "window_size": 56, "fullatt_block_indexes": [1]},
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
    )
    save(Exaone4_5_ForConditionalGeneration, config, processor, folder)


def build_granite4_vision(folder: Path) -> None:
    """It makes no cache by itself, and features of several layers of its tower reach several of its own."""
    from transformers import (
        Granite4VisionConfig,
        Granite4VisionForConditionalGeneration,
        Granite4VisionProcessor,
        LlavaNextImageProcessor,
    )

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>"]
    tokenizer = train_tokenizer(names, **ENDS, extra_special_tokens={"image_token": "<image>"})
    size = {"height": 56, "width": 56}
    pins = [[56, 112], [112, 56]]
    processor = Granite4VisionProcessor(
        LlavaNextImageProcessor(size=size, crop_size=size, image_grid_pinpoints=pins),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        chat_template=chatml("<image>"),
    )
    config = Granite4VisionConfig(
        text_config=language(tokenizer, num_hidden_layers=3),
        vision_config={"model_type": "siglip_vision_model", **VISION, "hidden_size": 64, "image_size": 56},
        qformer_config={"model_type": "blip_2_qformer", "num_hidden_layers": 1, "intermediate_size": 48},
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pins,
        vision_feature_select_strategy="full",
        downsample_rate="1/2",
        deepstack_layer_map=[[0, 0], [1, 1]],
        spatial_vision_layer=-1,
        spatial_target_layers=[2],
    )
    save(Granite4VisionForConditionalGeneration, config, processor, folder)
