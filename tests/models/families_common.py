"""What the tiny checkpoints share: a tokenizer trained on the spot, small language models, and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

TEXT = [
    "a red circle is left of a blue square",
    "What color is the triangle? It is green.",
    "Describe the picture. There are three small shapes.",
    "user assistant system User Assistant:",
]
LANGUAGE = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
# pictures of 28 pixels in 2 x 2 patches
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 28,
    "patch_size": 14,
}
ENDS = {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"}


def chatml(image: str, system: str = "") -> str:
    """A chat template with `image` for each picture."""
    return (
        "{% for message in messages %}"
        + system
        + "<|im_start|>{{ message['role'] }}\n"
        + "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        + image
        + "{% else %}{{ part['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
        + "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def train_tokenizer(special: list[str], adds_bos: str = "", **settings: Any) -> Any:
    """A byte-level BPE of a few hundred tokens; with `adds_bos` it puts that token in front of every text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXT * 20, trainer)
    if adds_bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{adds_bos} $A", special_tokens=[(adds_bos, tokenizer.token_to_id(adds_bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=2048, **settings)


def language(tokenizer: Any, **settings: Any) -> dict[str, Any]:
    """The settings of a language model of two layers."""
    ends = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad")}
    return {"vocab_size": len(tokenizer), **LANGUAGE, **ends, **settings}


def save(family: Any, config: Any, processor: Any, folder: Path) -> None:
    """A model with random weights and its processor."""
    torch.manual_seed(0)
    model = family(config)
    for parameter in model.parameters():
        # the usual 0.02 makes random models nearly uniform: an image would hardly change a log-prob
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
