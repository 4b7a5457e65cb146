"""A family whose language model looks at images through layers of their own, not through tokens."""

from __future__ import annotations

from pathlib import Path

from families_common import language, save, train_tokenizer

LLAMA_CHAT = (
    "<|begin_of_text|>{% for message in messages %}<|start_header_id|>{{ message['role'] }}<|end_header_id|>\n\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<|image|>{% else %}{{ part['text'] }}"
    "{% endif %}{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)


def build_mllama(folder: Path) -> None:
    """Pixels and a mask by sample, not by image."""
    from transformers import (
        MllamaConfig,
        MllamaForConditionalGeneration,
        MllamaImageProcessor,
        MllamaProcessor,
    )

    names = ["<pad>", "<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"]
    tokenizer = train_tokenizer(
        [*names, "<|python_tag|>", "<|image|>"],
        bos_token="<|begin_of_text|>",
        eos_token="<|eot_id|>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<|image|>"},
    )
    images = MllamaImageProcessor(size={"height": 28, "width": 28}, max_image_tiles=4)
    processor = MllamaProcessor(images, tokenizer, chat_template=LLAMA_CHAT)
    # the embedding has a row more than the head, for the image
    head = language(tokenizer, vocab_size=len(tokenizer) - 1, cross_attention_layers=[1])
    config = MllamaConfig(
        text_config=head,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "vision_output_dim": 64,
            "intermediate_layers_indices": [0],
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    save(MllamaForConditionalGeneration, config, processor, folder)
