"""CLIPScore: 2.5 max(cos(image, text), 0), in CLIP's common space of images and texts.

Hessel et al. 2021, "CLIPScore: a reference-free evaluation metric for image captioning". As there the text stands
behind "A photo depicts"; of several images we take the mean of their scores. It judges whether a short caption fits a
picture as a whole. It counts badly, doesn't see who does what to whom, and reads the first 77 tokens or so.
"""

from __future__ import annotations

import functools
import pickle
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator, model_validator

from data_tools.config import PathText, expand_paths
from data_tools.errors import UserError
from data_tools.images import read_image
from data_tools.schema import ImageRef, PreferenceRecord
from mmrlhf.rewards.objectives.base import ObjectiveBase, Values
from mmrlhf.terminal import console

if TYPE_CHECKING:
    from torch import Tensor

SCALE = 2.5
DEFAULT = "laion2b_s34b_b79k"  # weights


class ClipScore(ObjectiveBase):
    """How well an answer describes the picture, by CLIP; doesn't apply to prompts without one."""

    type: Literal["clip_score"] = "clip_score"
    model: str = Field(
        "ViT-B-32", description="a model of open_clip, or hf-hub:owner/name, or local-dir:folder"
    )
    pretrained: PathText | None = Field(
        DEFAULT,
        description="its weights: a tag that open_clip knows (it downloads them), or a file; hf-hub: and local-dir: "
        "bring their own",
    )
    prefix: str = Field("A photo depicts ", description="what stands in front of the answer")
    batch_size: int = Field(64, ge=1, description="images or texts of one forward")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: the GPU, where there is one")

    @field_validator("model")
    @classmethod
    def _expand_folder(cls, value: str) -> str:
        kind, local, folder = value.partition("local-dir:")
        return f"{local}{expand_paths(folder)}" if local and not kind else value

    @model_validator(mode="after")
    def _weights_are_read(self) -> ClipScore:
        if ":" in self.model and self.pretrained not in (None, DEFAULT):
            raise ValueError(
                f"pretrained: does nothing, since {self.model} brings its own weights; leave it out, or name a model "
                "of open_clip"
            )
        return self

    @property
    def needs(self) -> str:
        return "an image"

    def applies(self, record: PreferenceRecord) -> bool:
        return bool(record.images)

    def check(self) -> None:
        self._load("cpu")

    def open(self) -> None:
        _ = self._clip

    def values(self, records: Sequence[PreferenceRecord], texts: Sequence[str]) -> Values:
        import torch

        shown = [i for i, record in enumerate(records) if record.images]
        found: list[float | None] = [None] * len(records)
        if not shown:
            return found
        refs = {_key(ref): ref for i in shown for ref in records[i].images}
        places = {key: place for place, key in enumerate(refs)}
        # a trainer's autocast would give other numbers in training than in the evaluation
        with torch.no_grad(), torch.autocast(self._device.type, enabled=False):
            images_ND = self._images(list(refs.values()))
            texts_BD = self._texts([self.prefix + texts[i] for i in shown])
            for i, text_D in zip(shown, texts_BD, strict=True):
                own = [places[_key(ref)] for ref in records[i].images]
                found[i] = float((SCALE * (images_ND[own] @ text_D).clamp(min=0)).mean())
        return found

    def _images(self, refs: Sequence[ImageRef]) -> Tensor:
        import torch

        model, preprocess, _ = self._clip
        parts = []
        for start in range(0, len(refs), self.batch_size):
            pixels = torch.stack(
                [preprocess(read_image(ref)) for ref in refs[start : start + self.batch_size]]
            )
            parts.append(model.encode_image(pixels.to(self._device), normalize=True).float().cpu())
        return torch.cat(parts)

    def _texts(self, texts: Sequence[str]) -> Tensor:
        import torch

        model, _, tokenizer = self._clip
        parts = []
        for start in range(0, len(texts), self.batch_size):
            part = list(texts[start : start + self.batch_size])
            tokens = tokenizer(part)
            self._tell_cut(part, tokens)
            parts.append(model.encode_text(tokens.to(self._device), normalize=True).float().cpu())
        return torch.cat(parts)

    def _tell_cut(self, texts: list[str], tokens: Tensor) -> None:
        """Tells, once, that a text is longer than the model reads. Tokenizers cut without a word, and put the end token
        in the last place: with one place more something else stands there."""
        _, _, tokenizer = self._clip
        size = tokens.shape[1]
        cut = (tokenizer(texts, context_length=size + 1)[:, :size] != tokens).any(1)
        if cut.any() and not self._told:
            self._told.append(True)
            console.print(
                f"objective {self.name}: an answer is longer than the {size} tokens that {self.model} reads; what "
                "stands behind them doesn't count (told once)",
                style="yellow",
                markup=False,
            )

    @functools.cached_property
    def _told(self) -> list[bool]:
        return []

    @functools.cached_property
    def _device(self) -> Any:
        import torch

        return torch.device(
            ("cuda" if torch.cuda.is_available() else "cpu") if self.device == "auto" else self.device
        )

    @functools.cached_property
    def _clip(self) -> tuple[Any, Any, Any]:
        return self._load(self._device)

    def _load(self, device: Any) -> tuple[Any, Any, Any]:
        """Model, image transform and tokenizer.

        Raises:
            UserError: they can't be loaded.
        """
        import open_clip
        import torch
        from safetensors import SafetensorError

        pretrained = None if ":" in self.model else self.pretrained
        try:
            # new weights are drawn before the file's are read; a run's own draws mustn't depend on that
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.filterwarnings(
                    "error", "QuickGELU mismatch"
                )  # it would score with the wrong function
                model, preprocess = open_clip.create_model_from_pretrained(
                    self.model, pretrained, device=device
                )
                tokenizer = open_clip.get_tokenizer(self.model)
        except (
            RuntimeError,
            OSError,
            ValueError,
            KeyError,
            SafetensorError,
            pickle.UnpicklingError,
            UserWarning,
        ) as error:
            raise UserError(
                f"objective {self.name}: {self.model} with the weights {pretrained or 'beside it'} can't be loaded: "
                f"{error}"
            ) from error
        return model.eval().requires_grad_(False), preprocess, tokenizer


def _key(ref: ImageRef) -> str:
    """The same for the same picture, which is encoded once."""
    return ref.sha256 or ref.path or str(id(ref))
