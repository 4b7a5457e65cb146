"""Families whose text around tiles, projector or positions is of another make than those of the whole suite."""

from __future__ import annotations

from pathlib import Path

from families_common import ENDS, VISION, chatml, language, save, train_tokenizer
from families_tiles import IDEFICS_CHAT, MISTRAL_CHAT


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


def build_mistral3(folder: Path, window: int | None = None) -> None:
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
        text_config={"model_type": "mistral", **language(tokenizer, sliding_window=window, head_dim=8)},
        vision_config={"model_type": "pixtral", **VISION, "image_size": 56, "patch_size": 7, "head_dim": 16},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        spatial_merge_size=2,
    )
    save(Mistral3ForConditionalGeneration, config, processor, folder)


def build_mistral3_window(folder: Path) -> None:
    """Every layer looks back a few tokens only, as in Mistral 7B."""
    build_mistral3(folder, window=10)


def build_llava_pixtral(folder: Path) -> None:
    """LLaVA with a tower of another family: images of all sizes in one tensor, padded, with their sizes beside it."""
    from transformers import (
        LlavaConfig,
        LlavaForConditionalGeneration,
        PixtralImageProcessor,
        PixtralProcessor,
    )

    names = ["<unk>", "<s>", "</s>", "[IMG]", "[IMG_BREAK]", "[IMG_END]", "<pad>"]
    tokenizer = train_tokenizer(names, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    processor = PixtralProcessor(
        PixtralImageProcessor(size={"longest_edge": 56}, patch_size={"height": 14, "width": 14}),
        tokenizer,
        patch_size=14,
        spatial_merge_size=1,
        chat_template=MISTRAL_CHAT.replace("<image>\n", "[IMG]"),
    )
    config = LlavaConfig(
        text_config={"model_type": "mistral", **language(tokenizer, sliding_window=None, head_dim=8)},
        vision_config={"model_type": "pixtral", **VISION, "image_size": 56, "head_dim": 16},
        image_token_index=tokenizer.convert_tokens_to_ids("[IMG]"),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    save(LlavaForConditionalGeneration, config, processor, folder)


def build_idefics2(folder: Path) -> None:
    """Images of a sample padded to one size, with masks of pixels, and a resampler that is a model of its own."""
    from transformers import (
        Idefics2Config,
        Idefics2ForConditionalGeneration,
        Idefics2ImageProcessor,
        Idefics2Processor,
    )

    names = ["<pad>", "<|begin_of_text|>", "<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    tokenizer = train_tokenizer(
        names,
        bos_token="<|begin_of_text|>",
        eos_token="<end_of_utterance>",
        pad_token="<pad>",
        extra_special_tokens={
            "image_boundary_token": "<fake_token_around_image>",
            "image_token": "<image>",
            "end_of_utterance_token": "<end_of_utterance>",
        },
    )
    processor = Idefics2Processor(
        Idefics2ImageProcessor(size={"shortest_edge": 28, "longest_edge": 56}, do_image_splitting=False),
        tokenizer,
        image_seq_len=3,
        chat_template=IDEFICS_CHAT,
    )
    config = Idefics2Config(
        text_config={"model_type": "mistral", **language(tokenizer, sliding_window=None, head_dim=8)},
        vision_config={**VISION, "image_size": 56},
        perceiver_config={
            "hidden_size": 32,
            "resampler_n_latents": 3,
            "resampler_depth": 2,
            "resampler_n_heads": 2,
            "resampler_head_dim": 8,
            "num_key_value_heads": 2,
        },
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
    )
    save(Idefics2ForConditionalGeneration, config, processor, folder)


def build_cohere2_vision(folder: Path, window: int = 400) -> None:
    """A window that is wide enough, and tiles each of which the text marks with the end of a line."""
    from transformers import (
        Cohere2VisionConfig,
        Cohere2VisionForConditionalGeneration,
        Cohere2VisionImageProcessor,
        Cohere2VisionProcessor,
    )

    marks = {
        "image_token": "<|IMG_PATCH|>",
        "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>",
        "img_line_break_token": "<|IMG_LINE_BREAK|>",
    }
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *marks.values()]
    tokenizer = train_tokenizer(names, **ENDS, extra_special_tokens=marks)
    # its patch size counts vision tokens along a tile
    images = Cohere2VisionImageProcessor(
        size={"height": 28, "width": 28}, patch_size=1, downsample_factor=2, max_patches=4
    )
    processor = Cohere2VisionProcessor(images, tokenizer, chat_template=chatml("<|IMG_PATCH|>"))
    config = Cohere2VisionConfig(
        text_config={"model_type": "cohere2", **language(tokenizer, head_dim=8, sliding_window=window)},
        vision_config={"model_type": "siglip_vision_model", **VISION, "vision_use_head": False},
        alignment_intermediate_size=32,
        image_token_id=tokenizer.convert_tokens_to_ids("<|IMG_PATCH|>"),
    )
    save(Cohere2VisionForConditionalGeneration, config, processor, folder)


def build_cohere2_narrow(folder: Path) -> None:
    """A window that every row is longer than."""
    build_cohere2_vision(folder, window=10)
