"""The reward model: whose tokens a score is read from, what a folder of one must hold, and what it abstains from."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from data_tools.errors import UserError
from data_tools.scenes.render import to_png
from data_tools.scenes.structure import Scene, SceneObject
from data_tools.schema import ImageRef, PreferenceRecord, user
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.batch import collate, encode_answer, encode_prompt
from mmrlhf.models.load import load_vlm
from mmrlhf.rewards.calibration import Calibration
from mmrlhf.rewards.card import GateCard
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


def make(lora: LoraSettings | None = None, **card: Any) -> RewardModel:
    vlm = load_vlm(ModelConfig(lora=lora), trainable=lora is not None)
    torch.manual_seed(3)
    norms: Any = {name: dict(of) for name, of in NORMS.items()}
    model = RewardModel(vlm, RewardCard(list(OBJECTIVES), norms, **card))
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
        {"members": 0},
        {"hidden": 2.5},
        {"cost_heads": ["beauty"]},
        {"gate": {"what": 1}},
        {"calibration": {"beauty": {}}},
        {"calibration": {"factuality": {"temperature": 0, "pairs": 9, "error_before": 0, "error_after": 0}}},
        {"objectives": ["helpfulness"]},
    ],
)
def test_a_card_that_does_not_fit(saved: Path, change: dict) -> None:
    card = json.loads((saved / CARD).read_text())
    (saved / CARD).write_text(json.dumps(card | change))
    with pytest.raises(UserError, match=str(saved)):
        load_reward_model(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": None, "bias": None, "rating": None}, "has no head for factuality, which the card lists"),
        ({"weight": torch.zeros(1, 8)}, "the head for factuality has the shapes .*need .*160"),
        ({"bias": None}, "the head for factuality has the shapes"),
        ({"bias": torch.zeros(2)}, "the head for factuality has the shapes"),
    ],
)
def test_heads_of_another_shape(saved: Path, change: dict[str, torch.Tensor | None], message: str) -> None:
    heads = load_file(saved / HEADS)
    for name, value in change.items():
        if value is None:
            del heads[f"heads/{name}/factuality"]
        else:
            heads[f"heads/{name}/factuality"] = value
    save_file(heads, saved / HEADS)
    with pytest.raises(UserError, match=f"{saved / HEADS}: {message}"):
        load_reward_model(saved)


@pytest.mark.parametrize("change", [{"members": 2}, {"hidden": 4}, {"gate": {"objective": "overall"}}])
def test_a_card_of_other_heads(saved: Path, change: dict[str, Any]) -> None:
    card = json.loads((saved / CARD).read_text())
    (saved / CARD).write_text(json.dumps(card | change))
    what = "gate" if "gate" in change else "the head for helpfulness"
    with pytest.raises(UserError, match=f"{saved / HEADS}: .*{what} has the shapes"):
        load_reward_model(saved)


def test_a_reward_model_of_the_format_before(saved: Path, judge: RewardModel) -> None:
    card = json.loads((saved / CARD).read_text())
    old = {name: card[name] for name in ("objectives", "norms", "base")}
    (saved / CARD).write_text(json.dumps({"format": 2, **old}))
    save_file({n: v.detach().clone() for n, v in judge.heads.state_dict().items()}, saved / HEADS)
    rows = rows_of(judge)
    assert torch.equal(load_reward_model(saved).score(rows, 4), judge.score(rows, 4))


def test_a_tokenizer_of_another_model(saved: Path) -> None:
    path = saved / "tokenizer.json"
    row = json.loads(path.read_text())
    vocabulary = row["model"]["vocab"]
    vocabulary |= {f"another{i}": len(vocabulary) + i for i in range(4096)}
    path.write_text(json.dumps(row))
    with pytest.raises(UserError, match=rf"{saved}: its tokenizer has [\d,]+ tokens, but its embedding only"):
        load_reward_model(saved)


ENSEMBLE = {"members": 3, "hidden": 8, "gate": GateCard("overall", 4)}


@pytest.fixture(scope="module")
def ensemble() -> RewardModel:
    made = make(**ENSEMBLE)
    assert made.gate is not None
    torch.nn.init.normal_(made.gate.weigh.weight)
    return made


def test_an_ensemble_gives_mean_and_deviation_by_hand(ensemble: RewardModel) -> None:
    rows = rows_of(ensemble)
    raw, states = ensemble.read(rows, 4)
    assert raw.shape == (4, 2, 3)
    assert states is not None
    told = ensemble.judge(rows, 2)
    torch.testing.assert_close(told.mean_BK, ensemble.score(rows, 4) * told.judged_BK, rtol=1e-5, atol=1e-5)
    a, b, c = raw[1, 0].tolist()  # row 1 shows a picture: mean 3, deviation 4
    mean = (a + b + c) / 3
    spread = (((a - mean) ** 2 + (b - mean) ** 2 + (c - mean) ** 2) / 2) ** 0.5
    assert told.mean_BK[1, 0].item() == pytest.approx((mean - 3) / 4, abs=1e-4)
    assert told.std_BK[1, 0].item() == pytest.approx(spread / 4, abs=1e-4)
    assert told.std_BK[told.judged_BK].min() > 0
    # factuality was never judged on text
    assert told.std_BK[0, 1] == told.mean_BK[0, 1] == 0
    assert make().judge(rows, 4).std_BK.abs().max() == 0
    assert told.gate_BK is not None
    torch.testing.assert_close(told.gate_BK.sum(1), torch.ones(4))
    assert told.gate_BK[0].tolist() == [1.0, 0.0]
    assert 0 < told.gate_BK[1, 0] < 1


def test_the_gate_reads_the_last_token_of_the_prompt(ensemble: RewardModel) -> None:
    """By transformers alone, on the prompt alone; the answer, or none, makes no difference."""
    rows = rows_of(ensemble)
    empty = [Row(row.prompt, row.answer_ids[:0]) for row in rows]
    expected = []
    for row in rows:
        with torch.no_grad():
            out = ensemble.vlm.core(
                input_ids=row.prompt.input_ids.unsqueeze(0), **row.prompt.vision, output_hidden_states=True
            )
        expected.append(out.hidden_states[-1][0, -1])
    for given in (rows, empty, [*rows[:2], *empty[2:]]):
        _, states = ensemble.read(given, 4)
        torch.testing.assert_close(states, torch.stack(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("size", [1, 3, 16])
def test_what_an_ensemble_says_does_not_depend_on_the_batch(ensemble: RewardModel, size: int) -> None:
    rows = rows_of(ensemble)
    twins = [*rows, *(Row(row.prompt, rows[0].answer_ids) for row in rows)]  # two answers a prompt
    whole = ensemble.judge(twins, 8)
    told = ensemble.judge(twins[::-1], size)
    for name in ("mean_BK", "std_BK", "gate_BK"):
        torch.testing.assert_close(getattr(told, name).flip(0), getattr(whole, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("card", [{}, {"members": 3, "hidden": 8}])
def test_a_score_does_not_depend_on_the_padding_side(card: dict[str, Any]) -> None:
    model = make(**card)
    rows = rows_of(model)[::2]
    right = collate(model.vlm, rows)
    assert right.layout is None
    size = right.inputs["input_ids"].shape[1]
    shift = size - right.inputs["attention_mask"].sum(1)
    assert shift.max() > 5
    turned = {
        name: torch.stack([row.roll(int(by)) for row, by in zip(value, shift, strict=True)])
        for name, value in right.inputs.items()
    }
    left = dataclasses.replace(right, inputs=turned, last_B=right.last_B + shift)
    assert left.last_B.tolist() == [size - 1] * len(rows)
    with torch.no_grad():
        torch.testing.assert_close(model(left), model(right), rtol=1e-5, atol=1e-5)


def test_an_ensemble_is_saved_with_its_gate(ensemble: RewardModel, tmp_path: Path) -> None:
    ensemble.card.calibration = {"helpfulness": Calibration(1.5, 40, 0.2, 0.1)}
    ensemble.card.cost_heads = ["factuality"]
    ensemble.save(tmp_path / "reward")
    again = load_reward_model(tmp_path / "reward")
    assert vars(again.card) == vars(ensemble.card)
    rows = rows_of(ensemble)
    ours, theirs = ensemble.judge(rows, 4), again.judge(rows, 4)
    for name in ("mean_BK", "std_BK", "gate_BK"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name))
    assert not [p for p in again.parameters() if p.requires_grad]


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
