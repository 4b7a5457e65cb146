"""From a data config to a finished data directory: collect, split, merge copies, balance, write, rename.

The records are held in memory between collecting and writing (pictures that lie in files are not). The
directory appears whole or not at all. Left out on purpose: resuming half a build; it is repeated.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from data_tools.adapters import ADAPTERS
from data_tools.atomic import write_text, writing_to
from data_tools.balance.quotas import Balance, apply_quotas
from data_tools.config import Config, dump_yaml, plugin
from data_tools.dedup import deduplicate
from data_tools.errors import UserError
from data_tools.inputs import changed_files, file_hashes
from data_tools.manifest import MANIFEST, read_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shards import kind_of, write_shards
from data_tools.source import Rejected, Source
from data_tools.splits import assign_splits
from data_tools.stats import LEFT_OUT, stats
from data_tools.synth import RECIPES

__all__ = ["Advice", "BuildReport", "DataConfig", "build", "stats"]

if TYPE_CHECKING:
    AnySource = Source
else:
    AnySource = plugin(*ADAPTERS, *RECIPES)

Progress = Callable[[str, int, int | None], None]
STEP = 50  # records between two reports of progress


class DataConfig(Config):
    """Sources, and how they are mixed."""

    seed: int = Field(default=0, description="Seeds the recipes and the choice of what balancing drops.")
    sources: list[AnySource] = Field(min_length=1, description="Adapters and recipes, each with its `type`.")
    balance: Balance | None = Field(
        default=None, description="Quotas on the training preferences; null keeps all."
    )
    max_rejected: float = Field(
        default=0.05, ge=0, le=1, description="Stop if a larger share of a source's rows is malformed."
    )
    dedup: bool = Field(
        default=True,
        description="Keep one record of each prompt, images and responses, with the judgements of its copies.",
    )
    shard_records: int = Field(default=1000, ge=1, description="At most so many records a shard.")

    @field_validator("sources")
    @classmethod
    def _sources(cls, value: list[Source]) -> list[Source]:
        for source in value:
            if not isinstance(source, Source):
                raise ValueError(f"{type(source).__name__} is not made from data_tools.source.Source")
        for name, times in Counter(source.name for source in value).items():
            if times > 1:
                raise ValueError(f"{times} sources have the name {name!r}; give each its own name")
        return value


@dataclass(frozen=True)
class Advice:
    """How the user of a program that builds can choose another folder, and how replace what is in this one."""

    elsewhere: str = "choose another folder with -o"
    replace: str = "add --overwrite"


@dataclass(frozen=True)
class BuildReport:
    """What a build did. `existing` says that a finished directory of the same config was kept as it is.

    `counts` are records by split/kind/modality; `rejected` by source and reason; by source `duplicates`, copies that
    said nothing new, and `merged`, copies whose judgements went into the record that was kept; `dropped` by balancing,
    by source/modality/objectives; `leaks` are records that hang together across splits which the input fixes, by
    these splits.
    """

    directory: Path
    existing: bool
    records: int
    counts: dict[str, int]
    rejected: dict[str, dict[str, int]] = field(default_factory=dict)
    duplicates: dict[str, int] = field(default_factory=dict)
    merged: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    leaks: dict[str, int] = field(default_factory=dict)


@dataclass
class _Collected:
    """The records of all sources, and the rows that are none."""

    records: list[PreferenceRecord] = field(default_factory=list)
    rejected: list[tuple[str, Rejected]] = field(default_factory=list)

    def reasons(self) -> dict[str, dict[str, int]]:
        """Rejected rows by source and reason, the most frequent first."""
        counts: dict[str, Counter[str]] = {}
        for source, item in self.rejected:
            counts.setdefault(source, Counter())[item.reason] += 1
        return {source: dict(counter.most_common()) for source, counter in counts.items()}


def build(
    config: DataConfig,
    out: str | Path,
    progress: Progress | None = None,
    overwrite: bool = False,
    advice: Advice = Advice(),
) -> BuildReport:
    """Writes shards, manifest.json, rejected.jsonl, stats.json and config.yaml to `out`.

    A finished directory of the same config and input files is kept; any other is refused unless `overwrite`.
    `progress` is called with a source's name (or "writing"), how many records are done, and of how many,
    where known. `advice` is what a refusal tells the user to do.

    Raises:
        UserError: a source can't be read or has too many malformed rows, a quota can't be met, the disk is
            full, or `out` holds something else.
    """
    out = Path(out)
    report = progress or (lambda what, done, total: None)
    if _is_finished(config, out, overwrite, advice):
        return _report(out, existing=True)
    files = file_hashes(config.sources)
    collected = _collect(config, report)
    records, left_out = _chosen(config, collected.records)
    extra = {"seed": config.seed, "files": files, "rejected": collected.reasons(), **left_out}
    temporary = out.parent / f".{out.name}.{os.getpid()}.tmp"
    old = out.parent / f".{out.name}.{os.getpid()}.old"
    try:
        with writing_to(out):
            temporary.mkdir(parents=True)
            _write(config, temporary, records, collected.rejected, extra, report)
            if out.exists():
                os.replace(out, old)
            os.replace(temporary, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        if out.exists():
            shutil.rmtree(old, ignore_errors=True)
    return _report(out, existing=False)


def _is_finished(config: DataConfig, out: Path, overwrite: bool, advice: Advice) -> bool:
    """Whether `out` is what this config builds; raises where it must not be replaced."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return False
    if not (out / MANIFEST).is_file():
        raise UserError(f"{out}: exists and is no data set; {advice.elsewhere}")
    if overwrite:
        return False
    said = out / "config.yaml"
    if not said.is_file() or said.read_text(encoding="utf-8") != dump_yaml(config):
        raise UserError(f"{out}: holds a data set of another config; {advice.elsewhere}, or {advice.replace}")
    changed = changed_files(read_manifest(out).extra.get("files", []))
    if changed:
        raise UserError(
            f"{out}: was made before {', '.join(changed)} changed; {advice.elsewhere}, or {advice.replace}"
        )
    return True


