"""A vision-language model of any transformers family: what is known of it, and its forward.

Left out on purpose: a class a family. What differs between families is read from their processor, config and chat
template (`load.py`), and pixels are prepared by the family's own code (`batch.py`).
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from mmrlhf.models.adapters import OWN, at_work
from mmrlhf.models.parts import find_head
from mmrlhf.models.positions import positions_apart
from mmrlhf.models.prefix import side_by_side
from mmrlhf.types import EncodedPrompt, TokenBatch

if TYPE_CHECKING:
    from mmrlhf.models.vision_cache import CachedVision


def pixel_limits(processor: Any) -> tuple[int, int] | None:
    """The smallest and largest area of an image that a processor makes; None for one that knows no such limits."""
    images: Any = getattr(processor, "image_processor", None)
    if "max_pixels" not in getattr(getattr(images, "valid_kwargs", None), "__annotations__", {}):
        return None
    return images.size["shortest_edge"], images.size["longest_edge"]


@dataclass
class VLM:
    """A model with its processor, and what sampling and collating need to know of the family."""

    model: nn.Module  # a transformers model, or a peft model around one
    processor: Any
    path: str  # where it was loaded from
    pad_id: int
    end_id: int  # what ends an answer
    end_ids: tuple[int, ...]  # everything that ends generation
    placeholder_ids: tuple[int, ...]  # image, video and audio tokens: never sampled
    special_tokens: tuple[str, ...]
    answer_lead: (
        str  # what the chat template puts between the generation prompt and an answer (often nothing)
    )
    template_adds_bos: bool
    nests_images: bool = True  # the processor takes a list of images a prompt; `probe.py` finds it
    token_fields: frozenset[str] = frozenset()  # what the processor gives for each token; `probe.py` finds it
    answer_type: int = 0  # of answer tokens, in families with token types; `probe.py` finds it
    one_by_one: bool = False  # each prompt's pictures are encoded alone; `probe.py` finds it
    counts_apart: bool = False  # each prompt's positions are counted alone; `probe.py` finds it
    apart_because: str = ""  # why one of the two
    logit_factor: float = 1.0  # of the head's output; `load.py` finds it
    vocabulary: int | None = None  # how many of the head's outputs are tokens; None: all. `load.py` finds it
    context: int | None = None  # how many tokens it reads, prompt and answer together; None: nobody tells
    answer_room: int = 0  # how many of them are kept for an answer
    window: int | None = None  # how far back the layer sees that sees least; None: everything
    shares_prefix: bool = False  # answers to one prompt may lie in one row (`prefix.py`)
    shared_tokens: int | None = None  # the most tokens of such a row; None: any number
    rows_because: str = ""  # why they may not
    takes_cache: bool = False  # makes no cache by itself; `generate.py` finds it
    vision: CachedVision | None = None  # image features that are kept (`vision_cache.py`)
    adapter: str = OWN  # the one it reads with, where the model holds some (`adapters.py`)

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    @property
    def most_pixels(self) -> int | None:
        """The largest area of an image that the model is shown; None where the family doesn't limit the area."""
        limits = pixel_limits(self.processor)
        return limits[1] if limits else None

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def core(self) -> Any:
        """The transformers model itself, also inside a peft model (whose adapters stay at work)."""
        model: Any = self.model
        return model.get_base_model() if hasattr(model, "get_base_model") else model

    @property
    def head(self) -> Any:
        """The layer from the trunk's hidden states to logits; its weight is (vocabulary, D)."""
        return find_head(self.core)

    @property
    def has_adapters(self) -> bool:
        """Whether the model is trained through LoRA."""
        return hasattr(self.model, "disable_adapter")

    @contextlib.contextmanager
    def adapters_off(self) -> Iterator[None]:
        """The base model for a while: with LoRA this is the reference."""
        from mmrlhf.models.adapters import none_at_work

        with none_at_work(self.model):
            yield

    @functools.cached_property
    def reading(self) -> str:
        """A hash of everything that decides how a record becomes a prompt: where two models have the same, a prompt
        that was encoded for one serves the other."""
        processor, tokenizer = self.processor, self.tokenizer
        kinds = [type(processor), type(tokenizer), type(getattr(processor, "image_processor", None))]
        described = [
            [f"{kind.__module__}.{kind.__qualname__}" for kind in kinds],
            processor.to_dict(),  # the image processor's settings among it
            [getattr(owner, "chat_template", None) for owner in (processor, tokenizer)],
            _words(tokenizer),
            [self.special_tokens, self.template_adds_bos],
        ]
        text = json.dumps(described, sort_keys=True, default=str)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _words(tokenizer: Any) -> Any:
    """How a tokenizer cuts text; without its padding and truncation, which each call sets anew."""
    if not getattr(tokenizer, "is_fast", False):
        return [tokenizer.get_vocab(), tokenizer.get_added_vocab(), repr(tokenizer)]
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    return {name: rule for name, rule in rules.items() if name not in ("padding", "truncation")}


