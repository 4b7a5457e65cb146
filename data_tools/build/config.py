"""What a build is told, and what it tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, field_validator, model_validator

from data_tools.adapters import ADAPTERS
from data_tools.adapters.shards import ShardsConfig
from data_tools.audits.config import AuditSettings
from data_tools.balance.config import Balance
from data_tools.config import Config, plugin
from data_tools.parts.view import Remedy
from data_tools.remedies import REMEDIES
from data_tools.resize import ImageSettings
from data_tools.source import Source
from data_tools.synth import RECIPES

if TYPE_CHECKING:
    AnySource = Source
    AnyRemedy = Remedy
else:
    AnySource = plugin(*ADAPTERS, ShardsConfig, *RECIPES)
    AnyRemedy = plugin(*REMEDIES)

Progress = Callable[[str, int, int | None], None]


class Reading(Config):
    """What builds and conversions have in common."""

    seed: int = Field(
        default=0,
        lt=2**63,
        description="Seeds the recipes, the order of answers and the choice of what balancing drops.",
    )
    max_rejected: float = Field(
        default=0.05, ge=0, le=1, description="Stop if a larger share of a source's rows is malformed."
    )
    shard_records: int = Field(default=1000, ge=1, description="At most so many records a shard.")
    images: ImageSettings = Field(
        default=ImageSettings(), description="What is done to images, once, when they are read."
    )


class DataConfig(Reading):
    """Sources, and how they are mixed."""

    sources: list[AnySource] = Field(min_length=1, description="Adapters and recipes, each with its `type`.")
    dedup: bool = Field(
        default=True,
        description="Keep one record of each prompt, images and responses, with the judgements of its copies.",
    )
    remedies: list[AnyRemedy] = Field(
        default=[],
        description="What leaves records out before balancing, in this order, each with its `type`.",
    )
    balance: Balance | None = Field(
        default=None, description="Quotas on the training preferences; null keeps all."
    )
    audit: AuditSettings | None = Field(
        default=None,
        description="Audit the records before remedies and balance and those that were built, into audit/; null "
        "doesn't.",
    )
    shuffle_responses: bool = Field(
        default=True,
        description="Put each record's answers in a random order, the same for both of a flip pair, so that their "
        "place says nothing.",
    )

    @field_validator("sources")
    @classmethod
    def _sources(cls, value: list[Source]) -> list[Source]:
        for source in value:
            _check_source(source)
        for name, times in Counter(source.name for source in value).items():
            if times > 1:
                raise ValueError(f"{times} sources have the name {name!r}; give each its own name")
        return value

    @model_validator(mode="after")
    def _named(self) -> Self:
        known = [source.name for source in self.sources]
        for place, remedy in enumerate(self.remedies):
            for name in getattr(remedy, "sources", ()):
                if name not in known:
                    raise ValueError(
                        f"remedies.{place}.sources: there is no source {name!r}; there are: {', '.join(known)}"
                    )
        return self

    @field_validator("remedies")
    @classmethod
    def _remedies(cls, value: list[Remedy]) -> list[Remedy]:
        for remedy in value:
            if not isinstance(remedy, Remedy):
                raise ValueError(f"{type(remedy).__name__} is not made from data_tools.parts.view.Remedy")
        return value


class ConvertConfig(Reading):
    """One source, as it is."""

    source: AnySource = Field(description="An adapter or recipe with its `type`.")

    @field_validator("source")
    @classmethod
    def _source(cls, value: Source) -> Source:
        return _check_source(value)

    @property
    def sources(self) -> list[Source]:
        """The one source."""
        return [self.source]


def _check_source(source: object) -> Source:
    if not isinstance(source, Source):
        raise ValueError(f"{type(source).__name__} is not made from data_tools.source.Source")
    return source


@dataclass(frozen=True)
class Advice:
    """How the user of a program that builds can choose another folder, replace what is in this one, and go on with a
    build that was cut off.
    """

    elsewhere: str = "choose another folder with -o"
    replace: str = "add --overwrite"
    resume: str = "go on with --resume, or add --overwrite to begin anew"


ADVICE = Advice()


@dataclass(frozen=True)
class BuildReport:
    """What a build did. `existing` says that a finished directory of the same config was kept as it is.

    - counts: records by split/kind/modality;
    - rows: by source, how many rows were `read`, and of these how many are `in` and how many `quarantined`;
    - rejected: the quarantined rows by source and reason;
    - made: how many records the rows gave, which are those of the directory and those of the next four;
    - duplicates, merged: by source, copies that said nothing new, and copies whose judgements went into the record
      that was kept;
    - filtered: what remedies dropped, by "source: reason";
    - dropped: what balancing dropped, by source/modality/objectives;
    - leaks: records of the directory that hang together across splits which the input fixes, by these splits;
    - notes: what to know of it, a sentence each: merged copies that contradict each other, and what remedies couldn't
      do, such as which sources were too small to be judged;
    - balance: the balancer's plan (see `balance.solution.Solution.row`), where the config has a balance;
    - audit: the folder of the audit of it, where the config asks for one;
    - uncompared: of a build that was kept, what of the input was not looked at for changes.
    """

    directory: Path
    existing: bool
    records: int
    counts: dict[str, int]
    rows: dict[str, dict[str, int]] = field(default_factory=dict)
    made: int = 0
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)
    filtered: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    leaks: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    balance: dict[str, Any] | None = None
    audit: Path | None = None
    uncompared: tuple[str, ...] = ()
