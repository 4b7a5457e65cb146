"""The reward model: whose tokens a score is read from, what a folder of one must hold, and what it abstains from."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from data_tools.errors import UserError
from data_tools.scenes.render import to_png
from data_tools.scenes.structure import Scene, SceneObject
from data_tools.schema import ImageRef, PreferenceRecord, user
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.batch import collate, encode_answer, encode_prompt
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.model import CARD, HEADS, NonFiniteReward, RewardCard, RewardModel, load_reward_model
from mmrlhf.rewards.panel import score_texts
from mmrlhf.types import Row

OBJECTIVES = ["helpfulness", "factuality"]
NORMS = {
    "helpfulness": {"image-text": (3.0, 4.0), "text": (0.25, 2.0)},
    "factuality": {"image-text": (-1.0, 0.5)},
}


def scene(color: str) -> bytes:
    return to_png(Scene((SceneObject("circle", color, "large", 0.5, 0.5),)))


PROMPTS = [
    PreferenceRecord("t0", "test", (user("What is 2 + 2?"),)),
    PreferenceRecord(
        "i0", "test", (user(0, "Describe the picture."),), images=(ImageRef.of_bytes(scene("red")),)
    ),
    PreferenceRecord(
        "t1", "test", (user("Please name three colours that a painter may mix from the others."),)
    ),
    PreferenceRecord(
        "i1", "test", (user(0, "What color is it?"),), images=(ImageRef.of_bytes(scene("blue")),)
    ),
]
ANSWERS = ["4.", "There is a large red circle in the middle.", "Orange, green and violet.", ""]


def make(lora: LoraSettings | None = None) -> RewardModel:
    vlm = load_vlm(ModelConfig(lora=lora), trainable=lora is not None)
    torch.manual_seed(3)
    model = RewardModel(vlm, RewardCard(list(OBJECTIVES), {name: dict(of) for name, of in NORMS.items()}))
    torch.nn.init.normal_(model.heads.weight)  # heads start small, and differences would drown
    return model.requires_grad_(lora is not None)


@pytest.fixture(scope="module")
def judge() -> RewardModel:
    return make()


@pytest.fixture
def saved(judge: RewardModel, tmp_path: Path) -> Path:
    judge.save(tmp_path / "reward")
    return tmp_path / "reward"


def rows_of(judge: RewardModel) -> list[Row]:
    rows = []
    for item, answer in zip(PROMPTS, ANSWERS, strict=True):
        prompt = encode_prompt(judge.vlm, item)
        rows.append(Row(prompt, encode_answer(judge.vlm, answer)))
    return rows


def test_a_score_is_the_heads_reading_of_the_last_token_of_a_row_alone(judge: RewardModel) -> None:
    """By transformers alone: one row, no padding, all hidden states, the last of them."""
    rows = rows_of(judge)
    expected = []
    for row in rows:
        ids = torch.cat([row.prompt.input_ids, row.answer_ids]).unsqueeze(0)
        with torch.no_grad():
            out = judge.vlm.core(input_ids=ids, **row.prompt.vision, output_hidden_states=True)
            expected.append(judge.heads.weight @ out.hidden_states[-1][0, -1] + judge.heads.bias)
    raw = judge.score(rows, 4, normalised=False)
    torch.testing.assert_close(raw, torch.stack(expected), rtol=1e-4, atol=1e-4)
    # rewards are told apart, so the closeness above says something
    assert raw.std(0).min() > 0.1
    # (r - mean) / std of the row's modality (rows 0 and 2 are text); raw where the objective wasn't judged
    by_hand = torch.stack(
        [
            torch.stack(
                [(raw[0, 0] - 0.25) / 2, (raw[1, 0] - 3) / 4, (raw[2, 0] - 0.25) / 2, (raw[3, 0] - 3) / 4]
            ),
            torch.stack([raw[0, 1], (raw[1, 1] + 1) * 2, raw[2, 1], (raw[3, 1] + 1) * 2]),
        ],
        1,
    )
    torch.testing.assert_close(judge.score(rows, 4), by_hand)


@pytest.mark.parametrize("size", [1, 2, 3, 16])
def test_a_score_does_not_depend_on_the_batch(judge: RewardModel, size: int) -> None:
    rows = rows_of(judge)
    whole = judge.score(rows, 4)
    torch.testing.assert_close(judge.score(rows, size), whole, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(judge.score(rows[::-1], size).flip(0), whole, rtol=1e-5, atol=1e-4)
    for row, expected in zip(rows, whole, strict=True):
        torch.testing.assert_close(judge.score([row], size)[0], expected, rtol=1e-5, atol=1e-4)


def test_the_last_token_is_the_end_token_of_each_answer(judge: RewardModel) -> None:
    batch = collate(judge.vlm, rows_of(judge))
    ids = batch.inputs["input_ids"][torch.arange(4), batch.last_B]
    assert ids.tolist() == [judge.vlm.end_id] * 4
    assert batch.last_B.tolist() == [int(mask.sum()) - 1 for mask in batch.inputs["attention_mask"]]


@pytest.mark.parametrize("lora", [None, LoraSettings(r=2)])
def test_saved_and_loaded_it_gives_the_same_rewards(tmp_path: Path, lora: LoraSettings | None) -> None:
    judge = make(lora)
    for name, value in judge.named_parameters():
        if "lora_B" in name:
            value.data.normal_(std=0.05, generator=torch.Generator().manual_seed(1))
    rows = rows_of(judge)
    judge.save(tmp_path / "reward")
    again = load_reward_model(tmp_path / "reward")
    close = {"rtol": 1e-4, "atol": 1e-3} if lora else {"rtol": 0, "atol": 0}
    torch.testing.assert_close(again.score(rows, 4), judge.score(rows, 4), **close)
    assert vars(again.card) == vars(judge.card)
    assert not [p for p in again.parameters() if p.requires_grad]


def test_what_was_not_judged_is_masked(judge: RewardModel) -> None:
    found = score_texts(judge, PROMPTS, ANSWERS, 4)
    rewards, judged = found.mean_BK, found.judged_BK
    assert judged.tolist() == [[True, False], [True, True], [True, False], [True, True]]
    assert rewards[0, 1].item() == rewards[2, 1].item() == 0.0
    expected = judge.score(rows_of(judge), 4)
    torch.testing.assert_close(rewards[judged], expected[judged])


def test_a_reward_that_is_not_a_number_names_objective_and_record(tmp_path: Path) -> None:
    judge = make()
    with torch.no_grad():
        judge.heads.bias[1] = float("nan")
    with pytest.raises(NonFiniteReward, match="the reward for factuality of record t0 is nan"):
        judge.score(rows_of(judge), 2)


@pytest.mark.parametrize("name", [CARD, HEADS])
def test_a_missing_part(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(UserError, match=f"reward: no reward model there .*{name}"):
        load_reward_model(saved)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nothing: no reward model there"):
        load_reward_model(tmp_path / "nothing")


def test_a_plain_model_is_no_reward_model(saved: Path) -> None:
    for name in (CARD, HEADS):
        (saved / name).unlink()
    with pytest.raises(UserError, match=r"no reward model there \(reward.json is missing\)"):
        load_reward_model(saved)


@pytest.mark.parametrize(
    "text", ['{"format": 2, ', "", "[]", "null", '{"format": 2}', '{"format": 2, "objectives": 3}']
)
def test_a_damaged_card(saved: Path, text: str) -> None:
    (saved / CARD).write_text(text)
    with pytest.raises(UserError, match=r"reward.json"):
        load_reward_model(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"format": 1},
        {"norms": {"helpfulness": {"text": [0.0, 1.0]}}},
        {"norms": {"helpfulness": {"text": [0.0, 0.0]}, "factuality": {}}},
        {"norms": {"helpfulness": {"text": [0.0]}, "factuality": {}}},
        {"norms": {"helpfulness": {"smell": [0.0, 1.0]}, "factuality": {}}},
        {"norms": {"helpfulness": {"text": [float("nan"), 1.0]}, "factuality": {}}},
        {"norms": [1]},
        {"surprise": 1},
        {"objectives": ["helpfulness"]},
    ],
)
def test_a_card_that_does_not_fit(saved: Path, change: dict) -> None:
    card = json.loads((saved / CARD).read_text())
    (saved / CARD).write_text(json.dumps(card | change))
    with pytest.raises(UserError, match=str(saved)):
        load_reward_model(saved)


@pytest.mark.parametrize(
    "heads",
    [
        {"weight": torch.zeros(3, 160), "bias": torch.zeros(3)},
        {"weight": torch.zeros(2, 8), "bias": torch.zeros(2)},
        {"weight": torch.zeros(2, 160)},
        {"weight": torch.zeros(2, 160), "bias": torch.zeros(3)},
    ],
)
def test_heads_of_another_shape(saved: Path, heads: dict[str, torch.Tensor]) -> None:
    save_file(heads, saved / HEADS)
    with pytest.raises(UserError, match=f"{saved}: heads"):
        load_reward_model(saved)


def test_heads_that_are_no_safetensors(saved: Path) -> None:
    (saved / HEADS).write_bytes(b"hello")
    with pytest.raises(UserError, match=rf"{saved}.*damaged"):
        load_reward_model(saved)


def test_a_trunk_that_is_missing(saved: Path) -> None:
    shutil.rmtree(saved, ignore_errors=True)
    saved.mkdir()
    (saved / CARD).write_text(
        json.dumps({"format": 2, "objectives": OBJECTIVES, "norms": {name: {} for name in OBJECTIVES}})
    )
    save_file({"weight": torch.zeros(2, 160), "bias": torch.zeros(2)}, saved / HEADS)
    with pytest.raises(UserError, match=r"no config\.json"):
        load_reward_model(saved)
