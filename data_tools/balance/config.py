"""What a mixture should look like: quotas, the sources' weights, and what gives way to reach them."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from data_tools.config import Config
from data_tools.labels import LabelType
from data_tools.schema import Modality

Strategy = Literal["choose", "repeat", "proportion"]
MAX_EPOCHS = 4.0  # up to four times, repeating is about as good as new data (Muennighoff et al. 2023)
ROUNDING = 1e-6  # shares that were written as decimals may sum to 1 but for this

Share = Annotated[float, Field(ge=0, le=1)]


def _refusal(line: str) -> PydanticCustomError:
    """A mistake that is seen from the whole; `line` begins with the key that it is about."""
    return PydanticCustomError(
        "nested", "{lines}", {"lines": [line]}
    )  # as data_tools.config.explain reads it


class Joint(Config):
    """A quota on what is of a modality, an objective, a source and a label type at once."""

    modality: Modality | None = Field(default=None, description="Of this modality.")
    objective: str | None = Field(
        default=None, description="Compared on this objective; the share is then one of comparisons."
    )
    source: str | None = Field(default=None, description="From the source of this name.")
    label: LabelType | None = Field(default=None, description="In records that carry a label of this type.")
    share: Share | None = Field(default=None, description="The share it has, neither more nor less.")
    at_least: Share | None = Field(default=None, description="The least share.")
    at_most: Share | None = Field(default=None, description="The greatest share.")

    @model_validator(mode="after")
    def _whole(self) -> Joint:
        if not self.kinds:
            raise ValueError("names nothing; give it a modality, an objective, a source or a label")
        if self.share is None and self.at_least is None and self.at_most is None:
            raise ValueError("asks for nothing; give it a share, at_least or at_most")
        if self.share is not None and (self.at_least is not None or self.at_most is not None):
            raise ValueError("has a share and a bound; a share is both bounds already")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise ValueError(f"at_least {self.at_least:g} is more than at_most {self.at_most:g}")
        return self

    @property
    def kinds(self) -> tuple[tuple[str, str], ...]:
        """The dimensions it names, and what of each."""
        named = ("modality", "objective", "source", "label")
        return tuple((name, value) for name in named if (value := getattr(self, name)) is not None)


class Balance(Config):
    """The mixture of the preference records of the train split; what isn't named has no quota.

    A share is one of records, save for objectives: theirs are of comparisons, and a ranking counts as one. Label types
    overlap: each is the share of records that carry one.
    """

    strategy: Strategy = Field(
        default="choose",
        description="`choose` leaves out what is over the quotas, and repeats nothing; `repeat` leaves nothing out, "
        "and shows more often what is short; `proportion` draws the sources by their weights, without quotas.",
    )
    modality: dict[Modality, Share] = Field(
        default={}, description="The share of records by modality, such as {text: 0.3, image-text: 0.7}."
    )
    objectives: dict[str, Share] = Field(
        default={}, description="The share of comparisons by objective; a ranking counts as one."
    )
    sources: dict[str, Share] = Field(default={}, description="The share of records by source.")
    labels: dict[LabelType, Share] = Field(
        default={},
        description="The share of records that carry a label of a type; a record may carry several.",
    )
    joint: list[Joint] = Field(
        default=[],
        description="Quotas on several of these at once, such as "
        "{modality: image-text, objective: safety, at_least: 0.2}.",
    )
    temperature: float | None = Field(
        default=None,
        gt=0,
        description="Weigh a source of n records with n^(1/T): 1 as they are, more evens them out.",
    )
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(
        default={}, description="A weight for every source, in any unit."
    )
    unimax: bool = Field(
        default=False, description="Weigh the sources as evenly as `total` and `max_epochs` allow (UniMax)."
    )
    max_epochs: float | None = Field(
        default=None,
        ge=1,
        description=f"A record is shown so often an epoch of the mixture, on the average, and no more; null is "
        f"{MAX_EPOCHS:g}. With `choose`, nothing repeats.",
    )
    floor: Share | dict[str, Share] = Field(
        default=0.0, description="The least share of records that each source has; one for all, or by source."
    )
    spread: float = Field(
        default=0.05,
        ge=0,
        lt=1,
        description="Leave out up to so large a part more than the quotas need (or repeat so much more) where that "
        "draws the kinds of records more evenly; 0 keeps the most, and may give up whole kinds for it.",
    )
    total: int | None = Field(
        default=None,
        ge=1,
        description="How many records an epoch shows; null is, for `choose`, all that the quotas allow, for `repeat` "
        "as few as the quotas allow, for `proportion` as many as there are.",
    )

    @field_validator("modality", "objectives", "sources", "floor")
    @classmethod
    def _shares(cls, value: dict[str, float] | float) -> dict[str, float] | float:
        if isinstance(value, dict) and sum(value.values()) > 1 + ROUNDING:
            raise ValueError(f"the shares sum to {sum(value.values()):g}, more than 1")
        return value

    @field_validator("joint")
    @classmethod
    def _once(cls, value: list[Joint]) -> list[Joint]:
        for index, row in enumerate(value):
            for before, other in enumerate(value[:index]):
                if row.kinds == other.kinds:
                    raise ValueError(f"rows {before} and {index} are about the same; make them one")
        return value

    @model_validator(mode="after")
    def _together(self) -> Balance:
        if len(self.modality) == 2 and abs(sum(self.modality.values()) - 1) > ROUNDING:
            raise _refusal(
                f"modality: the shares of both modalities sum to {sum(self.modality.values()):g}, not to 1"
            )
        given = [name for name in ("temperature", "weights", "unimax") if getattr(self, name)]
        if len(given) > 1:
            raise _refusal(f"{given[1]}: {given[0]} says already how to weigh the sources; keep one of them")
        if given and self.sources:
            raise _refusal(f"{given[0]}: sources says already what share each source has; keep one of them")
        self._refuse_strategy()
        return self

    def _refuse_strategy(self) -> None:
        """What makes no sense with the strategy."""
        quotas = [
            name for name in ("modality", "objectives", "sources", "labels", "joint") if getattr(self, name)
        ]
        if self.strategy == "proportion" and quotas:
            raise _refusal(
                f"{quotas[0]}: strategy proportion goes by the sources' weights alone; choose or repeat reach quotas"
            )
        if self.strategy == "proportion" and self.spread != type(self).model_fields["spread"].default:
            raise _refusal("spread: strategy proportion draws by weights and leaves nothing out; take it out")
        if self.strategy == "choose" and self.max_epochs is not None:
            raise _refusal("max_epochs: strategy choose repeats nothing; take it out, or use repeat")
        if self.unimax and self.strategy != "proportion" and self.total is None:
            raise _refusal(
                f"unimax: needs a total to spread over the sources; strategy {self.strategy} has none of itself"
            )

    @property
    def most_epochs(self) -> float:
        """How often an epoch may show a record, on the average."""
        if self.strategy == "choose":
            return 1.0
        return MAX_EPOCHS if self.max_epochs is None else self.max_epochs
