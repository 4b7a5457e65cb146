"""The short tables that a run, or the evaluation of a reward model, ends with."""

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


def looking(result: dict[str, Any]) -> list[str]:
    """The objectives of which some policy has a swap gap: those that judge answers about pictures."""
    return [name for name in result["objectives"] if any(name in p["swap_gap"] for p in result["policies"])]


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


def reward_tables(judged: dict[str, Any]) -> list[Table]:
    """What `evaluate reward` ends with, from what `reward.json` holds: the benchmark's scores where it was one, a row a
    head, and a row two heads."""
    tables = [_scores_table(judged)] if judged.get("scores") else []
    tables.append(_heads_table(judged))
    pairs = dict.fromkeys([*judged["disagreement"], *judged["gradients"]])
    if pairs:
        table = _table("Between heads", "")
        for name in ("heads", "disagree", "gradients' cosine"):
            table.add_column(name, justify="left" if name == "heads" else "right")
        for pair in pairs:
            table.add_row(
                pair, percent(judged["disagreement"].get(pair)), signed(judged["gradients"].get(pair))
            )
        tables.append(table)
    return tables


def how_measured(judged: dict[str, Any]) -> list[str]:
    """What must be known of a `reward.json` beside its numbers, a sentence each: how it was measured, what was left out
    of it and what was cut."""
    how, said = judged.get("how"), []
    if how:
        pairs, prompt, answer = how["pairs"], how["max_prompt_tokens"], how["max_answer_tokens"]
        parts = [
            "all records" if pairs is None else f"at most {pairs} records",
            "prompts of any length" if prompt is None else f"prompts of at most {prompt} tokens",
            "answers whole" if answer is None else f"answers up to {answer} tokens",
            f"seed {how['seed']}",
        ]
        said.append(f"Measured on {', '.join(parts)}.")
    if judged.get("cut_answers"):
        said.append(f"{judged['cut_answers']} answers are longer and were cut (--max-answer-tokens).")
    if refused := judged.get("refused"):
        reasons = ", ".join(f"{count} x {reason}" for reason, count in refused.items())
        said.append(f"{sum(refused.values())} records are left out: {reasons}.")
    if partial := judged.get("partial_samples"):
        said.append(f"{partial} samples have lost a pair and are not in acc_plus.")
    return said


def _marked(name: str, judged: dict[str, Any]) -> str:
    """A head's name, with a star where it never learnt from prompts like those that it was measured on."""
    return f"{name}*" if name in judged["silent"] else name


def guesses(judged: dict[str, Any]) -> list[str]:
    """What the stars of heads stand for, a sentence each."""
    return [
        f"* {name} never learnt from {' or '.join(kinds)} prompts: what it says of them is a guess."
        for name, kinds in judged["silent"].items()
    ]


def _table(title: str, caption: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        caption=caption or None,
        caption_justify="left",
        box=SIMPLE,
        padding=(0, 1, 0, 0),
    )


def _scores_table(judged: dict[str, Any]) -> Table:
    """A row a score of the benchmark, a column a head: benchmarks have more scores than models have heads."""
    left_out = judged["rejected"]["rows"]
    caption = [f"{left_out} rows are no records, see reward.json."] if left_out else []
    table = _table(judged["benchmark"]["title"], "\n".join(caption + guesses(judged)))
    table.add_column("score", style="bold", no_wrap=True)
    for objective in judged["scores"]:
        table.add_column(_marked(objective, judged), justify="right")
    table.add_column("n", justify="right")
    for name in dict.fromkeys(name for of in judged["scores"].values() for name in of):
        row = [of.get(name) for of in judged["scores"].values()]
        table.add_row(name, *(percent_within(e) for e in row), str(max(e["n"] for e in row if e is not None)))
    return table


def _heads_table(judged: dict[str, Any]) -> Table:
    table = _table(
        f"The reward model on {judged['records']} records",
        "\n".join(
            [
                "Share of pairs right by what is shown. flips: both of a pair (blind: 0%).",
                "blind-wrong: right with the image, where it is wrong without.",
                *how_measured(judged),
                *guesses(judged),
            ]
        ),
    )
    table.add_column("head", style="bold", no_wrap=True)
    shown = [name for name in ("true", "none", "swapped", "crop", "noise") if name in judged["conditions"]]
    for name in ("text", *shown, "flips", "blind-\nwrong", "calib.\nerror"):
        table.add_column(name, justify="right", no_wrap=True)
    blind = judged["blind_wrong"].get("itself", {})
    for name in judged["objectives"]:
        accuracy = judged["accuracy"].get(name, {})
        if not accuracy:
            continue  # nothing was judged on it
        estimates = [
            accuracy.get("text", {}).get("true"),
            *(accuracy.get("image-text", {}).get(which) for which in shown),
            judged["flip_heads"].get(name, {}).get("true"),
            blind.get(name, {}).get("accuracy"),
        ]
        error = percent(judged["calibration"].get(name, {}).get("error"))
        table.add_row(_marked(name, judged), *(whole_percent(e) for e in estimates), error)
    return table


def whole_percent(estimate: dict[str, Any] | None, absent: str = "–") -> str:
    """An estimate of a share without decimals: "71%"."""
    return absent if estimate is None else f"{estimate['mean']:.0%}"


def percent_within(estimate: dict[str, Any] | None, absent: str = "–") -> str:
    """An estimate of a share with its interval: "71.3% (66-76)"."""
    if estimate is None:
        return absent
    return f"{estimate['mean']:.1%} ({100 * estimate['low']:.0f}-{100 * estimate['high']:.0f})"
