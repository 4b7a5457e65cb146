"""A model of the shapes of Qwen2.5-VL-3B with random weights, or a tiny one of the family, with its processor."""

from __future__ import annotations

from pathlib import Path

import job
import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as token_models

NAMES = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
NAMES += ["<|image_pad|>", "<|video_pad|>", "<unk>"]
TEMPLATE = (
    "{% for message in messages %}<|im_start|> {{ message['role'] }} {% for part in message['content'] %}"
    "{{ '<|vision_start|><|image_pad|><|vision_end|>' if part['type'] == 'image' else ' ' + part['text'] + ' ' }}"
    "{% endfor %}<|im_end|>{% endfor %}{{ '<|im_start|> assistant ' if add_generation_prompt else '' }}"
)
LANGUAGE = {
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 36,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}
TOWER = {
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "out_hidden_size": 2048,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
}
SMALL_LANGUAGE = {
    "vocab_size": 512,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
SMALL_TOWER = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "window_size": 56,
    "fullatt_block_indexes": [1],
}


def make_checkpoint(folder: Path, small: bool, device: torch.device) -> None:
    """Saves the model, made on the device in its dtype, and a processor whose tokenizer knows whole words only."""
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2_5_VLProcessor,
        Qwen2VLImageProcessor,
        Qwen2VLVideoProcessor,
    )

    language = {**LANGUAGE, **SMALL_LANGUAGE} if small else LANGUAGE
    size = language["vocab_size"]
    vocabulary = {word: i for i, word in enumerate([*NAMES, "user", "assistant", *job.words()])}
    vocabulary = dict(list(vocabulary.items())[:size])
    vocabulary |= {f"w{i}": i for i in range(len(vocabulary), size)}
    plain = Tokenizer(token_models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    plain.add_special_tokens(NAMES)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        unk_token="<unk>",
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
    )
    area = {"size": {"shortest_edge": 28 * 28, "longest_edge": job.PIXELS**2}}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessor(**area), tokenizer, Qwen2VLVideoProcessor(**area), chat_template=TEMPLATE
    )
    half = language["hidden_size"] // language["num_attention_heads"] // 2
    rope = {
        "rope_type": "default",
        "rope_theta": 1e6,
        "mrope_section": [half // 4, half * 3 // 8, half * 3 // 8],
    }
    ends = {
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    config = Qwen2_5_VLConfig(
        text_config={**language, "rope_parameters": rope, **ends},
        vision_config=SMALL_TOWER if small else TOWER,
        image_token_id=vocabulary["<|image_pad|>"],
        video_token_id=vocabulary["<|video_pad|>"],
        vision_start_token_id=vocabulary["<|vision_start|>"],
        vision_end_token_id=vocabulary["<|vision_end|>"],
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    with device:
        model = Qwen2_5_VLForConditionalGeneration._from_config(
            config, dtype=torch.float32 if small else torch.bfloat16
        )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
