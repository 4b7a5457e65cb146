"""The table of sampled answers that PPO leaves every few steps: the picture, the prompt, the answer, its rewards."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from data_tools.atomic import write_text
from data_tools.images import thumbnail
from data_tools.pages.templates import CONTENT_POLICY
from mmrlhf.types import Rollout

ROWS, THUMBNAIL = 12, 160
PAGE = """<!doctype html><meta charset="utf-8">{policy}<title>step {step}</title>
<style>body{{font:14px system-ui;margin:2em}}td,th{{padding:.4em .8em;border-bottom:1px solid #ddd;text-align:left;
vertical-align:top}}td.n{{text-align:right;font-variant-numeric:tabular-nums}}img{{max-width:160px}}</style>
<h1>Samples at step {step}</h1>
<p>Rewards of the reward model are normalised: 0 is the mean of its training answers, 1 a deviation; others are scaled
as the config says. "–": not judged.</p>
<table><tr><th>image<th>prompt<th>answer{heads}<th>score</tr>
{rows}</table>
"""


def write_samples(
    folder: Path, step: int, rollout: Rollout, scores_B: Tensor, objectives: Sequence[str], count: int = ROWS
) -> Path:
    """Writes `folder/step-N.html`, self-contained, with the first `count` rows of the rollout."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for index, (row, text) in enumerate(zip(rollout.rows[:count], rollout.texts, strict=False)):
        record = row.prompt.record
        pictures = "".join(
            f'<img src="data:image/png;base64,{thumbnail(ref, THUMBNAIL)}">' for ref in record.images
        )
        cells = "".join(
            f"<td class=n>{rollout.rewards_BK[index, k]:+.2f}"
            if rollout.judged_BK[index, k]
            else "<td class=n>–"
            for k in range(len(objectives))
        )
        prompt = html.escape(record.prompt[-1].text)
        if row.prompt.tells_weights and row.prompt.asked_K is not None:
            asked = zip(objectives, row.prompt.asked_K.tolist(), strict=True)
            wish = ", ".join(f"{name} {weight:.1f}" for name, weight in asked)
            prompt += f"<br><em>asked for {html.escape(wish)}</em>"
        answer = html.escape(text) + ("" if rollout.ended_B[index] else " <em>(cut)</em>")
        rows.append(
            f"<tr><td>{pictures}<td>{prompt}<td>{answer}{cells}<td class=n>{scores_B[index]:+.2f}</tr>\n"
        )
    heads = "".join(f"<th>{html.escape(name)}" for name in objectives)
    path = folder / f"step-{step:06d}.html"
    write_text(path, PAGE.format(policy=CONTENT_POLICY, step=step, heads=heads, rows="".join(rows)))
    return path
