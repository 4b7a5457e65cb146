"""How many tokens a model reads: beyond the positions that it was trained on, what it says means nothing."""

from __future__ import annotations

from typing import Any

from data_tools.errors import UserError

NAMES = ("max_position_embeddings", "n_positions", "max_seq_len")
STRETCHED = (
    "linear",
    "dynamic",
    "yarn",
    "longrope",
)  # kinds of rotary positions that are scaled to reach further


def read_context(config: Any) -> int | None:
    """The tokens of a prompt and its answer that a model of this config reads; None where the config doesn't tell."""
    text = config.get_text_config()
    size = next((n for name in NAMES if isinstance(n := getattr(text, name, None), int) and n > 0), None)
    rope = getattr(text, "rope_parameters", None) or {}
    factor = rope.get("factor")
    if size is None or rope.get("rope_type") not in STRETCHED or not isinstance(factor, int | float):
        return size
    # most write the positions before the stretch; with the original ones beside it, `size` may be those after it
    return max(size, int(factor * rope.get("original_max_position_embeddings", size)))


def room_for_prompts(context: int | None, answer_tokens: int, path: str, section: str = "") -> int | None:
    """The tokens that a model which reads `context` of them leaves to prompts, where answers have so many; None where
    there is no limit. `section`: of the config, that `max_answer_tokens` is in.

    Raises:
        UserError: it leaves none.
    """
    if context is None:
        return None
    if context <= answer_tokens:
        key = f"{section}.max_answer_tokens" if section else "max_answer_tokens"
        raise UserError(
            f"{key}: {answer_tokens:,} leave no room for a prompt in the {context:,} tokens that {path} reads; set it "
            "lower"
        )
    return context - answer_tokens
