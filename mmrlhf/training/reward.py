"""Training the reward model: each objective's head from whatever was judged on it, one forward for all of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from data_tools.errors import UserError
from data_tools.schema import Modality, PreferenceRecord
from mmrlhf.config import AdaptiveMixture, RewardConfig
from mmrlhf.models.batch import collate, padded_tokens
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.calibration import LEAST_PAIRS
from mmrlhf.rewards.card import GateCard, RewardCard
from mmrlhf.rewards.model import RewardModel, RewardOutput
from mmrlhf.terminal import console
from mmrlhf.training.context import fit_context
from mmrlhf.training.cut_answers import CutAnswers, SameAnswers, check_room, is_cut, without_same
from mmrlhf.training.engine import LossSum, Stage, Update, weight_groups
from mmrlhf.training.feed import Refusals, tell_repeats
from mmrlhf.training.grounding import GroundedBatch, Grounding, Unit, check_blind
from mmrlhf.training.mixing import AdaptiveFeed
from mmrlhf.training.processes import everyones, total
from mmrlhf.training.reward_data import RewardData
from mmrlhf.training.reward_finish import Reader, learn_gate, reference_norms, temperatures
from mmrlhf.training.reward_labels import (
    Item,
    LabelKind,
    encode_responses,
    kind_of,
    labels_of,
)
from mmrlhf.training.reward_terms import label_loss
from mmrlhf.types import Sums

# of the scale and offset of ratings, on every trunk: they are a few numbers of about 1, which the rate that suits a
# trunk would leave where they start, so that rewards would take the scale of ratings instead
RATING_SCALE_LR = 1e-2


class RewardStage(Stage):
    """Learns a head an objective from the labels that there are on it."""

    name = "reward model"

    def __init__(
        self, vlm: VLM, config: RewardConfig, data: str, seed: int, accelerator: Accelerator
    ) -> None:
        self.vlm, self.config, self.optim, self.accelerator = vlm, config, config.optim, accelerator
        self.best_by, self.seed = config.best_by, seed
        fit_context(vlm, config, accelerator)
        gate = GateCard(config.gate.objective, config.gate.hidden) if config.gate else None
        self.reward_model = RewardModel(
            vlm,
            RewardCard(
                list(config.objectives),
                members=config.members,
                hidden=config.hidden,
                cost_heads=list(config.cost_heads),
                gate=gate,
            ),
        )
        self.data = RewardData(data, config, seed)
        self.grounding = Grounding(config, self.reward_model, self.data.lenders(), seed)
        self.grounding.check()
        self.module: Any = self.reward_model if self.grounding.branch is None else self.grounding.branch
        self.feed = self.data.feed
        self.num_steps = self.feed.steps(config.epochs, config.batch_size)
        self.mixing = self._mixing()
        self.refusals = Refusals(config.max_refused)
        check_room(vlm, config.max_answer_tokens)
        self.cuts = CutAnswers(vlm, "preferences", config.max_answer_tokens)
        # objectives, the modalities they were judged on, and how
        self.learnt: set[tuple[str, Modality, LabelKind]] = set()

    def _mixing(self) -> AdaptiveFeed | None:
        rule = self.config.mixture
        if not isinstance(rule, AdaptiveMixture):
            return None
        if rule.every >= self.num_steps:
            raise UserError(
                f"reward.mixture.every: nothing is measured in the {self.num_steps} steps of the stage; set every "
                "below that, more epochs, or the mixture to fixed"
            )
        check_blind(self.vlm, "mixture: must be fixed")
        sample = self.data.measured()
        return AdaptiveFeed(
            rule, self.config, self.feed, sample, self.reward_model, self._encode, self.accelerator
        )

    def begin(self, folder: Path, step: int) -> None:
        if self.accelerator.is_main_process:
            for word in self.data.advice():
                console.print(word, style="yellow", markup=False)
        tell_repeats(self.name, self.feed, self.config.batch_size, self.accelerator)
        if self.mixing:
            self.mixing.begin(folder, step)

    def parameter_groups(self) -> list[dict[str, Any]]:
        own = {"branch.": self.config.grounding.reweight.lr}
        # beside the text-only branch the reward model's names have a prefix
        own |= {f"{prefix}rating_scale.": RATING_SCALE_LR for prefix in ("", "reward_model.")}
        return weight_groups(self.module, self.optim, own)

    def clip_groups(self) -> list[list[nn.Parameter]]:
        """The text-only branch apart, so that it doesn't shorten the reward model's own steps."""
        branch = self.grounding.branch
        groups = [self.reward_model, *([branch.branch] if branch else [])]
        return [list(group.parameters()) for group in groups]

    def updates(self, step: int) -> Iterator[Update]:
        if self.vlm.vision:
            self.vlm.vision.cache.begin_step()
        if self.mixing and self.mixing.due(step):
            with self.gathered(), self.accelerator.autocast():
                self.mixing.change(step)
                # however many records each process measured, their forwards end alike
                self.grounding.read_nothing(self.accelerator)
        records = self.feed.batch(step, self.config.batch_size, self.accelerator)
        epochs = self.feed.epochs(step, self.config.batch_size, self.accelerator)
        kept = self.refusals.keep(
            list(zip(records, epochs, strict=True)), lambda each: (self._encode(each[0], self.cuts), each[1])
        )
        items = [item for item, _ in kept]
        units = self.grounding.units(items, [epoch for _, epoch in kept], self.refusals)
        self.refusals.check(self.accelerator)
        for record, _ in items:
            for label in labels_of(record, self.config):
                self.learnt.add((label.objective, record.modality, kind_of(label)))
        units.sort(key=lambda unit: len(unit.rows[0].prompt.input_ids))
        with self._reading():
            batches = [self.grounding.batch(part) for part in self._parts(units)]
            if self.grounding.branch and not any(batch.blind for batch in batches):
                self.grounding.read_nothing(self.accelerator)
        batches = [batch for batch in batches if batch.weight]
        if not total(self.accelerator, len(items)):
            raise self.refusals.none_left()
        weight = total(self.accelerator, sum(batch.weight for batch in batches))
        yield Update(batches, weight, self._unused(batches))
        self.grounding.settle(self.accelerator)

    def _unused(self, batches: Sequence[GroundedBatch]) -> list[nn.Parameter]:
        """The weights that hang on labels of which no process has any."""
        parts: list[tuple[nn.Module, bool]] = [
            (self.reward_model.rating_scale, any(len(batch.ratings.response_N) for batch in batches))
        ]
        if branch := self.grounding.branch:
            parts.append((branch.branch, any(batch.compares_blind for batch in batches)))
        return [
            parameter
            for part, used in parts
            if not total(self.accelerator, used)
            for parameter in part.parameters()
        ]

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        """While it lasts, the text-only branch, where there is one, may read with all of the trunk's weights."""
        whole = contextlib.nullcontext() if self.grounding.branch is None else self.gathered()
        with whole, self.accelerator.autocast():
            yield

    def _parts(self, units: Sequence[Unit]) -> list[list[Unit]]:
        """Units together, as many as micro_batch_size and micro_batch_tokens let in; at least one."""
        config = self.config
        parts: list[list[Unit]] = []
        for unit in units:
            wider = [*parts[-1], unit] if parts else []
            rows = [row for each in wider for row in each.rows]
            full = not rows or len(rows) > max(config.micro_batch_size, 2)
            most = config.micro_batch_tokens
            if full or (most is not None and padded_tokens(rows, self.vlm) > most):
                parts.append([unit])
            else:
                parts[-1] = wider
        return parts

    def _encode(self, record: PreferenceRecord, cuts: CutAnswers | None = None) -> Item:
        """The record with a row for each response, without choices between responses of the same tokens, which `cuts`
        counts.

        Raises:
            PromptRefused, ImageError: its prompt can't be read, or nothing else was judged that is learnt.
        """
        most = self.config.max_answer_tokens
        rows = encode_responses(self.vlm, record, self.config.max_prompt_tokens, most)
        known = without_same(record, rows)
        if cuts:
            cuts.add(rows)
            cuts.compare(record, known)
        if labels_of(record, self.config) and not labels_of(known, self.config):
            cut = (
                f" once cut to max_answer_tokens = {most}"
                if any(is_cut(self.vlm, row) for row in rows)
                else ""
            )
            raise SameAnswers(f"record {record.id}: the answers that it compares are the same{cut}")
        return known, rows

    def loss(self, micro_batch: GroundedBatch) -> LossSum:
        out, blind_SK = self.output(micro_batch)
        labels, loss, sums = self.grounding.reweighted(out, blind_SK, micro_batch)
        for part, metrics in (
            label_loss(out, labels, self.config),
            self.grounding.loss(out.rewards_BKM, micro_batch),
        ):
            loss, sums = loss + part, sums | metrics
        return LossSum(loss, sums, tuple(row.prompt.record.id for row in labels.rows))

    def output(self, micro_batch: GroundedBatch) -> tuple[RewardOutput, Tensor | None]:
        """What the reward model, and the text-only branch, say of a micro-batch."""
        batch = collate(self.vlm, micro_batch.rows, self.accelerator.device)
        if micro_batch.blind is None:
            return self.module(batch, full=True), None
        *out, blind_SK = self.module(batch, full=True, blind_SD=micro_batch.blind.states_SD)
        return RewardOutput(*out), blind_SK

    def step_metrics(self) -> Sums:
        own: Sums = {"refused": (self.refusals.refused, self.refusals.seen)} | self.cuts.take_metrics()
        return own | (self.mixing.take_metrics() if self.mixing else {})

    def note(self, metrics: dict[str, float]) -> str:
        shown: dict[str, float] = {}
        for name, value in metrics.items():
            kind, _, objective = name.partition("/")
            if kind.startswith("accuracy"):
                shown.setdefault(objective, value)
        return " ".join(f"{name} {value:.0%}" for name, value in shown.items())

    def state_dict(self) -> dict[str, Any]:
        learnt = sorted(set().union(*everyones(self.accelerator, self.learnt)))
        refused = self.refusals.state_dict(self.accelerator)
        own = {"grounding": self.grounding.state_dict()}
        if self.mixing:
            own["mixture"] = self.mixing.state_dict()
        return {**refused, "learnt": learnt, **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.refusals.load_state_dict(state, self.accelerator)
        self.grounding.load_state_dict(state["grounding"])
        if self.mixing:
            self.mixing.load_state_dict(state["mixture"])
        self.learnt = {(name, modality, kind) for name, modality, kind in state["learnt"]}

    def finish(self) -> None:
        """Fills the card: what each head learnt from, its mean and deviation on judged training responses, and its
        temperature; then the gate is learnt.

        Raises:
            UserError: an objective was judged in no batch, a cost head never with yes or no on a modality that it was
                judged on, or the data hold nothing that the gate could learn from.
        """
        everywhere = set().union(*everyones(self.accelerator, self.learnt))
        judged = {o: sorted({m for name, m, _ in everywhere if name == o}) for o in self.config.objectives}
        if unlearnt := [name for name, modalities in judged.items() if not modalities]:
            raise UserError(
                f"reward.objectives: training met nothing that {', '.join(unlearnt)} could learn from: labels of a "
                "kind whose weight is above 0 (reward.weights), and no ratings on a scale of one value. Only if there "
                "are such labels and they are rare, more reward.epochs help"
            )
        signed = {(name, modality) for name, modality, kind in everywhere if kind == "binary"}
        costs = [(name, modality) for name in self.config.cost_heads for modality in judged[name]]
        if unsigned := [f"{name} ({modality})" for name, modality in costs if (name, modality) not in signed]:
            raise UserError(
                f"reward.cost_heads: training met no yes-or-no label on {', '.join(unsigned)}, so nothing says where "
                "its 0 lies there; say yes or no to single responses on such prompts, or take it off the list"
            )
        reader = Reader(self.reward_model, self.config, self._encode)
        card = self.reward_model.card
        card.norms, card.too_few = reference_norms(reader, judged, self.data.in_order())
        self._tell_norms(judged)
        card.calibration, pairs = temperatures(reader, self.data.held_out(), self.data.held_together())
        if self.config.calibrate and self.accelerator.is_main_process:
            for name in pairs:
                if name in card.calibration or name in self.data.uncalibrated:
                    continue  # the latter was told when they were held out
                console.print(
                    f"reward.calibrate: {name} gets no temperature; of its held-out pairs {pairs[name]} are decided, "
                    f"and it takes {LEAST_PAIRS} that don't all hang together",
                    style="yellow",
                    markup=False,
                )
        if self.config.gate:
            learn_gate(reader, self.data.overall(), self.seed)

    def _tell_norms(self, judged: Mapping[str, Sequence[Modality]]) -> None:
        """Says on which kinds of prompts a head abstains, or has a scale of few records."""
        card, least = self.reward_model.card, self.config.min_norm_records
        if not self.accelerator.is_main_process:
            return
        for name, of in card.too_few.items():
            for modality, count in of.items():
                console.print(
                    f"reward.min_norm_records: {name} abstains on prompts of modality {modality}: {count} training "
                    f"records judge it there, and a scale of its rewards takes {least}",
                    style="yellow",
                    markup=False,
                )
