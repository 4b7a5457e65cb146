"""The reward model: one backbone, one forward, a head of one or several members for each objective.

A head abstains where it learnt nothing: the card says on which modalities each objective was judged in training, and
elsewhere its reward is 0 and masked out, never an extrapolation.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from data_tools.errors import RunError, UserError
from mmrlhf.config import ModelConfig
from mmrlhf.file_hashes import check_hashes
from mmrlhf.models.adapters import base_fingerprint
from mmrlhf.models.batch import collate, micro_batches
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import save_vlm
from mmrlhf.models.vlm import VLM, hidden_states, in_float32
from mmrlhf.rewards import gate as gates
from mmrlhf.rewards import heads as files
from mmrlhf.rewards.card import CARD, FORMAT, RewardCard, read_card, write_card
from mmrlhf.rewards.heads import Heads, RatingScale
from mmrlhf.types import Rewards, Row, TokenBatch

HEADS = "reward_heads.safetensors"


class NonFiniteReward(RunError):
    """A reward is NaN or infinite."""


class RewardOutput(NamedTuple):
    """All that one forward tells of a batch's answers, float32."""

    rewards_BKM: Tensor
    ratings_BKM: Tensor  # the same on the scale of ratings, where 0 is the lowest and 1 the highest
    prompt_BD: Tensor | None  # hidden states at the ends of prompts, for the gate; None without one


