"""Measuring a reward model: whether it looks, how sure it may be, and what its heads share.

`scoring` asks it under each condition, `measures`, `calibration` and `heads` make numbers of the answers, `command`
runs them on a data set or a public benchmark.
"""

from mmrlhf.evaluation.reward.evaluation import Extent, RewardEvaluation, evaluate_reward

__all__ = ["Extent", "RewardEvaluation", "evaluate_reward"]
