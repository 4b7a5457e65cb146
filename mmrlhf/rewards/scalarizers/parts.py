"""The scalarizers that others can be made of: those whose weights may differ from answer to answer
(`Rewards.asked_BK`)."""

from data_tools.config import plugin
from mmrlhf.rewards.scalarizers.chebyshev import Chebyshev
from mmrlhf.rewards.scalarizers.nash import Nash
from mmrlhf.rewards.scalarizers.weighted_sum import WeightedSum

Weighted = plugin(WeightedSum, Chebyshev, Nash)

__all__ = ["Weighted", "WeightedSum"]
