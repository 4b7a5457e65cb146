"""What to set smaller where the GPU's memory is full: the settings that the work at hand reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

_TRAINING = "lora or model.gradient_checkpointing need less. Then --resume"
ADVICE = {
    "sft": f"a smaller sft.micro_batch_size or sft.micro_batch_tokens, {_TRAINING}",
    "reward": f"a smaller reward.micro_batch_size or reward.micro_batch_tokens, {_TRAINING}",
    "ppo": f"a smaller ppo.micro_batch_size, ppo.micro_batch_tokens or ppo.generate_batch_size, {_TRAINING}",
    "evaluate": "a smaller evaluate.generate_batch_size, evaluate.micro_batch_size or evaluate.micro_batch_tokens "
    "needs less. Then --resume, which keeps what is trained",
    "evaluate reward": "a smaller evaluate.micro_batch_size or evaluate.micro_batch_tokens needs less",
    "evaluate reward --model": "a smaller --batch-size needs less",
}
OTHERWISE = "a smaller model, or model.dtype bfloat16, needs less"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error is torch's, which is told by name, so that torch needn't be imported."""
    return type(error).__name__ == "OutOfMemoryError"


@contextlib.contextmanager
def advising(work: str) -> Iterator[None]:
    """While it lasts, an out-of-memory error is given the advice for a kind of work (a key of `ADVICE`)."""
    try:
        yield
    except Exception as error:
        if is_out_of_memory(error):
            error.add_note(ADVICE[work])
        raise


def advice(error: BaseException) -> str:
    """What to set smaller, by where it was raised."""
    return next(iter(getattr(error, "__notes__", ())), OTHERWISE)
