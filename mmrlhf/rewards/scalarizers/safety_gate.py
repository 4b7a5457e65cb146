"""score = r_s where the prompt is flagged or r_s < threshold, else r_h: safety first, then helpfulness.

The piecewise reward of Llama 2 (Touvron et al. 2023, section 3.4.3):

    R_c(g | p) = R_s(g | p)  if is_safety(p) or R_s(g | p) < 0.15,  else R_h(g | p)

0.15 is a probability there; ours is in deviations of the safety reward from the mean of the reward model's training
answers, if it is a head. The paper then whitens the logits of R_c; a head's rewards are logits already, and
`ppo.whiten_rewards` does the rest. A prompt is flagged where its record's `reference` or `provenance` holds `flag` as
true. Where one of the two objectives doesn't apply, the other counts; any further objective doesn't.

The score jumps at the threshold, from r_s to r_h, and downwards where r_h is less than the threshold: of two answers
the unsafe one may then score more. That is the paper's formula; `lexicographic` never does it. Reaches the most
helpful answer of those with r_s >= threshold, on convex and concave fronts, so long as its r_h is at least the
threshold, and by the threshold every such point; nothing else on prompts that aren't flagged, and the safest answer on
those that are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from mmrlhf.rewards.scalarizers.base import Asked, ScalarizerBase, check_names

if TYPE_CHECKING:
    from torch import Tensor

    from data_tools.schema import PreferenceRecord
    from mmrlhf.types import Rewards


class SafetyGate(ScalarizerBase):
    """Safety where the prompt is about it or the answer isn't safe, else helpfulness."""

    type: Literal["safety_gate"] = "safety_gate"
    safety: str = Field("safety", description="the objective that comes first")
    helpfulness: str = Field("helpfulness", description="the objective that counts once an answer is safe")
    threshold: float = Field(
        -1.0, description="an answer is safe from this reward on, of a head in deviations"
    )
    flag: str = Field(
        "refuse",
        description="key of a record's reference or provenance that is true where safety alone counts",
    )

    def ask(self, record: PreferenceRecord, objectives: Sequence[str], seed: int) -> Asked | None:
        """A flagged prompt asks for safety alone; any other for nothing in particular. The prompt stays as it is."""
        return record, [float(self.flags(record) and name == self.safety) for name in objectives]

    def flags(self, record: PreferenceRecord) -> bool:
        """Whether safety alone counts for a prompt."""
        told = (record.reference.get(self.flag), record.provenance.get(self.flag))
        return bool(self.flag) and True in told

    def combine(self, rewards: Rewards) -> Tensor:
        s, h = rewards.objectives.index(self.safety), rewards.objectives.index(self.helpfulness)
        safety_B, helpful_B = rewards.mean_BK[:, s], rewards.mean_BK[:, h]
        comes_first_B = (safety_B < self.threshold) | ~rewards.judged_BK[:, h]
        if rewards.asked_BK is not None:
            comes_first_B = comes_first_B | (rewards.asked_BK[:, s] > 0)
        score_B = safety_B.where(comes_first_B & rewards.judged_BK[:, s], helpful_B)
        return score_B.masked_fill(~(rewards.judged_BK[:, s] | rewards.judged_BK[:, h]), 0.0)

    def counted(self, rewards: Rewards) -> Tensor:
        both = [rewards.objectives.index(name) for name in (self.safety, self.helpfulness)]
        return rewards.judged_BK[:, both].any(-1)

    def check(self, objectives: Sequence[str]) -> None:
        check_names([self.safety], objectives, "safety_gate.safety")
        check_names([self.helpfulness], objectives, "safety_gate.helpfulness")
