"""Algorithms, one a file: how scores become advantages. Add yours to the union, or name it in the config as
`type: your_package.module:Class`."""

from data_tools.config import plugin
from mmrlhf.rl.algorithms.base import AlgorithmBase, Scored
from mmrlhf.rl.algorithms.grpo import Grpo
from mmrlhf.rl.algorithms.ppo import Ppo
from mmrlhf.rl.algorithms.reinforce_pp import ReinforcePp
from mmrlhf.rl.algorithms.rloo import Rloo

Algorithm = plugin(Ppo, Grpo, Rloo, ReinforcePp)

__all__ = ["Algorithm", "AlgorithmBase", "Grpo", "Ppo", "ReinforcePp", "Rloo", "Scored"]
