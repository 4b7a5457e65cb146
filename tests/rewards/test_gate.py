"""The gate: weights by hand, and what it can learn."""

import pytest
import torch
from torch import Tensor

from data_tools.errors import UserError
from mmrlhf.config import GateConfig
from mmrlhf.rewards.gate import Gate, fit, from_file, to_file, weights_of


def test_weights_are_over_what_applies() -> None:
    logits = torch.tensor([[0.0, 0.0], [0.0, 1.0986123], [5.0, -5.0], [3.0, 3.0]])
    judged = torch.tensor([[True, True], [True, True], [False, True], [False, False]])
    expected = torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.0, 1.0], [0.5, 0.5]])
    torch.testing.assert_close(weights_of(logits, judged), expected)


def problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Prompts of two kinds; in the first one the first objective says which answer is better, else the second, and the
    other one says the opposite, a little louder."""
    generator = torch.Generator().manual_seed(0)
    kind_N = torch.arange(40) % 2 == 0
    hidden_ND = torch.randn(40, 6, generator=generator) * 0.3
    hidden_ND[:, 0] += torch.where(kind_N, 2.0, -2.0)
    gap_NK = torch.where(kind_N.unsqueeze(1), torch.tensor([1.0, -1.2]), torch.tensor([-1.2, 1.0]))
    return hidden_ND, gap_NK, torch.ones(40, 2, dtype=torch.bool), torch.zeros(40, dtype=torch.bool)


@pytest.mark.parametrize("hidden", [None, 8])
def test_it_learns_which_objective_counts_for_which_prompt(hidden: int | None) -> None:
    hidden_ND, gap_NK, judged_NK, tie_N = problem()
    config = GateConfig(objective="overall", hidden=hidden, steps=150, lr=0.01)
    gate = Gate(6, 2, hidden)
    before, after = fit(gate, config, hidden_ND, gap_NK, judged_NK, tie_N, seed=0)
    assert (before, after) == (0.0, 1.0)
    assert not any(p.requires_grad for p in gate.parameters())
    weights = weights_of(gate(hidden_ND), judged_NK)
    assert weights[::2, 0].min() > 0.55
    assert weights[1::2, 1].min() > 0.55
    again = Gate(6, 2, hidden)
    fit(again, config, hidden_ND, gap_NK, judged_NK, tie_N, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(gate.parameters(), again.parameters(), strict=True))


def test_ties_alone_say_nothing_of_right_and_wrong() -> None:
    hidden_ND, gap_NK, judged_NK, tie_N = problem()
    config = GateConfig(objective="overall", steps=2)
    assert fit(Gate(6, 2, None), config, hidden_ND, gap_NK, judged_NK, ~tie_N, seed=0) == (None, None)


def test_a_file_that_does_not_fit() -> None:
    tensors = to_file(Gate(6, 2, 4))
    from_file("f", tensors, Gate(6, 2, 4))
    for other in (None, Gate(6, 3, 4), Gate(6, 2, None)):
        with pytest.raises(
            UserError, match=r"^f: its gate has the shapes .* but the card and the model need"
        ):
            from_file("f", tensors, other)
    with pytest.raises(UserError, match=r"^f: its gate has the shapes \{\}"):
        from_file("f", {}, Gate(6, 2, None))
