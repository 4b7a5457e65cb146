"""The bundled model before training: tokenizer, architecture, processor."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from data_tools.scenes.language import DESCRIBE, ask, say, true_claims, verify_prompt
from data_tools.scenes.structure import random_scene
from data_tools.synth.text_cases import random_case
from tiny_vlm.rows import GRID, QUESTION_KINDS, SPECIAL

PIXELS, PATCH = 48, 16
VOCABULARY = 768
# a loop over `message['content']` itself is how servers recognise that a template takes pictures in their places; for
# any other they put pictures and text together on their own, with a line break between that training never had
TEMPLATE = (
    "{% for message in messages %}<{{ message['role'] }}>"
    "{% if message['role'] == 'assistant' %}{% generation %}"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}{{ part['text'] }}{% endfor %}{% endif %}"
    "<end>{% endgeneration %}"
    "{% elif message['content'] is string %}{{ message['content'] }}<end>"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% else %}{{ part['text'] }}{% endif %}{% endfor %}<end>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)


def train_tokenizer():
    """A byte-level BPE over the sentences that scenes and text cases give, and Python's own documentation."""
    from pydoc_data import topics

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    rng = random.Random("tokenizer")
    lines = []
    for _ in range(6000):
        scene = random_scene(rng)
        questions = [q for kind in QUESTION_KINDS if (q := ask(rng, scene, kind))]
        lines += [f"{q.text}\n{q.reply}" for q in questions]
        lines += [
            say(true_claims(rng, scene)),
            verify_prompt(say(true_claims(rng, scene))),
            rng.choice(DESCRIBE),
        ]
        case = random_case(rng)
        lines += [case.request, case.helpful, case.unhelpful, case.refusal]
    lines += topics.topics["strings"].splitlines()
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        lines,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<end>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
        model_max_length=1024,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )


def build(tokenizer):
    """The untrained model and its processor."""
    from transformers import (
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        SiglipImageProcessor,
        SiglipVisionConfig,
    )

    vision = SiglipVisionConfig(
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=PIXELS,
        patch_size=PATCH,
        vision_use_head=False,
    )
    end, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=256,
        num_hidden_layers=6,
        num_attention_heads=5,  # 32 wide: a width that inference engines have kernels for
        num_key_value_heads=5,
        max_position_embeddings=1024,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
        tie_word_embeddings=True,
    )
    config = LlavaConfig(
        vision_config=vision,
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_select_strategy="full",
        vision_feature_layer=-1,
        image_seq_length=GRID * GRID,
        tie_word_embeddings=True,
        pad_token_id=pad,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = end, pad
    processor = LlavaProcessor(
        image_processor=SiglipImageProcessor(size={"height": PIXELS, "width": PIXELS}),
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="full",
        num_additional_image_tokens=0,
        chat_template=TEMPLATE,
    )
    return model, processor


def load(folder: Path):
    """A checkpoint that this script wrote."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    return AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32
    ), AutoProcessor.from_pretrained(folder)
