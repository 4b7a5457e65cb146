"""Weights that are told in a prompt: how they are written, and what a trained policy's folder says of them.

The text is `[weights: helpfulness=0.7 factuality=0.3] `, every objective in the order of the reward model, with one
decimal. It stands before the first words of the last user turn, since not every family's template has a system turn.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from data_tools.errors import PromptRefused, UserError
from data_tools.schema import Message, Part, PreferenceRecord

TENTHS = 10  # weights are told in multiples of 1 / TENTHS
ASKS, FORMAT = "asks.json", 1


def in_tenths(weights: Sequence[float]) -> list[float]:
    """Weights as shares of 1 in tenths, by the largest remainders, so that they sum to 1."""
    exact = [TENTHS * weight / math.fsum(weights) for weight in weights]
    tenths = [int(share) for share in exact]
    by_rest = sorted(range(len(exact)), key=lambda k: (tenths[k] - exact[k], k))
    for k in by_rest[: TENTHS - sum(tenths)]:
        tenths[k] += 1
    return [share / TENTHS for share in tenths]


def with_weights(record: PreferenceRecord, weights: Mapping[str, float]) -> PreferenceRecord:
    """The record with weights told in its prompt.

    Raises:
        PromptRefused: the prompt has no user turn.
    """
    told = f"[weights: {' '.join(f'{name}={weight:.1f}' for name, weight in weights.items())}] "
    turns = [i for i, message in enumerate(record.prompt) if message.role == "user"]
    if not turns:
        raise PromptRefused(f"record {record.id}: its prompt has no user turn to tell weights in")
    last = record.prompt[turns[-1]]
    at = next((i for i, part in enumerate(last.parts) if part.text is not None), len(last.parts))
    message = Message(last.role, (*last.parts[:at], Part(text=told), *last.parts[at:]))
    return replace(record, prompt=(*record.prompt[: turns[-1]], message, *record.prompt[turns[-1] + 1 :]))


def save_asks(directory: Path, objectives: Sequence[str]) -> None:
    """Notes beside a policy's weights that it reads wishes, and for which objectives."""
    row = {"format": FORMAT, "objectives": list(objectives)}
    (directory / ASKS).write_text(json.dumps(row, indent=2) + "\n", encoding="utf-8")


def read_asks(model: str | Path) -> list[str] | None:
    """The objectives that a policy reads weights of, in the order in which they are told; None where it wasn't trained
    to read any, or `model` is no folder.

    Raises:
        UserError: the note is damaged, or of another version.
    """
    path = Path(model) / ASKS
    if not path.is_file():
        return None
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        if row["format"] != FORMAT:
            raise UserError(f"{path}: not of format {FORMAT}, made by another version")
        return [str(name) for name in row["objectives"]]
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(f"{path}: is damaged: {error}") from error


def wish(weights: Mapping[str, float], objectives: Sequence[str], where: str) -> dict[str, float]:
    """Weights as a policy was trained to read them: of each objective (0 where not given; with none given all alike),
    in tenths that sum to 1.

    Raises:
        UserError: one names no objective, or isn't a finite number of 0 or more, or all are 0.
    """
    if unknown := sorted(set(weights) - set(objectives)):
        raise UserError(f"{where}: no objective {', '.join(unknown)}; there are {', '.join(objectives)}")
    asked = [weights.get(name, 0.0 if weights else 1.0) for name in objectives]
    if not all(math.isfinite(weight) and weight >= 0 for weight in asked) or not sum(asked):
        raise UserError(f"{where}: weights must be 0 or more, and one of them above 0")
    return dict(zip(objectives, in_tenths(asked), strict=True))
