"""The reward model: one backbone, one forward, one head an objective.

A head abstains where it learnt nothing: the card says on which modalities each objective was compared in training,
and elsewhere its reward is 0 and masked out, never an extrapolation.
"""

from __future__ import annotations

import json
import math
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
from mmrlhf.models.adapters import base_fingerprint
from mmrlhf.models.batch import collate, micro_batches
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import save_vlm
from mmrlhf.models.vlm import VLM, hidden_states, in_float32
from mmrlhf.types import Rewards, Row, TokenBatch

HEADS, CARD = "reward_heads.safetensors", "reward.json"
FORMAT = 2


class NonFiniteReward(RunError):
    """A reward is NaN or infinite."""


@dataclass
class RewardCard:
    """What is known of a trained reward model beside its weights.

    `norms` holds, by objective and by each modality on which it was compared in training, the mean and deviation of
    the raw rewards of the responses that were judged. They are kept apart since a head's rewards may spread several
    times wider over text than over pictures; one deviation for both would make the narrower one weigh little.
    """

    objectives: list[str]
    norms: dict[str, dict[Modality, tuple[float, float]]] = field(default_factory=dict)
    base: str | None = None  # with LoRA the fingerprint of what its adapter was trained on


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
        last_BD = hidden[batch.row_B, batch.last_B]
        return in_float32(self.heads, last_BD)

    def applies(self, rows: Sequence[Row]) -> Tensor:
        """Whether each objective was judged on prompts like each row's: bool (B, K), on the CPU."""
        table = [
            [row.prompt.modality in self.card.norms.get(o, {}) for o in self.card.objectives] for row in rows
        ]
        return torch.tensor(table, dtype=torch.bool).reshape(len(rows), len(self.card.objectives))

    @torch.no_grad()
    def score(
        self,
        rows: Sequence[Row],
        micro_batch_size: int,
        normalised: bool = True,
        finite: bool = True,
        micro_batch_tokens: int | None = None,
    ) -> Tensor:
        """Rewards (B, K) on the CPU, by default (r - mean) / std of the training responses of the same modality;
        raw where an objective doesn't apply. Reads at most so many rows, and padded tokens, at a time.

        Raises:
            NonFiniteReward: a reward isn't finite, unless `finite` is False; the message names the objective and the
                record.
        """
        rewards_BK = torch.zeros(len(rows), len(self.card.objectives))
        for part in micro_batches(rows, micro_batch_size, micro_batch_tokens, self.vlm):
            rewards_BK[part] = self(collate(self.vlm, [rows[i] for i in part], self.vlm.device)).cpu()
        bad = (~rewards_BK.isfinite()).nonzero()
        if finite and len(bad):
            row, k = bad[0].tolist()
            name, record = self.card.objectives[k], rows[row].prompt.record.id
            raise NonFiniteReward(f"the reward for {name} of record {record} is {rewards_BK[row, k]}")
        return self._normalised(rows, rewards_BK) if normalised else rewards_BK

    def judge(
        self,
        rows: Sequence[Row],
        micro_batch_size: int,
        finite: bool = True,
        micro_batch_tokens: int | None = None,
    ) -> Rewards:
        """Normalised rewards, 0 where an objective doesn't apply to such a prompt, and how unsure the model is.

        Raises:
            NonFiniteReward: as in `score`.
        """
        judged_BK = self.applies(rows)
        mean_BK = self.score(rows, micro_batch_size, finite=finite, micro_batch_tokens=micro_batch_tokens)
        mean_BK = mean_BK.masked_fill(~judged_BK, 0.0)
        return Rewards(tuple(self.card.objectives), mean_BK, judged_BK, torch.zeros_like(mean_BK))

    def _normalised(self, rows: Sequence[Row], rewards_BK: Tensor) -> Tensor:
        table = [
            [self.card.norms.get(o, {}).get(row.prompt.modality, (0.0, 1.0)) for o in self.card.objectives]
            for row in rows
        ]
        mean_BK, std_BK = torch.tensor(table).reshape(*rewards_BK.shape, 2).unbind(-1)
        return (rewards_BK - mean_BK) / std_BK

    def reads_like(self, vlm: VLM) -> bool:
        """Whether another model's prompts serve this one: both make the same of every record."""
        return self.vlm.reading == vlm.reading

    def save(self, directory: Path) -> None:
        """Saves the trunk for transformers, and the heads and the card beside it."""
        save_vlm(self.vlm, directory)
        save_file(
            {k: v.detach().cpu().contiguous() for k, v in self.heads.state_dict().items()}, directory / HEADS
        )
        self.card.base = base_fingerprint(self.vlm) if self.vlm.has_adapters else None
        card = {"format": FORMAT, **vars(self.card)}
        (directory / CARD).write_text(json.dumps(card, indent=2) + "\n")


def load_reward_model(
    path: str | Path, device: torch.device | str = "cpu", model: ModelConfig | None = None
) -> RewardModel:
    """Reads what `RewardModel.save` wrote; frozen, ready to score, on a backbone of its own.

    Raises:
        UserError: not a reward model's folder, or its parts don't fit each other.
    """
    card, heads = read_files(Path(path))
    settings = (model or ModelConfig()).model_copy(update={"path": str(path), "lora": None})
    return with_heads(load_vlm(settings, device), card, heads)


def read_files(directory: Path) -> tuple[RewardCard, dict[str, Tensor]]:
    """The card and the heads of a reward model.

    Raises:
        UserError: not a reward model's folder, or damaged.
    """
    try:
        card = _read_card(directory / CARD)
        heads = load_file(directory / HEADS)
    except FileNotFoundError as error:
        gone = CARD if not (directory / CARD).exists() else HEADS
        raise UserError(f"{directory}: no reward model there ({gone} is missing)") from error
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory / HEADS}: is damaged: {error}") from error
    return card, heads


def with_heads(vlm: VLM, card: RewardCard, heads: dict[str, Tensor]) -> RewardModel:
    """A frozen reward model of a frozen trunk, or one that is frozen as far as it is the reward model's.

    Raises:
        UserError: the heads don't fit the card or the trunk.
    """
    reward_model = RewardModel(vlm, card)
    own = {name: tuple(value.shape) for name, value in reward_model.heads.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in heads.items()}
    if found != own:
        raise UserError(
            f"{vlm.path}: heads of shapes {found}, but {len(card.objectives)} objectives need {own}"
        )
    reward_model.heads.load_state_dict(heads)
    reward_model.heads.requires_grad_(False)
    return reward_model.eval()


def _read_card(path: Path) -> RewardCard:
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row.pop("format", None) != FORMAT:
            raise UserError(f"{path}: not of format {FORMAT}, made by another version")
        if unknown := row.keys() - {"objectives", "norms", "base"}:
            raise ValueError(f"it has the unknown keys {', '.join(sorted(unknown))}")
        norms = {o: {m: (float(n[0]), float(n[1])) for m, n in of.items()} for o, of in row["norms"].items()}
        card = RewardCard(row["objectives"], norms, row.get("base"))
        known = {o: set(of) <= {"text", "image-text"} for o, of in norms.items()}
        if not card.objectives or sorted(known) != sorted(card.objectives) or not all(known.values()):
            raise ValueError("norms must tell for each objective on which modalities it was compared")
        if not all(
            math.isfinite(mean) and 0 < std < math.inf for of in norms.values() for mean, std in of.values()
        ):
            raise ValueError("a mean isn't finite, or a deviation isn't above 0")
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: is damaged: {error}") from error
    return card
