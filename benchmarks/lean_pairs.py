"""What a step of a reward model on pairs can't do without, in plain PyTorch: the yardstick for our trainer.

Prompt and picture are read once for both answers, which lie behind them in one row; the tower's features are computed
once; one head reads the last token of each answer. It writes nothing, and knows that all prompts are of one length and
all answers too, so it needs no padding. `shared=False` gives each answer a row of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from lean import LR, Reader, Stopwatch, core, load, read, see
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoProcessor

from data_tools.schema import PreferenceRecord


class LeanPairs(Reader):
    """A Bradley-Terry step on pairs whose first answer is the better."""

    def __init__(self, checkpoint: str | Path, lora: bool, shared: bool = True) -> None:
        self.processor = AutoProcessor.from_pretrained(checkpoint)
        self.model = load(checkpoint, True, lora)
        super().__init__(core(self.model).config.image_token_id, shared)
        self.head = nn.Linear(core(self.model).config.text_config.hidden_size, 1)
        self.weights = [p for p in self.model.parameters() if p.requires_grad] + [*self.head.parameters()]
        self.optimizer = torch.optim.AdamW(self.weights, lr=LR, betas=(0.9, 0.95), weight_decay=0.0)

    def step(self, records: Sequence[PreferenceRecord]) -> dict[str, float]:
        """One whole step; the seconds of its parts."""
        watch = Stopwatch()
        ids_PT, pixels = read(self.processor, records)
        answers_PGT = self.answers(records)
        watch.lap("read")
        with torch.no_grad():
            features = see(self.model, pixels)
        watch.lap("see")
        self.loss(ids_PT, features, answers_PGT).backward()
        torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        watch.lap("update")
        return watch.seconds

    def answers(self, records: Sequence[PreferenceRecord]) -> Tensor:
        """The answers' tokens with the end token: (P, 2, T)."""
        tokenizer = self.processor.tokenizer
        texts = [response.text for record in records for response in record.responses]
        ids = tokenizer(texts, add_special_tokens=False)["input_ids"]
        return torch.tensor([[*row, tokenizer.eos_token_id] for row in ids]).unflatten(0, (-1, 2))

    def loss(self, ids_PT: Tensor, features: Tensor, answers_PGT: Tensor) -> Tensor:
        """The mean of -log sigma(r_better - r_worse)."""
        _, hidden = self.hidden(self.model, ids_PT, features, answers_PGT)
        rewards_PG = self.head(hidden[:, :, -1]).squeeze(-1)
        return -F.logsigmoid(rewards_PG[:, 0] - rewards_PG[:, 1]).mean()