class RewardModel(nn.Module):
    """A vision-language trunk with K heads of M members on the hidden state of each row's last real token."""

    def __init__(self, vlm: VLM, card: RewardCard) -> None:
        super().__init__()
        self.vlm, self.card = vlm, card
        self.model = vlm.model
        self.width, count = vlm.head.weight.shape[1], len(card.objectives)
        # float32, also on a bf16 trunk
        self.heads = Heads(self.width, count, card.members, card.hidden, vlm.device)
        self.rating_scale = RatingScale(count, vlm.device)
        self.gate: gates.Gate | None = None
        if card.gate:
            # learnt when the heads are done, not with them
            self.gate = gates.Gate(self.width, count, card.gate.hidden, vlm.device).requires_grad_(False)

    def forward(self, batch: TokenBatch, full: bool = False) -> Tensor | RewardOutput:
        """Raw rewards: (B, K, M), float32; where `full`, with what else the model makes of the answers."""
        hidden = hidden_states(self.vlm, batch)
        rewards_BKM = in_float32(self.heads, hidden[batch.row_B, batch.last_B])
        if not full:
            return rewards_BKM
        prompt_BD = None if self.gate is None else hidden[batch.row_B, gates.prompt_ends(batch)].float()
        return RewardOutput(rewards_BKM, self.rating_scale(rewards_BKM), prompt_BD)

    def applies(self, rows: Sequence[Row]) -> Tensor:
        """Whether each objective was judged on prompts like each row's: bool (B, K), on the CPU."""
        table = [
            [row.prompt.modality in self.card.norms.get(o, {}) for o in self.card.objectives] for row in rows
        ]
        return torch.tensor(table, dtype=torch.bool).reshape(len(rows), len(self.card.objectives))

    @torch.no_grad()
    def read(
        self, rows: Sequence[Row], micro_batch_size: int, micro_batch_tokens: int | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Raw rewards (B, K, M) and, where there is a gate, the hidden states that it reads (B, D); on the CPU. Reads
        at most so many rows, and padded tokens, at a time."""
        rewards_BKM = torch.zeros(len(rows), len(self.card.objectives), self.card.members)
        states_BD = torch.zeros(len(rows), self.width if self.gate else 0)
        for part in micro_batches(rows, micro_batch_size, micro_batch_tokens, self.vlm):
            out = self(collate(self.vlm, [rows[i] for i in part], self.vlm.device), full=True)
            rewards_BKM[part] = out.rewards_BKM.cpu()
            if out.prompt_BD is not None:
                states_BD[part] = out.prompt_BD.cpu()
        return rewards_BKM, None if self.gate is None else states_BD

    def score(
        self,
        rows: Sequence[Row],
        micro_batch_size: int,
        normalised: bool = True,
        finite: bool = True,
        micro_batch_tokens: int | None = None,
    ) -> Tensor:
        """Rewards (B, K) on the CPU, the mean of each head's members; by default (r - mean) / std of the training
        responses of the same modality, raw where an objective doesn't apply.

        Raises:
            NonFiniteReward: a reward isn't finite, unless `finite` is False; the message names the objective and the
                record.
        """
        rewards_BKM, _ = self.read(rows, micro_batch_size, micro_batch_tokens)
        rewards_BK = rewards_BKM.mean(-1)
        if finite:
            self.check_finite(rows, rewards_BK)
        if not normalised:
            return rewards_BK
        mean_BK, std_BK = self._norms(rows)
        return (rewards_BK - mean_BK) / std_BK

    @torch.no_grad()
    def judge(
        self,
        rows: Sequence[Row],
        micro_batch_size: int,
        finite: bool = True,
        micro_batch_tokens: int | None = None,
    ) -> Rewards:
        """Normalised rewards, the mean of each head's members, 0 where an objective doesn't apply to such a prompt; how
        far the members lie apart (deviation in the same units, 0 of one member); and the gate's weights.

        Raises:
            NonFiniteReward: as in `score`.
        """
        rewards_BKM, prompt_BD = self.read(rows, micro_batch_size, micro_batch_tokens)
        judged_BK = self.applies(rows)
        mean_BK, scale_BK = self._norms(rows)
        rewards_BK = rewards_BKM.mean(-1)
        if finite:
            self.check_finite(rows, rewards_BK)
        apart_BK = rewards_BKM.std(-1) if self.card.members > 1 else torch.zeros_like(rewards_BK)
        return Rewards(
            objectives=tuple(self.card.objectives),
            mean_BK=((rewards_BK - mean_BK) / scale_BK).masked_fill(~judged_BK, 0.0),
            judged_BK=judged_BK,
            std_BK=(apart_BK / scale_BK).masked_fill(~judged_BK, 0.0),
            gate_BK=None if prompt_BD is None else self._gate_weights(prompt_BD, judged_BK),
        )

    def _gate_weights(self, prompt_BD: Tensor, judged_BK: Tensor) -> Tensor:
        assert self.gate is not None
        return gates.weights_of(self.gate(prompt_BD.to(self.vlm.device)).cpu(), judged_BK)

    def check_finite(self, rows: Sequence[Row], rewards_BK: Tensor) -> None:
        """Sees that there is a reward of each row on each objective.

        Raises:
            NonFiniteReward: there isn't; the message names the objective and the record.
        """
        bad = (~rewards_BK.isfinite()).nonzero()
        if len(bad):
            row, k = bad[0].tolist()
            name, record = self.card.objectives[k], rows[row].prompt.record.id
            raise NonFiniteReward(f"the reward for {name} of record {record} is {rewards_BK[row, k]}")

    def _norms(self, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
        """The mean and deviation that each reward is told against: (B, K) each."""
        table = [
            [self.card.norms.get(o, {}).get(row.prompt.modality, (0.0, 1.0)) for o in self.card.objectives]
            for row in rows
        ]
        mean_BK, std_BK = torch.tensor(table).reshape(len(rows), len(self.card.objectives), 2).unbind(-1)
        return mean_BK, std_BK

    def reads_like(self, vlm: VLM) -> bool:
        """Whether another model's prompts serve this one: both make the same of every record."""
        return self.vlm.reading == vlm.reading

    def save(self, directory: Path) -> None:
        """Saves the trunk for transformers, and the heads and the card beside it."""
        save_vlm(self.vlm, directory)
        tensors = files.to_file(self.card.objectives, self.heads, self.rating_scale)
        save_file(tensors | (gates.to_file(self.gate) if self.gate else {}), directory / HEADS)
        self.card.base = base_fingerprint(self.vlm) if self.vlm.has_adapters else None
        write_card(self.card, directory / CARD)


def load_reward_model(
    path: str | Path, device: torch.device | str = "cpu", model: ModelConfig | None = None
) -> RewardModel:
    """Reads what `RewardModel.save` wrote; frozen, ready to score, on a backbone of its own.

    Raises:
        UserError: not a reward model's folder, or its parts don't fit each other.
    """
    card, tensors = read_files(Path(path))
    settings = (model or ModelConfig()).model_copy(update={"path": str(path), "lora": None})
    return with_heads(load_vlm(settings, device), card, tensors)


def read_files(directory: Path) -> tuple[RewardCard, dict[str, Tensor]]:
    """The card and the tensors of the heads of a reward model.

    Raises:
        UserError: not a reward model's folder, or damaged.
    """
    check_hashes(directory, lambda name: name in (CARD, HEADS))
    try:
        card, form = read_card(directory / CARD)
        tensors = load_file(directory / HEADS)
    except FileNotFoundError as error:
        gone = CARD if not (directory / CARD).exists() else HEADS
        raise UserError(f"{directory}: no reward model there ({gone} is missing)") from error
    except (OSError, SafetensorError) as error:
        raise UserError(f"{directory / HEADS}: is damaged: {error}") from error
    return card, tensors if form == FORMAT else files.of_format_2(card.objectives, tensors)


def with_heads(vlm: VLM, card: RewardCard, tensors: dict[str, Tensor]) -> RewardModel:
    """A frozen reward model of a frozen trunk, or one that is frozen as far as it is the reward model's.

    Raises:
        UserError: the heads don't fit the card or the trunk.
    """
    reward_model = RewardModel(vlm, card)
    path = str(Path(vlm.path) / HEADS)
    files.from_file(path, card.objectives, tensors, reward_model.heads, reward_model.rating_scale)
    gates.from_file(path, tensors, reward_model.gate)
    for own in (reward_model.heads, reward_model.rating_scale):
        own.requires_grad_(False)
    return reward_model.eval()
