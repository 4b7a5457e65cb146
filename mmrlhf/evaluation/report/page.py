"""One self-contained HTML file from what a run left behind. A part that isn't there is left out of the page.

Everything is inside the file: no script, no font, no address. Answers and prompts are untrusted text: the
template escapes all of it, and only our own plots are let through as they are.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from pydantic import BaseModel

from data_tools.atomic import write_text
from data_tools.config import dump_yaml
from data_tools.errors import UserError
from data_tools.pages.templates import environment
from mmrlhf.config import RunConfig
from mmrlhf.evaluation.report import figures
from mmrlhf.evaluation.report.reward_page import reward_context
from mmrlhf.evaluation.report.summary import gap_columns, gold_names, title_of, unscored
from mmrlhf.evaluation.results import REWARD_FORMAT, TRADEOFFS_FORMAT

SCALARIZER_NAMES = {"chebyshev": "Chebyshev", "nash": "Nash product", "lagrangian": "Lagrangian"}


def write_report(run: Path, config: RunConfig) -> Path:
    """Writes `run/report.html` from the stages' metrics and the evaluation, and returns its path.

    Raises:
        UserError: a result file is damaged.
    """
    path = run / "report.html"
    write_text(
        path,
        environment("mmrlhf.evaluation.report").get_template("report.html").render(_context(run, config)),
    )
    return path


def _context(run: Path, config: RunConfig) -> dict[str, Any]:
    result = _read(run / "evaluate" / "tradeoffs.json", TRADEOFFS_FORMAT)
    judged = _read(run / "evaluate" / "reward.json", REWARD_FORMAT)
    data = run / "data" if not isinstance(config.data, str) else Path(config.data)
    policies = _policies(config, result)
    curves = figures.training_curves(run, [policy["name"] for policy in policies])
    seen = reward_context(judged) if judged else {}
    prompts = result["prompts"] if result else {}
    groups = [
        (name, title) for name, title in (("image-text", "image"), ("text", "text")) if prompts.get(name)
    ]
    return {
        "name": config.name,
        "seed": config.seed,
        "policies": policies,
        "policy_key": [(policy["color"], policy["name"]) for policy in policies],
        "result": result,
        "judged": judged,
        "gold_names": gold_names(result) if result else [],
        "unscored": unscored(result) if result else [],
        "headline": _headline(result, judged),
        "title": title_of(result),
        "has_claims": any(policy["true_claims"] for policy in (result or {}).get("policies", [])),
        "gap_columns": gap_columns(result) if result else [],
        "groups": groups,
        "asked": _asked(result, groups) if result else "",
        "safety": _safety(result) if result else [],
        "plots": {name: Markup(svg) for name, svg in figures.evaluation_plots(result).items()}
        | seen.pop("plots", {}),
        **seen,
        "widths": figures.plot_widths(result, judged),
        "fronts": _fronts(result) if result else [],
        "curves": {name: (Markup(svg), key) for name, (svg, key) in curves.items()},
        "samples": _samples(result, policies),
        "data": _data(_read(data / "stats.json")),
        "config": dump_yaml(config),
    }


def _read(path: Path, version: int | None = None) -> dict[str, Any] | None:
    """A JSON file, or None where there is none; `version` is the format that it must have."""
    try:
        row: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: is damaged ({error}); delete it and evaluate again") from error
    if version is not None and row.get("format") != version:
        raise UserError(f"{path}: was written by another version of mmrlhf; delete it and evaluate again")
    return row


def _policies(config: RunConfig, result: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Name, color index and what was optimized, of each policy; the first is the one before PPO."""
    variants = {variant.name: variant.scalarizer for variant in config.ppo.variants} if config.ppo else {}
    names = [policy["name"] for policy in result["policies"]] if result else [config.before_ppo, *variants]
    return [
        {
            "name": name,
            "color": index % 8,
            "label": _label(name, variants),
        }
        for index, name in enumerate(names)
    ]


def _label(name: str, variants: dict[str, Any]) -> str:
    """What a policy was optimized for; of a preference-conditioned one also what it was asked for."""
    variant, _, asked = name.partition(" ")
    if variant not in variants:
        return "before PPO"
    return scalarizer_label(variants[variant]) + (f"; asked for {asked}" if asked else "")


