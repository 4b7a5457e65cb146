"""Rewards of every answer under each condition: with its true image, none, another one, a part of it, noise.

Left out on purpose: keeping images. A changed image is made for the batch that shows it, and made anew where it is
asked for again; it is drawn from the seed and the record alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from data_tools.schema import PreferenceRecord
from data_tools.splits import components
from mmrlhf.models.batch import PromptUnreadable, encode_answer, encode_prompt
from mmrlhf.rewards.model import RewardModel
from mmrlhf.rewards.variants import Kind, Variant, variant
from mmrlhf.terminal import Bar
from mmrlhf.types import Row

TRUE, SWAPPED, NONE, CROP, NOISE = "true", "swapped", "none", "crop", "noise"
CONDITIONS = (TRUE, NONE, SWAPPED, CROP, NOISE)
KINDS: dict[str, Kind] = {NONE: "blind", SWAPPED: "swap", CROP: "crop", NOISE: "noise"}
DEGRADED = (SWAPPED, CROP, NOISE)  # an image is shown, but not the one that the answer is about
MEAN = "mean"  # the column that holds the mean of the heads
Key = tuple[
    int | tuple[int, ...], tuple[int, ...]
]  # a prompt, by its tokens or its identity, and an answer's tokens
# the part of a raw reward that another batch may change, by rounding alone
ROUNDING, HALF_ROUNDING = 1e-5, 1e-3


@dataclass(frozen=True)
class Scored:
    """What the heads say of one record's R responses, each of their M members; up to which gap two rewards of a head
    are equal, 0 where that isn't given; and the reward that a raw 0 has become, NaN for what is no head."""

    members_RKM: Tensor
    rounding_K: Tensor | None = None
    zero_K: Tensor | None = None

    @property
    def mean_RK(self) -> Tensor:
        """The heads' rewards."""
        return self.members_RKM.mean(-1)

    def rounding(self, k: int) -> float:
        """Up to which gap two rewards of a head are equal."""
        return 0.0 if self.rounding_K is None else float(self.rounding_K[k])

    def gap(self, pair: tuple[int, int], k: int) -> float:
        """A head's reward of the first response of the pair minus the second's; 0 where they are equal but for
        rounding."""
        gap = float(self.mean_RK[pair[0], k] - self.mean_RK[pair[1], k])
        return 0.0 if abs(gap) <= self.rounding(k) else gap


@dataclass(frozen=True)
class Scores:
    """What was scored: `shown[condition][i]` is of record i; None where it has no image, or couldn't be shown so."""

    records: tuple[PreferenceRecord, ...]
    objectives: tuple[str, ...]  # K columns
    applies: dict[str, frozenset[str]]  # objective -> modalities on which its head was trained
    shown: dict[str, list[Scored | None]] = field(default_factory=dict)

    @cached_property
    def clusters(self) -> list[int]:
        """A number for each record, the same for all that hang together (`data_tools.splits`): by a picture, a
        text-only prompt, a flip pair or a group that the source declares, such as a benchmark's sample."""
        return components(self.records)

    def left_out(self, condition: str) -> int:
        """Records with an image that weren't scored under a condition."""
        return sum(
            bool(r.images) and s is None for r, s in zip(self.records, self.shown[condition], strict=True)
        )

    def gap(self, index: int, objective: str, pair: tuple[int, int], condition: str = TRUE) -> float | None:
        """The reward of the first response of the pair minus the second's; None where it wasn't scored."""
        scored = self.shown.get(condition, [None] * len(self.records))[index]
        if scored is None:
            return None
        return scored.gap(pair, self.objectives.index(objective))


@dataclass(frozen=True)
class Decided:
    """One comparison that its judge decided."""

    record: PreferenceRecord
    objective: str
    pair: tuple[int, int]  # better, worse
    gaps: dict[str, float]  # condition -> reward of the better response minus the worse one's
    better: dict[str, float]  # condition -> reward of the better response
    deviation: float  # of the gap with the true image, over an ensemble's members; 0 of one
    cluster: int  # the same for all that is drawn together for an interval (`Scores.clusters`)
    rounding: float = 0.0  # up to which gap two rewards are equal

    @property
    def right(self) -> bool:
        """The better response has the strictly higher reward, with the true image."""
        return self.gaps[TRUE] > 0

    @property
    def length_gap(self) -> int:
        """Characters that the better response has more."""
        better, worse = (len(self.record.responses[i].text) for i in self.pair)
        return better - worse


