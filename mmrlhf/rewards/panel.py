"""All that judges an answer: the learned reward model, where there is one, and the other objectives beside it.

What is judged is a record and a text, not the tokens that the policy read and wrote: judges read in ways of their own.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from data_tools.errors import RunError, UserError
from data_tools.schema import PreferenceRecord
from mmrlhf.models.batch import encode_answer, encode_prompt
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.model import NonFiniteReward, RewardModel
from mmrlhf.rewards.objectives import ObjectiveBase
from mmrlhf.rewards.objectives.base import raised
from mmrlhf.types import EncodedPrompt, Rewards, Row


class Panel:
    """The judges of a run; `objectives` are the columns of what they say, the heads of the reward model first."""

    def __init__(self, model: RewardModel | None, others: Sequence[ObjectiveBase] = ()) -> None:
        self.model, self.others = model, tuple(others)
        heads = list(model.card.objectives) if model else []
        self.objectives = [*heads, *(name for other in self.others for name in other.names)]
        assert self.objectives
        assert len(set(self.objectives)) == len(self.objectives)  # the config refuses others

    def open(self) -> None:
        """Opens what the objectives need.

        Raises:
            UserError, RunError: something is missing; the message names the objective.
        """
        for other in self.others:
            other.open()

    @property
    def blind(self) -> list[str]:
        """The objectives whose rewards never change with the images, by what they are."""
        return [name for other in self.others if not other.looks for name in other.names]

    def reads_like(self, vlm: VLM) -> bool:
        """Whether a model's prompts serve the reward model: both make the same of every record."""
        return self.model is not None and self.model.reads_like(vlm)

    def score(
        self,
        records: Sequence[PreferenceRecord],
        texts: Sequence[str],
        batch_size: int,
        batch_tokens: int | None = None,
        finite: bool = True,
        prompts: Sequence[EncodedPrompt] = (),
    ) -> Rewards:
        """What all judges say of each record's answer. `prompts` are the records' as another model encoded them, whose
        prompts serve the reward model too (`reads_like`); without, it encodes them itself.

        Raises:
            NonFiniteReward: a reward isn't finite, unless `finite` is False; it names the objective and the record.
            RunError: an objective can't be asked, or what it answers is no reward; it names the objective.
        """
        parts = []
        if self.model:
            parts.append(score_texts(self.model, records, texts, batch_size, batch_tokens, finite, prompts))
        parts += [_ask(other, records, texts) for other in self.others]
        rewards = join(parts)
        if finite:
            _check_finite(rewards, records)
        return rewards

    def swap_gap(
        self,
        rewards: Rewards,
        texts: Sequence[str],
        swapped: Sequence[PreferenceRecord | None],
        batch_size: int,
        batch_tokens: int | None = None,
        finite: bool = True,
    ) -> tuple[Tensor, Tensor]:
        """By how much each answer's rewards fall when it is read under another record's images: (B, K), and where that
        can be told: bool (B, K). `swapped` holds the records with those images, None where there is none.

        An objective that doesn't look isn't asked again: its gap is 0.

        Raises:
            NonFiniteReward, RunError: as in `score`.
        """
        at = [i for i, record in enumerate(swapped) if record is not None]
        gap_BK = torch.full_like(rewards.mean_BK, torch.nan)
        if not at:
            return torch.zeros_like(gap_BK), torch.zeros_like(rewards.judged_BK)
        records, said = [record for record in swapped if record is not None], [texts[i] for i in at]
        same = rewards.select(torch.tensor(at, dtype=torch.int64))
        parts, k = [], 0
        if self.model:
            k = len(self.model.card.objectives)
            parts.append(score_texts(self.model, records, said, batch_size, batch_tokens, finite))
        for other in self.others:
            here = slice(k, k + len(other.names))
            parts.append(_ask(other, records, said) if other.looks else _columns(same, here))
            k = here.stop
        under_others = join(parts)
        if finite:
            _check_finite(under_others, records)
        gap_BK[at] = torch.where(under_others.judged_BK, same.mean_BK - under_others.mean_BK, torch.nan)
        told_BK = rewards.judged_BK & gap_BK.isfinite()
        return gap_BK.masked_fill(~told_BK, 0.0), told_BK


