"""The bundled model keeps what its README promises: it loads with no network, is small, takes any text, and sees."""

import random
from pathlib import Path

from transformers import AutoModelForImageTextToText, AutoProcessor

from data_tools.scenes.language import ask
from data_tools.scenes.render import to_png
from data_tools.scenes.structure import random_scene
from data_tools.schema import ImageRef, PreferenceRecord, user
from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import encode_prompt
from mmrlhf.models.generate import generate
from mmrlhf.models.load import TINY, load_vlm
from mmrlhf.models.vlm import decode

SCENES = 100


def answers(shift: int) -> dict[str, list[bool]]:
    """Whether greedy answers are right, by kind of question; each asked of the picture `shift` places on."""
    vlm = load_vlm(ModelConfig())
    rng = random.Random("scenes that training never drew")
    scenes = [random_scene(rng) for _ in range(SCENES)]
    pictures = [ImageRef.of_bytes(to_png(scene)) for scene in scenes]
    asked = []
    for index, scene in enumerate(scenes):
        for kind in ("color", "shape", "count", "position"):
            question = ask(rng, scene, kind)
            if question:
                shown = (pictures[(index + shift) % SCENES],)
                record = PreferenceRecord(f"{index}-{kind}", "test", (user(0, question.text),), images=shown)
                asked.append((question, encode_prompt(vlm, record)))
    said = generate(vlm, [prompt for _, prompt in asked], max_new_tokens=8, temperature=0)
    right: dict[str, list[bool]] = {}
    for (question, _), ids in zip(asked, said, strict=True):
        right.setdefault(question.kind, []).append(decode(vlm, ids) == question.reply)
    return right


def share(right: dict[str, list[bool]]) -> float:
    flat = [value for values in right.values() for value in values]
    return sum(flat) / len(flat)


def test_it_sees() -> None:
    """Above 90 % with the picture, below 50 % with another scene's: no answer can be had from the words alone."""
    right = answers(shift=0)
    assert {kind: len(values) > 60 for kind, values in right.items()} == dict.fromkeys(right, True)
    assert share(right) >= 0.9
    assert share(answers(shift=1)) <= 0.5


def test_it_loads_with_the_auto_classes() -> None:
    model = AutoModelForImageTextToText.from_pretrained(TINY, local_files_only=True)
    assert type(model).__name__ == "LlavaForConditionalGeneration"
    assert type(AutoProcessor.from_pretrained(TINY, local_files_only=True)).__name__ == "LlavaProcessor"


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in Path(TINY).glob("*.safetensors")) <= 8_000_000


def test_its_tokenizer_takes_any_text() -> None:
    tokenizer = AutoProcessor.from_pretrained(TINY, local_files_only=True).tokenizer
    for text in ("Ω≈ç√ 你好 🦊\t\n\x00", "naïve café", "  two  spaces  "):
        assert tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"]) == text