def scalarizer_label(scalarizer: Any) -> str:
    """A scalarizer in a few words: "weighted sum, factuality 3, safety 1"."""
    row = scalarizer.model_dump(mode="json")
    kind = str(row.get("type", type(scalarizer).__name__))
    settings = {
        key: value
        for key, value in row.items()
        if key != "type" and (isinstance(value, dict) or key in scalarizer.model_fields_set)
    }
    words = [SCALARIZER_NAMES.get(kind, kind.replace("_", " "))]
    for key, value in settings.items():
        if isinstance(getattr(scalarizer, key), BaseModel):
            words.append(f"{key} {scalarizer_label(getattr(scalarizer, key))}")
        elif isinstance(value, dict):
            of = "" if key == "weights" else f"{key} "
            words += [f"{of}{name} {number:g}" for name, number in value.items()]
        elif isinstance(value, list):
            words.append(f"{key} {' > '.join(value)}")
        else:
            words.append(f"{key} {value}")
    return ", ".join(words)


def _headline(result: dict[str, Any] | None, judged: dict[str, Any] | None) -> dict[str, Any]:
    """The numbers at the top. Of several trained policies the first of the config is told of: choosing the
    best after the fact would flatter it."""
    found: dict[str, Any] = {"before": None, "after": None, "change": None, "flip": None}
    if result:
        found["before"] = result["policies"][0]
        if len(result["policies"]) > 1:
            found["after"] = result["policies"][1]
            found["change"] = result["changes"][found["after"]["name"]]
    if judged and {"true", "none"} <= judged["flip"].keys():
        found["flip"] = judged["flip"]
    return found


def _asked(result: dict[str, Any], groups: Sequence[tuple[str, str]]) -> str:
    """How many prompts were answered: "60 image and 20 text prompts"."""
    counts = [f"{result['prompts'][name]:,} {title}" for name, title in groups]
    return f"{' and '.join(counts)} prompts"


def _fronts(result: dict[str, Any]) -> list[tuple[str, str]]:
    """The fronts that there is something to trade on, with their titles."""
    return [
        (name, title)
        for name, title in (("gold", "Exact scores"), ("learned", "Learned rewards"))
        if isinstance(result["fronts"][name], dict) and len(result["fronts"][name]["objectives"]) > 1
    ]


def _safety(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Of each policy the harmful prompts that it refuses and the benign ones that it answers, with what changed; none
    where no prompt says whether it must be refused."""
    rows = [
        {
            "name": policy["name"],
            "shares": policy["safety"],
            "changes": result["changes"].get(policy["name"], {}),
        }
        for policy in result["policies"]
    ]
    return rows if any(row["shares"] for row in rows) else []


def _samples(result: dict[str, Any] | None, policies: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sample prompts, each with every policy's answer in colored pieces."""
    if not result:
        return []
    answers = [{answer["record"]: answer for answer in policy["answers"]} for policy in result["policies"]]
    samples = []
    for sample in result["samples"]:
        rows = []
        for policy, of_record in zip(policies, answers, strict=True):
            answer = of_record[sample["record"]]
            rows.append({"policy": policy, "pieces": mark_claims(answer["text"], answer["claims"]), **answer})
        samples.append({**sample, "answers": rows})
    return samples


def mark_claims(text: str, claims: Sequence[Sequence[Any]] | None) -> list[tuple[str, str]]:
    """The answer cut into (piece, verdict), verdict one of true, false, unknown, and "" for what is no
    claim."""
    pieces: list[tuple[str, str]] = []
    at = 0
    for claim, true in claims or []:
        # the checker reads lower case with single spaces
        found = re.compile(r"\s+".join(map(re.escape, claim.split())), re.IGNORECASE).search(text, at)
        if found:
            pieces.append((text[at : found.start()], ""))
            pieces.append((found.group(), {True: "true", False: "false", None: "unknown"}[true]))
            at = found.end()
    return [(piece, verdict) for piece, verdict in [*pieces, (text[at:], "")] if piece]


def _data(stats: dict[str, Any] | None) -> dict[str, Any] | None:
    """The counts as a table of sources x splits, and of objectives x splits."""
    if not stats:
        return None
    splits = sorted({row["split"] for row in stats["counts"]}, key=lambda split: (split != "train", split))
    rows: dict[tuple[str, str, str], dict[str, int]] = {}
    for row in stats["counts"]:
        counts = rows.setdefault((row["kind"], row["source"], row["modality"]), {})
        counts[row["split"]] = counts.get(row["split"], 0) + row["records"]
    preferences = [row for row in stats["counts"] if row["split"] == "train" and row["kind"] == "preference"]
    total = sum(row["records"] for row in preferences)
    images = sum(row["records"] for row in preferences if row["modality"] == "image-text")
    return {
        "splits": splits,
        "rows": sorted(rows.items()),
        "image_share": images / total if total else None,
        "objectives": sorted({name for found in stats["objectives"].values() for name in found}),
        "stats": stats,
    }
