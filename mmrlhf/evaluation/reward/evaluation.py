"""What a reward model gets right, whether it looked, how sure it may be and what its heads share: the same pairs with
the true image, none, another one, a part of it, and noise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from data_tools.intervals import Estimate
from data_tools.schema import Modality, PreferenceRecord
from mmrlhf.evaluation.reward import calibration, heads, measures, singles
from mmrlhf.evaluation.reward.scoring import (
    CONDITIONS,
    MEAN,
    NONE,
    TRUE,
    Decided,
    Scorer,
    decided,
)
from mmrlhf.rewards.model import RewardModel
from mmrlhf.terminal import Bar


@dataclass(frozen=True)
class Extent:
    """How much is measured."""

    conditions: tuple[str, ...] = CONDITIONS  # `true` is always among them
    gradients: int = (
        0  # pairs on which the heads' gradients are compared; 0: none, it costs a backward a head
    )
    mean_of_heads: bool = False  # a column `mean` beside the heads
    text_model: RewardModel | None = None  # trained on text: where it is wrong, the image is needed
    micro_batch_size: int | None = None  # rows of one forward; None: as many as records are read at a time
    micro_batch_tokens: int | None = None  # padded tokens of one forward; None: only rows count


@dataclass(frozen=True)
class RewardEvaluation:
    """The measures of a reward model on preference records that it wasn't trained on.

    A comparison is right where the better response has the higher reward; equal rewards are wrong. Ties of
    the judge have no right order: they are left out and counted. What judges single responses is measured by
    `singles`; every other measure is of comparisons.
    """

    objectives: tuple[str, ...]
    records: int
    images: int  # records that show one
    conditions: tuple[str, ...]
    accuracy: dict[str, measures.By]  # objective -> modality -> image shown -> share right
    singles: dict[
        str, dict[str, measures.By]
    ]  # objective -> measure of yes or no, or of ratings -> as accuracy
    gains: measures.By  # objective -> image shown -> accuracy with the true image minus accuracy with it
    image_preference: measures.By  # objective -> image shown -> better answer worth more with the true one
    ties: dict[str, int]  # objective -> comparisons left out
    equal: dict[str, int]  # objective -> comparisons with equal rewards, which are wrong
    flip: dict[str, Estimate]  # image shown (true, none) -> share of flip pairs with both records right
    flip_heads: measures.By  # the same of each objective alone
    flip_edits: dict[str, Estimate]  # kind of edit -> the same share with the true image
    blind_wrong: dict[str, dict[str, dict[str, Estimate | None]]]  # reader (itself, text_model) -> objective
    modality_gap: dict[str, Estimate]  # objective -> accuracy on images minus on text
    length: dict[str, dict[str, Any]]  # objective -> correlation (None: undefined), longer_is_better, n
    calibration: dict[str, dict[str, Any]]  # objective -> error, ece, by_chance, nll, bins, temperature
    deviation: dict[str, dict[str, Any]]  # objective with an ensemble -> right, wrong, auroc
    agreement: dict[str, dict[str, Any]]  # "a & b" -> judges and heads: shares of responses ordered alike
    disagreement: dict[str, Estimate]  # "a & b" -> share of answers that the heads put in opposite orders
    gradients: dict[str, Estimate]  # "a & b" -> cosine between the gradients of their gaps
    left_out: dict[str, int] = field(default_factory=dict)  # image shown -> records that couldn't be shown so
    silent: dict[str, list[Modality]] = field(
        default_factory=dict
    )  # objective -> modalities it abstains on in PPO

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def evaluate_reward(
    reward_model: RewardModel,
    records: Sequence[PreferenceRecord],
    batch_size: int,
    seed: int,
    max_answer_tokens: int | None = None,
    bar: Bar | None = None,
    extent: Extent = Extent(),
) -> RewardEvaluation:
    """Measures the reward model on preference records; `seed` draws the changed images and what a calibrated head would
    show.

    Raises:
        NonFiniteReward: a reward isn't finite.
        ImageError: an image can't be read; the message names the record.
    """
    return evaluate_comparisons(reward_model, records, batch_size, seed, max_answer_tokens, bar, extent)[0]


def evaluate_comparisons(
    reward_model: RewardModel,
    records: Sequence[PreferenceRecord],
    batch_size: int,
    seed: int,
    max_answer_tokens: int | None = None,
    bar: Bar | None = None,
    extent: Extent = Extent(),
) -> tuple[RewardEvaluation, list[Decided]]:
    """`evaluate_reward`, and the comparisons that it is made of.

    Raises:
        NonFiniteReward, ImageError: as there.
    """
    conditions = tuple(name for name in CONDITIONS if name == TRUE or name in extent.conditions)
    scorer = _scorer(reward_model, batch_size, max_answer_tokens, extent)
    scores = scorer.score(records, conditions, seed, bar)
    names, found = scores.objectives, decided(scores)
    done = len(conditions) * len(records)
    blind = {"itself": measures.where_blind_fails(found, names, lambda c: c.gaps.get(NONE))}
    if extent.text_model:
        gaps = _text_gaps(extent, records, batch_size, seed, max_answer_tokens, _after(bar, done))
        blind["text_model"] = measures.where_blind_fails(found, names, lambda c: gaps.get(_key(c)))
        done += len(records)
    cosines = (
        heads.gradient_cosines(reward_model, records, extent.gradients, max_answer_tokens, _after(bar, done))
        if extent.gradients
        else {}
    )
    factors, temperatures = _to_logits(reward_model)
    judged = singles.judged_on(scores)
    for c in found:
        judged[c.objective].add(c.record.modality)
    measured = RewardEvaluation(
        objectives=names,
        records=len(records),
        images=sum(bool(record.images) for record in records),
        conditions=conditions,
        accuracy=measures.accuracy(found, names),
        singles=singles.single_measures(scores),
        gains=measures.gains(found, names),
        image_preference=measures.image_preference(found, names),
        ties={
            name: sum(c.tie and c.objective == name for record in records for c in record.pairs())
            for name in names
        },
        equal={name: sum(c.gaps[TRUE] == 0 for c in measures.of(found, name)) for name in names},
        flip=measures.flip_shares(found),
        flip_heads={
            name: shares for name in names if (shares := measures.flip_shares(measures.of(found, name)))
        },
        flip_edits=measures.flip_edits(found),
        blind_wrong={reader: part for reader, part in blind.items() if part},
        modality_gap=measures.modality_gap(found, names),
        length=measures.length(found, names),
        calibration=calibration.calibration(
            found, [name for name in names if name != MEAN], seed, factors, temperatures
        ),
        deviation=calibration.deviations(found, names),
        agreement=heads.agreement(found, names),
        disagreement=heads.disagreement(scores),
        gradients=cosines,
        left_out={name: count for name in conditions if (count := scores.left_out(name))},
        silent={name: kinds for name in names if (kinds := sorted(judged[name] - scores.applies[name]))},
    )
    return measured, found


def steps(records: int, extent: Extent) -> int:
    """How many steps `evaluate_reward` tells its bar of."""
    conditions = 1 + sum(name in extent.conditions for name in CONDITIONS[1:])
    return (conditions + bool(extent.text_model)) * records + min(extent.gradients, records)


def _scorer(
    reward_model: RewardModel, batch_size: int, max_answer_tokens: int | None, extent: Extent
) -> Scorer:
    rows, tokens = extent.micro_batch_size, extent.micro_batch_tokens
    return Scorer(reward_model, batch_size, max_answer_tokens, extent.mean_of_heads, rows, tokens)


def _after(bar: Bar | None, done: int) -> Bar | None:
    """A bar of what comes after `done` steps."""
    return (lambda step, note="": bar(done + step, note)) if bar else None


def _key(c: Decided) -> tuple[int, str, tuple[int, int]]:
    return id(c.record), c.objective, c.pair


def _text_gaps(
    extent: Extent,
    records: Sequence[PreferenceRecord],
    batch_size: int,
    seed: int,
    max_answer_tokens: int | None,
    bar: Bar | None,
) -> dict[tuple[int, str, tuple[int, int]], float]:
    """What the text model, shown no image, makes of the comparisons on objectives that it has a head for."""
    assert extent.text_model is not None
    scorer = _scorer(extent.text_model, batch_size, max_answer_tokens, extent)
    scores = scorer.score(records, [NONE], seed, bar)
    gaps = {}
    for index, record in enumerate(records):
        for c in record.pairs():
            if c.objective in scores.objectives and not c.tie:
                pair = (c.better, c.worse)
                gap = scores.gap(index, c.objective, pair, NONE)
                if gap is not None:
                    gaps[id(record), c.objective, pair] = gap
    return gaps


def _to_logits(reward_model: RewardModel) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """By head and modality, what a normalised gap is multiplied by to be a logit: the deviation that it was divided by,
    over the head's temperature, where the card has one; and these temperatures."""
    card = reward_model.card
    temperatures = {name: float(of.temperature) for name, of in card.calibration.items()}
    factors = {
        name: {str(modality): std / temperatures.get(name, 1.0) for modality, (_, std) in of.items()}
        for name, of in card.norms.items()
    }
    return factors, temperatures
