"""An image is encoded once: what a frozen tower and projector make of it is kept, and given to every later forward.

The family's own forward runs as it is; only its call of `get_image_features` is answered from the cache. What is kept
is found by watching that call, so that a family needs no code of its own here. It is exact because nothing between
pixels and features can change while neither tower nor projector trains; where they do, `why_not` says so. Each model is
tried out on a few pictures first.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.config import EngineConfig
from mmrlhf.models.batch import ERRORS, collate_prompts
from mmrlhf.models.parts import parts_of
from mmrlhf.models.probe import bound, distance, probe_prompts
from mmrlhf.models.vlm import VLM, run_trunk, seeing
from mmrlhf.tensors import hash_tensors
from mmrlhf.types import EncodedPrompt

Features = dict[str, Any]  # field of the family's output -> tensor, or (nested) lists of tensors
Key = TypeVar("Key", bound=Hashable)


@dataclass
class Entry:
    """The features of one prompt's images."""

    features: Features
    size: int  # bytes
    on_device: bool


class VisionCache:
    """Features by content: the least recently used are moved to the host's memory, then forgotten.

    The last bits of features depend on which images were encoded together, so what an earlier step left behind could
    make a resumed run differ from one that was never stopped. With `alone` each prompt's images are encoded by
    themselves, and features serve all steps, and all epochs; without, they are encoded together and forgotten when the
    next step begins.
    """

    def __init__(self, device_bytes: int, host_bytes: int, alone: bool = False) -> None:
        self.alone = alone
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

    def begin_step(self) -> None:
        """Forgets what an earlier step left behind, unless it may serve this one."""
        if not self.alone:
            self.clear()

    def clear(self) -> None:
        """Forgets all features."""
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
        """Raises ValueError where the tower or projector trains, the family has no `get_image_features`, or its forward
        doesn't take features back as it gave them."""
        if reason := why_not(vlm):
            raise ValueError(reason)
        self.vlm, self.cache = vlm, cache
        self.fields = _tried(vlm)
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
        for key, features in _made(self.vlm, missing, self.fields, self.cache.alone).items():
            self.cache.encoded += 1
            self.cache.put(key, features)
            found[key] = features
        return Joined([found[key] for key in keys])


class Joined(dict[str, Any]):
    """The features of prompts put together in order, as the family's own call on all of them would give them: an object
    with attributes, as its forward reads it. A field is joined when it is read, and `read` tells which were."""

    def __init__(self, parts: Sequence[Features]) -> None:
        super().__init__(parts[0])
        self.parts, self.read = parts, set[str]()

    def __getitem__(self, name: str) -> Any:
        if name not in self:
            raise KeyError(name)
        self.read.add(name)
        return _join([part[name] for part in self.parts], layered=name != "pooler_output")

    def __getattr__(self, name: str) -> Any:
        if name not in self:
            raise AttributeError(f"image features without {name}")
        return self[name]


@contextlib.contextmanager
def apart(vlm: VLM, prompts: Sequence[EncodedPrompt]) -> Iterator[None]:
    """While it lasts, a forward on these prompts reads features that were made of one prompt's pictures at a time, by a
    family whose tower can't tell those of several apart. Nothing is kept; gradients reach the tower."""
    shown = [prompt for prompt in prompts if prompt.vision]
    if not shown:
        yield
        return
    made = _made(vlm, {id(prompt): prompt for prompt in shown})
    joined = Joined([made[id(prompt)] for prompt in shown])
    with _answering(vlm, lambda *args, **kwargs: joined):
        yield


def _made(
    vlm: VLM,
    prompts: Mapping[Key, EncodedPrompt],
    fields: frozenset[str] | None = None,
    alone: bool = False,
) -> dict[Key, Features]:
    """The features of each prompt, made of those together that have equally many and equally large pictures, unless
    each is to be made `alone`, or the family doesn't take those of several prompts."""
    found: dict[Key, Features] = {}
    for group in [[key] for key in prompts] if alone or vlm.one_by_one else _alike(vlm, prompts):
        made = encode(vlm, [prompts[key] for key in group])
        kept = made if fields is None else {name: made[name] for name in fields}
        found |= dict(zip(group, split(kept, len(group)), strict=True))
    return found


@torch.no_grad()
def _tried(vlm: VLM) -> frozenset[str]:
    """The fields of a family's image features that its forward reads.

    Raises:
        ValueError: its forward can't read them back, or gives something else with them.
    """
    plain = dataclasses.replace(vlm, vision=None)
    try:
        prompts = probe_prompts(vlm)
        shown = {i: prompt for i, prompt in enumerate(prompts) if prompt.vision}
        inputs = collate_prompts(vlm, prompts, vlm.device)
        with seeing(plain, prompts):
            theirs, _ = run_trunk(vlm, **inputs, use_cache=False)
        made = _made(vlm, shown)
        joined = Joined([made[i] for i in shown])
        with _answering(vlm, lambda *args, **kwargs: joined):
            ours, _ = run_trunk(vlm, **inputs, use_cache=False)
    except torch.OutOfMemoryError:
        raise
    except (UserError, *ERRORS) as error:
        raise ValueError(
            f"{type(vlm.core).__name__} can't read them back ({type(error).__name__}: {error})"
        ) from error
    real = inputs["attention_mask"].bool()
    if (far := distance(ours[real].float(), theirs[real].float())) > bound(vlm, 1e-4, 5e-2):
        raise ValueError(f"{type(vlm.core).__name__} gives something else with them (by {far:.2g})")
    if _made_with(vlm, parts_of(vlm.core, vlm.path).language, shown[0]):
        raise ValueError("they are made with weights of its language model")
    return frozenset(joined.read)


