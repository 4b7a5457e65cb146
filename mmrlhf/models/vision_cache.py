"""An image is encoded once: what a frozen tower and projector make of it is kept, and given to every later forward.

The family's own forward runs as it is; only its call of `get_image_features` is answered from the cache. What is kept
is found by watching that call, so that a family needs no code of its own here. It is exact because nothing between
pixels and features can change while neither tower nor projector trains; where they do, `cacheable` says no.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.config import EngineConfig
from mmrlhf.models.batch import collate_prompts
from mmrlhf.models.parts import parts_of
from mmrlhf.models.vlm import VLM
from mmrlhf.tensors import hash_tensors
from mmrlhf.types import EncodedPrompt

NOT_READ = {
    "last_hidden_state",
    "hidden_states",
    "attentions",
}  # of the tower; no forward reads them behind it
Features = dict[str, Any]  # field of the family's output -> tensor, or (nested) lists of tensors


@dataclass
class Entry:
    """The features of one prompt's images."""

    features: Features
    size: int  # bytes
    on_device: bool


class VisionCache:
    """Features by content: the least recently used are moved to the host's memory, then forgotten."""

    def __init__(self, device_bytes: int, host_bytes: int) -> None:
        self.limits = {True: device_bytes, False: host_bytes}
        self.used = {True: 0, False: 0}
        self.encoded = 0  # prompts whose images the tower has seen
        self.reused = 0  # prompts that were answered from the cache
        self._entries: OrderedDict[str, Entry] = OrderedDict()

    def get(self, key: str, device: torch.device) -> Features | None:
        """The features of a key, on the device; None where they aren't kept."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        self.reused += 1
        return entry.features if entry.on_device else _map(entry.features, lambda t: t.to(device))

    def put(self, key: str, features: Features) -> None:
        """Keeps features; older ones give way."""
        entry = Entry(features, sum(t.numel() * t.element_size() for t in _tensors(features)), True)
        self._entries[key] = entry
        self.used[True] += entry.size
        self._make_room(True)
        self._make_room(False)

    def clear(self) -> None:
        """Forgets all features. A trainer does so at each step: the last bits of features depend on which images were
        encoded together, so what an earlier step left behind would make a resumed run differ from one that wasn't."""
        self._entries.clear()
        self.used = {True: 0, False: 0}

    def _make_room(self, on_device: bool) -> None:
        for key in [key for key, entry in self._entries.items() if entry.on_device == on_device]:
            if self.used[on_device] <= self.limits[on_device]:
                return
            entry = self._entries[key]
            self.used[on_device] -= entry.size
            if on_device and self.limits[False]:
                entry.features, entry.on_device = _map(entry.features, lambda t: t.cpu()), False
                self.used[False] += entry.size
            else:
                del self._entries[key]


class CachedVision:
    """A model's vision with a cache in front of it; several models may share the cache where their towers are the
    same to the bit."""

    def __init__(self, vlm: VLM, cache: VisionCache) -> None:
        """Raises ValueError where the tower or projector trains, or the family has no `get_image_features`."""
        if reason := why_not(vlm):
            raise ValueError(reason)
        self.vlm, self.cache = vlm, cache
        self.tower = fingerprint(vlm)

    @contextlib.contextmanager
    def serving(self, prompts: Sequence[EncodedPrompt]) -> Iterator[None]:
        """While it lasts, a forward on these prompts, in this order, reads the kept features."""
        shown = [prompt for prompt in prompts if prompt.vision]
        if not shown:
            yield
            return
        joined = self._joined(shown)
        with _answering(self.vlm, lambda *args, **kwargs: joined):
            yield

    @torch.no_grad()
    def _joined(self, prompts: Sequence[EncodedPrompt]) -> Any:
        keys = [f"{self.tower}/{prompt.vision_key}" for prompt in prompts]
        found: dict[str, Features] = {}
        for key in dict.fromkeys(keys):
            if (kept := self.cache.get(key, self.vlm.device)) is not None:
                found[key] = kept
        missing = {key: p for key, p in zip(keys, prompts, strict=True) if key not in found}
        for group in _alike(self.vlm, missing):
            made = split(encode(self.vlm, [missing[key] for key in group]), len(group))
            self.cache.encoded += len(group)
            for key, features in zip(group, made, strict=True):
                self.cache.put(key, features)
                found[key] = features
        return _Output(join([found[key] for key in keys]))


class _Output(dict[str, Any]):
    """The features as an object with attributes, as a family's forward reads them."""

    __getattr__ = dict.__getitem__


