"""Reinforcement learning on image and text prompts: PPO and its relatives (`rl/algorithms`).

A step, top to bottom in `PpoStage.updates`:
1. sample answers to each prompt and score them on every objective;
2. log-probs and values of the policy that sampled, log-probs of the reference;
3. over the answers of all processes: one score each, rewards a token, and what the algorithm makes of them;
4. several passes of clipped updates over mini-batches.

With LoRA the reference is the same model with its adapters off; else a frozen copy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor

from data_tools.schema import PreferenceRecord
from mmrlhf.config import PpoConfig, PpoVariant
from mmrlhf.models.batch import collate, micro_batches
from mmrlhf.models.generate import uniforms
from mmrlhf.models.policy import Policy, PolicyOutput
from mmrlhf.models.vlm import VLM
from mmrlhf.rewards.panel import Panel
from mmrlhf.rewards.variants import swap_images
from mmrlhf.rl.kl import KlController
from mmrlhf.rl.rollout import (
    abstentions,
    encode_asked,
    first_alike,
    roll_out,
    swap_gap,
    without_broken_rewards,
    without_unjudged,
)
from mmrlhf.rl.scoring import compute_advantages, learning_critics, scalarize, score_tokens
from mmrlhf.rl.update import update_loss
from mmrlhf.tensors import length_mask, masked_sum
from mmrlhf.training.alarms import Alarms
from mmrlhf.training.context import fit_context
from mmrlhf.training.engine import LossSum, Stage, Update, step_seed, weight_groups
from mmrlhf.training.feed import Refusals, open_feed, share
from mmrlhf.training.mini_batches import MiniBatch, mini_batches
from mmrlhf.training.notices import Notices
from mmrlhf.training.processes import gather_outcomes, total
from mmrlhf.training.rollout_metrics import (
    clip_metrics,
    entropy_metrics,
    gold_metrics,
    mean_kl,
    rollout_metrics,
    swap_metrics,
)
from mmrlhf.training.samples import write_samples
from mmrlhf.training.sft import DemonstrationRows
from mmrlhf.types import EncodedPrompt, ExperienceBatch, Outcomes, Rollout, Row, Sums

UNSCORED = (
    "look at what judges them (the reward model, ppo.objectives): it gave no reward, or one that isn't finite; in half "
    "precision model.dtype: float32 may help"
)


@dataclass(frozen=True)
class Demonstrations:
    """Rows of the SFT loss that is mixed into an update, and what its sum is multiplied with."""

    rows: list[Row]
    weight: float


class PpoStage(Stage):
    """Improves a policy on scalarized rewards, held near its reference."""

    def __init__(
        self,
        vlm: VLM,
        reference: VLM | None,
        panel: Panel,
        config: PpoConfig,
        variant: PpoVariant,
        data: str,
        folder: Path,
        seed: int,
        accelerator: Accelerator,
    ) -> None:
        """`reference` is None with LoRA: then it is the policy with its adapters off."""
        assert (reference is None) == vlm.has_adapters
        fit_context(vlm, config, accelerator)
        self.name, self.seed = f"ppo {variant.name}", seed
        self.vlm, self.reference, self.panel = vlm, reference, panel
        self.config, self.optim, self.accelerator, self.folder = config, config.optim, accelerator, folder
        self.best_by = config.best_by
        # a copy: what it learns isn't the config's
        self.scalarizer: Any = variant.scalarizer.model_copy(deep=True)
        self.algorithm: Any = config.algorithm
        self.objectives = panel.objectives
        self.scalarizer.check(self.objectives)
        self.policy = Policy(vlm, critics=self._critics())
        self.module: Any = self.policy
        self.feed = open_feed(data, "train", config.prompts_from, seed)
        self.demonstrations = (
            DemonstrationRows(vlm, config, ["demonstration"], data, seed, "/demonstrations")
            if config.ptx_coef
            else None
        )
        self.num_steps = config.steps
        self.refusals = Refusals(config.max_refused, "prompt")
        self.unscored = Refusals(config.max_refused, "answer", remedy=UNSCORED)
        self.kl = KlController(config.kl_coef, config.kl_target)
        self.alarms = Alarms(config.alarms, self.objectives)
        scaled = [name for other in panel.others for name in other.names]
        self.notices = Notices(self.objectives, scaled, config.score_clip)
        self._measured: Sums = {}
        self._left_out: Sums = {}  # answers without rewards, by why
        self._moved = [0.0, 0.0]  # KL from the policy that sampled, over the latest update: sum and tokens

    def _critics(self) -> int:
        """One, or one an objective and one for the penalties; none for algorithms without."""
        if not self.algorithm.has_critic:
            return 0
        return len(self.objectives) + 1 if self.algorithm.critic_an_objective else 1

    def parameter_groups(self) -> list[dict[str, Any]]:
        value_lr = self.config.value_lr or 10 * self.optim.lr
        return weight_groups(self.module, self.optim, {"value_head": value_lr})

    def updates(self, step: int) -> Iterator[Update]:
        if self.vlm.vision:
            self.vlm.vision.cache.begin_step()
        with self.gathered():
            # 1. answers and their rewards
            rollout = self._roll_out(step)
            # 2. what the policy that sampled and the reference say of them
            own = self._outcomes(rollout)
            gap = self._swap_gap(step, rollout)
        outcomes, places = gather_outcomes(own, self.accelerator)
        if not len(outcomes.group_B):
            self._none_judged()
            return
        # 3. what the updates need to know
        rewards, clip = outcomes.rewards(self.objectives), self.config.score_clip
        seen = self.scalarizer.seen(rewards, clip)
        scores_B = scalarize(self.scalarizer, seen)
        scored = score_tokens(outcomes, self.scalarizer, seen, scores_B, self.config, self.kl.coef)
        advantages_BT, returns_BTK = compute_advantages(self.algorithm, scored)
        learns_BK = learning_critics(self.algorithm, outcomes.judged_BK)
        experience = _experience(rollout, outcomes, places, advantages_BT, returns_BTK, learns_BK)
        self._measured = self._counts() | gold_metrics(rollout) | gap
        bounded = clip_metrics(self.scalarizer.seen(rewards), clip)
        learnt = self.scalarizer.learn(rewards, clip)
        if self.accelerator.is_main_process:
            self._measured |= rollout_metrics(outcomes, scores_B, returns_BTK, self.objectives, learns_BK)
            self._measured |= bounded | {"kl_coef": (self.kl.coef, 1)}
            self._measured |= {f"scalarizer/{name}": (value, 1) for name, value in learnt.items()}
        if self._samples_due(step):
            write_samples(self.folder / "samples", step + 1, rollout, scores_B[places], self.objectives)
        # 4. passes over mini-batches
        order = step_seed(self.seed, f"{self.name}/order", step)
        for count, mini_batch in enumerate(mini_batches(self.config, outcomes, places, order)):
            self._moved = [0.0, 0.0]
            yield self._update(experience, mini_batch, step, count)
            self._measured["updates"] = (count + 1, 1)
            if self._gone_too_far():
                break
        self.kl.update(mean_kl(outcomes))

    def _encode(self, record: PreferenceRecord, position: int) -> EncodedPrompt:
        """The prompt at a position of the feed, with what the scalarizer asks of its answers."""
        seed = step_seed(self.seed, f"{self.name}/asked", position)
        limit = self.config.max_prompt_tokens
        return encode_asked(self.vlm, self.scalarizer, record, self.objectives, seed, limit)

    def _roll_out(self, step: int) -> Rollout:
        """This process's answers of a step. Draws belong to a prompt's place in the feed, whoever answers it."""
        config = self.config
        positions = share(step, config.batch_size, self.accelerator)
        found = zip(positions, self.feed.at(positions), strict=True)
        kept = self.refusals.keep(list(found), lambda item: (item[0], self._encode(item[1], item[0])))
        seeds = [step_seed(self.seed, f"{self.name}/answers", position) for position, _ in kept]
        with self.accelerator.autocast():
            rollout = roll_out(
                self.vlm,
                [prompt for _, prompt in kept],
                [position - step * config.batch_size for position, _ in kept],
                uniforms(seeds, config.answers_per_prompt, config.max_answer_tokens),
                self.panel,
                config,
                self.policy.values if self._critics() else None,
                keep_logprobs=self._sampling_is_exact(),
            )
        self.unscored.seen += len(rollout.rows)
        self._left_out = abstentions(rollout, self.objectives)
        rollout, broken = without_broken_rewards(rollout, self.objectives)
        for why in broken:
            self.unscored.refuse(why)
        for refusals in (self.refusals, self.unscored):
            refusals.check(self.accelerator)
        answers = len(rollout.rows)
        rollout, unjudged = without_unjudged(rollout, self.scalarizer, self.objectives)
        self._left_out["unjudged"] = (unjudged, answers)
        return rollout

    def _none_judged(self) -> None:
        """What a step leaves behind that has no answer to learn from.

        Raises:
            UserError: since all of them had to be left out, and not since no objective applies to its prompts.
        """
        if not total(self.accelerator, float(self._left_out["unjudged"][0])):
            raise (self.unscored if self.unscored.refused else self.refusals).none_left()
        self._measured = self._counts()

    def _sampling_is_exact(self) -> bool:
        """Whether log-probs taken while sampling are training's own, to float32's rounding. In half precision they may
        differ by 0.1 and more a token, since other kernels round otherwise, so that a forward of its own is needed."""
        return self.accelerator.mixed_precision == "no" and self.vlm.core.dtype == torch.float32

    def _gone_too_far(self) -> bool:
        if self.config.max_update_kl is None:
            return False
        moved, tokens = (total(self.accelerator, part) for part in self._moved)
        return moved / max(tokens, 1.0) > self.config.max_update_kl

    def _update(self, experience: ExperienceBatch, mini_batch: MiniBatch, step: int, count: int) -> Update:
        config = self.config
        chosen = experience.select(mini_batch.rows)
        batches: list[ExperienceBatch | Demonstrations] = [
            chosen.select(part) for part in self._parts(chosen.rows)
        ]
        whole = float(mini_batch.answers if config.loss_over == "answers" else mini_batch.tokens)
        if self.demonstrations:
            number = step * config.num_ppo_epochs * config.num_mini_batches + count
            size = config.batch_size * config.answers_per_prompt // config.num_mini_batches
            rows = self.demonstrations.batch(number, size, self.accelerator)
            self.demonstrations.refusals.check(self.accelerator)
            tokens = total(self.accelerator, sum(len(row.answer_ids) for row in rows))
            # the sum over the mini-batch is divided by `whole`; these rows are a mean of their own
            weight = config.ptx_coef * whole / max(tokens, 1)
            batches += [Demonstrations([rows[i] for i in part], weight) for part in self._parts(rows)]
        return Update(batches, whole)

    def _parts(self, rows: Sequence[Row]) -> list[list[int]]:
        config = self.config
        return micro_batches(rows, config.micro_batch_size, config.micro_batch_tokens, self.vlm)

    @torch.no_grad()
    def _forward(self, rows: Sequence[Row], reference: bool) -> PolicyOutput:
        """Log-probs (B, T) and values (B, T, K) of all rows, by micro-batches of like length: float32, on the CPU."""
        size = max((len(row.answer_ids) for row in rows), default=0)
        logprobs_BT = torch.zeros(len(rows), size)
        critics = 0 if reference else self._critics()
        values_BTK = torch.zeros(len(rows), size, critics) if critics else None
        for part in self._parts(rows):
            batch = collate(self.vlm, [rows[i] for i in part], self.accelerator.device)
            with self.accelerator.autocast():
                out = (
                    self._reference_forward(batch)
                    if reference
                    else self.policy(batch, self.config.temperature)
                )
            length = out.logprobs_BT.shape[1]
            logprobs_BT[part, :length] = out.logprobs_BT.float().cpu()
            if values_BTK is not None and out.values_BTK is not None:
                values_BTK[part, :length] = out.values_BTK.float().cpu()
        return PolicyOutput(logprobs_BT, None, values_BTK)

    def _reference_forward(self, batch: Any) -> PolicyOutput:
        if self.reference is not None:
            return Policy(self.reference)(batch, self.config.temperature)
        with self.vlm.adapters_off():
            return self.policy(batch, self.config.temperature)

    def _outcomes(self, rollout: Rollout) -> Outcomes:
        rows = rollout.rows
        old = (
            PolicyOutput(rollout.logprobs_BT, None, rollout.values_BTK)
            if rollout.logprobs_BT is not None
            else self._forward(rows, reference=False)
        )
        lengths_B = torch.tensor([len(row.answer_ids) for row in rows], dtype=torch.int64)
        first_B = first_alike(rows)
        return Outcomes(
            group_B=rollout.group_B,
            image_B=torch.tensor([row.prompt.modality == "image-text" for row in rows], dtype=torch.bool),
            ended_B=rollout.ended_B,
            rewards_BK=rollout.rewards_BK,
            judged_BK=rollout.judged_BK,
            std_BK=rollout.std_BK,
            gate_BK=rollout.gate_BK,
            asked_BK=rollout.asked_BK,
            mask_BT=length_mask(lengths_B, old.logprobs_BT.shape[1]),
            logprobs_BT=old.logprobs_BT[first_B],
            ref_logprobs_BT=self._forward(rows, reference=True).logprobs_BT[first_B],
            values_BTK=None if old.values_BTK is None else old.values_BTK[first_B],
        )

    def _samples_due(self, step: int) -> bool:
        due = step + 1 == self.num_steps or step % self.config.sample_every == 0
        return due and self.accelerator.is_main_process

    def _counts(self) -> Sums:
        """What this process alone knows of the step: what was left out, and what memory it takes."""
        sums: Sums = dict(self._left_out)
        sums["refused"] = (self.refusals.refused, self.refusals.seen)
        sums["unscored"] = (self.unscored.refused, self.unscored.seen)
        if self.vlm.vision:
            sums["features/kept_mb"] = (sum(self.vlm.vision.cache.used.values()) / 2**20, 1)
        return sums

    def _swap_gap(self, step: int, rollout: Rollout) -> Sums:
        """By how much rewards fall under another picture, where it is due. The pictures are dealt over the whole batch,
        however many processes share it."""
        config = self.config
        if step + 1 < self.num_steps and step % config.swap_every:
            return {}
        records = self.feed.at(range(step * config.batch_size, (step + 1) * config.batch_size))
        swapped = {i: r for i, r in enumerate(swap_images(records, seed=step)) if r is not None}
        gap = swap_gap(self.panel, rollout, swapped, config)
        return swap_metrics(*gap, self.objectives)

    def loss(self, micro_batch: ExperienceBatch | Demonstrations) -> LossSum:
        if isinstance(micro_batch, Demonstrations):
            return self._demonstration_loss(micro_batch)
        config = self.config
        batch = collate(self.vlm, micro_batch.rows, self.accelerator.device)
        entropies = "grad" if config.entropy_coef else "plain"
        out: PolicyOutput = self.module(batch, config.temperature, entropies)
        loss, sums = update_loss(out, batch.answer_mask_BT, micro_batch, config, self.kl.coef)
        for i, part in enumerate(sums["approx_kl"]):
            self._moved[i] += float(part)
        assert out.entropy_BT is not None
        sums |= entropy_metrics(out.entropy_BT.detach(), batch.answer_mask_BT, micro_batch.rows)
        return LossSum(loss, sums, batch.record_ids)

    def _demonstration_loss(self, micro_batch: Demonstrations) -> LossSum:
        batch = collate(self.vlm, micro_batch.rows, self.accelerator.device)
        nll = -masked_sum(self.module(batch).logprobs_BT, batch.answer_mask_BT)
        sums: Sums = {"loss/demonstrations": (nll.detach(), batch.answer_mask_BT.sum())}
        return LossSum(micro_batch.weight * nll, sums, batch.record_ids)

    def step_metrics(self) -> Sums:
        return self._measured | (self.demonstrations.step_metrics() if self.demonstrations else {})

    def note(self, metrics: dict[str, float]) -> str:
        if "score" not in metrics:
            return "nothing judged"
        return f"score {metrics['score']:+.2f} kl {metrics['kl']:.2f} length {metrics['length']:.0f}"

    def watch(self, metrics: dict[str, float]) -> list[str]:
        notices = self.notices.watch(metrics)
        return notices + (self.alarms.watch(metrics) if "score" in metrics else [])

    @property
    def lr_scale(self) -> float:
        return self.alarms.lr_scale

    def state_dict(self) -> dict[str, Any]:
        return {
            "kl_coef": self.kl.coef,
            "refusals": self.refusals.state_dict(self.accelerator),
            "unscored": self.unscored.state_dict(self.accelerator),
            "demonstrations": self._demonstrations_state(),
            "alarms": self.alarms.state_dict(),
            "scalarizer": self.scalarizer.state_dict(),
        }

    def _demonstrations_state(self) -> dict[str, Any] | None:
        return self.demonstrations.refusals.state_dict(self.accelerator) if self.demonstrations else None

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.kl.coef = state["kl_coef"]
        self.refusals.load_state_dict(state["refusals"], self.accelerator)
        self.unscored.load_state_dict(state["unscored"], self.accelerator)
        if self.demonstrations:
            self.demonstrations.refusals.load_state_dict(state["demonstrations"], self.accelerator)
        self.alarms.load_state_dict(state["alarms"])
        self.scalarizer.load_state_dict(state["scalarizer"])


def _experience(
    rollout: Rollout,
    outcomes: Outcomes,
    places: Tensor,
    advantages_BT: Tensor,
    returns_BTK: Tensor | None,
    learns_BK: Tensor | None,
) -> ExperienceBatch:
    """What is known of one process's answers after all were compared."""
    own = outcomes.select(places)
    return ExperienceBatch(
        rows=rollout.rows,
        mask_BT=own.mask_BT,
        logprobs_BT=own.logprobs_BT,
        ref_logprobs_BT=own.ref_logprobs_BT,
        advantages_BT=advantages_BT[places],
        values_BTK=own.values_BTK,
        returns_BTK=None if returns_BTK is None else returns_BTK[places],
        learns_BK=None if learns_BK is None else learns_BK[places],
    )
