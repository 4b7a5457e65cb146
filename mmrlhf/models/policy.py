"""The policy: a vision-language model's log-probs at answer positions, and a value head on its trunk.

Logits are the largest tensors of a step: a vocabulary of 150,000 makes 600 KB of each token. They are made at the real
tokens of answers only, and no more than `LOGITS` of them at a time; where there are more, a chunk's logits are made a
second time in the backward pass instead of being kept for it.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mmrlhf.models.vlm import VLM, answer_logits, hidden_states, in_float32
from mmrlhf.tensors import entropy, token_logprobs
from mmrlhf.types import TokenBatch

LOGITS = 2**26  # alive at a time: 256 MiB in float32, a few times over with what is made of them
Entropies = Literal["none", "plain", "grad"]


class PolicyOutput(NamedTuple):
    """What one forward tells of a batch's answers; padded on the right with zeros."""

    logprobs_BT: Tensor
    entropy_BT: Tensor | None  # None where it wasn't asked for
    values_BTK: Tensor | None  # the value before each token, by critic; None without critics


class Policy(nn.Module):
    """One module for SFT and PPO, so that both take log-probs in the same way.

    The value head reads the same hidden states as the language model's own, with an output a critic; it starts at 0.
    """

    def __init__(self, vlm: VLM, critics: int = 0) -> None:
        super().__init__()
        self.vlm = vlm
        self.model = vlm.model
        self.value_head: nn.Linear | None = None
        if critics:
            width = vlm.head.weight.shape[1]
            self.value_head = nn.Linear(width, critics, device=vlm.device)
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)

    def forward(
        self,
        batch: TokenBatch,
        temperature: float = 1.0,
        entropies: Entropies = "none",
    ) -> PolicyOutput:
        """Log-probs, entropies (nats) and values of the answers' tokens under sampling at `temperature`.

        Entropies keep three more tensors of the logits' size for the backward pass, so only "grad" gives them one.
        """
        hidden = hidden_states(self.vlm, batch)
        real = batch.answer_mask_BT.nonzero(as_tuple=True)  # the answer and the place of N tokens
        before_ND = hidden[batch.row_B[real[0]], batch.at_BT[real]]

        def padded(values: Tensor) -> Tensor:
            size = (*batch.answer_mask_BT.shape, *values.shape[1:])
            return values.new_zeros(size).index_put(real, values)

        logprobs_N, entropy_N = _read(self.vlm, before_ND, batch.answer_ids_BT[real], temperature, entropies)
        values = None if self.value_head is None else padded(self.values(before_ND))
        spread = None if entropy_N is None else padded(entropy_N)
        return PolicyOutput(padded(logprobs_N), spread, values)

    def values(self, hidden: Tensor) -> Tensor:
        """The critics' values of hidden states: (..., D) to (..., K), float32."""
        assert self.value_head is not None
        return in_float32(self.value_head, hidden)


def _read(
    vlm: VLM, hidden_ND: Tensor, ids_N: Tensor, temperature: float, entropies: Entropies
) -> tuple[Tensor, Tensor | None]:
    """Log-probs (N,) and entropies (N,) of tokens, from the hidden states before them; by chunks of even size."""

    def read(hidden_ND: Tensor, ids_N: Tensor) -> tuple[Tensor, Tensor | None]:
        logits_NV = answer_logits(vlm, hidden_ND, temperature)
        spread_N = None
        if entropies != "none":
            with torch.set_grad_enabled(entropies == "grad" and torch.is_grad_enabled()):
                spread_N = entropy(logits_NV)
        return token_logprobs(logits_NV, ids_N), spread_N

    most = max(1, LOGITS // vlm.head.weight.shape[0])
    chunks = -(-len(ids_N) // most)
    if chunks <= 1:
        return read(hidden_ND, ids_N)
    parts = [
        checkpoint(read, *part, use_reentrant=False, preserve_rng_state=False)
        if torch.is_grad_enabled()
        else read(*part)
        for part in zip(hidden_ND.chunk(chunks), ids_N.chunk(chunks), strict=True)
    ]
    logprobs, spreads = zip(*parts, strict=True)
    return torch.cat(logprobs), None if entropies == "none" else torch.cat(spreads)


def trainable_state(module: Any) -> dict[str, Tensor]:
    """The parameters that training changes, by name."""
    return {name: value.detach() for name, value in module.named_parameters() if value.requires_grad}