def vision_cache(config: EngineConfig) -> VisionCache | None:
    """An empty cache of the size that the config gives; None where it gives none."""
    device, host = (int(gb * 2**30) for gb in (config.vision_cache_gb, config.vision_cache_host_gb))
    return VisionCache(device, host) if device else None


def keep_features(vlm: VLM, cache: VisionCache) -> str:
    """Puts the cache in front of a model's vision where that is exact; else the reason why it isn't."""
    reason = why_not(vlm)
    vlm.vision = None if reason else CachedVision(vlm, cache)
    return reason


def why_not(vlm: VLM) -> str:
    """Why a model's image features can't be kept; empty where they can."""
    try:
        parts = parts_of(vlm.core, vlm.path)
    except UserError as error:
        return str(error)
    seeing = [*parts.towers, *parts.projectors]
    if any(p.requires_grad for p in (*parts.marks, *(p for part in seeing for p in part.parameters()))):
        return "its tower or projector is trained"
    if not hasattr(vlm.core.base_model, "get_image_features"):
        return f"{type(vlm.core).__name__} has no get_image_features"
    return ""


def fingerprint(vlm: VLM) -> str:
    """A hash of the weights between pixels and features: equal hashes mean that features may be shared."""
    parts = parts_of(vlm.core, vlm.path)
    weights = [
        item for part in (*parts.towers, *parts.projectors) for item in sorted(part.state_dict().items())
    ]
    return hash_tensors([*weights, *(("mark", mark) for mark in parts.marks)])


class _Seen(Exception):
    """The features were taken."""


def encode(vlm: VLM, prompts: Sequence[EncodedPrompt]) -> Features:
    """The features of the prompts' images, by the family's own call; the language model doesn't run."""
    own = vlm.core.base_model.get_image_features
    taken: list[Any] = []

    def take(*args: Any, **kwargs: Any) -> Any:
        taken.append(own(*args, **kwargs))
        raise _Seen

    inputs = collate_prompts(vlm, prompts, vlm.device)
    with _answering(vlm, take), contextlib.suppress(_Seen):
        vlm.core.base_model(**inputs, use_cache=False)
    made = taken[0]
    # some set an attribute on the tower's output that isn't among its items
    fields = {**vars(made), **made} if isinstance(made, dict) else {"pooler_output": made}
    return {
        name: value
        for name, value in fields.items()
        if name not in NOT_READ and value is not None and not name.startswith("_")
    }


@contextlib.contextmanager
def _answering(vlm: VLM, answer: Any) -> Iterator[None]:
    trunk: nn.Module = vlm.core.base_model
    trunk.get_image_features = answer
    try:
        yield
    finally:
        del trunk.get_image_features


def _alike(vlm: VLM, prompts: dict[str, EncodedPrompt]) -> list[list[str]]:
    """Keys of prompts that have as many features each: one call makes them, to be cut apart.

    Equal shapes are not enough, since tiles may be padded in number; each feature has its placeholder.
    """
    groups: dict[Any, list[str]] = {}
    for key, prompt in prompts.items():
        shape = tuple((name, tuple(value.shape)) for name, value in sorted(prompt.vision.items()))
        tokens = tuple(int((prompt.input_ids == token).sum()) for token in vlm.placeholder_ids)
        groups.setdefault((shape, tokens), []).append(key)
    return list(groups.values())


def split(features: Features, parts: int) -> list[Features]:
    """The features of a batch of prompts with equally many and equally large images, prompt by prompt."""
    cut = {name: _split(value, parts, layered=name != "pooler_output") for name, value in features.items()}
    return [{name: pieces[i] for name, pieces in cut.items()} for i in range(parts)]


def _split(value: Any, parts: int, layered: bool) -> list[Any]:
    if isinstance(value, Tensor):
        return [piece.clone() for piece in value.chunk(parts)] if parts > 1 else [value]
    if layered:  # a list over layers, each a tensor or a list over images
        by_layer = [_split(layer, parts, layered=False) for layer in value]
        return [[layer[i] for layer in by_layer] for i in range(parts)]
    size = len(value) // parts
    # clones: a view would keep the whole batch in memory
    return [[t.clone() for t in value[i * size : (i + 1) * size]] for i in range(parts)]


def join(features: Sequence[Features]) -> Features:
    """The features of prompts put together in order, as the family's own call on all of them would give them."""
    return {
        name: _join([of[name] for of in features], layered=name != "pooler_output") for name in features[0]
    }


def _join(values: Sequence[Any], layered: bool) -> Any:
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    if layered:
        return [_join(layer, layered=False) for layer in zip(*values, strict=True)]
    return [tensor for value in values for tensor in value]


def _map(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _map(part, change) for name, part in value.items()}
    return [_map(part, change) for part in value]


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    else:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)
