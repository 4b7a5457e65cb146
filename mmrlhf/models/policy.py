"""The policy: a vision-language model's log-probs at answer positions, and a value head on its trunk."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmrlhf.models.vlm import VLM, answer_logits, hidden_states, in_float32
from mmrlhf.tensors import entropy, token_logprobs
from mmrlhf.types import TokenBatch


class PolicyOutput(NamedTuple):
    """What one forward tells of a batch's answers; padded on the right, what lies outside the mask means nothing."""

    logprobs_BT: Tensor
    entropy_BT: Tensor | None  # None where it wasn't asked for
    values_BTK: Tensor | None  # the value before each token, by critic; None without critics


class Policy(nn.Module):
    """One module for SFT and PPO, so that both take log-probs in the same way.

    Logits are computed at answer positions only. The value head reads the same hidden states, with an output a critic;
    it starts at 0.
    """

    def __init__(self, vlm: VLM, critics: int = 0) -> None:
        super().__init__()
        self.vlm = vlm
        self.model = vlm.model
        self.value_head: nn.Linear | None = None
        if critics:
            width = vlm.core.get_output_embeddings().weight.shape[1]
            self.value_head = nn.Linear(width, critics, device=vlm.device)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)

    def forward(
        self,
        batch: TokenBatch,
        temperature: float = 1.0,
        entropies: Literal["none", "plain", "grad"] = "none",
    ) -> PolicyOutput:
        """Log-probs, entropies (nats) and values of the answers' tokens under sampling at `temperature`.

        Entropies keep three more tensors of the logits' size for the backward pass, so only "grad" gives them one.
        """
        hidden = hidden_states(self.vlm, batch)
        before = hidden[batch.row_B.unsqueeze(1), batch.at_BT]  # B, T, D
        logits = answer_logits(self.vlm, before, temperature)
        values = None if self.value_head is None else self.values(before)
        spread = None
        if entropies != "none":
            with torch.set_grad_enabled(entropies == "grad" and torch.is_grad_enabled()):
                spread = entropy(logits)
        return PolicyOutput(token_logprobs(logits, batch.answer_ids_BT), spread, values)

    def values(self, hidden: Tensor) -> Tensor:
        """The critics' values of hidden states: (..., D) to (..., K), float32."""
        assert self.value_head is not None
        return in_float32(self.value_head, hidden)


def trainable_state(module: Any) -> dict[str, Tensor]:
    """The parameters that training changes, by name."""
    return {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}
