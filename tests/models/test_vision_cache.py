"""Kept image features: the same numbers as without, for every family, and the tower runs once an image."""

import dataclasses
from collections.abc import Iterator

import pytest
import torch
from families import BUILDERS, MORE
from model_samples import ANSWERS, ONE, OTHER, SEVERAL, TEXT, mixed, picture, record, rows_of

import mmrlhf.types
from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import collate, encode_prompt
from mmrlhf.models.generate import generate
from mmrlhf.models.load import load_vlm
from mmrlhf.models.parts import parts_of
from mmrlhf.models.policy import Policy
from mmrlhf.models.vision_cache import (
    CachedVision,
    Joined,
    VisionCache,
    _alike,
    fingerprint,
    keep_features,
    split,
)
from mmrlhf.models.vlm import VLM
from mmrlhf.types import EncodedPrompt, Row

MEGABYTE = 1 << 20


@pytest.fixture(params=["tiny", *BUILDERS, *(name for name in MORE if name != "chameleon")])
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def calls(vlm: VLM) -> Iterator[list[int]]:
    """How many images each call of a tower was given, roughly: one number a call."""
    seen: list[int] = []
    handle = parts_of(vlm.core, "").towers[0].register_forward_hook(lambda *_: seen.append(1))
    yield seen
    handle.remove()


def cached(vlm: VLM, device_bytes: int = MEGABYTE, host_bytes: int = MEGABYTE) -> tuple[VLM, VisionCache]:
    cache = VisionCache(device_bytes, host_bytes)
    return dataclasses.replace(vlm, vision=CachedVision(vlm, cache)), cache


def test_log_probs_and_gradients_are_those_without(vlm: VLM) -> None:
    language = [p for p in parts_of(vlm.core, "").language.parameters() if p.dim() > 1]
    model, cache = cached(vlm)
    records = mixed(vlm)
    shown = sum(bool(item.images) for item in records)
    results = []
    for reader in (model, model, vlm):
        batch = collate(reader, rows_of(reader, records, ANSWERS[: len(records)]))
        for weight in language:
            weight.requires_grad_(True)
        try:
            out = Policy(reader)(batch)
            loss = (out.logprobs_BT * batch.answer_mask_BT).sum()
            grads = torch.autograd.grad(loss, language, allow_unused=True)
        finally:
            for weight in language:
                weight.requires_grad_(False)
        results.append((out.logprobs_BT.detach() * batch.answer_mask_BT, grads))
    for logprobs, grads in results[:2]:
        torch.testing.assert_close(logprobs, results[2][0], rtol=1e-5, atol=1e-5)
        for ours, theirs in zip(grads, results[2][1], strict=True):
            if theirs is not None:
                torch.testing.assert_close(
                    ours, theirs, rtol=1e-4, atol=1e-4 * theirs.abs().max().item() + 1e-7
                )
    assert (cache.encoded, cache.reused) == (shown, shown)


def test_the_tower_runs_once_an_image(vlm: VLM, calls: list[int]) -> None:
    model, cache = cached(vlm)
    prompts = [
        encode_prompt(model, item) for item in (ONE, TEXT, SEVERAL if SEVERAL in mixed(vlm) else OTHER)
    ]
    generate(model, prompts, 3, answers=2)
    made = len(calls)
    assert made
    rows = [Row(prompt, ids) for prompt, ids in zip(prompts, generate(model, prompts, 3), strict=True)]
    for _ in range(2):
        Policy(model)(collate(model, rows))
    assert len(calls) == made
    assert cache.encoded == 2


