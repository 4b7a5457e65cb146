"""What grounding asks of the reward stage: rows beside those that the labels name, pairs across pictures, and a
text-only branch.

Which degraded picture a row shows is a function of the seed, the record and the pass over the data. Each is drawn once
for the whole run, and only their kinds take turns, so that features that are kept of one serve again.

The text-only branch reads hidden states without gradient. The trunk is the reward model's own: let through, the
branch's gradient would teach it to guess from the text, which is what the branch is there to tell. So it is a probe of
what the text gives away to the trunk as it is, where Li et al. 2025 train a second model on the text. It is part of
checkpoints, and not of the reward model.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord
from mmrlhf.config import RewardConfig
from mmrlhf.models.batch import PromptUnreadable, collate, encode_prompt
from mmrlhf.models.vlm import VLM, hidden_states, in_float32
from mmrlhf.rewards.grounding import cross_pairs, prefer_picture, shortcut_weights, winners
from mmrlhf.rewards.heads import Heads
from mmrlhf.rewards.losses import bradley_terry
from mmrlhf.rewards.model import RewardModel, RewardOutput
from mmrlhf.rewards.variants import variant
from mmrlhf.training.feed import Refusals
from mmrlhf.training.length import DECAY, LengthTerm
from mmrlhf.training.processes import everyones
from mmrlhf.training.reward_labels import Item, Labels, label_batch, learnt_part, unit_of
from mmrlhf.training.sharding import idle_batch, idle_record
from mmrlhf.types import EncodedPrompt, PairBatch, Row, Sums, TokenBatch

Lenders = Mapping[int, Sequence[PreferenceRecord]]  # by how many images they have
BRANCH_HIDDEN = 64  # width of the text-only branch: a linear one would miss what two words tell together


@dataclass(frozen=True)
class Degraded:
    """A better answer of a record behind a degraded image."""

    item: int  # of the unit
    response: int
    objectives: tuple[str, ...]  # on which it is the better one
    kind: str
    row: Row


@dataclass(frozen=True)
class Unit:
    """Records whose rows stay in one micro-batch: one, or both halves of a flip pair."""

    items: tuple[Item, ...]
    degraded: tuple[Degraded, ...] = ()
    blind: tuple[tuple[int, EncodedPrompt], ...] = ()  # an item, and its prompt without the images

    @property
    def rows(self) -> list[Row]:
        """All rows that it needs."""
        return [row for _, rows in self.items for row in rows] + [each.row for each in self.degraded]


@dataclass(frozen=True)
class Blind:
    """The rows that show an image, read without it: S of B."""

    states_SD: Tensor  # float32: the hidden state of each one's last token
    place_B: Tensor  # int64: where each row of the micro-batch stands among them; -1: it shows no image


@dataclass(frozen=True)
class GroundedBatch(PairBatch):
    """A micro-batch of labels, with what grounding adds; among its rows are those with degraded images."""

    # the same answer under two pictures, the better one being the one that it fits; by what the other is: flips, crop,
    # swap, noise
    pictures: dict[str, PairBatch]
    blind: Blind | None = None

    @property
    def compares_blind(self) -> bool:
        """Whether it holds a comparison that the text-only branch learns from."""
        return self.blind is not None and bool((self.blind.place_B[self.better_N] >= 0).any())


class GroundedOutput(NamedTuple):
    """What the reward model tells of a batch's answers (`RewardOutput`), and what the text-only branch does."""

    rewards_BKM: Tensor
    ratings_BKM: Tensor
    prompt_BD: Tensor | None
    blind_SK: Tensor


