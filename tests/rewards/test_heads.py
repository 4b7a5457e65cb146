"""Heads: what they compute, how members of an ensemble differ, and what a file of them must hold."""

import math

import pytest
import torch
from torch import Tensor

from data_tools.errors import UserError
from mmrlhf.rewards.heads import Heads, RatingScale, bootstrap, from_file, of_format_2, to_file

NAMES = ["helpfulness", "safety"]
HIDDEN = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]])


def test_linear_heads_by_hand() -> None:
    heads = Heads(3, 2, members=2)
    with torch.no_grad():
        heads.weight.copy_(torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [1.0, 1.0, 1.0]]))
        heads.bias.copy_(torch.tensor([0.0, 0.5, 0.0, -1.0]))
    # objective by member: the first three pick a number each, the fourth adds them up
    expected = torch.tensor([[[1.0, -1.5], [0.5, -1.5]], [[0.0, 3.5], [1.0, 3.0]]])
    torch.testing.assert_close(heads(HIDDEN), expected)


def test_heads_with_a_hidden_layer_by_hand() -> None:
    torch.manual_seed(0)
    heads = Heads(3, 2, members=2, hidden=4)
    assert heads.inner is not None
    torch.nn.init.normal_(heads.bias)
    torch.nn.init.normal_(heads.inner.bias)
    first, last = heads.inner.weight.reshape(4, 4, 3), heads.weight

    def gelu(x: float) -> float:
        return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))

    for b, row in enumerate(HIDDEN.tolist()):
        for head in range(4):
            inner = [
                gelu(sum(w * x for w, x in zip(first[head, h].tolist(), row, strict=True)) + offset)
                for h, offset in enumerate(heads.inner.bias.reshape(4, 4)[head].tolist())
            ]
            by_hand = sum(w * x for w, x in zip(last[head].tolist(), inner, strict=True))
            found = heads(HIDDEN)[b, head // 2, head % 2].item()
            assert found == pytest.approx(by_hand + heads.bias[head].item(), abs=1e-5)


@pytest.mark.parametrize("hidden", [None, 4])
def test_members_start_elsewhere_and_the_seed_says_where(hidden: int | None) -> None:
    def made(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return Heads(3, 2, members=3, hidden=hidden)(HIDDEN)

    first = made(1)
    assert torch.equal(first, made(1))
    assert not torch.equal(first, made(2))
    spread = first.flatten(1)
    assert all(spread[0, i] != spread[0, j] for i in range(6) for j in range(i))


def test_the_gradient_of_the_heads_by_finite_differences() -> None:
    heads = Heads(3, 2, members=2, hidden=4).double()
    hidden = HIDDEN.double().requires_grad_()
    assert torch.autograd.gradcheck(heads, (hidden,))


def test_a_rating_is_an_affine_map_of_the_reward() -> None:
    scale = RatingScale(2)
    with torch.no_grad():
        scale.log_scale.copy_(torch.tensor([math.log(0.5), 0.0]))
        scale.offset.copy_(torch.tensor([0.25, -1.0]))
    found = scale(torch.tensor([[[1.0, -1.0], [2.0, 3.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[0.75, -0.25], [1.0, 2.0]]]))


def test_bootstraps_are_poisson_and_repeatable() -> None:
    assert bootstrap(0, "s/r1", 1) == [1.0]
    drawn = [bootstrap(0, f"s/r{i}", 4) for i in range(8000)]
    assert drawn == [bootstrap(0, f"s/r{i}", 4) for i in range(8000)]
    assert drawn != [bootstrap(1, f"s/r{i}", 4) for i in range(8000)]
    for member in range(4):
        counts = [row[member] for row in drawn]
        # e^-1, e^-1, e^-1 / 2, and a mean and a variance of 1
        for count, share in ((0, 0.3679), (1, 0.3679), (2, 0.1839)):
            assert counts.count(count) / 8000 == pytest.approx(share, abs=0.03)
        assert sum(counts) / 8000 == pytest.approx(1.0, abs=0.06)
        assert sum((c - 1) ** 2 for c in counts) / 8000 == pytest.approx(1.0, abs=0.1)
    # what one member meets says nothing of what another does
    products = sum((row[0] - 1) * (row[1] - 1) for row in drawn) / 8000
    assert products == pytest.approx(0.0, abs=0.06)


def filled(seed: int, **shape: int) -> tuple[Heads, RatingScale]:
    torch.manual_seed(seed)
    heads, scale = Heads(3, 2, **shape), RatingScale(2)  # type: ignore[arg-type]
    for parameter in (*heads.parameters(), *scale.parameters()):
        torch.nn.init.normal_(parameter)
    return heads, scale


@pytest.mark.parametrize("shape", [{}, {"members": 3}, {"members": 2, "hidden": 5}])
def test_a_file_gives_back_what_was_written(shape: dict[str, int]) -> None:
    heads, scale = filled(1, **shape)
    again, scale_again = filled(2, **shape)
    from_file("f", NAMES, to_file(NAMES, heads, scale), again, scale_again)
    assert torch.equal(again(HIDDEN), heads(HIDDEN))
    assert torch.equal(scale_again(heads(HIDDEN)), scale(heads(HIDDEN)))
    # objectives keep their own heads, in whatever order they are asked for
    from_file("f", NAMES[::-1], to_file(NAMES, heads, scale), again, scale_again)
    assert torch.equal(again(HIDDEN), heads(HIDDEN).flip(1))


def test_what_does_not_fit_is_named() -> None:
    tensors = to_file(NAMES, *filled(1, members=2))
    with pytest.raises(UserError, match=r"^f: has no head for beauty, which the card lists$"):
        from_file("f", ["helpfulness", "beauty"], tensors, *filled(2, members=2))
    with pytest.raises(UserError, match=r"^f: the head for helpfulness has the shapes .*'bias': \(2,\)"):
        from_file("f", NAMES, tensors, *filled(2, members=3))
    with pytest.raises(UserError, match=r"^f: the head for helpfulness has the shapes"):
        from_file("f", NAMES, tensors, *filled(2, members=2, hidden=3))
    heads, scale = Heads(3, 1, members=2), RatingScale(1)
    with pytest.raises(UserError, match=r"^f: has a head for safety, which the card doesn't list$"):
        from_file("f", ["helpfulness"], tensors, heads, scale)


def test_heads_of_the_format_before() -> None:
    heads, scale = filled(1)
    old = {"weight": torch.tensor([[1.0, 0, 0], [0, 1.0, 0]]), "bias": torch.tensor([0.5, -0.5])}
    from_file("f", NAMES, of_format_2(NAMES, old), heads, scale)
    torch.testing.assert_close(heads(HIDDEN), torch.tensor([[[1.5], [-2.5]], [[0.5], [2.5]]]))
    with pytest.raises(UserError, match="has no head for safety"):
        from_file("f", NAMES, of_format_2(NAMES, {n: v[:1] for n, v in old.items()}), heads, scale)
