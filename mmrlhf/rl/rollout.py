"""Rollouts: sampled answers, scored on every objective."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from data_tools.errors import UserError
from data_tools.images import ImageError, read_image
from data_tools.schema import PreferenceRecord
from mmrlhf.config import PpoConfig
from mmrlhf.models.batch import encode_told
from mmrlhf.models.generate import Sample, sample
from mmrlhf.models.vlm import VLM, decode
from mmrlhf.rewards.panel import Panel
from mmrlhf.rewards.scalarizers import ScalarizerBase
from mmrlhf.tensors import pad_right
from mmrlhf.types import EncodedPrompt, Rollout, Row, Sums


def encode_asked(
    vlm: VLM,
    scalarizer: ScalarizerBase,
    record: PreferenceRecord,
    objectives: Sequence[str],
    seed: int,
    max_tokens: int,
) -> EncodedPrompt:
    """A prompt with what a scalarizer asks of its answers: told in the tokens alone, so that judges, the oracle and all
    measures read the record as it is. Where nothing is asked each objective weighs 1, so that what is asked is known of
    every answer, whichever prompts stand in a batch or on a process.

    Raises:
        PromptRefused, ImageError: it can't be encoded, or asked.
        UserError: the scalarizer doesn't give one weight an objective.
    """
    told, weights = scalarizer.ask(record, objectives, seed) or (record, [1.0] * len(objectives))
    if len(weights) != len(objectives):
        raise UserError(
            f"scalarizer {type(scalarizer).__name__}: asked {len(weights)} weights of record {record.id}, where there "
            f"are {len(objectives)} objectives"
        )
    prompt = encode_told(vlm, record, told, max_tokens)
    return replace(prompt, asked_K=torch.tensor(weights, dtype=torch.float32))


def roll_out(
    vlm: VLM,
    prompts: Sequence[EncodedPrompt],
    places: Sequence[int],
    draws: Tensor,
    panel: Panel,
    config: PpoConfig,
    values: Callable[[Tensor], Tensor] | None = None,
    keep_logprobs: bool = False,
) -> Rollout:
    """Samples answers to each prompt and has them judged, as answers to the prompts' records.

    `places` are the prompts' numbers in the step's batch, `draws` decide the tokens (`generate.sample`). With
    `keep_logprobs` what was known while sampling is kept: log-probs, and the `values` of hidden states.
    """
    times = config.answers_per_prompt
    samples = sample(
        vlm,
        prompts,
        config.max_answer_tokens,
        draws,
        config.temperature,
        config.generate_batch_size,
        times,
        values if keep_logprobs else None,
    )
    asked = [prompt for prompt in prompts for _ in range(times)]
    texts = [decode(vlm, answer.ids) for answer in samples]
    # weights that a prompt tells are no judge's to see
    plain = not any(prompt.tells_weights for prompt in prompts)
    rewards = panel.score(
        [prompt.record for prompt in asked],
        texts,
        config.micro_batch_size,
        config.micro_batch_tokens,
        finite=False,
        prompts=asked if plain and panel.reads_like(vlm) else (),
    )
    return Rollout(
        rows=tuple(Row(prompt, answer.ids) for prompt, answer in zip(asked, samples, strict=True)),
        texts=tuple(texts),
        ended_B=torch.tensor([int(answer.ids[-1]) in vlm.end_ids for answer in samples], dtype=torch.bool),
        rewards_BK=rewards.mean_BK,
        judged_BK=rewards.judged_BK,
        std_BK=rewards.std_BK,
        gate_BK=rewards.gate_BK,
        abstained_BK=rewards.abstained_BK,
        asked_BK=_asked(asked),
        group_B=torch.tensor(places, dtype=torch.int64).repeat_interleave(times),
        logprobs_BT=pad_right([answer.logprobs for answer in samples]) if keep_logprobs and samples else None,
        values_BTK=_values(samples) if keep_logprobs and values else None,
    )


def _values(samples: Sequence[Sample]) -> Tensor | None:
    reads = [answer.read for answer in samples if answer.read is not None]
    return torch.nn.utils.rnn.pad_sequence(reads, batch_first=True) if reads else None


def _asked(prompts: Sequence[EncodedPrompt]) -> Tensor | None:
    """What the scalarizer asked of each answer: (B, K); None where the prompts weren't encoded with it, and without any
    prompt."""
    asked = [prompt.asked_K for prompt in prompts if prompt.asked_K is not None]
    assert len(asked) in (0, len(prompts))  # of all or of none, as `encode_asked` sees to
    return torch.stack(asked) if asked else None


def without_broken_rewards(rollout: Rollout, objectives: Sequence[str]) -> tuple[Rollout, list[str]]:
    """The rollout without answers of which a reward isn't finite, or on which all that was left of the judges' word is
    that they had none, and what to say of each of these.

    A head that gives NaN for one row (an overflow, a damaged picture) says nothing of the others. An answer that nobody
    judged would be trained on with a score of 0, which is made up, where a judge would have given one and couldn't.
    """
    known_BK = rollout.rewards_BK.isfinite() & rollout.std_BK.isfinite()
    fine_B = (known_BK | ~rollout.judged_BK).all(1)
    if rollout.abstained_BK is not None:
        fine_B &= rollout.judged_BK.any(1) | ~rollout.abstained_BK.any(1)
    if fine_B.all():
        return rollout, []
    broken = [
        f"record {rollout.rows[i].prompt.record.id}: its answer got {_said(rollout, i, objectives)}"
        for i in (~fine_B).nonzero().flatten().tolist()
    ]
    return rollout.only(fine_B.nonzero().flatten()), broken


def without_unjudged(
    rollout: Rollout, scalarizer: ScalarizerBase, objectives: Sequence[str]
) -> tuple[Rollout, int]:
    """The rollout without answers that no objective judged which counts in the score, and how many these were.

    An answer without a score is neither good nor bad. With one of 0, which nobody gave, it would be compared with the
    others to its prompt, and a policy would learn to be judged, or not to be.
    """
    counted_B = scalarizer.counted(rollout.rewards(objectives))
    if counted_B.all():
        return rollout, 0
    return rollout.only(counted_B.nonzero().flatten()), int((~counted_B).sum())


def first_alike(rows: Sequence[Row]) -> Tensor:
    """For each answer the place of the first that is the same answer to the same prompt, which is it or an earlier one:
    int64 (B,). What is computed of both is the same but for rounding, and in half precision that isn't little."""
    places: dict[tuple[int, bytes], int] = {}
    return torch.tensor(
        [
            places.setdefault((id(row.prompt), row.answer_ids.cpu().numpy().tobytes()), i)
            for i, row in enumerate(rows)
        ],
        dtype=torch.int64,
    )


