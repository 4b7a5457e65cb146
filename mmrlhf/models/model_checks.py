"""What can be known of a model before it is loaded: its kind, its context, the pictures that it takes and the layers
that adapters can go on. No weights are read."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError

from data_tools.errors import UserError
from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import ERRORS
from mmrlhf.models.context import read_context
from mmrlhf.models.load import TINY, limit_pixels
from mmrlhf.models.model_files import check_files
from mmrlhf.models.parts import adapted_layers


def check_model(config: ModelConfig) -> int | None:
    """Sees that there is a model of a kind that can be trained here, which the settings suit; gives back how many
    tokens it reads, None where it doesn't tell.

    Raises:
        UserError: there is none, or a setting isn't for such a model.
    """
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, AutoConfig

    path = str(TINY) if config.path == "tiny" else config.path
    check_files(path)
    try:
        settings = AutoConfig.from_pretrained(path, **_common(config, path))
    except (OSError, ImportError, StrictDataclassError, *ERRORS) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model {config.path}: transformers can't read its config: {reason}") from error
    if not config.trust_remote_code and type(settings) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise UserError(
            f"model {config.path}: is of type {settings.model_type}, of which transformers has no image-text-to-text "
            "model; name a vision-language model"
        )
    _check_pixels(config, path)
    _check_adapters(config, settings)
    return read_context(settings)


def _common(config: ModelConfig, path: str) -> dict[str, Any]:
    return {"trust_remote_code": config.trust_remote_code, "local_files_only": Path(path).is_dir()}


def _check_pixels(config: ModelConfig, path: str) -> None:
    """Sees that the processor takes the limits of images that the config sets."""
    from transformers import AutoProcessor

    if config.min_pixels is None and config.max_pixels is None:
        return
    try:
        processor = AutoProcessor.from_pretrained(path, **_common(config, path))
    except (OSError, ImportError, *ERRORS) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"model {config.path}: transformers can't load its processor: {reason}") from error
    limit_pixels(processor, config)


def _check_adapters(config: ModelConfig, settings: Any) -> None:
    """Sees that the model has the layers that LoRA is asked to go on. Every language model has some, so that what isn't
    asked for by name, nor in other parts, needs no look."""
    from transformers import AutoModelForImageTextToText

    lora = config.lora
    if lora is None or (lora.targets is None and lora.parts == ["language"]):
        return
    try:
        with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.device("meta"):
            warnings.simplefilter("ignore")
            model = AutoModelForImageTextToText.from_config(
                settings, trust_remote_code=config.trust_remote_code
            )
    except (ImportError, NotImplementedError, *ERRORS):
        return  # one that can't be laid out without its weights; `add_lora` tells the same once they are there
    adapted_layers(model, lora, config.path)
