"""Prompts of a stage leave room for its answers in what the model reads."""

from __future__ import annotations

from accelerate import Accelerator

from mmrlhf.config import StageConfig
from mmrlhf.models.context import room_for_prompts
from mmrlhf.models.vlm import VLM
from mmrlhf.terminal import console


def fit_context(vlm: VLM, config: StageConfig, accelerator: Accelerator) -> None:
    """Keeps room for a stage's answers behind each of the model's prompts; where `max_prompt_tokens` was set to more
    than what is left, the terminal tells so.

    Raises:
        UserError: an answer of max_answer_tokens leaves no room for a prompt.
    """
    vlm.answer_room = config.max_answer_tokens
    left = room_for_prompts(vlm.context, config.max_answer_tokens, vlm.path)
    if left is None:
        return
    asked = config.max_prompt_tokens if "max_prompt_tokens" in config.model_fields_set else 0
    if asked > left and accelerator.is_main_process:
        console.print(
            f"max_prompt_tokens {asked:,} and max_answer_tokens {config.max_answer_tokens:,} are more than the "
            f"{vlm.context:,} tokens that {vlm.path} reads: prompts of more than {left:,} are left out",
            style="yellow",
            markup=False,
        )