def score_texts(
    reward_model: RewardModel,
    records: Sequence[PreferenceRecord],
    texts: Sequence[str],
    batch_size: int,
    batch_tokens: int | None = None,
    finite: bool = True,
    prompts: Sequence[EncodedPrompt] = (),
) -> Rewards:
    """What the reward model says of each record's answer.

    It reads prompt and answer with its own tokenizer and chat template. `prompts` are the records' as a model encoded
    them that reads as the reward model does, so that they serve both.

    The same answer to the same record is read once, so that its rewards don't differ by rounding.

    Raises:
        NonFiniteReward: a reward isn't finite, unless `finite` is False.
    """
    judge = reward_model.vlm
    if not prompts:
        # answers to one record share its prompt, and with it a row
        encoded = {key: encode_prompt(judge, record) for key, record in {id(r): r for r in records}.items()}
        prompts = [encoded[id(record)] for record in records]
    pairs = {(id(p), text): (p, text) for p, text in zip(prompts, texts, strict=True)}
    rows = [Row(prompt, encode_answer(judge, text)) for prompt, text in pairs.values()]
    rewards = reward_model.judge(rows, batch_size, finite=finite, micro_batch_tokens=batch_tokens)
    places = {key: place for place, key in enumerate(pairs)}
    again = [places[id(prompt), text] for prompt, text in zip(prompts, texts, strict=True)]
    return rewards.select(torch.tensor(again, dtype=torch.int64))


def join(parts: Sequence[Rewards]) -> Rewards:
    """What several judges say of the same answers, their objectives side by side. A gate that one learnt gives no
    weight to the objectives of others."""
    gates = [torch.zeros_like(part.mean_BK) if part.gate_BK is None else part.gate_BK for part in parts]
    silent = [
        torch.zeros_like(part.judged_BK) if part.abstained_BK is None else part.abstained_BK for part in parts
    ]
    return Rewards(
        objectives=tuple(name for part in parts for name in part.objectives),
        mean_BK=torch.cat([part.mean_BK for part in parts], 1),
        judged_BK=torch.cat([part.judged_BK for part in parts], 1),
        std_BK=torch.cat([part.std_BK for part in parts], 1),
        gate_BK=torch.cat(gates, 1) if any(part.gate_BK is not None for part in parts) else None,
        abstained_BK=torch.cat(silent, 1) if any(part.abstained_BK is not None for part in parts) else None,
    )


def _columns(rewards: Rewards, which: slice) -> Rewards:
    """The rewards of some objectives, without a gate."""
    return Rewards(
        objectives=rewards.objectives[which],
        mean_BK=rewards.mean_BK[:, which],
        judged_BK=rewards.judged_BK[:, which],
        std_BK=rewards.std_BK[:, which],
    )


def _ask(objective: ObjectiveBase, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Rewards:
    """An objective's rewards, checked to be as many as answers and names."""
    names, shape = objective.names, (len(texts), len(objective.names))
    if not texts:
        nothing = torch.zeros(shape)
        return Rewards(names, nothing, nothing.bool(), nothing)
    try:
        found = objective.score(records, texts)
    except (RunError, UserError):
        raise
    except Exception as error:
        if objective.ours:
            raise
        raise raised(f"objective {objective.name}", type(objective).__name__, error) from error
    for values in (found.mean_BK, found.judged_BK, found.std_BK):
        if found.objectives != names or tuple(values.shape) != shape:
            raise RunError(
                f"objective {objective.name}: gave rewards for {', '.join(found.objectives)} of shape "
                f"{tuple(values.shape)}, where {', '.join(names)} of {len(texts)} answers were asked for"
            )
    return found


def _check_finite(rewards: Rewards, records: Sequence[PreferenceRecord]) -> None:
    for what, values_BK in (("reward", rewards.mean_BK), ("deviation", rewards.std_BK)):
        bad = (rewards.judged_BK & ~values_BK.isfinite()).nonzero()
        if len(bad):
            row, k = bad[0].tolist()
            raise NonFiniteReward(
                f"the {what} for {rewards.objectives[k]} of record {records[row].id} is {values_BK[row, k]}"
            )
