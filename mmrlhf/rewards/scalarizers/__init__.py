"""Scalarizers, one a file: `combine(rewards) -> scores_B`. Add yours to the union, or name it in the
config as `type: your_package.module:Class`."""

from data_tools.config import plugin
from mmrlhf.rewards.scalarizers.base import ScalarizerBase
from mmrlhf.rewards.scalarizers.chebyshev import Chebyshev
from mmrlhf.rewards.scalarizers.gated import Gated
from mmrlhf.rewards.scalarizers.lagrangian import Lagrangian
from mmrlhf.rewards.scalarizers.lexicographic import Lexicographic
from mmrlhf.rewards.scalarizers.nash import Nash
from mmrlhf.rewards.scalarizers.preference_conditioned import PreferenceConditioned
from mmrlhf.rewards.scalarizers.safety_gate import SafetyGate
from mmrlhf.rewards.scalarizers.standardised import Standardised
from mmrlhf.rewards.scalarizers.threshold import Threshold
from mmrlhf.rewards.scalarizers.weighted_sum import WeightedSum
from mmrlhf.rewards.scalarizers.worst_case import WorstCase

Scalarizer = plugin(
    WeightedSum,
    Standardised,
    Chebyshev,
    WorstCase,
    Threshold,
    Lexicographic,
    Nash,
    Lagrangian,
    Gated,
    SafetyGate,
    PreferenceConditioned,
)

__all__ = [
    "Chebyshev",
    "Gated",
    "Lagrangian",
    "Lexicographic",
    "Nash",
    "PreferenceConditioned",
    "SafetyGate",
    "Scalarizer",
    "ScalarizerBase",
    "Standardised",
    "Threshold",
    "WeightedSum",
    "WorstCase",
]
