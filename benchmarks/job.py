"""The job of the benchmark: a small LLaVA with random weights, made here, and prompts with a picture.

A prompt has 94 tokens, 64 of them its picture of 112 pixels, and an answer has 32. The tokenizer knows whole words
only, so that an answer that is decoded and read again (by the reward model) has as many tokens as before.
"""

from __future__ import annotations

import contextlib
import io
import os
import platform
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response, user
from data_tools.shards import write_shards
from mmrlhf.models.parts import parts_of

PROMPTS, ANSWER = 8, 32  # prompts of a step, tokens of an answer
PIXELS, PATCH = 112, 14
PICTURES = 1  # of a prompt
IMAGE_TOKENS = (PIXELS // PATCH) ** 2  # of a picture
TEXT = 30  # tokens of a prompt beside its pictures
PROMPT = TEXT + PICTURES * IMAGE_TOKENS
WORDS = 4096  # of the vocabulary
WIDTH = 256  # of the language model
RANK, ALPHA = 8, 16
OBJECTIVES = ["helpfulness", "factuality", "safety"]
SPECIAL = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
TEMPLATE = (
    "{% for message in messages %}{{ 'USER:' if message['role'] == 'user' else 'ASSISTANT:' }}"
    "{% for part in message['content'] %}"
    "{{ ' <image>' if part['type'] == 'image' else ' ' + part['text'] }}{% endfor %}"
    "{{ ' ' if message['role'] == 'user' else eos_token }}{% endfor %}"
    "{{ 'ASSISTANT:' if add_generation_prompt else '' }}"
)


def resize(
    prompts: int = PROMPTS, answer: int = ANSWER, pixels: int = PIXELS, pictures: int = PICTURES
) -> None:
    """Another size of the job, for all of a process: every part of the benchmark reads it off this module."""
    global PROMPTS, ANSWER, PIXELS, PICTURES, IMAGE_TOKENS, PROMPT
    PROMPTS, ANSWER, PIXELS, PICTURES = prompts, answer, pixels, pictures
    IMAGE_TOKENS = (pixels // PATCH) ** 2
    PROMPT = TEXT + pictures * IMAGE_TOKENS


def words() -> list[str]:
    """Words of two or three syllables."""
    syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
    two = [a + b for a in syllables for b in syllables]
    return two[: WORDS - len(SPECIAL) - 2]


def make_checkpoint(folder: Path, layers: int = 6) -> None:
    """Saves the model and its processor as transformers does: a CLIP tower 192 wide, a Llama 256 wide."""
    torch.manual_seed(0)
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, "USER:", "ASSISTANT:", *words()])}
    plain = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=plain,
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        extra_special_tokens={"image_token": "<image>"},
    )
    tower = CLIPVisionConfig(
        hidden_size=192,
        intermediate_size=768,
        num_hidden_layers=layers,
        num_attention_heads=6,
        image_size=PIXELS,
        patch_size=PATCH,
        projection_dim=192,
    )
    language = LlamaConfig(
        vocab_size=len(vocabulary),
        hidden_size=WIDTH,
        intermediate_size=688,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=2048,
        bos_token_id=vocabulary["<s>"],
        eos_token_id=vocabulary["</s>"],
        pad_token_id=vocabulary["<pad>"],
    )
    config = LlavaConfig(
        vision_config=tower,
        text_config=language,
        image_token_index=vocabulary["<image>"],
        image_seq_length=IMAGE_TOKENS,
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = vocabulary["</s>"]
    model.generation_config.pad_token_id = vocabulary["<pad>"]
    processor = LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": PIXELS}, crop_size={"height": PIXELS, "width": PIXELS}),
        tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)


def make_records(count: int, seed: int = 0, pairs: bool = False) -> list[PreferenceRecord]:
    """Prompts, each with words and pictures of its own; `pairs`: with two answers, of which the first is the better."""
    rng, known = random.Random(seed), words()
    length = TEXT - 2  # the two roles are words too

    def answers() -> tuple[Response, ...]:
        # the end token is one of their tokens
        return tuple(Response(" ".join(rng.choices(known, k=ANSWER - 1))) for _ in range(2))

    return [
        PreferenceRecord(
            f"p{number}",
            "benchmark",
            (user(*range(PICTURES), " ".join(rng.choices(known, k=length))),),
            images=tuple(ImageRef.of_bytes(_picture(rng)) for _ in range(PICTURES)),
            responses=answers() if pairs else (),
            comparisons=tuple(Comparison(name, 0, 1) for name in OBJECTIVES) if pairs else (),
        )
        for number in range(count)
    ]


def _picture(rng: random.Random) -> bytes:
    def color() -> tuple[int, int, int]:
        return rng.randrange(256), rng.randrange(256), rng.randrange(256)

    image = Image.new("RGB", (PIXELS, PIXELS), color())
    pen = ImageDraw.Draw(image)
    for draw in (pen.ellipse, pen.rectangle):
        left, top, size = rng.randrange(60), rng.randrange(60), rng.randrange(16, 50)
        draw((left, top, left + size, top + size), fill=color())
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def write_data(folder: Path, records: Iterable[PreferenceRecord]) -> None:
    """The records as a data set of mmrlhf."""
    write_shards(records, folder)


def forbidden(processor: Any) -> tuple[int, ...]:
    """What is never sampled: every special token. So no answer ends before its 32 tokens."""
    added = processor.tokenizer.added_tokens_decoder
    return tuple(sorted(number for number, token in added.items() if token.special))


class Work:
    """Counts what the towers and language models of some models do; pictures are told by their grids where the family
    has such."""

    def __init__(self, cores: Sequence[nn.Module | None]) -> None:
        self.counts: Counter[str] = Counter()
        for core in {id(core): core for core in cores if core is not None}.values():
            parts = parts_of(core, "the benchmark's")
            for tower in parts.towers:
                tower.register_forward_pre_hook(self._tower, with_kwargs=True)
            parts.language.register_forward_pre_hook(self._language, with_kwargs=True)

    def _tower(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        grids = kwargs.get("grid_thw")
        pixels = args[0] if args else kwargs.get("pixel_values")
        self.counts += Counter(tower_calls=1, tower_images=len(pixels if grids is None else grids))

    def _language(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows, tokens = kwargs["inputs_embeds"].shape[:2]
        self.counts += Counter(language_calls=1, language_rows=rows, language_tokens=rows * tokens)


def gemm_gflops(size: int = 1024, tries: int = 8) -> float:
    """How fast this machine is just now: the median over products of two float32 matrices."""
    a, b = torch.randn(size, size), torch.randn(size, size)
    seconds = []
    for _ in range(tries):
        began = time.perf_counter()
        torch.mm(a, b)
        seconds.append(time.perf_counter() - began)
    return round(2 * size**3 / statistics.median(seconds) / 1e9, 1)


def machine() -> dict[str, Any]:
    """What it ran on, and with which versions."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "python": ".".join(map(str, sys.version_info[:3])),
        **versions("torch", "transformers", "peft", "accelerate", "mmrlhf"),
    }


def versions(*packages: str) -> dict[str, str]:
    """Of those packages that are installed."""
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
