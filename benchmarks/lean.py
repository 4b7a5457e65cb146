"""What a step can't do without, in plain PyTorch: the yardstick for our trainer. And the way of common trainers.

`Lean` has one backbone for policy, reference (its adapters off; a frozen copy in full fine-tuning) and values. It looks
at each picture once, reads prompt and picture once for all answers of a group, takes logits at answer positions only,
and takes old log-probs and values from the first pass of the update. `Naive` has a critic of its own, looks at the
pictures in each pass, takes logits everywhere, keeps all hidden states, and takes old values and reference in passes of
their own. Both read the pictures from their bytes, sample, score with a reward model and update; they write nothing.

Both know that all prompts are of one length and all answers too, so they need no padding.
"""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import job
import torch
from peft import LoraConfig, get_peft_model
from PIL import Image
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText, AutoProcessor, DynamicCache, GenerationConfig

from data_tools.schema import PreferenceRecord

CLIP, VALUE_CLIP, VALUE_WEIGHT, LAM = 0.2, 0.2, 0.1, 0.95
KL_REWARD, KL_LOSS = 0.05, 0.04
SCORE_CLIP, NO_END = 5.0, 1.0
LR = 1e-5
TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


class Stopwatch:
    """Seconds of the parts of a step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Ends a part."""
        now = time.perf_counter()
        self.seconds[name], self._last = now - self._last, now


def load(path: str | Path, trained: bool, lora: bool) -> nn.Module:
    """The model: frozen; or with adapters on, or all of, its language model to be trained."""
    model = (
        AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32).eval().requires_grad_(False)
    )
    if not trained:
        return model
    if lora:
        config = LoraConfig(r=job.RANK, lora_alpha=job.ALPHA, lora_dropout=0.0, target_modules=TARGETS)
        return get_peft_model(model, config).eval()
    model.model.language_model.requires_grad_(True)
    model.lm_head.requires_grad_(True)
    return model


