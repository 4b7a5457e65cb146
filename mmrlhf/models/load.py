"""Loading a vision-language model, and reading from it what its family does in its own way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from jinja2 import TemplateError
from safetensors import SafetensorError
from torch import Tensor

from data_tools.errors import UserError
from mmrlhf.config import ModelConfig
from mmrlhf.file_hashes import check_hashes
from mmrlhf.models.adapter_files import adapter_state
from mmrlhf.models.batch import ERRORS, collate_prompts
from mmrlhf.models.context import read_context
from mmrlhf.models.deadline import TookTooLong, deadline
from mmrlhf.models.model_files import check_files
from mmrlhf.models.parts import add_lora, find_head, freeze
from mmrlhf.models.placeholders import named_placeholders, placeholder_texts
from mmrlhf.models.prefix import differs, most_shared_tokens, why_rows
from mmrlhf.models.probe import check_rows, learn_tokens, probe_prompts
from mmrlhf.models.vlm import VLM, head_logits, pixel_limits, run_trunk

TINY = Path(__file__).parent / "tiny"
TEMPLATE_SECONDS = 20  # a template takes milliseconds
SHUT_OUT = -1e30  # logits below are a mask's


def load_vlm(config: ModelConfig, device: torch.device | str = "cpu", trainable: bool = False) -> VLM:
    """Loads a model directory, a hub id or the bundled "tiny" through transformers' Auto classes.

    Raises:
        UserError: the path is no model directory, not a vision-language model, lacks a chat template, or a file of it
            isn't as it was saved.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    path = str(TINY) if config.path == "tiny" else config.path
    check_files(path)
    check_hashes(Path(path), lambda name: not name.startswith("adapter/"))
    common = {"trust_remote_code": config.trust_remote_code, "local_files_only": Path(path).is_dir()}
    dtype = config.torch_dtype(torch.device(device), full_training=trainable and config.lora is None)
    attention = None if config.attn_implementation == "auto" else config.attn_implementation
    try:
        processor = AutoProcessor.from_pretrained(path, **common)
        model, loading = AutoModelForImageTextToText.from_pretrained(
            path,
            dtype=dtype,
            attn_implementation=attention,
            output_loading_info=True,
            use_safetensors=True,  # nothing is unpickled
            ignore_mismatched_sizes=True,  # they are told below, by name
            **common,
        )
    except torch.OutOfMemoryError:
        raise
    except (
        OSError,
        ImportError,
        SafetensorError,
        StrictDataclassError,
        MemoryError,
        OverflowError,
        *ERRORS,
    ) as error:
        reason = " ".join(str(error).split())  # some are told in a paragraph
        raise UserError(
            f"model {config.path}: transformers can't load it as an image-text-to-text model: {reason}"
        ) from error
    if odd := sorted(loading["mismatched_keys"]):
        name, theirs, ours = odd[0]
        raise UserError(
            f"model {config.path}: {len(odd)} of its weights have another shape than its config says, such as {name} "
            f"({tuple(theirs)}, not {tuple(ours)})"
        )
    if missing := sorted(loading["missing_keys"]):
        # transformers would go on with random numbers in their place
        raise UserError(
            f"model {config.path}: {len(missing)} of its weights are not in its files, such as {missing[0]}"
        )
    _check_kind(model, config.path)
    _check_processor(processor, config.path)
    _check_vocabulary(model, processor, config.path)
    limit_pixels(processor, config)
    model.to(device)
    freeze(model, config if trainable else None, config.path)
    model.eval()  # dropout stays off: old and new log-probs must come from the same function
    vlm = describe(model, processor, config.path)
    learn_tokens(vlm)
    check_rows(vlm)
    check_logits(vlm)
    if trainable and config.lora:
        vlm.model = add_lora(model, config.lora, config.path)
        adapter_state(vlm)  # what can't be read back is told before it is trained
    if trainable and config.gradient_checkpointing:
        # its name until and after transformers 5.22
        enable = (
            getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
        )
        enable({"use_reentrant": False})
        model.enable_input_require_grads()
    vlm.model.eval()
    vlm.rows_because = why_rows(vlm) or differs(vlm)
    vlm.shares_prefix = not vlm.rows_because
    if vlm.shares_prefix:
        vlm.shared_tokens = most_shared_tokens(vlm)
    return vlm


