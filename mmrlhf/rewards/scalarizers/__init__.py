"""Scalarizers, one a file: `combine(rewards) -> scores_B`. Add yours to the union, or name it in the
config as `type: your_package.module:Class`."""

from data_tools.config import plugin
from mmrlhf.rewards.scalarizers.base import ScalarizerBase
from mmrlhf.rewards.scalarizers.chebyshev import Chebyshev
from mmrlhf.rewards.scalarizers.weighted_sum import WeightedSum
from mmrlhf.rewards.scalarizers.worst_case import WorstCase

Scalarizer = plugin(WeightedSum, Chebyshev, WorstCase)

__all__ = ["Chebyshev", "Scalarizer", "ScalarizerBase", "WeightedSum", "WorstCase"]