def core(model: nn.Module) -> Any:
    """The transformers model, also inside a peft model."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def see(model: nn.Module, pixels: Tensor) -> Tensor:
    """The features of pictures: (pictures, image tokens, D)."""
    return torch.stack(list(core(model).model.get_image_features(pixel_values=pixels).pooler_output))


class Reader:
    """Reads answers behind their prompts, each picture's features once."""

    def __init__(self, image_id: int, shared: bool) -> None:
        """Not `shared`: each answer has a row of its own."""
        self.image_id, self.shared = image_id, shared

    def embed(self, model: nn.Module, tokens: Tensor, features: Tensor) -> Tensor:
        """Input embeddings, with the features in the pictures' places."""
        embeds = core(model).get_input_embeddings()(tokens)
        return embeds.masked_scatter((tokens == self.image_id).unsqueeze(-1), features)

    def hidden(
        self, model: nn.Module, ids_PT: Tensor, features: Tensor, answers_PGT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Hidden states at the prompts' last token (P, G, 1, D) and at the answers (P, G, T, D)."""
        (prompts, prefix), (answers, size) = ids_PT.shape, answers_PGT.shape[1:]
        language = core(model).model.language_model
        if self.shared and answers > 1:
            tokens = torch.cat([ids_PT, answers_PGT.reshape(prompts, -1)], 1)
            mask, positions = side_by_side(prefix, answers, size)
            hidden = language(
                inputs_embeds=self.embed(model, tokens, features),
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
            ).last_hidden_state
            first = hidden[:, None, prefix - 1 : prefix].expand(-1, answers, -1, -1)
            return first, hidden[:, prefix:].unflatten(1, (answers, size))
        tokens = torch.cat([ids_PT.repeat_interleave(answers, 0), answers_PGT.flatten(0, 1)], 1)
        # (P, pictures of a prompt, image tokens, D)
        each = features.unflatten(0, (prompts, -1)).repeat_interleave(answers, 0)
        embeds = self.embed(model, tokens, each)
        hidden = language(inputs_embeds=embeds, use_cache=False).last_hidden_state
        hidden = hidden.unflatten(0, (prompts, answers))
        return hidden[:, :, prefix - 1 : prefix], hidden[:, :, prefix:]


class Lean(Reader):
    """A step of PPO, or of GRPO where there are several answers a prompt."""

    def __init__(
        self,
        checkpoint: str | Path,
        lora: bool,
        heads: nn.Linear,
        epochs: int = 1,
        answers: int = 1,
        shared: bool = True,
    ) -> None:
        """`heads` read the rewards off a second, frozen backbone; not `shared`: each answer has a row of its own."""
        self.processor = AutoProcessor.from_pretrained(checkpoint)
        self.model, self.judge, self.heads = (
            load(checkpoint, True, lora),
            load(checkpoint, False, lora),
            heads,
        )
        self.frozen = None if lora else load(checkpoint, False, lora)
        self.lora, self.epochs, self.answers = lora, epochs, answers
        self.forbidden = list(job.forbidden(self.processor))
        super().__init__(core(self.model).config.image_token_id, shared)
        self.end_id = self.processor.tokenizer.eos_token_id
        width = core(self.model).config.text_config.hidden_size
        self.value_head = nn.Linear(width, 1) if answers == 1 else None
        self.weights = [p for p in self.model.parameters() if p.requires_grad]
        groups = [{"params": self.weights, "lr": LR}]
        if self.value_head is not None:
            nn.init.zeros_(self.value_head.weight)
            nn.init.zeros_(self.value_head.bias)
            groups.append({"params": list(self.value_head.parameters()), "lr": 10 * LR})
            self.weights = [*self.weights, *self.value_head.parameters()]
        self.optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.95), weight_decay=0.0)

    def cores(self) -> list[Any]:
        """Every model that takes part."""
        return [core(m) for m in (self.model, self.frozen, self.judge) if m is not None]

    def step(self, records: Sequence[PreferenceRecord]) -> dict[str, float]:
        """One whole step; the seconds of its parts."""
        watch = Stopwatch()
        ids_PT, pixels = read(self.processor, records)
        watch.lap("read")
        with torch.no_grad():
            features = see(self.model, pixels)
            watch.lap("see")
            answers_PGT = self.sample(ids_PT, features)
            watch.lap("sample")
            scores_PG = self.score(ids_PT, features, answers_PGT)
            watch.lap("score")
            reference = self.reference(ids_PT, features, answers_PGT)
            watch.lap("reference")
        for loss in self.losses(ids_PT, features, answers_PGT, scores_PG, reference):
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        watch.lap("update")
        return watch.seconds

    def sample(self, ids_PT: Tensor, features: Tensor) -> Tensor:
        """Answers (P, G, T): the prompt is read once, and each answer goes on from there."""
        language = core(self.model).model.language_model
        cache = DynamicCache(config=core(self.model).config.text_config)
        embeds = self.embed(self.model, ids_PT, features)
        hidden = language(inputs_embeds=embeds, past_key_values=cache, use_cache=True).last_hidden_state[
            :, -1
        ]
        if self.answers > 1:
            cache.batch_repeat_interleave(self.answers)
            hidden = hidden.repeat_interleave(self.answers, 0)
        drawn: list[Tensor] = []
        while True:
            chances = self._logits(self.model, hidden).softmax(-1)
            # the largest of p / e with exponential e is a draw from p
            drawn.append((chances / torch.empty_like(chances).exponential_()).argmax(-1))
            if len(drawn) == job.ANSWER:
                return torch.stack(drawn, 1).view(len(ids_PT), self.answers, -1)
            embeds = core(self.model).get_input_embeddings()(drawn[-1].unsqueeze(1))
            hidden = language(inputs_embeds=embeds, past_key_values=cache, use_cache=True).last_hidden_state[
                :, -1
            ]

    def score(self, ids_PT: Tensor, features: Tensor, answers_PGT: Tensor) -> Tensor:
        """Scores (P, G) at each answer's end token, less the penalty for answers that don't end themselves. The
        judge's tower is the policy's, so that its features serve both."""
        ended = torch.cat([answers_PGT, torch.full_like(answers_PGT[:, :, :1], self.end_id)], 2)
        last = self.hidden(self.judge, ids_PT, features, ended)[1][:, :, -1]
        return self.heads(last).clamp(-SCORE_CLIP, SCORE_CLIP).mean(-1) - NO_END

    def reference(self, ids_PT: Tensor, features: Tensor, answers_PGT: Tensor) -> Tensor:
        """Log-probs (P, G, T) of the policy before training."""
        model = self.model if self.frozen is None else self.frozen
        off = self.model.disable_adapter() if self.frozen is None else contextlib.nullcontext()
        with off, torch.no_grad():
            return self.logprobs(model, self._before(model, ids_PT, features, answers_PGT), answers_PGT)

    def losses(
        self, ids_PT: Tensor, features: Tensor, answers_PGT: Tensor, scores_PG: Tensor, reference: Tensor
    ) -> Iterator[Tensor]:
        """The loss of each pass; the weights may be changed in between."""
        old = values = advantages = returns = None
        for _ in range(self.epochs):
            before = self._before(self.model, ids_PT, features, answers_PGT)
            logprobs = self.logprobs(self.model, before, answers_PGT)
            if old is None:
                old = logprobs.detach()
            ratio = (logprobs - old).exp()
            if self.value_head is None:
                apart = scores_PG - scores_PG.mean(1, keepdim=True)
                advantages = (apart / (scores_PG.std(1, keepdim=True) + 1e-4)).unsqueeze(2)
                log_ratio = reference - logprobs
                penalty = KL_LOSS * (log_ratio.exp() - 1 - log_ratio)
                yield (clipped(ratio, advantages) + penalty).mean()
                continue
            value = self.value_head(before).squeeze(-1)
            if advantages is None:
                values = value.detach()
                rewards = -KL_REWARD * (old - reference)
                rewards[:, :, -1] += scores_PG
                advantages, returns = gae(rewards, values)
            yield clipped(ratio, advantages).mean() + VALUE_WEIGHT * value_loss(value, values, returns)

    def logprobs(self, model: nn.Module, before: Tensor, answers_PGT: Tensor) -> Tensor:
        """Of answers, from the hidden states before their tokens."""
        return picked(self._logits(model, before), answers_PGT)

    def _logits(self, model: nn.Module, hidden: Tensor) -> Tensor:
        logits = core(model).lm_head(hidden)
        logits[..., self.forbidden] = float("-inf")
        return logits

    def _before(self, model: nn.Module, ids_PT: Tensor, features: Tensor, answers_PGT: Tensor) -> Tensor:
        """Hidden states before each answer token: (P, G, T, D). The last token itself need not be read."""
        prompt, answer = self.hidden(model, ids_PT, features, answers_PGT[:, :, :-1])
        return torch.cat([prompt, answer], 2)


