"""The short tables that the evaluation of a reward model ends with."""

from __future__ import annotations

from typing import Any

from rich.box import SIMPLE
from rich.table import Table

from mmrlhf.evaluation.report.summary import percent, signed
from mmrlhf.evaluation.reward.scoring import MEAN

# of responses that were judged one by one
SINGLES = {
    "yes_no_auroc": "a yes above a no",
    "yes_no_accuracy": "yes or no told",
    "rated_pairs": "ratings, one prompt",
    "rating_order": "ratings, any prompts",
}


def reward_tables(judged: dict[str, Any]) -> list[Table]:
    """What `evaluate reward` ends with, from what `reward.json` holds: the benchmark's scores where it was one, a row a
    head, and a row two heads."""
    tables = [_scores_table(judged)] if judged.get("scores") else []
    if judged["accuracy"] or not judged["singles"]:
        tables.append(_heads_table(judged))
    if judged["singles"]:
        tables.append(_singles_table(judged))
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
    """A head's name, with a star where it learnt from no or too few prompts like those that it was measured on."""
    return f"{name}*" if name in judged["silent"] else name


def guesses(judged: dict[str, Any]) -> list[str]:
    """What the stars of heads stand for, a sentence each."""
    return [
        f"* {name} learnt from no or too few {' or '.join(kinds)} prompts: what it says of them is a guess."
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
                *([] if judged["singles"] else unmeasured(judged)),
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


def _singles_table(judged: dict[str, Any]) -> Table:
    """A row for each head, measure and kind of prompt that single responses are judged on."""
    words = [*([] if judged["accuracy"] else how_measured(judged)), *guesses(judged), *unmeasured(judged)]
    table = _table("Responses judged one by one, by what is shown", "\n".join(words))
    table.add_column("head", style="bold", no_wrap=True)
    table.add_column("measure")
    shown = [name for name in ("true", "none", "swapped", "crop", "noise") if name in judged["conditions"]]
    for name in ("text", *shown):
        table.add_column(name, justify="right", no_wrap=True)
    for name, measures in judged["singles"].items():
        for measure, by in measures.items():
            estimates = [
                by.get("text", {}).get("true"),
                *(by.get("image-text", {}).get(which) for which in shown),
            ]
            table.add_row(_marked(name, judged), SINGLES[measure], *(whole_percent(e) for e in estimates))
    return table


def unmeasured(judged: dict[str, Any]) -> list[str]:
    """The heads of which nothing is measured, and why, a sentence each."""
    return [
        f"{name}: nothing is measured; no record that was read puts two responses in order on it, and none judges a "
        "single one."
        for name in judged["objectives"]
        if name != MEAN and name not in judged["accuracy"] and name not in judged["singles"]
    ]


def whole_percent(estimate: dict[str, Any] | None, absent: str = "–") -> str:
    """An estimate of a share without decimals: "71%"."""
    return absent if estimate is None else f"{estimate['mean']:.0%}"


def percent_within(estimate: dict[str, Any] | None, absent: str = "–") -> str:
    """An estimate of a share with its interval: "71.3% (66-76)"."""
    if estimate is None:
        return absent
    return f"{estimate['mean']:.1%} ({100 * estimate['low']:.0f}-{100 * estimate['high']:.0f})"
