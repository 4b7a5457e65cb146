"""A learned gate: how much each objective counts for a prompt (ArmoRM; Wang et al. 2024, "Interpretable Preferences via
Multi-Objective Reward Modeling and Mixture-of-Experts").

As there it is learnt when the heads are done and no longer change, from comparisons of an overall objective, which
needs no head of its own. Left out on purpose: ArmoRM's correction of each reward for length.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.config import GateConfig
from mmrlhf.rewards.losses import bradley_terry
from mmrlhf.types import TokenBatch


class Gate(nn.Module):
    """From the hidden state of a prompt's last token (B, D) to logits of the objectives (B, K)."""

    def __init__(
        self, width: int, objectives: int, hidden: int | None, device: torch.device | None = None
    ) -> None:
        super().__init__()
        # hidden states of different prompts mostly differ in direction
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.inner = nn.Linear(width, hidden, device=device) if hidden else None
        self.weigh = nn.Linear(hidden or width, objectives, device=device)
        # all objectives count alike until something is learnt
        nn.init.zeros_(self.weigh.weight)
        nn.init.zeros_(self.weigh.bias)

    def forward(self, hidden_BD: Tensor) -> Tensor:
        x = self.norm(hidden_BD)
        return self.weigh(x if self.inner is None else torch.relu(self.inner(x)))


def prompt_ends(batch: TokenBatch) -> Tensor:
    """Where in its row the last token of each answer's prompt lies: (B,)."""
    if not batch.answer_mask_BT.shape[1]:
        return batch.last_B
    return torch.where(batch.answer_mask_BT[:, 0], batch.at_BT[:, 0], batch.last_B)


def weights_of(logits_BK: Tensor, judged_BK: Tensor) -> Tensor:
    """The gate's weights: a softmax over the objectives that apply to each prompt; rows sum to 1 (where none applies,
    it is over all)."""
    shut_BK = ~judged_BK & judged_BK.any(1, keepdim=True)
    return logits_BK.masked_fill(shut_BK, float("-inf")).softmax(1)


def fit(
    gate: Gate,
    config: GateConfig,
    hidden_ND: Tensor,
    gap_NK: Tensor,
    judged_NK: Tensor,
    tie_N: Tensor,
    seed: int,
) -> tuple[float | None, float | None]:
    """Learns the gate from N comparisons of the overall objective: the hidden states of their prompts, the normalised
    rewards of the better answer minus those of the worse, and which objectives apply. Gives the share of decided
    comparisons that equal weights order rightly, and that the gate does (None where all are ties).

    The loss is Bradley-Terry's on beta * sum_k w_k gap_k, beta > 0 learnt along and then dropped. All comparisons make
    one batch; the same seed gives the same gate.
    """
    device = hidden_ND.device
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        if gate.inner is not None:
            bound = 1 / math.sqrt(hidden_ND.shape[1])
            first = torch.empty(gate.inner.weight.shape).uniform_(-bound, bound, generator=generator)
            gate.inner.weight.copy_(first)
            gate.inner.bias.zero_()
        gate.weigh.weight.zero_()
        gate.weigh.bias.zero_()
    log_beta = torch.zeros((), device=device, requires_grad=True)
    groups = [
        {"params": list(gate.parameters()), "weight_decay": config.weight_decay},
        {"params": [log_beta], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=config.lr)
    gap_NK = gap_NK.masked_fill(~judged_NK, 0.0)
    zero_N = torch.zeros(len(gap_NK), device=device)

    def score() -> Tensor:
        return (weights_of(gate(hidden_ND), judged_NK) * gap_NK).sum(1)

    def right() -> float | None:
        return None if tie_N.all() else float((score()[~tie_N] > 0).float().mean())

    before = right()
    gate.requires_grad_(True)
    with torch.enable_grad():
        for _ in range(config.steps):
            loss = bradley_terry(log_beta.exp() * score(), zero_N, tie_N).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    gate.requires_grad_(False)
    return before, right()


def to_file(gate: Gate) -> dict[str, Tensor]:
    """The gate's tensors for a file of heads."""
    return {f"gate/{name}": value.detach().cpu().clone() for name, value in gate.state_dict().items()}


def from_file(path: str, tensors: Mapping[str, Tensor], gate: Gate | None) -> None:
    """Fills a gate with what `to_file` made.

    Raises:
        UserError: there is none where the card tells of one, or the other way round, or it is of another shape.
    """
    found = {k.removeprefix("gate/"): v for k, v in tensors.items() if k.startswith("gate/")}
    own = {} if gate is None else gate.state_dict()
    shapes = [{name: tuple(value.shape) for name, value in of.items()} for of in (found, own)]
    if shapes[0] != shapes[1]:
        raise UserError(
            f"{path}: its gate has the shapes {shapes[0]}, but the card and the model need {shapes[1]}"
        )
    if gate is not None:
        gate.load_state_dict(found)
