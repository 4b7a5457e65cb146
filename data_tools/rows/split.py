"""Which split of a data set that has several is read."""

from __future__ import annotations

from collections.abc import Sequence

from data_tools.errors import UserError

ALL = "all"


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
