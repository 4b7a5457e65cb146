"""The segments of a mixture whose proportions change, in a file of JSON lines: what was drawn can be told, and drawn
again, from the seed and this file alone.

A line is synced before anything is drawn by it. One that a kill cut short is dropped, and so are, when a run goes on
from an earlier checkpoint, those that begin behind it: they are measured again, and come out the same.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, NonNegativeInt, ValidationError

from data_tools.atomic import write_text, writing_to
from data_tools.balance.mixture import Segment
from data_tools.errors import UserError


class Entry(BaseModel):
    """A segment, and what it was decided by: any JSON values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    start: NonNegativeInt
    draws: dict[str, NonNegativeInt]
    told: dict[str, Any] = {}

    @property
    def segment(self) -> Segment:
        """For `Mixture.extend`."""
        return Segment(self.start, self.draws)


def read_schedule(path: Path) -> list[Entry]:
    """The entries of a schedule, in their order; none where there is no file. A last line without an end is left out.

    Raises:
        UserError: a line is damaged, or begins before the one above it.
    """
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: can't be read ({error.strerror})") from error
    found: list[Entry] = []
    for number, line in enumerate(lines, 1):
        try:
            found.append(Entry.model_validate_json(line))
        except ValidationError as error:
            why = error.errors()[0]["msg"]
            raise UserError(
                f"{path}, line {number}: is damaged ({why}); train anew in another folder"
            ) from None
        if number > 1 and found[-1].start < found[-2].start:
            raise UserError(f"{path}, line {number}: begins before the line above it; its lines were moved")
    return found


def keep_before(path: Path, position: int) -> list[Entry]:
    """The entries that begin before a position; the file is left with these alone.

    Raises:
        UserError: see `read_schedule`; or the disk is full.
    """
    kept = [entry for entry in read_schedule(path) if entry.start < position]
    with writing_to(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, "".join(_line(entry) for entry in kept))
    return kept


def append(path: Path, entry: Entry) -> None:
    """Adds an entry, and syncs it.

    Raises:
        UserError: the disk is full.
    """
    with writing_to(path.parent), path.open("a", encoding="utf-8") as file:
        file.write(_line(entry))
        file.flush()
        os.fsync(file.fileno())


def _line(entry: Entry) -> str:
    return json.dumps(entry.model_dump(), ensure_ascii=False) + "\n"
