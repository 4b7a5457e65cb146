"""Rows of data sets that are named as on the Hugging Face hub, `org/name`.

`datasets` fetches and caches them as Arrow files, which are then read as any others. Left out on purpose: a split of
part of its rows (`train[:10%]`); `limit` takes the first rows of a source.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.rows.arrow import count_rows
from data_tools.rows.piece import Piece
from data_tools.rows.split import choose_splits

_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_FILES = (".json", ".jsonl", ".ndjson", ".gz", ".tgz", ".parquet", ".tar", ".arrow", ".yaml", ".csv", ".txt")


def is_hub_name(source: Path) -> bool:
    """Whether a source is a name on the hub: `org/name`, where no file, folder or folder `org` lies here."""
    return (
        _NAME.fullmatch(source.as_posix()) is not None
        and source.suffix.lower() not in _FILES
        and not source.exists()
        and not source.parent.is_dir()
    )


def hub_pieces(name: str, subset: str | None, split: str | None) -> Iterator[Piece]:
    """A piece for each of the Arrow files that `datasets` caches the data set in, which it fetches where need be.

    Raises:
        UserError: no such data set, subset or split, or no network.
    """
    found = _load(name, subset)
    for chosen in choose_splits([str(key) for key in found], split, name):
        rows, first = found[chosen], 0
        place = f"{name}/{subset}:{chosen}" if subset else f"{name}:{chosen}"
        for item in rows.cache_files:
            yield Piece(item["filename"], "arrow", place, first=first, split=chosen)
            first += count_rows(item["filename"])
        if first != rows.num_rows:
            raise UserError(
                f"{name}: the cache of its split {chosen} holds {first} rows, not {rows.num_rows}; remove it from "
                "the cache of `datasets`, and try again"
            )


def _load(name: str, subset: str | None) -> Any:
    import datasets

    try:
        return datasets.load_dataset(name, subset, keep_in_memory=False)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise UserError(
            f"{name}: no such file or folder, and as a data set of the hub it can't be read: {error}\n"
            "If it should be a local file or folder, check its path. Without a network, fetch the data set where "
            f"there is one (hf download --repo-type dataset {name} --local-dir DIR), and name that folder."
        ) from error


def image_caches(name: str) -> tuple[Path, ...]:
    """The folders that the images of a data set of the hub may lie in: its own fetched files, and what `datasets`
    unpacked. Not the folder above them, which also holds the user's token.
    """
    import datasets
    from huggingface_hub import constants

    own = Path(constants.HF_HUB_CACHE) / f"datasets--{name.replace('/', '--')}"
    return own, Path(datasets.config.DOWNLOADED_DATASETS_PATH)