def choose_device(name: str | None = None) -> torch.device:
    """What a command works on: what its --device names, or a GPU where there is one.

    Raises:
        UserError: there is no such device.
    """
    there = torch.cuda.is_available()
    try:
        device = torch.device(name or ("cuda" if there else "cpu"))
    except RuntimeError as error:
        raise UserError(f"--device {name}: {str(error).splitlines()[0]}") from error
    if device.type == "cuda" and not there:
        raise UserError(f"--device {name}: no GPU was found")
    return device


def _check_kind(model: Any, path: str) -> None:
    """Sees that prompt and answer are one row, with a head over words."""
    name = type(model).__name__
    if any(
        getattr(part, "is_encoder_decoder", False) for part in (model.config, model.config.get_text_config())
    ):
        raise UserError(
            f"model {path}: {name} is an encoder-decoder, which reads an answer apart from its prompt; models are "
            "trained here that read both in one row"
        )
    if find_head(model) is None:
        raise UserError(f"model {path}: {name} has no head over its vocabulary, so it has no log-probs")


def _check_processor(processor: Any, path: str) -> None:
    """Sees that there is a processor of words and pictures with a chat template, which may lie with its tokenizer."""
    if missing := [
        name for name in ("tokenizer", "image_processor") if getattr(processor, name, None) is None
    ]:
        raise UserError(
            f"model {path}: its {type(processor).__name__} has no {' and no '.join(missing)}, so prompts with images "
            "can't be prepared for it"
        )
    if not getattr(processor, "chat_template", None):
        processor.chat_template = getattr(processor.tokenizer, "chat_template", None)
    if not processor.chat_template:
        raise UserError(
            f"model {path}: it has no chat template, so prompts can't be written for it; put one beside its weights "
            "as chat_template.jinja"
        )


def _check_vocabulary(model: Any, processor: Any, path: str) -> None:
    """Sees that the model has an embedding for each of the tokenizer's tokens: others' files read an answer as another
    one, or fail in the middle of training."""
    known = max(processor.tokenizer.get_vocab().values(), default=-1) + 1
    rows = model.get_input_embeddings().weight.shape[0]
    if known > rows:
        raise UserError(
            f"model {path}: its tokenizer has {known:,} tokens, but its embedding only {rows:,} rows, so they don't "
            "belong together; put the tokenizer beside the weights that it was trained with"
        )


@torch.no_grad()
def check_logits(vlm: VLM) -> None:
    """Sees on a picture and a few words that the logits we take at answer positions are those that the model itself
    would give, and finds the factor that some families put behind their head. Tokens that the model shuts out by itself
    (Chameleon's pictures) are kept out of sampling too.

    Raises:
        UserError: they are not, or the model has no plain forward; then its log-probs would be of something else.
    """
    inputs = collate_prompts(vlm, probe_prompts(vlm)[:1], vlm.device)
    try:
        own = vlm.core(**inputs, use_cache=False).logits.float()
        hidden, _ = run_trunk(vlm, **inputs, use_cache=False)
        if own.shape[-1] < vlm.head.weight.shape[0]:
            vlm.vocabulary = own.shape[-1]  # Inkling's head has more rows than tokens
            vlm.placeholder_ids = tuple(i for i in vlm.placeholder_ids if i < vlm.vocabulary)
        shut = (own < SHUT_OUT).all(1)[0]
        vlm.placeholder_ids = tuple(sorted({*vlm.placeholder_ids, *shut.nonzero().flatten().tolist()}))
        vlm.pad_id = _padding(vlm.pad_id, vlm.end_id, vlm.placeholder_ids)
        vlm.logit_factor = _logit_factor(vlm, own[..., ~shut], hidden, ~shut)
        far = (own - head_logits(vlm, hidden))[..., ~shut].abs().max().item()
    except torch.OutOfMemoryError:
        raise
    except ERRORS as error:
        raise UserError(
            f"model {vlm.path}: {type(vlm.core).__name__} has no forward of the usual kind ({error}), so it can't be "
            "trained here"
        ) from error
    if not far <= 0.02 * max(1.0, own[..., ~shut].abs().max().item()):
        raise UserError(
            f"model {vlm.path}: {type(vlm.core).__name__} changes its logits in a way that is not known here (they "
            f"differ by {far:.3g}), so log-probs would be wrong"
        )


