"""What is found out about a reward model once its heads are done: the scale of its rewards, how sure they are, and what
its objectives count for each prompt."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from data_tools.errors import UserError
from data_tools.schema import Modality, PreferenceRecord
from mmrlhf.config import RewardConfig
from mmrlhf.config.stages import REFERENCE_RECORDS
from mmrlhf.rewards import gate as gates
from mmrlhf.rewards.calibration import Calibration, calibrate, enough_to_calibrate
from mmrlhf.rewards.grounding import decided
from mmrlhf.rewards.model import RewardModel
from mmrlhf.training.engine import step_seed
from mmrlhf.training.feed import Refusals
from mmrlhf.training.reward_labels import Item, judged_responses, labels_of

AT_A_TIME = 64  # records in memory


Counts = dict[str, dict[Modality, int]]  # by objective and modality


@dataclass(frozen=True)
class Reader:
    """Reads records with a reward model as they were read in training."""

    model: RewardModel
    config: RewardConfig
    encode: Callable[[PreferenceRecord], Item]

    def read(
        self, records: Iterable[PreferenceRecord]
    ) -> Iterator[tuple[PreferenceRecord, Tensor, Tensor | None]]:
        """Each record with the raw rewards (R, K) of its R responses and the states that the gate reads (R, D), but for
        those that can't be read; they were told of in training."""
        left, refusals = iter(records), Refusals(1.0, quiet=True)
        while part := list(islice(left, AT_A_TIME)):
            kept = refusals.keep(part, self.encode)
            rows = [row for _, encoded in kept for row in encoded]
            rewards_BKM, prompt_BD = self.model.read(
                rows, self.config.micro_batch_size, self.config.micro_batch_tokens
            )
            rewards_BK = rewards_BKM.mean(-1)
            self.model.check_finite(rows, rewards_BK)
            begin = 0
            for record, encoded in kept:
                own = slice(begin, begin + len(encoded))
                yield record, rewards_BK[own], None if prompt_BD is None else prompt_BD[own]
                begin += len(encoded)


def reference_norms(
    reader: Reader, judged: Mapping[str, Sequence[Modality]], records: Iterable[PreferenceRecord]
) -> tuple[dict[str, dict[Modality, tuple[float, float]]], Counts]:
    """The mean and deviation of each objective's raw rewards, by each modality that it was judged on, over the
    responses of the first records that judge it; and where fewer than `min_norm_records` do, how many: there it has no
    norm, unless it would have none at all. A cost head keeps its zero.

    Raises:
        UserError: none of these records can be read.
    """
    wanted = {(name, modality) for name, modalities in judged.items() for modality in modalities}
    chosen: dict[tuple[str, Modality], list[PreferenceRecord]] = {key: [] for key in sorted(wanted)}
    for record in records:
        for name in {label.objective for label in labels_of(record, reader.config)}:
            own = chosen.get((name, record.modality))
            if own is not None and len(own) < REFERENCE_RECORDS:
                own.append(record)
        if all(len(own) == REFERENCE_RECORDS for own in chosen.values()):
            break
    norms: dict[str, dict[Modality, tuple[float, float]]] = {name: {} for name in judged}
    too_few: Counts = {name: {} for name in judged}
    read: dict[tuple[str, Modality], list[Tensor]] = {}
    for (name, modality), own in chosen.items():
        k = reader.config.objectives.index(name)
        read[name, modality] = found = [
            rewards_RK[judged_responses(record, name, reader.config), k]
            for record, rewards_RK, _ in reader.read(own)
        ]
        if not any(len(rewards) for rewards in found):
            raise UserError(f"none of the {modality} records that judge {name} can be read any more")
        if len(found) < reader.config.min_norm_records:
            too_few[name][modality] = len(found)
    for name, of in too_few.items():
        if len(of) == len(judged[name]):
            # some could not be read, or the run would have been refused; else the head would say nothing anywhere
            del of[max(of, key=lambda modality: of[modality])]
    for (name, modality), found in read.items():
        if modality in too_few[name]:
            continue
        rewards = torch.cat(found)
        std = max(rewards.std().item(), 1e-6) if len(rewards) > 1 else 1.0
        norms[name][modality] = (0.0 if name in reader.config.cost_heads else rewards.mean().item(), std)
    return norms, {name: of for name, of in too_few.items() if of}


def temperatures(
    reader: Reader, records: Iterable[PreferenceRecord], together: Mapping[tuple[str, str], int]
) -> tuple[dict[str, Calibration], dict[str, int]]:
    """Each head's calibration on held-out records, and how many decided pairs each has; objectives of fewer than
    `LEAST_PAIRS`, or of such that all hang together, have none. `together`: the same number for records that do, by
    source and id."""
    gaps: dict[str, list[tuple[float, int]]] = {name: [] for name in reader.config.objectives}
    for record, rewards_RK, _ in reader.read(records):
        for pair in decided(record):
            if pair.objective in gaps:
                k = reader.config.objectives.index(pair.objective)
                gap = float(rewards_RK[pair.better, k] - rewards_RK[pair.worse, k])
                gaps[pair.objective].append((gap, together[record.source, record.id]))
    found: dict[str, Calibration] = {}
    for name, of in gaps.items():
        groups = [group for _, group in of]
        if enough_to_calibrate(groups):
            found[name] = calibrate(torch.tensor([gap for gap, _ in of]), groups)
    return found, {name: len(of) for name, of in gaps.items()}


def learn_gate(reader: Reader, records: Iterable[PreferenceRecord], seed: int) -> None:
    """Teaches the model's gate with the normalised rewards of responses that were compared on the overall objective,
    and writes into the card what came of it.

    Raises:
        UserError: there is no such comparison.
    """
    model, config = reader.model, reader.config.gate
    assert model.gate is not None
    assert config is not None
    assert model.card.gate is not None
    hidden: list[Tensor] = []
    gaps: list[Tensor] = []
    judged: list[list[bool]] = []
    ties: list[bool] = []
    for record, rewards_RK, prompt_RD in reader.read(records):
        assert prompt_RD is not None
        norms = [model.card.norms[name].get(record.modality) for name in model.card.objectives]
        scale_K = torch.tensor([norm[1] if norm else 1.0 for norm in norms])
        for pair in record.pairs():
            if pair.objective == config.objective:
                hidden.append(prompt_RD[pair.better])
                gaps.append((rewards_RK[pair.better] - rewards_RK[pair.worse]) / scale_K)
                judged.append([norm is not None for norm in norms])
                ties.append(pair.tie)
    if not hidden:
        raise UserError(
            f"reward.gate.objective: no training record compares two answers on {config.objective}, or none that can "
            "be read"
        )
    device = model.vlm.device
    before, after = gates.fit(
        model.gate,
        config,
        torch.stack(hidden).to(device),
        torch.stack(gaps).to(device),
        torch.tensor(judged).to(device),
        torch.tensor(ties).to(device),
        step_seed(seed, "gate", 0),
    )
    model.card.gate = dataclasses.replace(
        model.card.gate, comparisons=len(hidden), right_before=before, right_after=after
    )
