"""Quotas that can't be met together: which ones clash, what is short, and the nearest ones that can be met."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from data_tools.balance.program import Program
from data_tools.balance.quota import Quota
from data_tools.errors import UserError

TOTAL = "balance.total"
ALL = 1 - 1e-6  # shares of one kind that sum to so much are shares of everything


class QuotasClash(UserError):
    """Quotas can't be met together.

    `paths` are an irreducible set: without any one of them, the others of it can be met. `nearest` are by path the
    values with which all can be met; of those that give way the least, in sum.
    """

    def __init__(self, message: str, paths: Sequence[str], nearest: Mapping[str, float]) -> None:
        super().__init__(message)
        self.paths = tuple(paths)
        self.nearest = dict(nearest)


@dataclass(frozen=True)
class _Relaxed:
    """The nearest quotas and total that can be met, in the order of those asked for."""

    quotas: list[Quota]
    total: int | None


def irreducible(
    program: Program, quotas: Sequence[Quota], total: int | None
) -> tuple[list[Quota], int | None]:
    """Quotas (and perhaps the total) that can't be met together, though without any one of them they could.

    One is taken out after the other, and put back where the rest can then be met. Where none of them seems to be to
    blame, since so little room is left that nothing is reached, it is all of them.
    """
    left, given = list(quotas), total
    if total is not None and not program.feasible(left, None):
        total = None
    for quota in quotas:
        rest = [other for other in left if other is not quota]
        if not program.feasible(rest, total):
            left = rest
    return (left, total) if left or total is not None else (list(quotas), given)


def _relaxed(
    program: Program,
    quotas: Sequence[Quota],
    total: int | None,
    found: Sequence[Quota],
    found_total: int | None,
) -> _Relaxed | None:
    """The quotas and total with the least change that can be met: of what clashes (`found`), where that is enough. None
    where there is so little room that none is reached."""
    giving = [*found, *_complements(found, quotas)]
    fixed = [quota for quota in quotas if not any(quota is other for other in giving)]
    total_gives = found_total is not None
    nearest = program.nearest(fixed, giving, total, total_gives)
    if nearest is None:  # there is another clash beside this one
        fixed, giving, total_gives = [], list(quotas), total is not None
        nearest = program.nearest(fixed, giving, total, total_gives)
    if nearest is None:
        return None
    values, reached = nearest
    if total is not None and reached is not None and abs(reached - total) > 1e-6 * total:
        # a whole number of records, to which the shares may have to give way again
        total = max(1, math.floor(reached + 1e-6)) if program.low == 0 else math.ceil(reached - 1e-6)
        nearest = program.nearest(fixed, giving, total, False)
        if nearest is None:
            giving = list(quotas)
            nearest = program.nearest([], giving, total, False)
        if nearest is None:
            return None
        values = nearest[0]
    by_path = {quota.path: quota.asked(value) for quota, value in zip(giving, values, strict=True)}
    return _Relaxed([by_path.get(quota.path, quota) for quota in quotas], total)


def clash(program: Program, quotas: Sequence[Quota], total: int | None) -> QuotasClash:
    """The error for quotas that can't be met together."""
    found, found_total = irreducible(program, quotas, total)
    complements = _complements(found, quotas)
    lines = []
    for quota in found:
        others = [o for o in quotas if o is not quota and not any(o is other for other in complements)]
        lines.append(_line(program, quota, others, total, alone=len(found) == 1 and found_total is None))
    if found_total is not None:
        lines.append(_total_line(program, quotas, found_total))
    if len(lines) > 1:
        lines = [
            f"balance: these {len(lines)} quotas can't be met together",
            *(f"  {line}" for line in lines),
        ]
    relaxed = _relaxed(program, quotas, total, found, found_total)
    nearest, told = _changes(program, quotas, total, relaxed) if relaxed else ({}, [])
    if told:
        lines.append("The nearest that can be met: " + "; ".join(told))
    paths = [quota.path for quota in found] + [TOTAL] * (found_total is not None)
    return QuotasClash("\n".join(lines), paths, nearest)


