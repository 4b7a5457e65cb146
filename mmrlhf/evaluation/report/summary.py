"""The short table that a run ends with."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE
from rich.table import Table


def summary_table(result: dict[str, Any]) -> Table:
    """One row a policy, from what `evaluate_tradeoffs` returns (or `tradeoffs.json` holds); fits 80 columns. A column
    that would be empty is left out."""
    exact = gold_names(result)
    claims = any(policy["true_claims"] for policy in result["policies"])
    meaning = "the exact score, and the learned reward in deviations" if exact else "the learned reward"
    table = Table(
        title="Policies on prompts that nothing was trained on",
        title_justify="left",
        caption="\n".join([f"By objective: {meaning}.", *unscored(result), *safety_words(result)]),
        caption_justify="left",
        box=SIMPLE,
    )
    table.add_column("policy", style="bold", no_wrap=True)
    if claims:
        table.add_column("true\nclaims", justify="right")
    names = [*result["objectives"], *(name for name in exact if name not in result["objectives"])]
    for name in names:
        table.add_column(name, justify="right")
    table.add_column("tokens", justify="right")
    for policy in result["policies"]:
        scores = [
            [percent(policy["gold"].get(n))] * bool(exact) + [signed(policy["learned"].get(n))] for n in names
        ]
        table.add_row(
            policy["name"],
            *([percent(policy["true_claims"], "not judged\nexactly")] if claims else []),
            *(" ".join(cell) for cell in scores),
            decimal(policy["length"].get("all")),
        )
    return table


def safety_words(result: dict[str, Any]) -> list[str]:
    """Of each policy, how many harmful prompts it refuses and how many benign ones it answers, a sentence each."""
    words = []
    for policy in result["policies"]:
        refused, answered = (policy["safety"].get(name) for name in ("refused", "answered"))
        parts = [f"refuses {percent(refused)} of {refused['n']} harmful prompts"] if refused else []
        parts += [f"answers {percent(answered)} of {answered['n']} benign ones"] if answered else []
        words += [f"{policy['name']}: {' and '.join(parts)}."] if parts else []
    return words


def gap_columns(result: dict[str, Any]) -> list[str]:
    """The objectives that there is something to say of swapped images for: those of which some policy has a swap gap,
    and, where prompts show images, those that don't look."""
    blind = result["not_looking"] if result["prompts"].get("image-text") else []
    return [
        name
        for name in result["objectives"]
        if name in blind or any(name in p["swap_gap"] for p in result["policies"])
    ]


def title_of(result: dict[str, Any] | None) -> str:
    """What a report says first where no true claims were counted: what the first trained policy changed in an exact
    score, or else in a learned reward, of the first objective that has one; of one policy alone, what it has."""
    if not result:
        return ""
    first = result["policies"][0]
    kinds = [(kind, name) for kind in ("gold", "learned") for name in first[kind]]
    for name, change in list(result["changes"].items())[:1]:
        told = [(kind, of, change[kind][of]) for kind, of in kinds if of in change[kind]]
        for kind, of, moved in told[:1]:
            after = next(p for p in result["policies"] if p["name"] == name)
            return _change_in_words(name, kind, of, first[kind][of], after[kind][of], moved)
    for kind, of in kinds[:1]:
        return f"{_measure(kind, of)} of {first['name']} is {_value(kind, first[kind][of]['mean'])}."
    return "No objective judged the answers."


def _change_in_words(
    name: str, kind: str, of: str, before: dict[str, Any], after: dict[str, Any], moved: dict[str, Any]
) -> str:
    values = f"{_value(kind, before['mean'])} before PPO, {_value(kind, after['mean'])} after"
    if moved["low"] is not None and moved["low"] <= 0 <= moved["high"]:
        return f"{_measure(kind, of)} has not clearly changed under {name}: {values}."
    return f"{_measure(kind, of)} {'rose' if moved['mean'] > 0 else 'fell'} under {name}: {values}."


def _measure(kind: str, objective: str) -> str:
    return f"The {'exact score' if kind == 'gold' else 'learned reward'} for {objective}"


def _value(kind: str, mean: float) -> str:
    return f"{mean:.0%}" if kind == "gold" else f"{mean:+.2f}".replace("-", "\N{MINUS SIGN}")


def unscored(result: dict[str, Any]) -> list[str]:
    """Of each policy, how many answers got no reward that is a number, a sentence each."""
    return [
        f"{policy['name']}: without a reward for {name}, and left out of it: {count} answers."
        for policy in result["policies"]
        for name, count in policy.get("unscored", {}).items()
    ]


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
