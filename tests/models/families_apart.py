"""Families whose processor counts over all pictures of a call, so that rows of a batch can't simply be joined."""

from __future__ import annotations

from pathlib import Path

from families_common import ENDS, chatml, language, save, train_tokenizer


def build_molmo2(folder: Path) -> None:
    """Each vision token names its patches by their number among those of the processor's call."""
    from transformers import (
        Molmo2Config,
        Molmo2ForConditionalGeneration,
        Molmo2ImageProcessor,
        Molmo2Processor,
        Molmo2VideoProcessor,
    )

    marks = ["<im_patch>", "<im_col>", "<im_start>", "<low_res_im_start>", "<im_end>", "<im_low>"]
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image|>", "<|video|>", *marks]
    names += ["<frame_start>", "<frame_end>"]
    tokenizer = train_tokenizer(names, **ENDS)
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))
    images = Molmo2ImageProcessor(
        size={"height": 28, "width": 28}, max_crops=2, patch_size=7, overlap_margins=[1, 1]
    )
    videos = Molmo2VideoProcessor(size={"height": 28, "width": 28}, patch_size=7)
    processor = Molmo2Processor(images, videos, tokenizer, chat_template=chatml("<|image|>"))
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16}
    tower = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, **heads}
    config = Molmo2Config(
        text_config=language(tokenizer, head_dim=8, additional_vocab_size=0),
        vision_config={**tower, "image_size": [28, 28], "patch_size": 7},
        adapter_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "text_hidden_size": 32,
            "vision_feature_layer": [1, 0],
            **heads,
        },
        image_patch_id=ids["<im_patch>"],
        image_start_token_id=ids["<im_start>"],
        image_end_token_id=ids["<im_end>"],
        low_res_image_start_token_id=ids["<low_res_im_start>"],
        frame_start_token_id=ids["<frame_start>"],
        frame_end_token_id=ids["<frame_end>"],
    )
    save(Molmo2ForConditionalGeneration, config, processor, folder)


def build_hunyuan_vl(folder: Path) -> None:
    """A position in the number of its picture, which is counted over a batch."""
    from transformers import (
        HunYuanVLConfig,
        HunYuanVLForConditionalGeneration,
        HunYuanVLImageProcessor,
        HunYuanVLProcessor,
    )

    marks = {"image_token": "<img>", "image_start_token": "<img_start>", "image_end_token": "<img_end>"}
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *marks.values()]
    tokenizer = train_tokenizer(names, **ENDS, extra_special_tokens=marks)
    ids = dict(zip(names, tokenizer.convert_tokens_to_ids(names), strict=True))
    processor = HunYuanVLProcessor(
        HunYuanVLImageProcessor(size={"shortest_edge": 32 * 32, "longest_edge": 64 * 64}),
        tokenizer,
        chat_template=chatml("<img_start><img><img_end>"),
    )
    rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1, 1, 1]}
    config = HunYuanVLConfig(
        text_config=language(tokenizer, rope_parameters=rope, head_dim=8),
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_attention_heads": 2,
            "num_hidden_layers": 2,
            "out_hidden_size": 32,
            "max_image_size": 64,
            "min_image_size": 32,
            "img_max_token_num": 16,
        },
        image_token_id=ids["<img>"],
        im_start_id=ids["<img_start>"],
        im_end_id=ids["<img_end>"],
        im_newline_id=ids["<img>"],
    )
    save(HunYuanVLForConditionalGeneration, config, processor, folder)