def _collect(config: DataConfig, report: Progress) -> _Collected:
    out = _Collected()
    for source in config.sources:
        ids: set[str] = set()
        good = bad = 0
        for item in source.generate(config.seed):
            if not isinstance(item, Rejected) and item.id in ids:
                item = Rejected("another row has the same id", item.id)
            if isinstance(item, Rejected):
                bad += 1
                out.rejected.append((source.name, item))
            else:
                good += 1
                if item.source != source.name:
                    raise UserError(f"source {source.name}: its record {item.id} is of {item.source!r}")
                ids.add(item.id)
                out.records.append(item)
            if (good + bad) % STEP == 0:
                report(source.name, good + bad, None)
        report(source.name, good + bad, good + bad)
        _refuse_bad_source(config, source, good, bad, out)
    return out


def _refuse_bad_source(config: DataConfig, source: Source, good: int, bad: int, out: _Collected) -> None:
    if good + bad == 0:
        raise UserError(f"source {source.name}: gave no rows at all")
    if good and bad <= config.max_rejected * (good + bad):
        return
    firsts: dict[str, str] = {}
    for name, item in out.rejected:
        if name == source.name:
            firsts.setdefault(item.reason, item.where)
    lines = [
        f"  {number} x {reason} (first: {firsts[reason]})"
        for reason, number in out.reasons()[source.name].items()
    ]
    raise UserError(
        f"source {source.name}: {bad} of {good + bad} rows are malformed, more than max_rejected = "
        f"{config.max_rejected:g} allows:\n" + "\n".join(lines[:10])
    )


def _chosen(
    config: DataConfig, records: list[PreferenceRecord]
) -> tuple[list[PreferenceRecord], dict[str, dict[str, int]]]:
    """The records in their splits, one of each content, as the quotas want them; and what was left out or is amiss."""
    # splits first: they also hang on what the copies share with other records
    records, leaks = assign_splits(records, {source.name: source.splits for source in config.sources})
    duplicates, merged = dict[str, int](), dict[str, int]()
    if config.dedup:
        unique = deduplicate(records)
        records, duplicates, merged = unique.records, unique.duplicates, unique.merged
    records, dropped = _balanced(config, records)
    return records, {"duplicates": duplicates, "merged": merged, "dropped": dropped, "leaks": leaks}


def _balanced(
    config: DataConfig, records: list[PreferenceRecord]
) -> tuple[list[PreferenceRecord], dict[str, int]]:
    """The records without what the quotas drop from the training preferences."""
    if config.balance is None:
        return records, {}
    subject = [record for record in records if record.split == "train" and kind_of(record) == "preference"]
    kept, dropped = apply_quotas(subject, config.balance, config.seed)
    gone = {id(record) for record in subject} - {id(record) for record in kept}
    return [record for record in records if id(record) not in gone], dropped


def _write(
    config: DataConfig,
    directory: Path,
    records: list[PreferenceRecord],
    rejected: list[tuple[str, Rejected]],
    extra: dict[str, Any],
    report: Progress,
) -> None:
    def counted() -> Iterator[PreferenceRecord]:
        for done, record in enumerate(records):
            if done % STEP == 0:
                report("writing", done, len(records))
            yield record
        report("writing", len(records), len(records))

    write_text(directory / "config.yaml", dump_yaml(config))
    write_text(
        directory / "rejected.jsonl",
        "".join(
            json.dumps({"source": source, "reason": item.reason, "where": item.where}) + "\n"
            for source, item in rejected
        ),
    )
    write_shards(counted(), directory, config.shard_records, extra)
    write_text(directory / "stats.json", json.dumps(stats(directory), indent=1) + "\n")


def _report(out: Path, existing: bool) -> BuildReport:
    manifest = read_manifest(out)
    told = {key: manifest.extra.get(key, {}) for key in LEFT_OUT}
    return BuildReport(out, existing, manifest.records, manifest.counts, **told)
