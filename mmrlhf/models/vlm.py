"""A vision-language model of any transformers family: loading it, sampling from it, and its hidden states.

Left out on purpose: a class a family. What differs between families is read from their processor, config and chat
template (`load_vlm`), and pixels are prepared by the family's own code.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from data_tools.errors import UserError
from mmrlhf.config import LoraSettings, ModelConfig
from mmrlhf.models.batch import collate_prompts
from mmrlhf.types import EncodedPrompt, TokenBatch

TINY = Path(__file__).parent / "tiny"
PLACEHOLDER_NAMES = (
    "image_token",
    "video_token",
    "audio_token",
    "fake_image_token",
    "global_image_tag",
    "boi_token",
)


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

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

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
    def has_adapters(self) -> bool:
        """Whether the model is trained through LoRA."""
        return hasattr(self.model, "disable_adapter")

    @contextlib.contextmanager
    def adapters_off(self) -> Iterator[None]:
        """The base model for a while: with LoRA this is the reference."""
        with self.model.disable_adapter():  # type: ignore[operator]
            yield


def load_vlm(config: ModelConfig, device: torch.device | str = "cpu", trainable: bool = False) -> VLM:
    """Loads a model directory, a hub id or the bundled "tiny" through transformers' Auto classes.

    Raises:
        UserError: the path is no model directory, not a vision-language model, or lacks a chat template.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    path = str(TINY) if config.path == "tiny" else config.path
    _check_path(path)
    common = {"trust_remote_code": config.trust_remote_code, "local_files_only": Path(path).is_dir()}
    dtype = config.torch_dtype(torch.device(device), full_training=trainable and config.lora is None)
    try:
        processor = AutoProcessor.from_pretrained(path, **common)
        model, loading = AutoModelForImageTextToText.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=config.attn_implementation,
            output_loading_info=True,
            **common,
        )
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        raise UserError(
            f"model {config.path}: transformers can't load it as an image-text-to-text model: {error}"
        ) from error
    if missing := sorted(loading["missing_keys"]):
        # transformers would go on with random numbers in their place
        raise UserError(
            f"model {config.path}: {len(missing)} of its weights are not in its files, such as {missing[0]}"
        )
    if not getattr(processor, "chat_template", None) and not getattr(
        processor.tokenizer, "chat_template", None
    ):
        raise UserError(f"model {config.path}: it has no chat template, so prompts can't be written for it")
    _limit_pixels(processor, config)
    model.to(device)
    freeze(model, config if trainable else None)
    vlm = describe(model, processor, config.path)
    if trainable and config.lora:
        vlm.model = add_lora(model, config.lora, config.path)
    if trainable and config.gradient_checkpointing:
        # its name until and after transformers 5.22
        enable = (
            getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})
        model.enable_input_require_grads()
    vlm.model.eval()  # dropout stays off: old and new log-probs must come from the same function
    return vlm


def _limit_pixels(processor: Any, config: ModelConfig) -> None:
    """Sets the smallest and largest area of an image that the config asks for.

    Raises:
        UserError: the family's processor knows no such limits.
    """
    if config.min_pixels is None and config.max_pixels is None:
        return
    images = processor.image_processor
    if "max_pixels" not in getattr(getattr(images, "valid_kwargs", None), "__annotations__", {}):
        raise UserError(f"model {config.path}: its image processor takes no min_pixels and max_pixels")
    size = dict(images.size)
    low, high = config.min_pixels or size["shortest_edge"], config.max_pixels or size["longest_edge"]
    if low > high:
        raise UserError(f"model {config.path}: min_pixels {low} is above max_pixels {high}")
    images.size = {"shortest_edge": low, "longest_edge": high}


def _check_path(path: str) -> None:
    folder = Path(path)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"model {path}: the folder has no config.json, so it is no model directory")
    elif folder.exists():
        raise UserError(f"model {path}: is a file; a model is a directory with config.json and *.safetensors")
    elif path.startswith((".", "/", "~")) or path.count("/") != 1:
        raise UserError(f"model {path}: no such directory (nor a hub id of the form owner/name, nor 'tiny')")