def _logit_factor(vlm: VLM, own: Tensor, hidden: Tensor, taken: Tensor) -> float:
    """What a family multiplies its head's output with: of the numbers in its config and their inverses, since each
    family calls it by another name, the one that fits best. 1 in most."""
    raw = vlm.head(hidden).float()[..., : vlm.vocabulary][..., taken]
    text = vlm.core.config.get_text_config()
    if cap := getattr(text, "final_logit_softcapping", None):
        own = cap * torch.atanh((own / cap).clamp(-0.999, 0.999))
    fit = ((own * raw).sum() / (raw * raw).sum()).item()
    numbers = [float(n) for n in vars(text).values() if isinstance(n, int | float) and n > 0]
    return min((1.0, *numbers, *(1 / n for n in numbers)), key=lambda number: abs(number - fit))


def _padding(pad_id: int, end_id: int, placeholder_ids: tuple[int, ...]) -> int:
    """What rows are padded with. A picture's token would be read as one, and a token that can't be sampled has a
    log-prob of minus infinity, of which masking makes NaN."""
    return end_id if pad_id in placeholder_ids else pad_id


def limit_pixels(processor: Any, config: ModelConfig) -> None:
    """Sets the smallest and largest area of an image that the config asks for.

    Raises:
        UserError: the family's processor knows no such limits.
    """
    if config.min_pixels is None and config.max_pixels is None:
        return
    limits = pixel_limits(processor)
    if limits is None:
        raise UserError(f"model {config.path}: its image processor takes no min_pixels and max_pixels")
    low, high = config.min_pixels or limits[0], config.max_pixels or limits[1]
    if low > high:
        raise UserError(f"model {config.path}: min_pixels {low} is above max_pixels {high}")
    processor.image_processor.size = {"shortest_edge": low, "longest_edge": high}


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
    reply = [*probe, {"role": "assistant", "content": [{"type": "text", "text": "ANSWER"}]}]
    try:
        with deadline(TEMPLATE_SECONDS):
            prompt = processor.apply_chat_template(probe, add_generation_prompt=True, tokenize=False)
            whole = processor.apply_chat_template(reply, tokenize=False)
    except TookTooLong:
        raise UserError(
            f"model {path}: its chat template takes more than {TEMPLATE_SECONDS} s for a question and its answer"
        ) from None
    except (TemplateError, MemoryError, ArithmeticError, *ERRORS) as error:
        raise UserError(
            f"model {path}: its chat template fails on a question and its answer: {error}"
        ) from error
    if "'type'" in prompt:
        # a template that takes a message for plain text writes out the list of its parts
        raise UserError(
            f"model {path}: its chat template is for text alone, so images can't be placed with it"
        )
    lead, tail = "", ""
    if whole.startswith(prompt):
        lead, _, tail = whole[len(prompt) :].partition("ANSWER")
    # the end token that the template itself writes behind an answer is the one to learn
    written = tokenizer(tail.strip(), add_special_tokens=False)["input_ids"]
    if written and (written[0] in ends or tokenizer.decode(written[0]) in _special_texts(tokenizer)):
        end_id = written[0]
    bos = tokenizer.bos_token
    size = find_head(model).weight.shape[0]
    # what lies outside the head can't be sampled
    placeholders = tuple(sorted(i for i in named_placeholders(model, processor) if i < size))
    return VLM(
        model=model,
        processor=processor,
        path=path,
        pad_id=_padding(pad_id, end_id, placeholders),
        end_id=end_id,
        end_ids=tuple(dict.fromkeys([end_id, *ends])),
        placeholder_ids=placeholders,
        special_tokens=tuple(sorted(_special_texts(tokenizer) | placeholder_texts(processor))),
        answer_lead=lead,
        template_adds_bos=bool(bos and prompt.startswith(bos)),
        window=_window(model),
        context=read_context(model.config),
    )


def _window(model: Any) -> int | None:
    """How many tokens the layer sees that sees least, as transformers' own cache reads it from the config."""
    from transformers import DynamicCache

    try:
        layers = DynamicCache(config=model.config).layers
    except (AttributeError, KeyError, TypeError, ValueError):
        return 0  # nothing is known, so nothing may rest on it
    sizes = [layer.sliding_window for layer in layers if getattr(layer, "sliding_window", None)]
    return min(sizes, default=None)


def _special_texts(tokenizer: Any) -> set[str]:
    """Every special token that text could be read as: those with a name, and the others, such as role markers."""
    added = getattr(tokenizer, "added_tokens_decoder", {}).values()
    return set(tokenizer.all_special_tokens) | {str(token) for token in added if token.special}
