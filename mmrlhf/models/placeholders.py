"""Tokens that stand for pictures, sound and video, or mark their places: a processor writes them, a policy never does.

They are gathered from all that names them: the attributes of processor and tokenizer, the model's config, the text of
special tokens, and what the processor writes around pictures of several shapes. Where one of a numbered kind is known
(`<row_1_col_2>`), all of its kind are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

KIND = re.compile(
    "image|img|vision|visual|video|audio|sound|speech|frame|slice|tile|patch|thumbnail|pixel|"
    "(?<![a-z])(boi|eoi|boa|eoa|bov|eov)(?![a-z])",
    re.IGNORECASE,
)
IDS = re.compile("_ids?$|token_index$|token_indices$")
# what processors, tokenizers and configs of most families call them
NAMES = (
    "image_token",
    "video_token",
    "audio_token",
    "fake_image_token",
    "global_image_tag",
    "global_image_token",
    "start_image_token",
    "end_image_token",
    "boi_token",
    "eoi_token",
)
CONFIG_KINDS = ("image", "video", "audio", "vision_start", "vision_end")
USUAL = ("bos", "eos", "pad", "unk", "sep", "cls", "mask")


def added_tokens(tokenizer: Any) -> dict[int, str]:
    """The text of each token beside the vocabulary that was learnt, by its id; the named ones too."""
    added = {int(i): str(token) for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    named = [str(text) for text in tokenizer.all_special_tokens]
    ids = tokenizer.convert_tokens_to_ids(named)
    return added | {i: text for i, text in zip(ids, named, strict=True) if i is not None}


def named_placeholders(model: Any, processor: Any) -> set[int]:
    """The ids of placeholders by their names; some may lie outside the model's head."""
    tokenizer = processor.tokenizer
    added = added_tokens(tokenizer)
    ids = {text: i for i, text in added.items()}
    found = {_id_of(tokenizer, text) for text in placeholder_texts(processor)}
    found |= {
        getattr(model.config, f"{kind}_token_{end}", None) for kind in CONFIG_KINDS for end in ("id", "index")
    }
    found |= {ids[text] for text in _written(processor) if text in ids}
    found |= {i for i in _ids_in(vars(processor)) if i in added}
    found |= {i for i in _ids_in(model.config.to_dict()) if i in added}
    special = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    found |= {i for i, text in added.items() if text in special and KIND.search(text)}
    return {i for i in found if isinstance(i, int) and i >= 0}


def placeholder_texts(processor: Any) -> set[str]:
    """What the processor and the tokenizer call placeholders."""
    texts = [getattr(owner, name, None) for owner in (processor, processor.tokenizer) for name in NAMES]
    return {str(text) for text in texts if text}


def _written(processor: Any) -> Iterator[str]:
    """What a processor keeps to write it into prompts, and what its tokenizer names for pictures, sound and video; not
    the ends and paddings that every tokenizer has."""
    tokenizer = processor.tokenizer
    usual = {str(getattr(tokenizer, f"{name}_token", None)) for name in USUAL}
    yield from (text for text in _texts(vars(processor).values()) if text not in usual)
    for owner in (tokenizer.special_tokens_map, vars(tokenizer)):
        yield from _texts(value for name, value in owner.items() if KIND.search(name))


def same_kind(tokenizer: Any, ids: Iterable[int]) -> set[int]:
    """The ids, and those of added tokens that differ from one of them in numbers only."""
    added = added_tokens(tokenizer)
    kinds = {_without_numbers(added[i]) for i in ids if i in added and re.search(r"\d", added[i])}
    return {*ids, *(i for i, text in added.items() if _without_numbers(text) in kinds)}


def _without_numbers(text: str) -> str:
    return re.sub(r"\d+", "0", text)


def _id_of(tokenizer: Any, text: str) -> int | None:
    i = tokenizer.convert_tokens_to_ids(text)
    return None if i == tokenizer.unk_token_id else i


def _ids_in(settings: Mapping[str, Any]) -> Iterator[int]:
    """The numbers in settings whose names say that they are ids of such tokens, at any depth."""
    for key, value in settings.items():
        name = str(key)
        if isinstance(value, dict):
            yield from _ids_in(value)
        elif KIND.search(name) and IDS.search(name):
            values = value if isinstance(value, list | tuple) else [value]
            yield from (n for n in values if isinstance(n, int))


def _texts(values: Iterable[Any]) -> Iterator[str]:
    for value in values:
        items = value if isinstance(value, list | tuple | set) else [value]
        yield from (str(item) for item in items if isinstance(item, str) or hasattr(item, "content"))