def describe(model: Any, processor: Any, path: str) -> VLM:
    """A VLM record around a loaded model and processor: reads the family's tokens and chat template."""
    tokenizer = processor.tokenizer
    ends = model.generation_config.eos_token_id if hasattr(model, "generation_config") else None
    ends = [ends] if isinstance(ends, int) else list(ends or [])
    end_id = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else (ends[0] if ends else None)
    if end_id is None:
        raise UserError(f"model {path}: its tokenizer has no end token, so answers could never end")
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else end_id
    probe = [{"role": "user", "content": [{"type": "text", "text": "Q"}]}]
    prompt = processor.apply_chat_template(probe, add_generation_prompt=True, tokenize=False)
    reply = [*probe, {"role": "assistant", "content": [{"type": "text", "text": "ANSWER"}]}]
    whole = processor.apply_chat_template(reply, tokenize=False)
    lead, tail = "", ""
    if whole.startswith(prompt):
        lead, _, tail = whole[len(prompt) :].partition("ANSWER")
    # the end token that the template itself writes behind an answer is the one to learn
    written = tokenizer(tail.strip(), add_special_tokens=False)["input_ids"]
    if written and (written[0] in ends or tokenizer.decode(written[0]) in tokenizer.all_special_tokens):
        end_id = written[0]
    bos = tokenizer.bos_token
    return VLM(
        model=model,
        processor=processor,
        path=path,
        pad_id=pad_id,
        end_id=end_id,
        end_ids=tuple(dict.fromkeys([end_id, *ends])),
        placeholder_ids=_placeholders(model, processor),
        special_tokens=tuple(sorted(_special_texts(tokenizer) | _placeholder_texts(processor))),
        answer_lead=lead,
        template_adds_bos=bool(bos and prompt.startswith(bos)),
    )


def _special_texts(tokenizer: Any) -> set[str]:
    """Every special token that text could be read as: those with a name, and the others, such as role markers."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return set(tokenizer.all_special_tokens) | {str(token) for token in added if token.special}


def _special_tokens(tokenizer: Any) -> set[str]:
    """All tokens that text must not be able to write, marks of turns included."""
    marks = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return marks | set(tokenizer.all_special_tokens)


def _placeholder_texts(processor: Any) -> set[str]:
    found = [
        getattr(owner, name, None) for owner in (processor, processor.tokenizer) for name in PLACEHOLDER_NAMES
    ]
    return {str(text) for text in found if text}


def _placeholders(model: nn.Module, processor: Any) -> tuple[int, ...]:
    config: Any = model.config
    kinds = ("image_token", "video_token", "audio_token", "vision_start_token", "vision_end_token")
    ids = {getattr(config, f"{kind}_{end}", None) for kind in kinds for end in ("id", "index")}
    ids |= {processor.tokenizer.convert_tokens_to_ids(text) for text in _placeholder_texts(processor)}
    ids.discard(processor.tokenizer.unk_token_id)
    return tuple(sorted(i for i in ids if isinstance(i, int) and i >= 0))


def vision_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The vision tower and the projector of a transformers VLM, by their role, as far as the family has them."""
    trunk: Any = getattr(model, "model", model)
    tower = next((n for n in ("vision_tower", "visual", "vision_model") if hasattr(trunk, n)), None)
    joint = next((n for n in ("multi_modal_projector", "connector", "aligner") if hasattr(trunk, n)), None)
    found = {"tower": tower, "projector": joint}
    modules = {role: getattr(trunk, name) for role, name in found.items() if name}
    if "projector" not in modules and "tower" in modules and hasattr(modules["tower"], "merger"):
        modules["projector"] = modules["tower"].merger  # Qwen's projector lies inside its tower
    return modules


def freeze(model: nn.Module, config: ModelConfig | None) -> None:
    """Marks what is trained: nothing (None), or all but what the config freezes."""
    model.requires_grad_(config is not None)
    if config is None:
        return
    parts = vision_modules(model)
    if "tower" in parts and config.freeze_vision_tower:
        parts["tower"].requires_grad_(False)
    if "projector" in parts:
        parts["projector"].requires_grad_(not config.freeze_projector)


def add_lora(model: nn.Module, lora: LoraSettings, path: str) -> nn.Module:
    """LoRA on the linear layers of the language model (never the vision tower), by their names in this model.

    Raises:
        UserError: `targets` matches no linear layer; the message lists the names there are.
    """
    from peft import LoraConfig, get_peft_model

    vision = {id(m) for part in vision_modules(model).values() for m in part.modules()}
    head: Any = model.get_output_embeddings()  # type: ignore[operator]
    linears = [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear) and id(module) not in vision and module is not head
    ]
    chosen = [name for name in linears if lora.targets is None or name.rsplit(".", 1)[-1] in lora.targets]
    if not chosen:
        known = sorted({name.rsplit(".", 1)[-1] for name in linears})
        raise UserError(
            f"model {path}: lora.targets {lora.targets} names no linear layer; there are {', '.join(known)}"
        )
    config = LoraConfig(r=lora.r, lora_alpha=lora.alpha, lora_dropout=0.0, target_modules=chosen)
    return get_peft_model(model, config)


