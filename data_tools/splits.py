"""Train and test by the hash of what a record must not share across them, so that nothing leaks.

The hash depends on the group alone, not on the source: a prompt or an image that two sources hold lies in the
same split of both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re

from data_tools.schema import PreferenceRecord

DEFAULT_SPLITS = {"train": 0.9, "test": 0.1}
_NAME = re.compile(r"[a-z0-9_]+")


def check_splits(splits: dict[str, float]) -> dict[str, float]:
    """The shares themselves; raises ValueError unless they are positive and sum to 1, under plain names."""
    for name, share in splits.items():
        if not _NAME.fullmatch(name):
            raise ValueError(f"the split name {name!r} must be made of a-z, 0-9 and _")
        if share <= 0:
            raise ValueError(f"the share of {name} must be above 0")
    total = sum(splits.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(f"the shares sum to {total:g}, not to 1")
    return splits


def split_of(group: str, splits: dict[str, float]) -> str:
    """The split that a group falls in: its hash as a fraction, cut by the shares in their order."""
    draw = int.from_bytes(hashlib.sha256(group.encode("utf-8")).digest()[:8], "big") / 2**64
    edge = 0.0
    for name, share in splits.items():
        edge += share
        if draw < edge:
            return name
    return name


def group_of(record: PreferenceRecord) -> str:
    """What must stay in one split: the named group or flip pair, else the first image, else the first
    question.
    """
    for key in ("group", "flip"):
        if isinstance(record.provenance.get(key), str):
            return f"{record.source}/{record.provenance[key]}"
    if record.images:
        return record.images[0].sha256 or record.images[0].path or record.id
    first = next((message.text for message in record.prompt if message.role == "user"), record.prompt[0].text)
    return " ".join(first.split())


def assign(record: PreferenceRecord, splits: dict[str, float]) -> PreferenceRecord:
    """The record in the split of its group."""
    return dataclasses.replace(record, split=split_of(group_of(record), splits))
