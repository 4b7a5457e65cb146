"""Result files of an evaluation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from data_tools.atomic import write_text

TRADEOFFS_FORMAT, REWARD_FORMAT = 3, 5  # of tradeoffs.json and reward.json


def write_result(path: Path, row: dict[str, Any]) -> None:
    """Writes plain values as JSON; NaN, such as the ends of an interval that nobody knows, becomes null."""
    write_text(path, json.dumps(_known(row), indent=1, allow_nan=False, ensure_ascii=False) + "\n")


def _known(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _known(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_known(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
