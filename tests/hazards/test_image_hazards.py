"""Where images get lost, doubled or handed to another row."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from model_samples import LONG_TEXT, ONE, OTHER, SEVERAL, TEXT, picture, plain_logprobs, record, rows_of
from test_ppo_stage import stage

from data_tools.errors import UserError
from data_tools.schema import PreferenceRecord, Response
from data_tools.shards import write_shards
from mmrlhf.config import EngineConfig, SftConfig
from mmrlhf.models.batch import collate, encode_prompt, micro_batches
from mmrlhf.models.policy import Policy
from mmrlhf.models.vlm import VLM
from mmrlhf.training.engine import make_accelerator
from mmrlhf.training.ppo import PpoStage
from mmrlhf.training.sft import SftStage
from mmrlhf.types import Row

CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}
SAID = {  # the samples' own words, for a forward by transformers alone
    "text": "Name a colour.",
    "one": "What color is the triangle?",
    "other": "Describe it.",
}
MANY = [ONE, TEXT, OTHER, ONE, TEXT, OTHER]
ANSWERS = ["Red.", "It is.", "A circle", "It is green and large.", "Blue.", "Small."]


def demonstrations(records: list[PreferenceRecord]) -> list[PreferenceRecord]:
    return [
        dataclasses.replace(item, id=f"{item.id}{i}", responses=(Response(ANSWERS[i % 6]),))
        for i, item in enumerate(records)
    ]


def sft(vlm: VLM, folder: Path, records: list[PreferenceRecord], **settings: Any) -> SftStage:
    """A stage that takes all the records in its first step."""
    write_shards(demonstrations(records), folder)
    config = SftConfig(batch_size=len(records), max_answer_tokens=48, **settings)
    return SftStage(vlm, config, str(folder), 0, make_accelerator(EngineConfig()))


@contextlib.contextmanager
def forwards(vlm: VLM) -> Iterator[list[dict[str, Any]]]:
    """What every forward of the model was given, but for steps of sampling, which read one token."""
    seen: list[dict[str, Any]] = []

    def note(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        if kwargs["input_ids"].shape[1] > 1:
            seen.append(kwargs)

    handle = vlm.core.base_model.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def test_hazard_1_a_length_limit_never_cuts_into_image_tokens(vlm: VLM, tmp_path: Path) -> None:
    """Hazard 1: cutting a long prompt leaves fewer image placeholders than image features. A prompt is trained on whole
    or left out whole, and counted, also where its picture stands at the very end."""
    late = record("late", "And now at last: what color is it? ", 0, images=[picture("red")])
    whole = len(encode_prompt(vlm, OTHER).input_ids)
    limit = len(encode_prompt(vlm, late).input_ids) - 2  # would cut into its picture or the turn behind it
    assert whole <= limit
    made = sft(vlm, tmp_path / "data", [OTHER, late, OTHER, late], max_prompt_tokens=limit)
    (update,) = made.updates(0)
    rows = [row for part in update.micro_batches for row in part]
    assert sorted(row.prompt.record.id for row in rows) == ["other0", "other2"]
    assert (made.refusals.refused, made.refusals.seen) == (2, 4)
    count = int((encode_prompt(vlm, OTHER).input_ids == vlm.core.config.image_token_id).sum())
    assert count > 0
    for row in rows:
        assert int((row.prompt.input_ids == vlm.core.config.image_token_id).sum()) == count
    for part in update.micro_batches:
        assert made.loss(part).loss.isfinite()


def test_hazard_3_a_policy_that_longs_for_placeholders_samples_none(prompts: str, tmp_path: Path) -> None:
    """Hazard 3: a policy samples an image placeholder, and training dies when its answer is read. Here its head gives
    placeholders by far the highest logits, and a whole step of PPO goes through."""
    made = stage(prompts, tmp_path, algorithm={"type": "grpo"}, answers_per_prompt=2)
    forbidden = list(made.vlm.placeholder_ids)

    def tempt(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        logits = logits.clone()
        logits[..., forbidden] = 1e4
        return logits

    handle = made.vlm.core.get_output_embeddings().register_forward_hook(tempt)
    torch.manual_seed(0)
    try:
        for update in made.updates(0):
            for part in update.micro_batches:
                answers = torch.cat([row.answer_ids for row in part.rows])
                assert not set(answers.tolist()) & set(forbidden)
                assert part.logprobs_BT[part.mask_BT].isfinite().all()
                out = made.loss(part)
                out.loss.backward()
                assert out.loss.isfinite()
    finally:
        handle.remove()
    assert all(p.grad is None or p.grad.isfinite().all() for p in made.policy.parameters())


def one_step(made: PpoStage) -> dict[str, list[dict[str, Any]]]:
    """What the forwards of policy and reward model were given in a step of PPO."""
    torch.manual_seed(0)
    with forwards(made.vlm) as policy, forwards(made.panel.model.vlm) as judge:
        for update in made.updates(0):
            for part in update.micro_batches:
                made.loss(part)
    return {"policy": policy, "judge": judge}


def test_hazard_4_placeholders_are_expanded_once_on_every_way(prompts: str, tmp_path: Path) -> None:
    """Hazard 4: placeholders are expanded twice, by the trainer and by what samples. In a step of PPO each forward, of
    sampling, log-probs, reference, reward model and update, has nine placeholders for each picture that it is given."""
    made = stage(prompts, tmp_path, batch_size=6, micro_batch_size=3)
    image = made.vlm.core.config.image_token_id
    for given in one_step(made).values():
        shown = [kwargs for kwargs in given if kwargs.get("pixel_values") is not None]
        assert len(shown) >= 2
        for kwargs in shown:
            in_rows = (kwargs["input_ids"] == image).sum(1).tolist()
            assert sorted(set(in_rows) | {0, 9}) == [0, 9]  # a prompt shows one picture or none
            assert in_rows.count(9) == len(kwargs["pixel_values"])


def test_hazard_7_pixels_go_with_their_rows_through_any_slice(vlm: VLM) -> None:
    """Hazard 7: `pixel_values` is sliced like a batch although patches or tiles of all images stand in one tensor.
    Micro-batches of rows with no, one and several pictures, in any order, give each row what transformers gives it
    alone."""
    rows = rows_of(vlm, MANY, ANSWERS)
    rows += rows_of(vlm, [SEVERAL, LONG_TEXT], ["Red.", "Yes."])
    expected = [
        plain_logprobs(vlm, item, SAID[item.id], row.answer_ids)
        for item, row in zip(MANY, rows, strict=False)
    ]
    for order in (range(8), [7, 3, 6, 1, 5, 0, 2, 4]):
        shuffled = [rows[i] for i in order]
        for size in (1, 3, 8):
            found: dict[int, torch.Tensor] = {}
            for part in micro_batches(shuffled, size):
                with torch.no_grad():
                    logprobs_BT = Policy(vlm)(collate(vlm, [shuffled[i] for i in part])).logprobs_BT
                for i, logprobs in zip(part, logprobs_BT, strict=True):
                    found[list(order)[i]] = logprobs[: len(shuffled[i].answer_ids)]
            for i, logprobs in enumerate(expected):
                torch.testing.assert_close(found[i], logprobs, **CLOSE)


def test_hazard_8_a_row_that_does_not_fit_costs_the_others_nothing(vlm: VLM, tmp_path: Path) -> None:
    """Hazard 8: one row's mismatch silently drops the images of the whole batch. A row without pictures or one that is
    left out changes nothing for the rest, and pictures that don't match their placeholders are never passed over."""
    long = record("long", 0, "word " * 80, images=[picture("red")])
    made = sft(vlm, tmp_path / "data", [ONE, TEXT, long, OTHER], max_prompt_tokens=90, micro_batch_size=4)
    assert len(encode_prompt(vlm, long).input_ids) > 90
    (update,) = made.updates(0)
    (rows,) = update.micro_batches
    assert len(rows) == 3
    by_hand = sum(
        plain_logprobs(vlm, row.prompt.record, SAID[row.prompt.record.id[:-1]], row.answer_ids).sum()
        for row in rows
    )
    with torch.no_grad():
        torch.testing.assert_close(made.loss(rows).loss, -torch.as_tensor(by_hand), **CLOSE)

    prompt = encode_prompt(vlm, ONE)
    first = int((prompt.input_ids == vlm.core.config.image_token_id).nonzero()[0, 0])
    keep = torch.arange(len(prompt.input_ids)) != first
    fields = {name: field[keep] for name, field in prompt.token_fields.items()}
    torn = dataclasses.replace(prompt, input_ids=prompt.input_ids[keep], token_fields=fields)
    whole = rows_of(vlm, [OTHER, TEXT], ["Red.", "It is."])
    with pytest.raises((UserError, ValueError, RuntimeError), match=r"(?i)image|shape|size"):
        Policy(vlm)(collate(vlm, [*whole, Row(torn, whole[0].answer_ids)]))


def test_hazard_15_a_text_prompt_is_shown_no_blank_picture(prompts: str, tmp_path: Path) -> None:
    """Hazard 15: text-only rows get a black image, by which a reward model can tell modalities apart. In a step of PPO
    with one row a forward, neither policy nor reward model is given a pixel with a text prompt, nor a placeholder."""
    made = stage(prompts, tmp_path, batch_size=6, micro_batch_size=1, generate_batch_size=1)
    image = made.vlm.core.config.image_token_id
    for given in one_step(made).values():
        shown = [kwargs.get("pixel_values") is not None for kwargs in given]
        assert [bool((kwargs["input_ids"] == image).any()) for kwargs in given] == shown
        assert 0 < sum(shown) < len(shown)
        for kwargs in given:
            pixels = kwargs.get("pixel_values")
            assert pixels is None or (len(pixels) == 1 and pixels.std() > 0)
