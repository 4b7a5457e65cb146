"""The short table that a run ends with."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def summary_table(result: dict[str, Any]) -> Table:
    """One row a policy, from what `evaluate_tradeoffs` returns (or `tradeoffs.json` holds)."""
    table = Table(title="Policies on prompts that nothing was trained on", title_justify="left")
    table.add_column("policy", style="bold")
    table.add_column("true claims", justify="right")
    exact = gold_names(result)
    for name in exact:
        table.add_column(f"{name}\n(exact)", justify="right")
    for name in result["objectives"]:
        table.add_column(f"{name}\n(learned)", justify="right")
    table.add_column("tokens", justify="right")
    for policy in result["policies"]:
        table.add_row(
            policy["name"],
            percent(policy["true_claims"], "not judged\nexactly"),
            *(percent(policy["gold"].get(name)) for name in exact),
            *(signed(policy["learned"].get(name)) for name in result["objectives"]),
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
