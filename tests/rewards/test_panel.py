"""The panel: columns side by side, swaps that aren't asked for in vain, and rewards that are none."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import judged_records as made
import pytest
import torch

from data_tools.errors import RunError
from mmrlhf.config import ModelConfig, PpoConfig
from mmrlhf.models.batch import encode_prompt, encode_told
from mmrlhf.models.generate import uniforms
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.model import NonFiniteReward, RewardCard, RewardModel
from mmrlhf.rewards.objectives import ObjectiveBase
from mmrlhf.rewards.panel import Panel, join
from mmrlhf.rl.rollout import roll_out, swap_gap, without_broken_rewards
from mmrlhf.types import Rewards

asked: list[tuple[str, list[str]]] = []


class Shown(ObjectiveBase):
    """The number of a record's images' bytes, over a hundred."""

    def values(self, records: Any, texts: Any) -> Any:
        asked.append((self.name, [record.id for record in records]))
        return [len(r.images[0].data) / 100 if r.images else None for r in records]


class Words(ObjectiveBase):
    """The number of words."""

    looks: ClassVar[bool] = False

    def values(self, records: Any, texts: Any) -> Any:
        asked.append((self.name, [record.id for record in records]))
        return [float(len(text.split())) for text in texts]


class Wrong(ObjectiveBase):
    """Gives rewards of another shape, or for another name."""

    names_given: tuple[str, ...] = ("wrong",)
    rows: int = 1
    value: float = 0.0

    def score(self, records: Any, texts: Any) -> Rewards:
        mean_BK = torch.full((self.rows, len(self.names_given)), float(self.value))
        return Rewards(self.names_given, mean_BK, torch.ones_like(mean_BK).bool(), torch.zeros_like(mean_BK))


class Broken(ObjectiveBase):
    """Not a number for one record."""

    record: str

    def values(self, records: Any, texts: Any) -> Any:
        return [float("nan") if record.id == self.record else 1.0 for record in records]


class Raises(ObjectiveBase):
    """A user's class with a fault."""

    def values(self, records: Any, texts: Any) -> Any:
        return [{}["missing"] for _ in records]


RED, BLUE, TEXT = made.picture("red", "red"), made.picture("blue", "blue"), made.text("text")
SIZES = [len(made.png(color)) / 100 for color in ("red", "blue")]


@pytest.fixture(scope="module")
def model() -> RewardModel:
    torch.manual_seed(0)
    card = RewardCard(["truth"], {"truth": {"image-text": (0.5, 2.0)}})
    model = RewardModel(load_vlm(ModelConfig()), card).requires_grad_(False).eval()
    torch.nn.init.normal_(model.heads.weight, std=0.05)
    return model


def test_columns_stand_side_by_side_the_heads_first(model: RewardModel) -> None:
    panel = Panel(model, [Words(name="words", mean=1.0), Shown(name="size")])
    assert panel.objectives == ["truth", "words", "size"]
    found = panel.score([RED, TEXT], ["A red circle.", "Four."], 4)
    assert found.objectives == ("truth", "words", "size")
    assert found.mean_BK[:, 1].tolist() == [2.0, 0.0]
    assert found.mean_BK[:, 2].tolist() == pytest.approx([SIZES[0], 0.0])
    assert found.judged_BK.tolist() == [[True, True, True], [False, True, False]]
    alone = Panel(model).score([RED, TEXT], ["A red circle.", "Four."], 4)
    torch.testing.assert_close(found.mean_BK[:, :1], alone.mean_BK)
    assert alone.mean_BK[0, 0].item() != 0.0
    assert found.gate_BK is None


def test_without_a_reward_model() -> None:
    panel = Panel(None, [Words(name="words")])
    assert panel.score([TEXT], ["one two"], 4).mean_BK.tolist() == [[2.0]]
    assert not panel.reads_like(load_vlm(ModelConfig()))


def test_nobody_is_asked_about_nothing(model: RewardModel) -> None:
    asked.clear()
    found = Panel(model, [Words(name="words"), Shown(name="size")]).score([], [], 4)
    assert found.mean_BK.shape == found.judged_BK.shape == found.std_BK.shape == (0, 3)
    assert asked == []


def test_a_gate_gives_no_weight_to_objectives_that_it_does_not_know() -> None:
    mean_BK, judged_BK = torch.tensor([[1.0, 2.0]]), torch.tensor([[True, True]])
    learned = Rewards(("a", "b"), mean_BK, judged_BK, torch.zeros(1, 2), gate_BK=torch.tensor([[0.25, 0.75]]))
    other = Rewards(("c",), mean_BK[:, :1], judged_BK[:, :1], torch.tensor([[0.5]]))
    found = join([learned, other])
    assert found.objectives == ("a", "b", "c")
    assert found.gate_BK is not None
    assert found.gate_BK.tolist() == [[0.25, 0.75, 0.0]]
    assert found.std_BK.tolist() == [[0.0, 0.0, 0.5]]


