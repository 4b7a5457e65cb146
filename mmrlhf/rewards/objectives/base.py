"""What every objective shares that isn't a head of the reward model: a name, a scale, and what it says of answers.

To PPO all objectives look the same: `names` are columns of `rewards_BK` beside those of the reward model. Objectives
are configs, which are read before any heavy library is loaded: they import torch when they are asked.
"""

from __future__ import annotations

import hashlib
import inspect
import traceback
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from data_tools.config import Config
from data_tools.errors import RunError
from data_tools.schema import PreferenceRecord

if TYPE_CHECKING:
    from torch import Tensor

    from mmrlhf.types import Rewards

Values = Iterable[float | None]  # one an answer; None where the objective doesn't apply


class ObjectiveBase(Config):
    """A judge of answers. It is a config: what it needs beyond that (a model, a connection) it opens when it is first
    asked."""

    looks: ClassVar[bool] = (
        True  # its rewards may change with the images; else it isn't asked about swapped ones
    )
    idle: ClassVar[frozenset[str]] = frozenset()  # settings that decide no reward, which a run may change

    name: str = Field(
        min_length=1, description="what the objective is called in weights, metrics and reports"
    )
    mean: float = Field(0.0, description="taken off each reward, so that 0 is usual")
    std: float = Field(1.0, gt=0, description="rewards are divided by it, so that objectives weigh alike")

    @property
    def names(self) -> tuple[str, ...]:
        """The objectives that it judges: one, unless a judge tells several at once."""
        return (self.name,)

    @property
    def tells_deviation(self) -> bool:
        """Whether it may say how unsure it is of a reward, for a scalarizer's `pessimism`: a user's class may, where it
        makes its own `Rewards`."""
        return not self.ours and type(self).score is not ObjectiveBase.score

    @property
    def needs(self) -> str:
        """What a record must hold for the objective to apply, in words, such as reference.answer."""
        return "what it judges by"

    def applies(self, record: PreferenceRecord) -> bool:
        """Whether it may judge answers to a record, as far as that can be told without one."""
        return True

    def check(self) -> None:
        """Sees that what it opens later is there, as far as this machine can tell: before data are built and models
        trained. Asks no server, and keeps nothing open.

        Raises:
            UserError, RunError: something is missing; the message names the objective.
        """

    def open(self) -> None:
        """Opens what it needs, so that what is missing is told before a stage begins and not after its first answers.

        Raises:
            UserError, RunError: something is missing; the message names the objective.
        """

    def score(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Rewards:
        """What it says of each record's answer, scaled by `mean` and `std`.

        Raises:
            RunError: it can't be asked, or what it answers is no reward; the message names the objective.
        """
        return self.joined([self.values(records, texts)], records)

    def joined(self, columns: Sequence[Values], records: Sequence[PreferenceRecord]) -> Rewards:
        """The rewards of K objectives from the raw ones of each, in the order of `names`.

        Raises:
            RunError: another number of rewards than answers, or one that is no number.
        """
        import torch

        found = [
            self._checked(name, values, records) for name, values in zip(self.names, columns, strict=True)
        ]
        shape = (len(columns), len(records))
        raw_KB = torch.tensor([[value or 0.0 for value in values] for values in found], dtype=torch.float32)
        judged_KB = torch.tensor([[value is not None for value in values] for values in found])
        raw_BK, judged_BK = raw_KB.reshape(shape).T, judged_KB.bool().reshape(shape).T
        return self.scaled(raw_BK, judged_BK, torch.zeros_like(raw_BK))

    def scaled(self, raw_BK: Tensor, judged_BK: Tensor, std_BK: Tensor) -> Rewards:
        """Raw rewards and their deviations in the units of the scalarizer."""
        from mmrlhf.types import Rewards

        mean_BK = ((raw_BK - self.mean) / self.std).masked_fill(~judged_BK, 0.0)
        return Rewards(self.names, mean_BK, judged_BK, (std_BK / self.std).masked_fill(~judged_BK, 0.0))

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Values:
        """The raw reward of each record's answer; None where the objective doesn't apply to it."""
        raise NotImplementedError  # of those that judge one objective and don't override `score`

    def made_of(self, settings: dict[str, Any]) -> dict[str, Any]:
        """What decides its rewards, of its settings as plain values and beside them: a stage that was made with
        something else isn't gone on with. The code of a user's class counts."""
        kept = {key: value for key, value in settings.items() if key not in self.idle}
        return kept if self.ours else kept | {"code": source_hash(type(self))}

    @property
    def ours(self) -> bool:
        """Whether its class comes with mmrlhf, and isn't the user's."""
        return is_ours(self)

    def _checked(self, name: str, values: Values, records: Sequence[PreferenceRecord]) -> list[float | None]:
        if isinstance(values, str | bytes | dict) or not isinstance(values, Iterable):
            raise RunError(f"objective {name}: gave {values!r:.80} where one reward an answer was asked for")
        found = list(values)
        if len(found) != len(records):
            raise RunError(f"objective {name}: gave {len(found)} rewards for {len(records)} answers")
        return [None if v is None else _number(name, v, r) for v, r in zip(found, records, strict=True)]


def _number(name: str, value: Any, record: PreferenceRecord) -> float:
    try:
        if isinstance(value, str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:  # tensors raise what they like
        raise RunError(
            f"objective {name}: its reward for record {record.id} is {value!r:.80}, which is no number"
        ) from error


def is_ours(plugin: Config) -> bool:
    """Whether a plug-in's class comes with mmrlhf, and isn't the user's."""
    return type(plugin).__module__.partition(".")[0] == "mmrlhf"


def raised(name: str, code: str, error: Exception) -> RunError:
    """What to raise where a user's code has: it names the plug-in, the exception and its line."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    what = f"{type(error).__name__}: {error}"
    return RunError(f"{name}: {code} raised {what} ({place.filename}, line {place.lineno})")


def source_hash(thing: Any) -> str | None:
    """A hash of the source of a class or function; None where there is none to read. What it calls isn't followed."""
    try:
        return hashlib.sha256(inspect.getsource(thing).encode()).hexdigest()
    except (OSError, TypeError):
        return None


def prompt_text(record: PreferenceRecord, mark: str = "") -> str:
    """The prompt in words: its text, or one line a turn. `mark` stands in the place of each image, {} its number."""
    turns = [
        "".join(
            mark.format(part.image + 1) if part.image is not None else part.text or "" for part in m.parts
        )
        for m in record.prompt
    ]
    if len(turns) == 1:
        return turns[0]
    return "\n".join(f"{m.role}: {turn}" for m, turn in zip(record.prompt, turns, strict=True))
