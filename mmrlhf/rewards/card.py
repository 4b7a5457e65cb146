"""What is known of a trained reward model beside its weights, as JSON."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_tools.errors import UserError
from data_tools.schema import Modality
from mmrlhf.rewards.calibration import Calibration

CARD = "reward.json"  # in a reward model's folder
FORMAT, OLDER = 3, 2  # of format 2: one linear head an objective, and nothing else


@dataclass(frozen=True)
class GateCard:
    """A gate's shape, and what it learnt: how many of the overall objective's decided comparisons equal weights and its
    own order rightly, of those that it was trained on."""

    objective: str  # the overall one
    hidden: int | None = None  # width of its hidden layer
    comparisons: int = 0
    right_before: float | None = None
    right_after: float | None = None


@dataclass
class RewardCard:
    """What is known of a trained reward model beside its weights.

    `norms` holds, by objective and by each modality on which it was judged often enough in training, the mean and
    deviation of the raw rewards of the responses that were judged, the reference set that normalised rewards are told
    against. They are kept apart since a head's rewards may spread several times wider over text than over pictures; one
    deviation for both would make the narrower one weigh little. The mean of a cost head is 0: its sign says what is
    safe.
    """

    objectives: list[str]
    norms: dict[str, dict[Modality, tuple[float, float]]] = field(default_factory=dict)
    base: str | None = None  # with LoRA the fingerprint of what its adapter was trained on
    hidden: int | None = None  # width of each head's hidden layer; None: linear
    members: int = 1  # of the ensemble
    cost_heads: list[str] = field(default_factory=list)  # objectives whose rewards mean something at 0
    # objective -> modality -> training records that judged it there, too few for a norm: it abstains on such prompts
    too_few: dict[str, dict[Modality, int]] = field(default_factory=dict)
    calibration: dict[str, Calibration] = field(default_factory=dict)  # by objective
    gate: GateCard | None = None


def check_policy(path: str) -> None:
    """Sees that a folder is no reward model's, whose trunk speaks as nobody trained it to.

    Raises:
        UserError: it is one.
    """
    if (Path(path) / CARD).is_file():
        raise UserError(
            f"model {path}: is a reward model ({CARD} lies in it), not a policy; name the model of sft or of a ppo "
            "variant. A reward model is asked by mmrlhf serve-reward, and measured by mmrlhf evaluate reward --model"
        )


def write_card(card: RewardCard, path: Path) -> None:
    """Writes what `read_card` reads."""
    path.write_text(json.dumps({"format": FORMAT, **dataclasses.asdict(card)}, indent=2) + "\n")


def read_card(path: Path) -> tuple[RewardCard, int]:
    """The card and its format.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is damaged, or of another version.
    """
    try:
        row = json.loads(path.read_text(encoding="utf-8"))
        form = row.pop("format", None)
        if form not in (FORMAT, OLDER):
            raise UserError(f"{path}: not of format {FORMAT}, made by another version")
        if unknown := row.keys() - {f.name for f in dataclasses.fields(RewardCard)}:
            raise ValueError(f"it has the unknown keys {', '.join(sorted(unknown))}")
        norms = {
            o: {m: (float(n[0]), float(n[1])) for m, n in of.items()} for o, of in row.pop("norms").items()
        }
        calibration = {o: Calibration(**of) for o, of in row.pop("calibration", {}).items()}
        gate = row.pop("gate", None)
        card = RewardCard(**row, norms=norms, calibration=calibration, gate=gate and GateCard(**gate))
        _check(card)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise UserError(f"{path}: is damaged: {error}") from error
    return card, form


def _check(card: RewardCard) -> None:
    known = {o: set(of) <= {"text", "image-text"} for o, of in card.norms.items()}
    if not card.objectives or sorted(known) != sorted(card.objectives) or not all(known.values()):
        raise ValueError("norms must tell for each objective on which modalities it was judged")
    if not all(_is_scale(*norm) for of in card.norms.values() for norm in of.values()):
        raise ValueError("a mean isn't finite, or a deviation isn't above 0")
    sizes: list[Any] = [card.members, card.hidden or 1, (card.gate and card.gate.hidden) or 1]
    if not all(isinstance(size, int) and size >= 1 for size in sizes):
        raise ValueError("members and hidden must be whole numbers above 0")
    if others := sorted({*card.cost_heads, *card.calibration, *card.too_few} - set(card.objectives)):
        raise ValueError(f"it tells of {', '.join(others)}, which is none of its objectives")
    if not all(_is_scale(0.0, found.temperature) for found in card.calibration.values()):
        raise ValueError("a temperature isn't above 0")


def _is_scale(mean: float, std: float) -> bool:
    return math.isfinite(mean) and 0 < std < math.inf
