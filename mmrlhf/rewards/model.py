"""The reward model: one backbone, one forward, one head an objective.

A head abstains where it learnt nothing: `judged` says on which modalities each objective was compared in training,
and elsewhere its reward is 0 and masked out, never an extrapolation.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_tools.errors import RunError, UserError
from data_tools.schema import Modality
from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import collate
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import save_vlm
from mmrlhf.models.vlm import VLM, hidden_states
from mmrlhf.types import Row, TokenBatch

HEADS, CARD = "reward_heads.safetensors", "reward.json"
FORMAT = 1


class NonFiniteReward(RunError):
    """A reward is NaN or infinite."""


@dataclass
class RewardCard:
    """What is known of a trained reward model beside its weights; all lists are in the order of `objectives`."""

    objectives: list[str]
    mean: list[float] = field(default_factory=list)  # of raw rewards on training responses that were judged
    std: list[float] = field(default_factory=list)
    judged: dict[str, list[Modality]] = field(
        default_factory=dict
    )  # objective -> modalities it was compared on


class RewardModel(nn.Module):
    """A vision-language trunk with K linear heads on the hidden state of each row's last real token."""

    def __init__(self, vlm: VLM, card: RewardCard) -> None:
        super().__init__()
        self.vlm, self.card = vlm, card
        self.model = vlm.model
        width = vlm.core.get_output_embeddings().weight.shape[1]
        self.heads = nn.Linear(
            width, len(card.objectives), device=vlm.device
        )  # float32, also on a bf16 trunk
        nn.init.normal_(self.heads.weight, std=1 / (width + 1))
        nn.init.zeros_(self.heads.bias)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Raw rewards: (B, K), float32."""
        hidden = hidden_states(self.vlm, batch)
        last_BD = hidden[torch.arange(len(hidden), device=hidden.device), batch.last_B]
        return self.heads(last_BD.to(self.heads.weight.dtype)).float()

    def applies(self, rows: Sequence[Row]) -> Tensor:
        """Whether each objective was judged on prompts like each row's: bool (B, K), on the CPU."""
        table = [
            [row.prompt.modality in self.card.judged.get(o, []) for o in self.card.objectives] for row in rows
        ]
        return torch.tensor(table, dtype=torch.bool).reshape(len(rows), len(self.card.objectives))

    @torch.no_grad()
    def score(self, rows: Sequence[Row], micro_batch_size: int, normalised: bool = True) -> Tensor:
        """Rewards (B, K) on the CPU, by default (r - mean) / std of the training responses.

        Raises:
            NonFiniteReward: a reward isn't finite; the message names the objective and the record.
        """
        # rows of like length together waste less padding
        order = sorted(
            range(len(rows)), key=lambda i: len(rows[i].prompt.input_ids) + len(rows[i].answer_ids)
        )
        rewards_BK = torch.zeros(len(rows), len(self.card.objectives))
        for start in range(0, len(rows), micro_batch_size):
            part = order[start : start + micro_batch_size]
            rewards_BK[part] = self(collate(self.vlm, [rows[i] for i in part], self.vlm.device)).cpu()
        bad = (~rewards_BK.isfinite()).nonzero()
        if len(bad):
            row, k = bad[0].tolist()
            name, record = self.card.objectives[k], rows[row].prompt.record.id
            raise NonFiniteReward(f"the reward for {name} of record {record} is {rewards_BK[row, k]}")
        if normalised:
            mean, std = torch.tensor(self.card.mean), torch.tensor(self.card.std)
            rewards_BK = (rewards_BK - mean) / std
        return rewards_BK

    def save(self, directory: Path) -> None:
        """Saves the trunk for transformers, and the heads and the card beside it."""
        save_vlm(self.vlm, directory)
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in self.heads.state_dict().items()}, directory / HEADS
        )
        card = {"format": FORMAT, **vars(self.card)}
        (directory / CARD).write_text(json.dumps(card, indent=2) + "\n")


def load_reward_model(
    path: str | Path, device: torch.device | str = "cpu", model: ModelConfig | None = None
) -> RewardModel:
    """Reads what `RewardModel.save` wrote; frozen, ready to score.

    Raises:
        UserError: not a reward model's folder, or its parts don't fit each other.
    """
    directory = Path(path)
    try:
        card = _read_card(directory / CARD)
        heads = load_file(directory / HEADS)
    except FileNotFoundError as error:
        gone = CARD if not (directory / CARD).exists() else HEADS
        raise UserError(f"{directory}: no reward model there ({gone} is missing)") from error
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory / HEADS}: is damaged: {error}") from error
    settings = (model or ModelConfig()).model_copy(update={"path": str(directory), "lora": None})
    reward_model = RewardModel(load_vlm(settings, device), card)
    own = {name: tuple(value.shape) for name, value in reward_model.heads.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in heads.items()}
    if found != own:
        raise UserError(
            f"{directory}: heads of shapes {found}, but {len(card.objectives)} objectives need {own}"
        )
    reward_model.heads.load_state_dict(heads)
    return reward_model.requires_grad_(False).eval()


def _read_card(path: Path) -> RewardCard:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row.pop("format", None) != FORMAT:
            raise UserError(f"{path}: not of format {FORMAT}, made by another version")
        card = RewardCard(**row)
        counts = {len(card.objectives), len(card.mean), len(card.std)}
        if len(counts) > 1 or not counts.pop() or not min(card.std) > 0 or not isinstance(card.judged, dict):
            raise ValueError(
                "it needs a mean and a std above 0 for each objective, and where each was judged"
            )
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is damaged: {error}") from error
    return card