def test_swapped_images_are_shown_to_those_that_look(model: RewardModel) -> None:
    panel = Panel(model, [Words(name="words"), Shown(name="size", std=2.0)])
    texts = ["A red circle.", "Four.", "Blue."]
    rewards = panel.score([RED, TEXT, BLUE], texts, 4)
    asked.clear()
    swapped = dataclasses.replace(RED, images=BLUE.images)
    gap_BK, told_BK = panel.swap_gap(rewards, texts, [swapped, None, None], 4)
    assert asked == [("size", ["red"])]
    assert told_BK.tolist() == [[True, True, True], [False] * 3, [False] * 3]
    expected = rewards.mean_BK[0, 0] - Panel(model).score([swapped], texts[:1], 4).mean_BK[0, 0]
    torch.testing.assert_close(gap_BK[0, 0], expected)
    assert gap_BK[0, 1:].tolist() == pytest.approx([0.0, (SIZES[0] - SIZES[1]) / 2])
    assert gap_BK[1:].abs().sum() == 0


def test_no_swap_at_all(model: RewardModel) -> None:
    panel = Panel(model, [Shown(name="size")])
    rewards = panel.score([TEXT], ["x"], 4)
    gap_BK, told_BK = panel.swap_gap(rewards, ["x"], [None], 4)
    assert (gap_BK.tolist(), told_BK.tolist()) == ([[0.0, 0.0]], [[False, False]])


def test_a_reward_that_is_not_finite_names_objective_and_record() -> None:
    panel = Panel(None, [Words(name="words"), Broken(name="manners", record="blue")])
    with pytest.raises(NonFiniteReward, match=r"^the reward for manners of record blue is nan$"):
        panel.score([RED, BLUE], ["x", "y"], 4)
    found = panel.score([RED, BLUE], ["x", "y"], 4, finite=False)
    assert found.judged_BK.all()
    assert found.mean_BK.isfinite().tolist() == [[True, True], [True, False]]


@pytest.mark.parametrize(
    "settings", [{"rows": 2}, {"names_given": ("other",)}, {"names_given": ("wrong", "b")}]
)
def test_rewards_of_another_shape_stop(settings: dict[str, Any]) -> None:
    with pytest.raises(RunError, match=r"^objective wrong: gave rewards for .* where wrong of 1 answers"):
        Panel(None, [Wrong(name="wrong", **settings)]).score([TEXT], ["x"], 4, finite=False)


def test_a_class_of_the_user_that_raises_is_told_with_its_place() -> None:
    with pytest.raises(
        RunError, match=r"^objective own: Raises raised KeyError: 'missing' \(.*test_panel\.py, line \d+\)$"
    ):
        Panel(None, [Raises(name="own")]).score([TEXT], ["x"], 4)


@pytest.mark.parametrize("reads_alike", [True, False])
def test_a_rollout_is_judged_by_all(
    model: RewardModel, reads_alike: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each prompt's two answers, in order; and answers of which one judge gives no number are left out."""
    vlm = load_vlm(ModelConfig())
    monkeypatch.setattr(RewardModel, "reads_like", lambda *_: reads_alike)
    config = PpoConfig.model_validate({"answers_per_prompt": 2, "max_answer_tokens": 4})
    panel = Panel(model, [Words(name="words"), Broken(name="manners", record="blue")])
    prompts = [encode_prompt(vlm, record) for record in (RED, BLUE, TEXT)]
    found = roll_out(vlm, prompts, [0, 1, 2], uniforms([1, 2, 3], 2, 4), panel, config)
    assert found.rewards_BK[:, 1].tolist() == [float(len(text.split())) for text in found.texts]
    records = [RED, RED, BLUE, BLUE, TEXT, TEXT]
    alone = Panel(model).score(records, found.texts, 4)
    torch.testing.assert_close(found.rewards_BK[:, :1], alone.mean_BK, rtol=1e-4, atol=1e-4)
    kept, broken = without_broken_rewards(found, panel.objectives)
    assert [row.prompt.record.id for row in kept.rows] == ["red", "red", "text", "text"]
    assert len(broken) == 2
    assert "nan for manners" in broken[0]
    gap_BK, told_BK = swap_gap(Panel(model, panel.others), kept, {0: made.picture("red", "blue")}, config)
    assert told_BK.tolist() == [[True, True, True]] * 2 + [[False] * 3] * 2
    assert gap_BK[:, 1:].abs().sum() == 0


def test_what_is_judged_may_be_another_record_than_the_prompt(model: RewardModel) -> None:
    """The policy was asked something that judges don't see."""
    config = PpoConfig.model_validate({"max_answer_tokens": 4})
    vlm = model.vlm
    asked_with_more = made.picture("red", "red", asked="[short: 2] Describe the picture.")
    panel = Panel(model, [Shown(name="size")])
    prompt = encode_told(vlm, RED, asked_with_more)
    found = roll_out(vlm, [prompt], [0], uniforms([1], 1, 4), panel, config)
    expected = panel.score([RED], found.texts, 4).mean_BK
    torch.testing.assert_close(found.rewards_BK, expected)
    other = panel.score([asked_with_more], found.texts, 4).mean_BK
    assert (found.rewards_BK - other).abs().max() > 1e-3
