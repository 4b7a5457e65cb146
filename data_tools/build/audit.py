"""The audit at the end of a build: the records as they were read, once copies were merged and the splits drawn, beside
those that were built.

Both are read from what is on disk already, so it can be done again after a kill, and its bytes are always the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from data_tools.audits.base import Data, Options, in_order
from data_tools.audits.config import AuditSettings
from data_tools.audits.page import write_reports
from data_tools.audits.run import audit_data
from data_tools.build.config import Progress
from data_tools.build.plan import BEFORE, Plan
from data_tools.build.planned import Planned
from data_tools.build.work import Work

FOLDER = "audit"  # of the output


def write_audit(
    settings: AuditSettings, seed: int, plan: Plan, parts: Sequence[Path], work: Work, progress: Progress
) -> None:
    """Writes the report into the output under construction, whose shards and manifest are there.

    Raises:
        UserError: a benchmark file can't be read, or a picture can't be decoded.
    """
    options = Options(seed, settings.max_pairs, tuple(settings.against))
    opened: list[Planned] = []

    def opening(split: str) -> Planned:
        opened.append(Planned(parts, split, work.plan / BEFORE, *plan.before[split]))
        return opened[-1]

    def tell(name: str, what: str, done: int, total: int | None) -> None:
        progress(f"audit, {name}: {what}", done, total)

    before = Data("before", in_order(plan.before), opening, options, partial(tell, "before"))
    after = Data.of_directory(work.out, (), options, partial(tell, "after"), name="after")
    try:
        found = audit_data(before, settings.only)
        write_reports(audit_data(after, settings.only), work.out / FOLDER, found)
    finally:
        for records in opened:
            records.close()