class Naive:
    """A step of PPO as common trainers do it, with the pictures given to each call."""

    def __init__(self, checkpoint: str | Path, lora: bool, heads: nn.Linear, epochs: int = 1) -> None:
        """`heads` read the rewards off a backbone of their own."""
        self.processor = AutoProcessor.from_pretrained(checkpoint)
        self.model, self.critic = (load(checkpoint, True, lora) for _ in range(2))
        self.judge, self.heads = load(checkpoint, False, lora), heads
        self.frozen = None if lora else load(checkpoint, False, lora)
        self.epochs = epochs
        self.value_head = nn.Linear(core(self.model).config.text_config.hidden_size, 1)
        self.weights = [p for m in (self.model, self.critic) for p in m.parameters() if p.requires_grad]
        self.weights += self.value_head.parameters()
        self.optimizer = torch.optim.AdamW(self.weights, lr=LR, betas=(0.9, 0.95), weight_decay=0.0)
        self.sampling = GenerationConfig(
            max_new_tokens=job.ANSWER,
            do_sample=True,
            top_k=0,
            suppress_tokens=list(job.forbidden(self.processor)),
            eos_token_id=self.processor.tokenizer.eos_token_id,
            pad_token_id=self.processor.tokenizer.pad_token_id,
            output_scores=True,
            return_dict_in_generate=True,
        )

    def cores(self) -> list[Any]:
        """Every model that takes part."""
        return [core(m) for m in (self.model, self.critic, self.frozen, self.judge) if m is not None]

    def step(self, records: Sequence[PreferenceRecord]) -> dict[str, float]:
        """One whole step; the seconds of its parts."""
        watch = Stopwatch()
        ids_PT, pixels = read(self.processor, records)
        watch.lap("read")
        with torch.no_grad():
            made = self.model.generate(
                input_ids=ids_PT,
                attention_mask=torch.ones_like(ids_PT),
                pixel_values=pixels,
                generation_config=self.sampling,
            )
            tokens, prefix = made.sequences, ids_PT.shape[1]
            answers = tokens[:, prefix:]
            old = picked(torch.stack(made.scores, 1), answers)
            watch.lap("sample")
            ended = torch.cat(
                [tokens, torch.full_like(tokens[:, :1], self.processor.tokenizer.eos_token_id)], 1
            )
            scores = self.heads(self._trunk(self.judge, ended, pixels)[:, -1])
            scores = scores.clamp(-SCORE_CLIP, SCORE_CLIP).mean(-1) - NO_END
            watch.lap("score")
            off = self.model.disable_adapter() if self.frozen is None else contextlib.nullcontext()
            with off:
                reference = self._logprobs(self.frozen or self.model, tokens, pixels, prefix)
            watch.lap("reference")
            values = self._values(tokens, pixels, prefix)
            rewards = -KL_REWARD * (old - reference)
            rewards[:, -1] += scores
            advantages, returns = gae(rewards, values)
            watch.lap("values")
        for _ in range(self.epochs):
            ratio = (self._logprobs(self.model, tokens, pixels, prefix) - old).exp()
            value = self._values(tokens, pixels, prefix)
            loss = clipped(ratio, advantages).mean() + VALUE_WEIGHT * value_loss(value, values, returns)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.weights, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        watch.lap("update")
        return watch.seconds

    def _logprobs(self, model: nn.Module, tokens: Tensor, pixels: Tensor, prefix: int) -> Tensor:
        logits = core(model)(
            input_ids=tokens,
            attention_mask=torch.ones_like(tokens),
            pixel_values=pixels,
            output_hidden_states=True,
            use_cache=False,
        ).logits
        logits[..., self.sampling.suppress_tokens] = float("-inf")
        logprobs = logits[:, prefix - 1 : -1].log_softmax(-1)
        return logprobs.gather(-1, tokens[:, prefix:].unsqueeze(-1)).squeeze(-1)

    def _trunk(self, model: nn.Module, tokens: Tensor, pixels: Tensor) -> Tensor:
        return (
            core(model)
            .model(
                input_ids=tokens,
                attention_mask=torch.ones_like(tokens),
                pixel_values=pixels,
                output_hidden_states=True,
                use_cache=False,
            )
            .last_hidden_state
        )

    def _values(self, tokens: Tensor, pixels: Tensor, prefix: int) -> Tensor:
        return self.value_head(self._trunk(self.critic, tokens, pixels)).squeeze(-1)[:, prefix - 1 : -1]


