"""A reward model with a fixed rule in place of a network, and small data sets."""

import torch

from data_tools.scenes.claims import true_share
from data_tools.scenes.structure import Scene
from data_tools.schema import Comparison, PreferenceRecord, Response, user
from data_tools.synth.coverage_pairs import CoveragePairs
from data_tools.synth.flip_pairs import FlipPairs
from data_tools.synth.prompts import Prompts
from data_tools.synth.text_pairs import TextPairs
from mmrlhf.models.vlm import decode
from mmrlhf.rewards.model import RewardCard, RewardModel

OBJECTIVES = ["factuality", "helpfulness", "safety"]
JUDGED = {
    "factuality": ["image-text"],
    "helpfulness": ["image-text", "text"],
    "safety": ["text"],
}
NORMS = {name: dict.fromkeys(modalities, (0.0, 1.0)) for name, modalities in JUDGED.items()}


class RuleModel(RewardModel):
    """Every head gives `rule(record, answer text, whether an image is shown)`."""

    def __init__(self, vlm, rule):
        super().__init__(vlm, RewardCard(list(OBJECTIVES), NORMS))
        self.rule = rule

    def read(self, rows, micro_batch_size, micro_batch_tokens=None):
        values = [
            self.rule(r.prompt.record, decode(self.vlm, r.answer_ids), bool(r.prompt.vision)) for r in rows
        ]
        return torch.tensor(values).reshape(-1, 1, 1).repeat(1, len(OBJECTIVES), 1), None


def blind(record, text, shown):
    """Looks at the words only."""
    return float(sum(map(ord, text)) % 97)


def looks(record, text, shown):
    """The share of true claims where there is a picture whose scene can be seen, else nothing."""
    return true_share(text, Scene.from_json(record.scenes[0])) if shown and record.scenes else 0.0


def longest(record, text, shown):
    return float(len(text))


def flips(count=6):
    return list(FlipPairs(count=count).generate(0))


def everything():
    return [
        *FlipPairs(count=3).generate(0),
        *CoveragePairs(count=4).generate(0),
        *TextPairs(count=6).generate(0),
        *Prompts(images=6, texts=6).generate(0),
    ]


def pair(number, better, worse, objectives=("helpfulness",), tie=False):
    """A text-only record; with a second objective, that one prefers the other answer."""
    comparisons = tuple(Comparison(name, i, 1 - i, tie=tie) for i, name in enumerate(objectives))
    return PreferenceRecord(
        id=f"r{number}",
        source="test",
        prompt=(user("Which?"),),
        responses=(Response(better), Response(worse)),
        comparisons=comparisons,
    )
