"""Arrays by name in a file (.npz)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np


def save_columns(path: Path, columns: dict[str, np.ndarray]) -> None:
    """Writes and syncs them."""
    named: dict[str, Any] = columns  # mypy takes the values for numpy's own settings
    with open(path, "wb") as file:
        np.savez(file, **named)
        file.flush()
        os.fsync(file.fileno())


def load_columns(path: Path) -> dict[str, np.ndarray]:
    """What `save_columns` wrote."""
    with np.load(path, allow_pickle=False) as saved:
        return {name: saved[name] for name in saved.files}
