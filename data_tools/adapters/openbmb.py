"""What RLHF-V and RLAIF-V share: where a row comes from, and which model wrote its answers."""

from __future__ import annotations

from typing import Any

from data_tools.adapters.base import model_name
from data_tools.adapters.provenance import told
from data_tools.rows.json_value import parse

# the second and the last three are names of older revisions
ORIGIN = (
    "ds_name",
    "dataset_name",
    "origin_dataset",
    "origin_split",
    "idx",
    "image_path",
    "origin_split_inner_idx",
)


def origin(row: dict[str, Any]) -> dict[str, Any]:
    """The row's fields about where it comes from, as they are."""
    return told(row, ORIGIN)


def author(row: dict[str, Any]) -> str | None:
    """The model that `origin_split` names, a JSON object in a text; None where it isn't one or names none."""
    split = row.get("origin_split")
    if isinstance(split, str):
        try:
            split = parse(split.encode("utf-8"))
        except (ValueError, RecursionError):
            return None
    return model_name(split.get("model")) if isinstance(split, dict) else None
