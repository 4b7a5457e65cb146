"""The last step: manifest, statistics, config and quarantine, and the sums that must come out."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_tools.atomic import write_text
from data_tools.build.config import BuildReport
from data_tools.build.quarantine import FOLDER, gather
from data_tools.build.read import Counts
from data_tools.build.work import CONFIG, Work
from data_tools.errors import RunError
from data_tools.manifest import ShardInfo, read_manifest, write_manifest
from data_tools.source import Source
from data_tools.stats import LEFT_OUT, summary
from data_tools.tally import Tally

MOST_REASONS = 50  # of a source that are counted apart; damaged files can have a reason a row
OTHERS = "other reasons (each row's own stands in quarantine/rows.jsonl)"


def finish(
    work: Work,
    config: str,
    told: Sequence[dict[str, Any]],
    quarantines: Sequence[Path],
    counts: dict[str, Counts],
    left_out: dict[str, dict[str, int]],
    extra: dict[str, Any],
) -> None:
    """Completes the output under construction from what is told of its shards; may be done again after it was cut off.

    Raises:
        RunError: a record or row is neither in the output nor counted as left out.
    """
    shards = [ShardInfo(**row["info"]) for row in told]
    tallies: dict[str, Tally] = {}
    for row in told:
        split = row["info"]["split"]
        tallies.setdefault(split, Tally()).merge(Tally.from_json(row["tally"]))
    extra = {
        **extra,
        "rows": {name: count.rows() for name, count in counts.items()},
        "rejected": {name: _busiest(count.reasons) for name, count in counts.items() if count.reasons},
        **left_out,
    }
    check_sums(sum(shard.records for shard in shards), extra, counts)
    write_text(work.out / CONFIG, config)
    shutil.rmtree(work.out / FOLDER, ignore_errors=True)
    gather(quarantines, work.out / FOLDER)
    write_text(work.out / "stats.json", json.dumps(summary(shards, tallies, extra), indent=1) + "\n")
    write_manifest(work.out, shards, extra)


def _busiest(reasons: Mapping[str, int]) -> dict[str, int]:
    """The reasons and how many rows each has, the most first; of very many, the rest is one sum."""
    found = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(number for _, number in found[MOST_REASONS:])
    return {**dict(found[:MOST_REASONS]), **({OTHERS: rest} if rest else {})}


def check_sums(written: int, extra: dict[str, Any], counts: dict[str, Counts]) -> None:
    """Raises RunError unless the rows and the records add up: a bug of ours must not lose one silently."""
    for name, count in counts.items():
        if sum(count.reasons.values()) != count.quarantined:
            raise RunError(
                f"source {name}: {count.quarantined} rows are quarantined, but the reasons sum to another"
            )
    gone = sum(
        number
        for key in ("duplicates", "merged", "filtered", "dropped")
        for number in extra.get(key, {}).values()
    )
    made = sum(count.records for count in counts.values())
    if not made == extra["made"] == written + gone:
        raise RunError(
            f"{made} records were read, but {written} are written and {gone} left out; this is a bug"
        )


def report_of(out: Path, kept: Sequence[Source] | None = None) -> BuildReport:
    """What the manifest tells of a finished build; of one that was there already, and is `kept`, its sources are
    given.
    """
    manifest = read_manifest(out)
    told = {key: manifest.extra.get(key, {}) for key in LEFT_OUT}
    made = manifest.extra.get("made", manifest.records)
    audit = manifest.extra.get("audit")
    pictured = {shard.source for shard in manifest.shards if shard.modality == "image-text"}
    uncompared = dict.fromkeys(source.uncompared(source.name in pictured) for source in kept or ())
    return BuildReport(
        out,
        kept is not None,
        manifest.records,
        manifest.counts,
        made=made,
        notes=manifest.extra.get("notes", []),
        balance=manifest.extra.get("balance"),
        audit=None if audit is None else out / audit,
        uncompared=tuple(what for what in uncompared if what),
        **told,
    )