def vision_cache(config: EngineConfig, alone: bool = False) -> VisionCache | None:
    """An empty cache of the size that the config gives; None where it gives none. `alone`: for all of a stage."""
    device, host = (int(gb * 2**30) for gb in (config.vision_cache_gb, config.vision_cache_host_gb))
    return VisionCache(device, host, alone) if device else None


def keep_features(vlm: VLM, cache: VisionCache) -> str:
    """Puts the cache in front of a model's vision where that is exact; else the reason why it isn't."""
    vlm.vision = None
    try:
        vlm.vision = CachedVision(vlm, cache)
    except ValueError as error:
        return str(error)
    return ""


def why_not(vlm: VLM) -> str:
    """Why a model's image features can't be kept, as far as can be told without a try; empty where nothing speaks
    against it."""
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


def _made_with(vlm: VLM, module: nn.Module, prompt: EncodedPrompt) -> bool:
    """Whether a module's weights have a part in the features (Chameleon's pictures are tokens with embeddings)."""
    weights = [p for p in module.parameters() if p.is_floating_point() and not p.requires_grad]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        with torch.enable_grad():
            return any(tensor.requires_grad for tensor in _tensors(encode(vlm, [prompt])))
    finally:
        for weight in weights:
            weight.requires_grad_(False)


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
        run_trunk(vlm, **inputs, use_cache=False)
    made = taken[0]
    # some set an attribute on the tower's output that isn't among its items
    fields = {**vars(made), **made} if isinstance(made, dict) else {"pooler_output": made}
    # nothing where a family asks for it is an answer too (Granite Docling without its router)
    return {
        name: value
        for name, value in fields.items()
        if (value is None or _of_tensors(value)) and not name.startswith("_")
    }


@contextlib.contextmanager
def _answering(vlm: VLM, answer: Any) -> Iterator[None]:
    trunk: nn.Module = vlm.core.base_model
    trunk.get_image_features = answer
    try:
        yield
    finally:
        del trunk.get_image_features


def _alike(vlm: VLM, prompts: Mapping[Key, EncodedPrompt]) -> list[list[Key]]:
    """Keys of prompts that have as many features each: one call makes them, to be cut apart.

    Equal shapes are not enough, since tiles may be padded in number; each feature has its placeholder.
    """
    groups: dict[Any, list[Key]] = {}
    for key, prompt in prompts.items():
        shape = tuple((name, tuple(value.shape)) for name, value in sorted(prompt.vision.items()))
        tokens = tuple(int((prompt.input_ids == token).sum()) for token in vlm.placeholder_ids)
        groups.setdefault((shape, tokens), []).append(key)
    return list(groups.values())


def split(features: Features, parts: int) -> list[Features]:
    """The features of a batch of prompts with equally many and equally large images, prompt by prompt; without the
    fields that can't be cut so, which a forward that reads them will miss."""
    cut = {
        name: _split(value, parts, layered=name != "pooler_output")
        for name, value in features.items()
        if _can_be_cut(value, parts, layered=name != "pooler_output")
    }
    return [{name: pieces[i] for name, pieces in cut.items()} for i in range(parts)]


def _can_be_cut(value: Any, parts: int, layered: bool) -> bool:
    if value is None:
        return True
    if layered and not isinstance(value, Tensor):
        return all(_can_be_cut(layer, parts, layered=False) for layer in value)
    return len(value) % parts == 0


def _split(value: Any, parts: int, layered: bool) -> list[Any]:
    if value is None:
        return [None] * parts
    if isinstance(value, Tensor):
        return [piece.clone() for piece in value.chunk(parts)] if parts > 1 else [value]
    if layered:  # a list over layers, each a tensor or a list over images
        by_layer = [_split(layer, parts, layered=False) for layer in value]
        return [[layer[i] for layer in by_layer] for i in range(parts)]
    size = len(value) // parts
    # clones: a view would keep the whole batch in memory
    return [[t.clone() for t in value[i * size : (i + 1) * size]] for i in range(parts)]


def _join(values: Sequence[Any], layered: bool) -> Any:
    if values[0] is None:
        return None
    if isinstance(values[0], Tensor):
        return torch.cat(list(values))
    if layered:
        return [_join(layer, layered=False) for layer in zip(*values, strict=True)]
    return [tensor for value in values for tensor in value]


def _map(value: Any, change: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _map(part, change) for name, part in value.items()}
    return [_map(part, change) for part in value]


def _of_tensors(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return bool(value) and all(_of_tensors(part) for part in value)
    return isinstance(value, Tensor) and value.dim() > 0


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif value is not None:
        for part in value.values() if isinstance(value, dict) else value:
            yield from _tensors(part)
