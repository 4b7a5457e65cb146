"""The short table that a run ends with."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE
from rich.table import Table


def summary_table(result: dict[str, Any]) -> Table:
    """One row a policy, from what `evaluate_tradeoffs` returns (or `tradeoffs.json` holds); fits 80 columns."""
    table = Table(
        title="Policies on prompts that nothing was trained on",
        title_justify="left",
        caption="By objective: the exact score, and the learned reward in deviations.",
        caption_justify="left",
        box=SIMPLE,
    )
    table.add_column("policy", style="bold", no_wrap=True)
    table.add_column("true\nclaims", justify="right")
    exact = gold_names(result)
    names = [*result["objectives"], *(name for name in exact if name not in result["objectives"])]
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("tokens", justify="right")
    for policy in result["policies"]:
        table.add_row(
            policy["name"],
            percent(policy["true_claims"], "not judged\nexactly"),
            *(f"{percent(policy['gold'].get(n))} {signed(policy['learned'].get(n))}" for n in names),
            decimal(policy["length"].get("all")),
        )
    return table


def gold_names(result: dict[str, Any]) -> list[str]:
    """The objectives that could be judged exactly for some policy, the learned ones first."""
    found = {name for policy in result["policies"] for name in policy["gold"]}
    return [n for n in result["objectives"] if n in found] + sorted(found - set(result["objectives"]))


def percent(estimate: dict[str, Any] | None, absent: str = "–") -> str:
    """An estimate of a share: "71.3%"."""
    return absent if estimate is None else f"{estimate['mean']:.1%}"


def signed(estimate: dict[str, Any] | None, absent: str = "–") -> str:
    """An estimate with its sign: "+0.42"."""
    return absent if estimate is None else f"{estimate['mean']:+.2f}"


def decimal(estimate: dict[str, Any] | None, absent: str = "–") -> str:
    """An estimate with one decimal: "12.3"."""
    return absent if estimate is None else f"{estimate['mean']:.1f}"