class Scorer:
    """Rewards of many records' responses, some at a time, so that few images are in memory."""

    def __init__(
        self,
        reward_model: RewardModel,
        batch_size: int,
        max_answer_tokens: int | None = None,
        mean_of_heads: bool = False,
        micro_batch_size: int | None = None,
        micro_batch_tokens: int | None = None,
    ) -> None:
        """`batch_size`: records at a time, and rows of one forward at most; of these `micro_batch_size`, where it is
        given, and so many padded tokens."""
        self.reward_model, self.batch_size = reward_model, batch_size
        self.micro_batch_size = min(batch_size, micro_batch_size or batch_size)
        self.micro_batch_tokens = micro_batch_tokens
        self.max_answer_tokens, self.mean_of_heads = max_answer_tokens, mean_of_heads
        # without an image both records of a flip pair hold the same rows; scored once, they can't differ by
        # the rounding of another batch
        self._known: dict[Key, Tensor] = {}

    @property
    def objectives(self) -> tuple[str, ...]:
        """The columns of what is scored."""
        return (*self.reward_model.card.objectives, *([MEAN] if self.mean_of_heads else []))

    @property
    def applies(self) -> dict[str, frozenset[str]]:
        """By column, the modalities on which its head, or any, was trained."""
        norms = self.reward_model.card.norms
        found = {name: frozenset[str](norms.get(name, {})) for name in self.reward_model.card.objectives}
        return found | ({MEAN: frozenset[str]().union(*found.values())} if self.mean_of_heads else {})

    def score(
        self,
        records: Sequence[PreferenceRecord],
        conditions: Sequence[str],
        seed: int,
        bar: Bar | None = None,
    ) -> Scores:
        """The records' responses under some conditions. Text-only records are scored under `true` alone.

        Raises:
            NonFiniteReward: a reward isn't finite.
            ImageError: an image can't be read; the message names the record.
        """
        scores = Scores(tuple(records), self.objectives, self.applies)
        for number, condition in enumerate(conditions):
            found = scores.shown[condition] = []
            for start in range(0, len(records), self.batch_size):
                part = records[start : start + self.batch_size]
                found += self._scored(list(self._shown(part, condition, seed, records)))
                if bar:
                    bar(number * len(records) + len(found), condition)
        return scores

    def _shown(
        self,
        part: Sequence[PreferenceRecord],
        condition: str,
        seed: int,
        pool: Sequence[PreferenceRecord],
    ) -> Iterator[tuple[PreferenceRecord, list[Row]] | None]:
        """Some records' rows under a condition; None where there are none."""
        most = self.reward_model.vlm.most_pixels
        for record in part:
            if condition == TRUE:
                shown: Variant | None = Variant(record)
            else:
                shown = variant(record, KINDS[condition], seed, pool, most)
            try:
                yield None if shown is None else (record, self._rows(shown))
            except PromptUnreadable:
                if condition != NONE:
                    raise
                yield None  # some processors take no prompt without an image

    def _rows(self, shown: Variant) -> list[Row]:
        vlm, responses = self.reward_model.vlm, shown.record.responses
        prompt = encode_prompt(vlm, shown.record, images=shown.pictures)
        return [Row(prompt, encode_answer(vlm, r.text, self.max_answer_tokens)) for r in responses]

    def _scored(self, part: Sequence[tuple[PreferenceRecord, list[Row]] | None]) -> list[Scored | None]:
        read = iter(self._read([row for item in part if item for row in item[1]]))
        found: list[Scored | None] = []
        for item in part:
            if item is None:
                found.append(None)
                continue
            rows = [next(read) for _ in item[1]]
            scored = self._normalised(item[0], rows)
            found.append(self._with_mean(item[0], scored) if self.mean_of_heads else scored)
        return found

    def _normalised(self, record: PreferenceRecord, rows: Sequence[Tensor]) -> Scored:
        """In deviations of the training answers to prompts like the record's, whatever is shown of it: a prompt whose
        image was taken away is told on the same scale."""
        card = self.reward_model.card
        norms = [card.norms.get(name, {}).get(record.modality, (0.0, 1.0)) for name in card.objectives]
        mean_K, scale_K = torch.tensor(norms).unbind(-1)
        raw_RKM = torch.stack(list(rows))
        part = ROUNDING if self.reward_model.vlm.core.dtype == torch.float32 else HALF_ROUNDING
        return Scored(
            (raw_RKM - mean_K.unsqueeze(-1)) / scale_K.unsqueeze(-1),
            part * raw_RKM.abs().amax((0, 2)) / scale_K,
            -mean_K / scale_K,
        )

    def _with_mean(self, record: PreferenceRecord, scored: Scored) -> Scored:
        """With the mean of the heads that were trained on prompts like the record's (of all, where none was)."""
        heads = self.reward_model.card.objectives
        apply = [k for k, name in enumerate(heads) if record.modality in self.applies[name]]
        chosen = apply or list(range(len(heads)))
        mean_R1M = scored.members_RKM[:, chosen].mean(1, keepdim=True)
        assert scored.rounding_K is not None
        assert scored.zero_K is not None
        return Scored(
            torch.cat([scored.members_RKM, mean_R1M], 1),
            torch.cat([scored.rounding_K, scored.rounding_K[chosen].amax(0, keepdim=True)]),
            torch.cat([scored.zero_K, torch.tensor([torch.nan])]),
        )

    def _read(self, rows: list[Row]) -> list[Tensor]:
        """The raw rewards of each row, (K, M) each. Rows of one prompt and the same tokens are read once, so that
        rounding can't make one of two equal answers the better one."""
        keys = [_key(row) for row in rows]
        fresh: dict[Key, int] = {}  # key -> a row that has it
        for index, key in enumerate(keys):
            if key not in self._known:
                fresh.setdefault(key, index)
        found: dict[Key, Tensor] = {}
        if fresh:
            chosen = [rows[i] for i in fresh.values()]
            # not `judge`: it silences a head on prompts of a kind that it wasn't trained on, such as a blind one
            rewards_BKM, _ = self.reward_model.read(chosen, self.micro_batch_size, self.micro_batch_tokens)
            self.reward_model.check_finite(chosen, rewards_BKM.mean(-1))
            found = dict(zip(fresh, rewards_BKM, strict=True))
        # an image's prompt is known by its identity, which may be another one's once it is gone
        self._known |= {
            k: found[k] for k, row in zip(keys, rows, strict=True) if k in found and not row.prompt.vision
        }
        return [found[key] if key in found else self._known[key] for key in keys]


def _key(row: Row) -> Key:
    prompt = id(row.prompt) if row.prompt.vision else tuple(row.prompt.input_ids.tolist())
    return prompt, tuple(row.answer_ids.tolist())


def decided(scores: Scores) -> list[Decided]:
    """The comparisons on the scored objectives that were decided, in the order of the records."""
    found = []
    for index, record in enumerate(scores.records):
        shown = {name: part[index] for name, part in scores.shown.items()}
        at_work = {name: scored for name, scored in shown.items() if scored is not None}
        for c in record.pairs():
            if c.objective not in scores.objectives or c.tie:
                continue
            k, pair = scores.objectives.index(c.objective), (c.better, c.worse)
            better_M, worse_M = at_work[TRUE].members_RKM[[c.better, c.worse], k]
            found.append(
                Decided(
                    record,
                    c.objective,
                    pair,
                    {name: scored.gap(pair, k) for name, scored in at_work.items()},
                    {name: float(scored.mean_RK[c.better, k]) for name, scored in at_work.items()},
                    float((better_M - worse_M).std()) if len(better_M) > 1 else 0.0,
                    scores.clusters[index],
                    at_work[TRUE].rounding(k),
                )
            )
    return found