@contextlib.contextmanager
def seeing(vlm: VLM, prompts: Sequence[EncodedPrompt]) -> Iterator[None]:
    """While it lasts, a forward on these prompts reads the image features that are kept, where some are; and does for
    each prompt by itself what its family can't do for several at once."""
    from mmrlhf.models.vision_cache import apart

    with contextlib.ExitStack() as stack:
        if vlm.counts_apart:
            stack.enter_context(positions_apart(prompts, vlm))
        if vlm.vision:
            stack.enter_context(vlm.vision.serving(prompts))
        elif vlm.one_by_one:
            stack.enter_context(apart(vlm, prompts))
        yield


def run_trunk(vlm: VLM, **inputs: Any) -> tuple[Tensor, Any]:
    """The family's own forward but for its head: the last layer's hidden states (B, T, D), and its cache.

    Families without a trunk of its own (Llama 4) are run whole, and what they hand to their head is taken.
    """
    core = vlm.core
    if core.base_model is not core:
        out = core.base_model(**inputs)
        return out.last_hidden_state, getattr(out, "past_key_values", None)
    taken: list[Tensor] = []

    def take(hidden: Tensor) -> Tensor:
        taken.append(hidden)
        return hidden

    head = find_head(core)
    own = vars(head).get("forward")  # others may have put theirs in its place
    head.forward = take
    try:
        out = core(**inputs)
    finally:
        if own is None:
            del head.forward
        else:
            head.forward = own
    return taken[-1], getattr(out, "past_key_values", None)


def hidden_states(vlm: VLM, batch: TokenBatch) -> Tensor:
    """The last layer's hidden states of a batch's rows: (R, T, D)."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(_checkpointing(vlm.core))
        stack.enter_context(at_work(vlm.model, vlm.adapter))
        if batch.layout is not None:
            stack.enter_context(side_by_side(vlm, batch.layout))
        stack.enter_context(seeing(vlm, batch.prompts))
        return run_trunk(vlm, **batch.inputs, use_cache=False)[0]


@contextlib.contextmanager
def _checkpointing(core: nn.Module) -> Iterator[None]:
    """Where gradients are wanted and gradient checkpointing is on: puts its layers, but not their parts, in training
    mode. transformers ignores the setting in eval mode, in which the model stays so that no dropout is at work."""
    wanted = torch.is_grad_enabled()
    layers = [m for m in core.modules() if getattr(m, "gradient_checkpointing", False)] if wanted else []
    for layer in layers:
        layer.training = True
    try:
        yield
    finally:
        for layer in layers:
            layer.training = False


def head_logits(vlm: VLM, hidden_BTD: Tensor) -> Tensor:
    """Logits as the model's own forward gives them, from the trunk's hidden states: float32.

    Some families scale them, or cap them softly, behind their head; `load.check_logits` sees that no other does more.
    """
    logits = vlm.head(hidden_BTD).float()[..., : vlm.vocabulary]
    if vlm.logit_factor != 1:
        logits = logits * vlm.logit_factor
    if cap := getattr(vlm.core.config.get_text_config(), "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    return logits


def answer_logits(vlm: VLM, hidden_BTD: Tensor, temperature: float = 1.0) -> Tensor:
    """Logits from the hidden states before answer tokens, as sampling sees them: divided by the temperature, and
    minus infinity at image placeholders."""
    logits = head_logits(vlm, hidden_BTD)
    if temperature != 1:
        logits = logits / temperature
    if vlm.placeholder_ids:
        logits[..., list(vlm.placeholder_ids)] = float("-inf")
    return logits


def in_float32(head: nn.Linear, hidden: Tensor) -> Tensor:
    """A head's output in float32, whatever the trunk's precision and autocast: rewards and values need their digits."""
    with torch.autocast(hidden.device.type, enabled=False):
        return head(hidden.float())


def decode(vlm: VLM, ids: Tensor) -> str:
    """An answer's tokens as text, without special tokens."""
    return vlm.tokenizer.decode(ids, skip_special_tokens=True).strip()