class WithBranch(nn.Module):
    """The reward model with the heads of the text-only branch beside it."""

    def __init__(self, reward_model: RewardModel) -> None:
        super().__init__()
        self.reward_model = reward_model
        objectives, device = len(reward_model.card.objectives), reward_model.vlm.device
        self.branch = Heads(reward_model.width, objectives, hidden=BRANCH_HIDDEN, device=device)

    def forward(self, batch: TokenBatch, full: bool = False, blind_SD: Tensor | None = None) -> Any:
        """What the reward model gives; with `blind_SD`, and `full`, also the branch's rewards of those states."""
        out = self.reward_model(batch, full)
        if blind_SD is None:
            return out
        blind_SK = in_float32(self.branch, blind_SD).squeeze(-1)
        return GroundedOutput(out.rewards_BKM, out.ratings_BKM, out.prompt_BD, blind_SK)


def check_blind(vlm: VLM, otherwise: str) -> None:
    """Sees that prompts can be read without their images.

    Raises:
        UserError: the model's family takes none; `otherwise` says which setting of the reward section must be how.
    """
    try:
        encode_prompt(vlm, idle_record(), images=[])
    except PromptUnreadable as error:
        raise UserError(f"reward.{otherwise}, since {error}") from error


class Grounding:
    """The terms that a config turns on, over one reward model."""

    def __init__(self, config: RewardConfig, reward_model: RewardModel, lenders: Lenders, seed: int) -> None:
        """`lenders`: records whose images may be swapped in, by how many they have; needed for such swaps alone."""
        self.config, self.terms, self.seed, self.lenders = config, config.grounding, seed, lenders
        self.vlm = reward_model.vlm
        self.branch = WithBranch(reward_model) if self.terms.reweight.weight else None
        self._mean = 0.5  # of w over the last updates; before the first both losses are log 2
        self._seen = [0.0, 0.0]  # the sum of w, and the pairs, of the update at work
        self._length = LengthTerm(config) if self.terms.length else None

    def check(self) -> None:
        """Sees that a text-only branch, where there is one, has something to read.

        Raises:
            UserError: the model's family takes no prompt without an image.
        """
        if self.branch:
            check_blind(self.vlm, "grounding.reweight.weight: must be 0")

    def units(self, items: Sequence[Item], epochs: Sequence[int], refusals: Refusals) -> list[Unit]:
        """The items, the halves of a flip pair that follow one another together where flips count; `epochs` are the
        passes over the data that they are of. Each has a row for every better answer behind a degraded image where that
        counts, and is read without its images where a text-only branch learns. A lent image that makes a prompt too
        long, or can't be read, is refused, not its borrower; so is a prompt that can't be read without its images,
        whose record keeps its weight."""

        def degraded(place: tuple[int, Item, int]) -> list[Degraded]:
            return self._degraded(*place)

        def blind(place: tuple[int, Item, int]) -> tuple[int, EncodedPrompt]:
            return place[0], encode_prompt(self.vlm, place[1][0], images=[])

        units: list[Unit] = []
        for group in self._together(items):
            unit = Unit(tuple(items[number] for number in group))
            places = [(place, items[number], epochs[number]) for place, number in enumerate(group)]
            if self.terms.image_conditional.weight:
                rows = refusals.keep(places, degraded, again=True)
                unit = dataclasses.replace(unit, degraded=tuple(row for found in rows for row in found))
            if self.branch:
                shown = [place for place in places if place[1][0].images]
                unit = dataclasses.replace(unit, blind=tuple(refusals.keep(shown, blind, again=True)))
            units.append(unit)
        return units

    def _together(self, items: Sequence[Item]) -> list[list[int]]:
        """The items by number, the halves of a flip pair that follow one another as one where flips count. A small set
        may come twice in a batch: then each of its pairs stands there twice."""
        groups: list[list[int]] = []
        for number, (record, _) in enumerate(items):
            before = items[groups[-1][0]][0] if groups and len(groups[-1]) == 1 else None
            halves = before is not None and before.id != record.id and unit_of(before) == unit_of(record)
            if self.terms.flips and halves:
                groups[-1].append(number)
            else:
                groups.append([number])
        return groups

    def _degraded(self, place: int, item: Item, epoch: int) -> list[Degraded]:
        record, rows = item
        settings = self.terms.image_conditional
        best: dict[int, list[str]] = {}
        learnt = learnt_part(record, self.config)
        for objective in settings.objectives or self.config.objectives:
            for response in winners(learnt, objective):
                best.setdefault(response, []).append(objective)
        if not best or not record.images:
            return []
        turn = zlib.crc32(unit_of(record).encode()) + epoch
        kind = settings.kinds[turn % len(settings.kinds)]
        pool = self.lenders.get(len(record.images), ())
        changed = variant(record, kind, self.seed, pool, self.vlm.most_pixels)
        if changed is None:
            return []  # no other record has as many images
        prompt = encode_prompt(self.vlm, changed.record, self.config.max_prompt_tokens, changed.pictures)
        return [
            Degraded(place, response, tuple(objectives), kind, Row(prompt, rows[response].answer_ids))
            for response, objectives in best.items()
        ]

    def batch(self, units: Sequence[Unit]) -> GroundedBatch:
        """A micro-batch of some units; reads them with the trunk, without their images, for a text-only branch."""
        items = [item for unit in units for item in unit.items]
        labels = label_batch(items, self.config, self.seed)
        begins = list(accumulate((len(rows) for _, rows in items), initial=0))
        first = iter(begins)
        rows = list(labels.rows)
        pictures: dict[str, Labels] = {}
        blind: list[tuple[int, EncodedPrompt, list[Row]]] = []
        for unit in units:
            own = [next(first) for _ in unit.items]
            for kind, right, other, objective in self._across(unit, own, len(rows)):
                pairs = pictures.setdefault(kind, Labels(self.config, self.seed))
                # their weight is the term's
                pairs.compare(right, other, objective, unit_of(unit.items[0][0]), 1.0)
            rows += [each.row for each in unit.degraded]
            blind += [(own[place], prompt, unit.items[place][1]) for place, prompt in unit.blind]
        return GroundedBatch(
            **{**vars(labels), "rows": tuple(rows)},
            pictures={kind: pairs.batch() for kind, pairs in pictures.items()},
            blind=self._read_blind(len(rows), blind) if blind else None,
        )

    def _across(self, unit: Unit, first: Sequence[int], behind: int) -> Iterator[tuple[str, int, int, str]]:
        """Kind, row with the right picture, row with the other and objective of each of a unit's pairs across pictures;
        its records' rows begin at `first`, those with degraded images at `behind`."""
        if self.terms.flips:
            for pair in cross_pairs([learnt_part(record, self.config) for record, _ in unit.items]):
                right, other = (first[place] + index for place, index in (pair.better, pair.worse))
                yield "flips", right, other, pair.objective
        for other, each in enumerate(unit.degraded, behind):
            for objective in each.objectives:
                yield each.kind, first[each.item] + each.response, other, objective

    @torch.no_grad()
    def _read_blind(self, count: int, shown: Sequence[tuple[int, EncodedPrompt, list[Row]]]) -> Blind:
        """From where their rows begin, their prompts and their rows with the images; `count` rows in all."""
        rows: list[Row] = []
        place_B = torch.full((count,), -1)
        for begin, prompt, own in shown:
            place_B[begin : begin + len(own)] = torch.arange(len(rows), len(rows) + len(own))
            rows += [Row(prompt, row.answer_ids) for row in own]
        batch = collate(self.vlm, rows, self.vlm.device)
        return Blind(hidden_states(self.vlm, batch)[batch.row_B, batch.last_B].float(), place_B)

    @torch.no_grad()
    def read_nothing(self, accelerator: Accelerator) -> None:
        """In place of reading, for a process whose share of an update shows no image, where there are several: FSDP's
        backward pass fetches layers in the order of all forwards, which must end alike everywhere."""
        if accelerator.num_processes > 1:
            hidden_states(self.vlm, idle_batch(self.vlm))

    def reweighted(
        self, out: RewardOutput, blind_SK: Tensor | None, batch: GroundedBatch
    ) -> tuple[PairBatch, Tensor, Sums]:
        """The labels with what the text-only branch makes of each pair's weight, the branch's own loss (summed), and
        metrics. A pair without an image keeps its weight."""
        blind = batch.blind
        shown_N = blind.place_B[batch.better_N] >= 0 if blind else torch.zeros_like(batch.tie_N)
        if blind is None or blind_SK is None or not shown_N.any():
            return batch, out.rewards_BKM.sum() * 0.0, {}
        device = out.rewards_BKM.device
        better, worse, objective, tie, margin, weight = (
            getattr(batch, name)[shown_N]
            for name in ("better_N", "worse_N", "objective_N", "tie_N", "margin_N", "weight_N")
        )
        tie, margin, weight = tie.to(device), margin.to(device), weight.to(device)
        guess_better, guess_worse = (blind_SK[blind.place_B[rows], objective] for rows in (better, worse))
        blind_N = bradley_terry(guess_better, guess_worse, tie, margin)
        seeing_NM = bradley_terry(
            out.rewards_BKM[better, objective],
            out.rewards_BKM[worse, objective],
            tie.unsqueeze(1),
            margin.unsqueeze(1),
        )
        share_N = shortcut_weights(blind_N, seeing_NM.mean(1))
        factor_N = 1 + self.terms.reweight.weight * (share_N / self._mean - 1)
        self._seen = [self._seen[0] + float(share_N.sum()), self._seen[1] + len(share_N)]
        weight_N = batch.weight_N.clone()
        weight_N[shown_N] = (weight * factor_N).cpu()
        sums: Sums = {
            "blind/pair_weight": (factor_N.sum(), len(factor_N)),
            "blind/loss": (blind_N.detach().sum(), len(blind_N)),
            "blind/accuracy": (((guess_better > guess_worse) & ~tie).sum(), (~tie).sum()),
        }
        return dataclasses.replace(batch, weight_N=weight_N), (weight * blind_N).sum(), sums

    def loss(self, rewards_BKM: Tensor, batch: GroundedBatch) -> tuple[Tensor, Sums]:
        """The weighted sum of the terms across pictures and of the length term, and their metrics."""
        loss = rewards_BKM.sum() * 0.0
        sums: Sums = {}
        for kind, pairs in batch.pictures.items():
            right_NM, other_NM = (
                rewards_BKM[rows, pairs.objective_N] for rows in (pairs.better_N, pairs.worse_N)
            )
            loss_NM = prefer_picture(right_NM, other_NM)
            weight_N, copies_NM = pairs.weight_N.to(loss.device), pairs.copies_NM.to(loss.device)
            weight = self.terms.flips if kind == "flips" else self.terms.image_conditional.weight
            loss = loss + weight * (weight_N * (copies_NM * loss_NM).mean(1)).sum()
            right_N = right_NM.mean(1) > other_NM.mean(1)
            sums[f"accuracy_picture/{kind}"] = (right_N.sum(), len(right_N))
            sums[f"loss_picture/{kind}"] = (loss_NM.detach().mean(1).sum(), len(right_N))
        if self._length:
            loss = loss + self.terms.length * self._length.loss(rewards_BKM, batch, sums)
        return loss, sums

    def settle(self, accelerator: Accelerator) -> None:
        """Takes an update's weights into their mean, and its gaps into the sums of the length term; every process calls
        it behind each update.

        Both are of updates before, so an update doesn't depend on how it is cut into micro-batches or over processes.
        """
        found = everyones(accelerator, (self._seen, self._length.take_own() if self._length else []))
        share, pairs = (sum(seen[column] for seen, _ in found) for column in (0, 1))
        self._seen = [0.0, 0.0]
        if pairs:
            self._mean = DECAY * self._mean + (1 - DECAY) * share / pairs
        if self._length:
            self._length.settle([own for _, own in found])

    def state_dict(self) -> dict[str, Any]:
        """As JSON values; the branch's weights are among those of its module."""
        return {"mean": self._mean, "length": self._length.state_dict() if self._length else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes back what `state_dict` gave."""
        self._mean = state["mean"]
        if self._length:
            self._length.load_state_dict(state["length"])
