"""The optimizers a config can name: torch's AdamW, and one that keeps its moments in 8 bits."""

from __future__ import annotations

from typing import Any

import torch

from data_tools.errors import UserError
from mmrlhf.config import OptimConfig


def make_optimizer(groups: list[dict[str, Any]], config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer that `config.name` asks for, over groups with their own `lr` and `weight_decay`.

    adamw_8bit keeps both moments of tensors of 4,096 numbers or more in 8 bits (Dettmers et al. 2022): 2 bytes a
    parameter in place of 8. It can't work on weights that are split over processes.

    Raises:
        UserError: bitsandbytes isn't installed, or doesn't run here.
    """
    if config.name == "adamw":
        return torch.optim.AdamW(groups, betas=config.betas)
    try:
        from bitsandbytes.optim import AdamW8bit
    except (ImportError, OSError, RuntimeError) as error:
        raise UserError(
            f"optim.name: adamw_8bit needs bitsandbytes ({error}): pip install 'mmrlhf[8bit]', or set it to adamw"
        ) from error
    return AdamW8bit(groups, betas=config.betas)