def read(processor: Any, records: Sequence[PreferenceRecord]) -> tuple[Tensor, Tensor]:
    """Prompts (P, T) and pixels, by one call of the processor."""
    images = [Image.open(io.BytesIO(ref.data)).convert("RGB") for record in records for ref in record.images]
    chats = [
        [
            {
                "role": "user",
                "content": [
                    *({"type": "image"} for _ in record.images),
                    {"type": "text", "text": record.prompt[0].text},
                ],
            }
        ]
        for record in records
    ]
    texts = [processor.apply_chat_template(chat, add_generation_prompt=True) for chat in chats]
    batch = processor(text=texts, images=images, return_tensors="pt")
    return batch["input_ids"], batch["pixel_values"]


def side_by_side(prefix: int, answers: int, size: int) -> tuple[Tensor, Tensor]:
    """The mask (1, 1, T, T) and positions (1, T) of rows that hold a prefix and several answers behind it."""
    part = torch.cat([torch.zeros(prefix), torch.arange(1, answers + 1).repeat_interleave(size)])
    whole = prefix + answers * size
    mask = torch.ones(whole, whole, dtype=torch.bool).tril() & ((part == 0) | (part == part.unsqueeze(1)))
    positions = torch.cat([torch.arange(prefix), prefix + torch.arange(size).repeat(answers)])
    return mask[None, None], positions[None]


def picked(logits: Tensor, ids: Tensor) -> Tensor:
    """The log-probs of ids."""
    return logits.gather(-1, ids.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(-1)


def clipped(ratio: Tensor, advantages: Tensor) -> Tensor:
    """PPO's loss of each token."""
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - CLIP, 1 + CLIP) * advantages)


def value_loss(values: Tensor, old: Tensor, returns: Tensor) -> Tensor:
    """The mean of the clipped loss of values."""
    near = old + (values - old).clamp(-VALUE_CLIP, VALUE_CLIP)
    return 0.5 * torch.maximum((values - returns) ** 2, (near - returns) ** 2).mean()


def gae(rewards: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Advantages, whitened, and returns, along the last dimension; no discount."""
    later, next_value, found = torch.zeros_like(values[..., 0]), torch.zeros_like(values[..., 0]), []
    for t in reversed(range(values.shape[-1])):
        later = rewards[..., t] + next_value - values[..., t] + LAM * later
        next_value = values[..., t]
        found.append(later)
    advantages = torch.stack(found[::-1], -1)
    spread = advantages.var(unbiased=False)
    return (advantages - advantages.mean()) * torch.rsqrt(spread + 1e-8), advantages + values


def make_heads(width: int, objectives: int) -> nn.Linear:
    """The heads of a reward model: random, frozen, the same for every trainer."""
    torch.manual_seed(1)
    heads = nn.Linear(width, objectives)
    nn.init.normal_(heads.weight, std=0.05)
    return heads.requires_grad_(False)