def hidden_states(vlm: VLM, batch: TokenBatch) -> Tensor:
    """The last layer's hidden states of a batch: (B, T, D)."""
    with _checkpointing(vlm.core):
        return vlm.core.base_model(**batch.inputs, use_cache=False).last_hidden_state


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


def answer_logits(vlm: VLM, hidden_BTD: Tensor, temperature: float = 1.0) -> Tensor:
    """Logits from the hidden states before answer tokens, as sampling sees them: divided by the temperature, and
    minus infinity at image placeholders."""
    logits = vlm.core.get_output_embeddings()(hidden_BTD).float() / temperature
    if vlm.placeholder_ids:
        logits[..., list(vlm.placeholder_ids)] = float("-inf")
    return logits


@torch.no_grad()
def generate(
    vlm: VLM,
    prompts: Sequence[EncodedPrompt],
    max_new_tokens: int,
    temperature: float = 1.0,
    batch_size: int = 64,
) -> list[Tensor]:
    """Samples one answer a prompt (temperature 0: the likeliest tokens); draws from torch's global generator.

    Returns the answers' token ids in the prompts' order, each up to and with its end token, on the CPU. Prompts are
    batched by length. Image placeholders are never sampled.
    """
    order = sorted(range(len(prompts)), key=lambda i: len(prompts[i].input_ids))
    answers: dict[int, Tensor] = {}
    with _sampling(vlm, max_new_tokens, temperature):
        for start in range(0, len(order), batch_size):
            part = order[start : start + batch_size]
            inputs = collate_prompts(vlm, [prompts[i] for i in part], vlm.device)
            out = vlm.model.generate(**inputs)  # type: ignore[operator]
            for i, ids in zip(part, out[:, inputs["input_ids"].shape[1] :].cpu(), strict=True):
                answers[i] = _until_end(ids, vlm)
    return [answers[i] for i in range(len(prompts))]


@contextlib.contextmanager
def _sampling(vlm: VLM, max_new_tokens: int, temperature: float) -> Iterator[None]:
    """Plain sampling for a while. A checkpoint's own settings (top-k, repetition penalty) would draw from another
    distribution than the one whose log-probs training takes."""
    from transformers import GenerationConfig

    own = vlm.core.generation_config
    drawn = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    vlm.core.generation_config = GenerationConfig(
        max_new_tokens=max_new_tokens,
        suppress_tokens=list(vlm.placeholder_ids) or None,
        eos_token_id=list(vlm.end_ids),
        pad_token_id=vlm.pad_id,
        **(drawn if temperature > 0 else {"do_sample": False}),
    )
    try:
        yield
    finally:
        vlm.core.generation_config = own


def _until_end(ids: Tensor, vlm: VLM) -> Tensor:
    ends = torch.isin(ids, torch.tensor(vlm.end_ids)).nonzero()
    return ids[: int(ends[0]) + 1] if len(ends) else ids


def decode(vlm: VLM, ids: Tensor) -> str:
    """An answer's tokens as text, without special tokens."""
    return vlm.tokenizer.decode(ids, skip_special_tokens=True).strip()


def save_vlm(vlm: VLM, directory: Path) -> None:
    """Saves for plain transformers: the model, with adapters merged into a copy of the weights they change, and the
    processor; with LoRA the adapter too, in `adapter/`, for plain peft."""
    directory.mkdir(parents=True, exist_ok=True)
    if vlm.has_adapters:
        vlm.model.save_pretrained(directory / "adapter")  # type: ignore[operator]
        vlm.core.save_pretrained(directory, state_dict=merged_state(vlm))
    else:
        vlm.core.save_pretrained(directory)
    vlm.processor.save_pretrained(directory)


def merged_state(vlm: VLM) -> dict[str, Tensor]:
    """The base model's state with its adapters merged in; the model itself stays as it is (merging in place and
    undoing it would shift the reference by rounding)."""
    from peft.tuners.lora import LoraLayer

    state = {}
    changed = {f"{n}.weight": m for n, m in vlm.core.named_modules() if isinstance(m, LoraLayer)}
    for name, value in vlm.core.state_dict().items():
        if ".lora_" in name:
            continue
        name = name.replace(".base_layer.", ".")
        layer = changed.get(name)
        state[name] = value if layer is None else value + layer.get_delta_weight("default").to(value.dtype)
    return state
