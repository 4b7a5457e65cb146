"""Objectives that aren't heads of the reward model, one a file: `score(records, texts) -> Rewards`. Add yours to the
union, or name it in the config: a class as `type: your_package.module:Class`, or a plain function as
`type: your_module:fn` (`objectives/function.py`)."""

from data_tools.config import plugin
from mmrlhf.rewards.objectives.base import ObjectiveBase
from mmrlhf.rewards.objectives.clip_score import ClipScore
from mmrlhf.rewards.objectives.exact_match import ExactMatch
from mmrlhf.rewards.objectives.format import Format
from mmrlhf.rewards.objectives.function import Function
from mmrlhf.rewards.objectives.judge import Judge
from mmrlhf.rewards.objectives.length import Length
from mmrlhf.rewards.objectives.oracle import Oracle
from mmrlhf.rewards.objectives.remote import Remote

Objective = plugin(Oracle, ExactMatch, Format, Length, ClipScore, Judge, Remote, Function, functions=Function)

__all__ = [
    "ClipScore",
    "ExactMatch",
    "Format",
    "Function",
    "Judge",
    "Length",
    "Objective",
    "ObjectiveBase",
    "Oracle",
    "Remote",
]
