"""A model folder is looked at before transformers opens it: what is missing, pickled or at odds is told in a line."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path
from typing import Any

from data_tools.errors import UserError

PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
MOST_HEADER = 100 * 2**20  # bytes; safetensors itself reads no more


def check_files(path: str) -> None:
    """Sees that a folder has a config and weights in safetensors, which belong together as far as their sizes tell.

    Raises:
        UserError: it hasn't. What isn't a folder, nor looks like a hub id, is refused too.
    """
    if path == "tiny":
        return
    folder = Path(path)
    if folder.is_dir():
        _check_folder(folder, path)
    elif folder.exists():
        raise UserError(f"model {path}: is a file; a model is a directory with config.json and *.safetensors")
    elif path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise UserError(f"model {path}: no such directory (nor a hub id of the form owner/name, nor 'tiny')")


def _check_folder(folder: Path, path: str) -> None:
    if not (folder / "config.json").is_file():
        inside = folder / "model"
        hint = f"; did you mean {inside}?" if (inside / "config.json").is_file() else ""
        raise UserError(f"model {path}: the folder has no config.json, so it is no model directory{hint}")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights:
        pickled = [file.name for pattern in PICKLED for file in sorted(folder.glob(pattern))]
        if pickled:
            raise UserError(
                f"model {path}: its weights are pickled ({pickled[0]}), which can run code of whoever made them; save "
                "them as model.safetensors"
            )
        return  # transformers tells which files it misses
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        return  # transformers tells where it is damaged
    largest = max((size for file in weights for size in _row_counts(file)), default=0)
    rows = _vocabulary(config)
    if largest and rows > largest:
        raise UserError(
            f"model {path}: config.json says vocab_size {rows:,}, but no weight in its files has more than {largest:,} "
            "rows, so they don't belong together"
        )


def _vocabulary(config: Any) -> int:
    if not isinstance(config, dict):
        return 0
    text = config.get("text_config")
    of = text if isinstance(text, dict) and "vocab_size" in text else config
    size = of.get("vocab_size")
    return size if isinstance(size, int) else 0


def _row_counts(file: Path) -> list[int]:
    """The largest side of each tensor in a file; none where it has no readable header."""
    with file.open("rb") as opened:
        start = opened.read(8)
        size = struct.unpack("<Q", start)[0] if len(start) == 8 else math.inf
        if size > MOST_HEADER:
            return []
        try:
            header = json.loads(opened.read(int(size)))
            return [
                max(entry["shape"], default=1) for name, entry in header.items() if name != "__metadata__"
            ]
        except (AttributeError, KeyError, TypeError, ValueError):
            return []
