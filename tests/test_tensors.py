"""Tensor helpers against numbers worked out by hand."""

import hashlib

import pytest
import torch

from mmrlhf.tensors import entropy, hash_tensors, length_mask, masked_mean, pad_right, token_logprobs, whiten

VALUES = torch.tensor([[1.0, 2.0, 99.0], [3.0, 4.0, float("nan")]])
MASK = torch.tensor([[True, True, False], [True, True, False]])


def test_whiten_centers_and_scales() -> None:
    # mean 2.5, variance 1.25
    expected = torch.tensor([[-1.3416408, -0.4472136, 0.0], [0.4472136, 1.3416408, 0.0]])
    torch.testing.assert_close(whiten(VALUES, MASK), expected)


def test_masked_mean() -> None:
    assert masked_mean(VALUES, MASK).item() == 2.5
    assert masked_mean(VALUES, torch.zeros_like(MASK)).item() == 0.0


def test_token_logprobs() -> None:
    logits = torch.tensor([[0.0, 0.0, float("-inf")], [1.0, 2.0, 3.0]])
    torch.testing.assert_close(
        token_logprobs(logits, torch.tensor([1, 2])), torch.tensor([-0.693147, -0.407606])
    )


def test_entropy_of_impossible_tokens_is_zero() -> None:
    assert entropy(torch.tensor([0.0, 0.0, float("-inf")])).item() == pytest.approx(0.693147, abs=1e-5)
    assert entropy(torch.zeros(4)).item() == pytest.approx(1.386294, abs=1e-5)


def test_entropy_gradient_is_finite_beside_impossible_tokens() -> None:
    logits = torch.tensor([0.3, 0.0, 0.0], requires_grad=True)
    masked = logits.masked_fill(torch.tensor([False, False, True]), float("-inf"))
    entropy(masked).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_padding() -> None:
    rows = pad_right([torch.tensor([1, 2]), torch.tensor([3])], 9)
    assert rows.tolist() == [[1, 2], [3, 9]]
    assert length_mask(torch.tensor([2, 0])).tolist() == [[True, True], [False, False]]


def test_a_hash_of_tensors_is_of_their_bytes() -> None:
    items = [("a", torch.tensor([1, 2], dtype=torch.int16)), ("b", torch.tensor(1.0))]
    # 1.0 as float32 is 0x3f800000; both little-endian
    text = b"a torch.int16 (2,)" + b"\x01\x00\x02\x00" + b"b torch.float32 ()" + b"\x00\x00\x80\x3f"
    assert hash_tensors(items) == hashlib.blake2b(text, digest_size=16).hexdigest()


def test_the_gradient_of_an_entropy_with_an_impossible_token_is_finite() -> None:
    """Of the logits (0, 0, -inf), scaled by 100: at its maximum it is level; of (log 3, 0, -inf) it is
    -100 p (log p + H) = -100 * 3/4 * (log 3/4 + 0.5623351) = -20.59898 for the first."""
    for first, expected in ((0.0, 0.0), (1.0986123, -20.59898)):
        logits = torch.tensor([first, 0.0, float("-inf")], requires_grad=True)
        (100 * entropy(logits)).backward()
        assert logits.grad is not None
        assert logits.grad.tolist() == pytest.approx([expected, -expected, 0.0], abs=1e-3)


def test_whitening_leaves_nothing_of_rounding() -> None:
    """1000 and what float32 makes of its neighbours; a difference of 0.1 is one."""
    mask = torch.ones(1, 4, dtype=torch.bool)
    alike = torch.tensor([[1000.0, 1000.0001, 999.9999, 1000.0]])
    assert whiten(alike, mask).tolist() == [[0.0] * 4]
    apart = whiten(torch.tensor([[1000.0, 1000.1, 1000.0, 1000.1]]), mask)
    torch.testing.assert_close(apart, torch.tensor([[-1.0, 1.0, -1.0, 1.0]]), rtol=1e-3, atol=1e-3)
    assert whiten(torch.tensor([[7.0]]), torch.tensor([[False]])).tolist() == [[0.0]]
