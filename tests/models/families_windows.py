"""Families with windows by a pattern of layers, and features that reach into several of them."""

from __future__ import annotations

from pathlib import Path

from families_common import ENDS, VISION, chatml, language, save, train_tokenizer
from families_gemma import GEMMA_CHAT
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


def build_gemma3n(folder: Path) -> None:
    """Its layers change what linear ones give in place; sound beside pictures, and a tower of timm."""
    from transformers import (
        Gemma3nAudioFeatureExtractor,
        Gemma3nConfig,
        Gemma3nForConditionalGeneration,
        Gemma3nProcessor,
        SiglipImageProcessor,
    )

    names = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"]
    marks = {
        "image_token": "<image_soft_token>",
        "boi_token": "<start_of_image>",
        "eoi_token": "<end_of_image>",
        "audio_token": "<audio_soft_token>",
        "boa_token": "<start_of_audio>",
        "eoa_token": "<end_of_audio>",
    }
    tokenizer = train_tokenizer(
        [*names, *marks.values()],
        bos_token="<bos>",
        eos_token="<eos>",
        pad_token="<pad>",
        extra_special_tokens=marks,
    )
    processor = Gemma3nProcessor(
        Gemma3nAudioFeatureExtractor(),
        SiglipImageProcessor(size={"height": 64, "width": 64}),
        tokenizer,
        chat_template=GEMMA_CHAT.replace("<start_of_image>", "<image_soft_token>"),
        audio_seq_length=4,
        image_seq_length=256,
    )
    ids = {f"{name}_id": tokenizer.convert_tokens_to_ids(text) for name, text in marks.items()}
    words = len(tokenizer)
    config = Gemma3nConfig(
        text_config=language(
            tokenizer,
            vocab_size=words + 16,
            head_dim=8,
            num_hidden_layers=4,
            num_kv_shared_layers=2,
            layer_types=[*LAYERS, *LAYERS],
            sliding_window=10,
            vocab_size_per_layer_input=words,
            hidden_size_per_layer_input=8,
            laurel_rank=4,
            altup_num_inputs=2,
            activation_sparsity_pattern=None,
        ),
        vision_config={
            "architecture": "mobilenetv5_300m_enc",
            "hidden_size": 2048,
            "vocab_size": 8,
            "vocab_offset": words,
            "model_args": {"channel_multiplier": 0.05},
        },
        audio_config={
            "vocab_size": 8,
            "vocab_offset": words + 8,
            "hidden_size": 32,
            "conf_num_attention_heads": 2,
            "conf_num_hidden_layers": 1,
            "sscp_conv_channel_size": [8, 8],
        },
        vision_soft_tokens_per_image=256,
        audio_soft_tokens_per_image=4,
        **ids,
    )
    save(Gemma3nForConditionalGeneration, config, processor, folder)


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