def _changes(
    program: Program, quotas: Sequence[Quota], total: int | None, relaxed: _Relaxed
) -> tuple[dict[str, float], list[str]]:
    """What gives way, by path, and in words."""
    nearest: dict[str, float] = {}
    told = []
    for before, after in zip(quotas, relaxed.quotas, strict=True):
        if before.value != after.value:
            nearest[before.path] = after.value
            number = _number(program, after, relaxed.quotas, relaxed.total)
            told.append(f"{before.path} {before.value:g} -> {after.value:.4g}{number}")
    if total is not None and relaxed.total is not None and relaxed.total != total:
        nearest[TOTAL] = relaxed.total
        told.append(f"{TOTAL} {total:,} -> {relaxed.total:,}")
    return nearest, told


def _line(program: Program, quota: Quota, others: Sequence[Quota], total: int | None, alone: bool) -> str:
    """What a quota asks for, and what share it could have while the others hold."""
    ask = {"=": "", ">=": "at least ", "<=": "at most "}[quota.sense] + f"{quota.value:g} of the {quota.what}"
    together = "" if alone else " together with the other quotas"
    span = program.shares(quota, others, total)
    if span is None:
        return f"{quota.path}: asks for {ask}; no other share of it alone would do{together}"
    short = span[1] < quota.value
    could = quota.asked(span[1] if short else span[0])
    number = _number(program, could, [*others, could], total)
    if short:
        had = f"at most {could.value:.4g}{number} can be had{together}; short: {quota.kind}"
    else:
        had = f"at least {could.value:.4g}{number} is what remains{together}; short: everything but {quota.kind}"
    return f"{quota.path}: asks for {ask}, but {had}"


def _number(program: Program, quota: Quota, quotas: Sequence[Quota], total: int | None) -> str:
    """The numbers behind a share, in brackets."""
    found = program.numbers(quota, quotas, total)
    return f" ({found[0]:,.0f} of {found[1]:,.0f} {quota.what})" if found else ""


def _total_line(program: Program, quotas: Sequence[Quota], total: int) -> str:
    """What the total asks for, and how many records the quotas leave."""
    span = program.totals(quotas)
    if span is None:
        return f"{TOTAL}: asks for {total:,} records, which the quotas don't leave"
    if total < span[0]:
        return (
            f"{TOTAL}: asks for {total:,} records, but at least {math.ceil(span[0] - 1e-6):,} are shown under the "
            f"quotas where all {program.records:,} that there are stay; use strategy choose to leave some out"
        )
    short = _short(program, quotas, total)
    return (
        f"{TOTAL}: asks for {total:,} records, but {math.floor(span[1] + 1e-6):,} are left under the quotas; "
        f"short: {short or 'records of every kind'}"
    )


def _short(program: Program, quotas: Sequence[Quota], total: int) -> str:
    """The quotas for which there are too few records or comparisons to reach the total, and how many."""
    told = []
    for quota in quotas:
        there = program.records * program.high * float(program.mass @ program.part[quota.path])
        need = quota.value * total * (1.0 if quota.what == "records" else program.mean)
        if quota.sense != "<=" and round(there) < round(need):
            told.append(f"{quota.kind} ({there:,.0f} of {need:,.0f})")
    return ", ".join(told)


def _complements(found: Sequence[Quota], quotas: Sequence[Quota]) -> list[Quota]:
    """The quotas that must change when one in `found` does: the others of its kind where they are shares of all."""
    out: list[Quota] = []
    for quota in found:
        kind = quota.path.rpartition(".")[0]
        if kind in ("balance.joint", "balance.labels", "balance.floor") or quota.sense != "=":
            continue
        family = [other for other in quotas if other.path.rpartition(".")[0] == kind]
        if sum(other.value for other in family) >= ALL:
            out += [other for other in family if not any(other is item for item in (*found, *out))]
    return out