def test_a_prompts_pictures_are_hashed_once(vlm: VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[list[str]] = []
    own = mmrlhf.types.hash_tensors

    def count(items) -> str:
        hashed.append([name for name, _ in items])
        return own(items)

    monkeypatch.setattr(mmrlhf.types, "hash_tensors", count)
    model, _ = cached(vlm)
    records = mixed(vlm)
    rows = rows_of(model, records, ANSWERS[: len(records)])
    with torch.no_grad():
        for _ in range(2):
            Policy(model)(collate(model, rows))
    pictured = [row.prompt for row in rows if row.prompt.vision]
    assert sorted(hashed) == sorted(sorted(prompt.vision) for prompt in pictured)
    assert len({prompt.vision_key for prompt in pictured}) == len(pictured) > 1
    # the same picture, processed anew
    assert encode_prompt(model, ONE).vision_key == pictured[0].vision_key


def test_features_go_to_their_own_rows(vlm: VLM) -> None:
    """The order of prompts changes, and so must the order of features."""
    model, _ = cached(vlm)
    tall = record("tall", 0, "Which?", images=[picture("green", (28, 84))])
    rows = rows_of(model, [ONE, SEVERAL if SEVERAL in mixed(vlm) else tall, OTHER], ANSWERS[:3])
    with torch.no_grad():
        Policy(model)(collate(model, rows))
        for order in ([2, 0, 1], [1], [0, 0, 2]):
            chosen = [rows[i] for i in order]
            ours = Policy(model)(collate(model, chosen)).logprobs_BT
            torch.testing.assert_close(
                ours, Policy(vlm)(collate(vlm, chosen)).logprobs_BT, rtol=1e-4, atol=1e-4
            )


def test_what_is_over_the_bound_moves_to_the_host_and_then_out() -> None:
    cache = VisionCache(device_bytes=8, host_bytes=8)
    for name in "abc":
        cache.put(name, {"pooler_output": [torch.full((2,), ord(name), dtype=torch.float32)]})
    cpu = torch.device("cpu")
    assert cache.get("a", cpu) is None
    assert cache.get("b", cpu)["pooler_output"][0].tolist() == [98, 98]
    assert cache.get("c", cpu)["pooler_output"][0].tolist() == [99, 99]
    assert cache.used == {True: 8, False: 8}


def test_features_made_alone_do_not_depend_on_their_company_and_last() -> None:
    """To the bit, so that a resumed run, whose cache is empty, goes on with the numbers of one that wasn't stopped."""
    vlm = load_vlm(ModelConfig())
    found = []
    for company in ([ONE], [OTHER, ONE], [ONE, OTHER, SEVERAL]):
        cache = VisionCache(MEGABYTE, MEGABYTE, alone=True)
        model = dataclasses.replace(vlm, vision=CachedVision(vlm, cache))
        prompts = [encode_prompt(model, item) for item in company]
        with model.vision.serving(prompts):
            cache.begin_step()
        key = next(key for key in cache._entries if key.endswith(encode_prompt(model, ONE).vision_key))
        found.append(cache.get(key, vlm.device)["pooler_output"][0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_features_made_together_are_forgotten_at_the_next_step(vlm: VLM) -> None:
    model, cache = cached(vlm)
    with model.vision.serving([encode_prompt(model, ONE)]):
        pass
    cache.begin_step()
    assert cache.used == {True: 0, False: 0}


def test_an_image_larger_than_the_bound_still_counts_for_its_own_batch(vlm: VLM) -> None:
    model, cache = cached(vlm, device_bytes=0, host_bytes=0)
    rows = rows_of(vlm, mixed(vlm), ANSWERS[: len(mixed(vlm))])
    with torch.no_grad():
        ours, theirs = (Policy(m)(collate(m, rows)).logprobs_BT for m in (model, vlm))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert cache.used == {True: 0, False: 0}


def test_features_that_the_language_model_makes_are_not_kept(checkpoint) -> None:
    """Chameleon's are embeddings of its language model: with them kept, these would get no gradient from pictures."""
    vlm = load_vlm(ModelConfig(path=checkpoint("chameleon")))
    assert keep_features(vlm, VisionCache(MEGABYTE, MEGABYTE)) == (
        "they are made with weights of its language model"
    )
    assert vlm.vision is None


def test_a_family_without_the_hook_makes_its_features_anew(monkeypatch) -> None:
    vlm = load_vlm(ModelConfig())
    monkeypatch.delattr(type(vlm.core.base_model), "get_image_features")
    assert keep_features(vlm, VisionCache(MEGABYTE, MEGABYTE)) == (
        "LlavaForConditionalGeneration has no get_image_features"
    )
    assert vlm.vision is None


def test_a_family_that_gives_something_else_with_kept_features_is_found_out(monkeypatch) -> None:
    """A forward that knows by other means which pictures it was given."""
    vlm = load_vlm(ModelConfig())
    own = type(vlm.core.base_model).get_image_features

    def counting(self, pixel_values, **kwargs):
        out = own(self, pixel_values, **kwargs)
        out.pooler_output = [part * (1 + len(pixel_values)) for part in out.pooler_output]
        return out

    monkeypatch.setattr(type(vlm.core.base_model), "get_image_features", counting)
    assert keep_features(vlm, VisionCache(MEGABYTE, MEGABYTE)).startswith(
        "LlavaForConditionalGeneration gives something else with them (by "
    )


def test_a_tower_that_trains_is_refused() -> None:
    vlm = load_vlm(ModelConfig(freeze_vision_tower=False), trainable=True)
    with pytest.raises(ValueError, match="its tower or projector is trained"):
        CachedVision(vlm, VisionCache(MEGABYTE, MEGABYTE))


def test_models_of_one_tower_share_and_others_do_not() -> None:
    cache = VisionCache(MEGABYTE, MEGABYTE)
    one, two, other = (load_vlm(ModelConfig()) for _ in range(3))
    with torch.no_grad():
        next(parts_of(other.core, "").projectors[0].parameters()).add_(1e-6)
        next(parts_of(two.core, "").language.parameters()).add_(1.0)
    for vlm in (one, two, other):
        vlm.vision = CachedVision(vlm, cache)
        prompt = encode_prompt(vlm, ONE)
        with vlm.vision.serving([prompt]):
            pass
    assert (cache.encoded, cache.reused) == (2, 1)


def test_a_loose_weight_counts_as_vision(checkpoint) -> None:
    """LLaVA-NeXT's mark behind a row of patches is among the features, though it lies in no module."""
    vlm = load_vlm(ModelConfig(path=checkpoint("llava_next")))
    before = fingerprint(vlm)
    with torch.no_grad():
        vlm.core.base_model.image_newline.add_(1e-3)
    assert fingerprint(vlm) != before
    vlm.core.base_model.image_newline.requires_grad_(True)
    with pytest.raises(ValueError, match="its tower or projector is trained"):
        CachedVision(vlm, VisionCache(MEGABYTE, MEGABYTE))


def test_prompts_with_unlike_numbers_of_features_are_not_cut_apart() -> None:
    """Pixels of one shape, as padded tiles give it, but two image tokens in one prompt and three in the other."""
    vlm = load_vlm(ModelConfig())
    (image,) = [i for i in vlm.placeholder_ids if i == vlm.core.config.image_token_id]
    pixels = {"pixel_values": torch.zeros(1, 3, 2, 2)}
    prompts = {
        name: EncodedPrompt(ONE, torch.tensor([image] * count + [0] * (4 - count)), vision=pixels)
        for name, count in (("a", 2), ("b", 3), ("c", 2))
    }
    assert _alike(vlm, prompts) == [["a", "c"], ["b"]]


def test_split_and_join_by_hand() -> None:
    """Two prompts of two images each: lists over images, and lists over layers."""
    images = [torch.full((1, 2), float(i)) for i in range(4)]
    rows = torch.arange(8.0).reshape(4, 2)
    parts = split({"pooler_output": images, "deepstack_features": [rows, images]}, 2)
    assert [t.tolist() for t in parts[1]["pooler_output"]] == [[[2, 2]], [[3, 3]]]
    assert parts[0]["deepstack_features"][0].tolist() == [[0, 1], [2, 3]]
    assert [t.tolist() for t in parts[1]["deepstack_features"][1]] == [[[2, 2]], [[3, 3]]]
    whole = Joined(parts[::-1])
    assert [t[0, 0].item() for t in whole["pooler_output"]] == [2, 3, 0, 1]
    assert whole.read == {"pooler_output"}
    assert whole.deepstack_features[0].tolist() == [[4, 5], [6, 7], [0, 1], [2, 3]]


def test_a_field_without_a_value_is_kept_as_none() -> None:
    """Granite Docling's forward asks for features of inner layers, which it may not have."""
    made = {"pooler_output": [torch.ones(2), torch.zeros(2)], "inner": None}
    parts = split(made, 2)
    assert [part["inner"] for part in parts] == [None, None]
    joined = Joined(parts)
    assert joined.inner is None
    assert [part.tolist() for part in joined.pooler_output] == [[1, 1], [0, 0]]
    cache = VisionCache(1, 0)
    cache.put("key", parts[0])
    assert cache.used == {True: 0, False: 0}
