"""Which split of a data set that has several is read, and which one a file's name tells of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from data_tools.errors import UserError

ALL = "all"
TRAIN = "train"
_KEYWORDS = {  # those of `datasets`
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "valid", "dev", "val"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_BETWEEN = re.compile(r"[-._ 0-9]+")
_SHARD = re.compile(r"(\w+)-[0-9]{5}-of-[0-9]{5}\..*")


def choose_splits(names: Sequence[str], split: str | None, where: object) -> list[str]:
    """The splits to read: the one that `split` names, every one for `all`; without it, the only one.

    Raises:
        UserError: there is no such split, or none was named and there are several.
    """
    known = ", ".join(sorted(names)) or "none"
    if split in names:
        return [str(split)]
    if split == ALL:
        return list(names)
    if split is not None:
        raise UserError(f"{where}: has no split {split!r}; it has: {known}")
    if len(names) > 1:
        raise UserError(
            f"{where}: has the splits {known}; choose one with split, or all of them with {ALL!r}"
        )
    return list(names)


def named_split(place: str) -> str | None:
    """The split that a file of a folder is of by its name, else by the nearest folder that tells one; None where no
    name does.

    The words are those that `datasets` looks for: `train.jsonl` and `my_training/a.jsonl` are train, `dev-0.parquet` is
    validation, `eval.json` is test; of several words in one name the first counts. A shard's split is the word before
    its number where a keyword is in it: `test_prefs` of `test_prefs-00000-of-00002.parquet`.
    """
    for name in reversed(PurePosixPath(place).parts):
        words = _BETWEEN.split(name.lower())
        split = next((_KEYWORDS[word] for word in words if word in _KEYWORDS), None)
        if split is not None:
            shard = _SHARD.fullmatch(name)
            return shard[1] if shard and shard[1].lower() not in _KEYWORDS else split
    return None
