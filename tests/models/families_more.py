"""Families whose text around tiles, projector or positions is of another make than those of the whole suite."""

from __future__ import annotations

from pathlib import Path

from families_common import ENDS, VISION, chatml, language, save, train_tokenizer
from families_tiles import MISTRAL_CHAT


def build_ovis2(folder: Path) -> None:
    """An image's features are mixtures of visual words, from a table of their own."""
    from transformers import Ovis2Config, Ovis2ForConditionalGeneration, Ovis2ImageProcessor, Ovis2Processor

    marks = ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<IMG_ATOM>", *marks]
    tokenizer = train_tokenizer(names, **ENDS)
    processor = Ovis2Processor(
        Ovis2ImageProcessor(size={"height": 28, "width": 28}, crop_to_patches=True, max_patches=4),
        tokenizer,
        image_seq_length=1,
        chat_template=chatml("<image>\n"),
    )
    config = Ovis2Config(
        text_config={"model_type": "qwen2", **language(tokenizer)},
        vision_config={**VISION, "vocab_size": 64, "hidden_stride": 2, "num_visual_indicator_tokens": 5},
        image_token_id=tokenizer.convert_tokens_to_ids("<IMG_ATOM>"),
        visual_indicator_token_ids=tokenizer.convert_tokens_to_ids(marks),
        vocab_size=len(tokenizer),
        hidden_size=32,
        tie_word_embeddings=False,
    )
    save(Ovis2ForConditionalGeneration, config, processor, folder)


def build_aya_vision(folder: Path) -> None:
    """Another family with a window, of layers whose order is the family's own."""
    from transformers import (
        AyaVisionConfig,
        AyaVisionForConditionalGeneration,
        AyaVisionProcessor,
        GotOcr2ImageProcessor,
    )

    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>"]
    names += ["<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE", "TILE_GLOBAL"]
    tokenizer = train_tokenizer(names, **ENDS)
    processor = AyaVisionProcessor(
        GotOcr2ImageProcessor(size={"height": 28, "width": 28}, crop_to_patches=True, max_patches=4),
        tokenizer,
        img_size=28,
        patch_size=14,
        downsample_factor=2,
        chat_template=chatml("<image>"),
    )
    config = AyaVisionConfig(
        text_config={"model_type": "cohere2", **language(tokenizer, head_dim=8, sliding_window=16)},
        vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
        downsample_factor=2,
        alignment_intermediate_size=32,
        image_token_index=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    save(AyaVisionForConditionalGeneration, config, processor, folder)


def build_mistral3(folder: Path) -> None:
    """Images in one tensor, padded to the largest, with their sizes beside it, and a mark in the text behind each row
    of patches."""
    from transformers import (
        Mistral3Config,
        Mistral3ForConditionalGeneration,
        PixtralImageProcessor,
        PixtralProcessor,
    )

    names = ["<unk>", "<s>", "</s>", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<pad>"]
    tokenizer = train_tokenizer(names, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    processor = PixtralProcessor(
        # its forward can't take a single token alone
        PixtralImageProcessor(size={"longest_edge": 56}, patch_size={"height": 7, "width": 7}),
        tokenizer,
        patch_size=7,
        spatial_merge_size=2,
        chat_template=MISTRAL_CHAT.replace("<image>\n", "[IMG]"),
    )
    config = Mistral3Config(
        text_config={"model_type": "mistral", **language(tokenizer, sliding_window=None, head_dim=8)},
        vision_config={"model_type": "pixtral", **VISION, "image_size": 56, "patch_size": 7, "head_dim": 16},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    save(Mistral3ForConditionalGeneration, config, processor, folder)
