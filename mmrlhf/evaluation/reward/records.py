"""Which records a reward model is measured on: those that are drawn, less those that it can't read."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from data_tools.balance.mixture import Label, Layout
from data_tools.errors import PromptRefused, UserError
from data_tools.images import ImageError
from data_tools.schema import PreferenceRecord
from data_tools.shards import RecordSet, open_records
from mmrlhf.models.batch import PromptTooLong, PromptUnreadable, encode_answer, encode_prompt
from mmrlhf.models.vlm import VLM

# why a record is left out, as reward.json and the tables say it
REASONS: dict[type[UserError], str] = {
    PromptTooLong: "prompt too long",
    PromptUnreadable: "prompt unreadable",
    ImageError: "image damaged",
    PromptRefused: "prompt unfit",  # one in which no weights can be told
}


def readable(
    vlm: VLM,
    records: Sequence[PreferenceRecord],
    limit: int | None,
    told: Callable[[PreferenceRecord], PreferenceRecord] = lambda record: record,
) -> tuple[list[PreferenceRecord], list[tuple[PreferenceRecord, str]]]:
    """The records whose prompt, as it is `told`, can be read and has at most `limit` tokens (None: any number), and the
    others, each with one of `REASONS`.

    Raises:
        UserError: none can.
    """
    kept: list[PreferenceRecord] = []
    refused: list[tuple[PreferenceRecord, str]] = []
    for record in records:
        try:
            encode_prompt(vlm, told(record), limit)
        except tuple(REASONS) as error:
            refused.append((record, next(why for kind, why in REASONS.items() if isinstance(error, kind))))
            continue
        kept.append(record)
    if records and not kept:
        raise UserError(
            f"evaluate: all {len(records)} records are left out: "
            + ", ".join(f"{count} x {why}" for why, count in reasons(refused).items())
            + ("" if limit is None else f" (max_prompt_tokens {limit})")
        )
    return kept, refused


def reasons(refused: Sequence[tuple[PreferenceRecord, str]]) -> dict[str, int]:
    """How many were refused for each reason, the most frequent first."""
    return dict(Counter(why for _, why in refused).most_common())


def cut_answers(vlm: VLM, records: Sequence[PreferenceRecord], limit: int | None) -> int:
    """How many of the records' answers have more than `limit` tokens."""
    if limit is None:
        return 0
    return sum(len(encode_answer(vlm, r.text)) > limit for record in records for r in record.responses)


def draw_samples(records: Sequence[PreferenceRecord], count: int | None, seed: int) -> list[PreferenceRecord]:
    """At least `count` of the records (None: all), drawn, in their order. Those of one sample (`provenance["sample"]`)
    are drawn together, so that there are at most as many more as a sample has."""
    samples: dict[Hashable, list[int]] = {}
    for index, record in enumerate(records):
        samples.setdefault(record.provenance.get("sample", index), []).append(index)
    if count is None or count >= len(records):
        return list(records)
    chosen: list[int] = []
    for name in random.Random(seed).sample(list(samples), len(samples)):
        if len(chosen) >= count:
            break
        chosen += samples[name]
    return [records[index] for index in sorted(chosen)]


def choose_pairs(data: str, split: str, pairs: int | None, seed: int) -> list[PreferenceRecord]:
    """Preference records of the split, mixed as in the data, flip pairs whole. At most one more than asked
    for; None: all.

    Raises:
        UserError: no such data or split, or it holds no preference record.
    """
    records = open_records(data, split, kind="preference")
    partners = _flip_partners(records)
    chosen: dict[int, None] = {}
    for index in Layout(Label(*stratum) for stratum in records.strata).each_once(seed):
        if pairs is not None and len(chosen) >= pairs:
            break
        chosen |= dict.fromkeys(partners.get(index, [index]))
    return [records[index] for index in chosen]


def _flip_partners(records: RecordSet) -> dict[int, list[int]]:
    """The records of each flip pair, by the index of each of them."""
    flips: dict[tuple[str, str], list[int]] = {}
    for index, (source, _) in enumerate(records.strata):
        flip = records.meta(index)["provenance"].get("flip")
        if isinstance(flip, str):
            flips.setdefault((source, flip), []).append(index)
    return {index: both for both in flips.values() for index in both}
