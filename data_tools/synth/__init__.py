"""Synthetic recipes, one a file: each a config with a `type` and `generate(seed)`, exact by construction."""

from data_tools.synth.coverage_pairs import CoveragePairs
from data_tools.synth.demonstrations import Demonstrations
from data_tools.synth.flip_pairs import FlipPairs
from data_tools.synth.prompts import Prompts
from data_tools.synth.text_pairs import TextPairs
from data_tools.synth.twins import Twins

RECIPES = (CoveragePairs, Demonstrations, FlipPairs, Prompts, TextPairs, Twins)