def _said(rollout: Rollout, row: int, objectives: Sequence[str]) -> str:
    """An answer's rewards in words."""
    values, judged = rollout.rewards_BK[row].tolist(), rollout.judged_BK[row].tolist()
    told = [f"{value:g} for {n}" for n, value, j in zip(objectives, values, judged, strict=True) if j]
    return f"the rewards {', '.join(told)}" if told else "no reward: every judge that it has abstained"


def abstentions(rollout: Rollout, objectives: Sequence[str]) -> Sums:
    """`abstained/NAME`: the share of one process's answers to which a judge owed a reward and gave none."""
    if rollout.abstained_BK is None or not len(rollout.rows):
        return {}
    counts = rollout.abstained_BK.sum(0).tolist()
    return {
        f"abstained/{name}": (count, len(rollout.rows))
        for name, count in zip(objectives, counts, strict=True)
    }


def swap_gap(
    panel: Panel, rollout: Rollout, swapped: dict[int, PreferenceRecord], config: PpoConfig
) -> tuple[Tensor, Tensor]:
    """By how much each answer's rewards fall when it is read under another record's images: (B, K), and where that
    can be told: bool (B, K). `swapped` holds, by `group_B`, the records with those images.

    A policy that learns to please without regard to the image closes this gap.
    """
    groups = rollout.group_B.tolist()
    # a damaged picture was told of where its own prompt was left out
    readable = {group: record for group, record in swapped.items() if group in groups and _readable(record)}
    return panel.swap_gap(
        rollout.rewards(panel.objectives),
        rollout.texts,
        [readable.get(group) for group in groups],
        config.micro_batch_size,
        config.micro_batch_tokens,
        finite=False,
    )


def _readable(record: PreferenceRecord) -> bool:
    try:
        for image in record.images:
            read_image(image)
    except ImageError:
        return False
    return True
