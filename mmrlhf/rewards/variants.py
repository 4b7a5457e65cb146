"""Records that show less than they did, or something else: what a reward is worth that doesn't change, didn't come from
looking.

The prompt's text and the answers stay as they are. A variant is drawn from the seed and the record's own source and id
alone, so it is the same in any order, on any number of processes and in every epoch: its picture's features, once kept,
serve again.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from PIL import Image

from data_tools.images import ImageError, read_image
from data_tools.schema import Message, PreferenceRecord

Kind = Literal["crop", "noise", "swap", "blind"]
KINDS: tuple[Kind, ...] = get_args(Kind)
CROP = (0.05, 0.2)  # share of the area that is left to see; mDPO (Wang et al. 2024) keeps at most a fifth
NOISE = 0.95  # share of the variance that is noise
TRIES = 20
# to which a photo is brought before it is changed, where nothing says how large the model is shown it, and at most
MOST_PIXELS, UPPER_PIXELS = 1_048_576, 4_194_304


@dataclass(frozen=True)
class Variant:
    """A changed record, and the pictures to show in place of its images; None: its images as they are."""

    record: PreferenceRecord
    pictures: tuple[Image.Image, ...] | None = None


def variant(
    record: PreferenceRecord,
    kind: Kind,
    seed: int,
    pool: Sequence[PreferenceRecord] = (),
    most_pixels: int | None = None,
) -> Variant | None:
    """The record with its images changed. Pictures that are made anew are as large as the images that they stand for,
    so that the number of tokens doesn't tell; but what is done to them is done at `most_pixels` (width x height), as
    many as the model is shown at most, or MOST_PIXELS where that is None.

    - crop: a random part, 5 to 20 % of the area, made as large as all of it;
    - noise: sqrt(1 - s) x + sqrt(s) e on pixels x in [-1, 1], e normal, s = 0.95 (a late step of image diffusion);
    - swap: the images (and scenes) of another record of `pool` that shows as many, none of them the same picture;
    - blind: none, and no place for one in the prompt.

    None for a record without images, or to swap where no record of the pool fits.

    Raises:
        ImageError: an image that is to be cropped or noised can't be read; the message names the record.
    """
    if not record.images:
        return None
    rng = random.Random(f"{seed}/{kind}/{record.source}/{record.id}")
    if kind == "blind":
        return Variant(_blind(record))
    if kind == "swap":
        other = _another(rng, record, pool)
        if other is None:
            return None
        return Variant(dataclasses.replace(record, images=other.images, scenes=other.scenes))
    change = _crop if kind == "crop" else _noise
    most = min(most_pixels or MOST_PIXELS, UPPER_PIXELS)
    pictures = []
    for number, ref in enumerate(record.images):
        try:
            image = read_image(ref)
        except ImageError as error:
            raise ImageError(f"record {record.id}, image {number}: {error}") from error
        pictures.append(_enlarge(change(rng, image, most), image.size))
    # what the scenes say can no longer be seen
    return Variant(dataclasses.replace(record, scenes=()), tuple(pictures))


def swap_images(records: Sequence[PreferenceRecord], seed: int) -> list[PreferenceRecord | None]:
    """The `swap` variant of each record with the others as its pool."""
    pools: dict[int, list[PreferenceRecord]] = {}
    for record in records:
        pools.setdefault(len(record.images), []).append(record)
    swapped = [variant(record, "swap", seed, pools[len(record.images)]) for record in records]
    return [None if other is None else other.record for other in swapped]


def _blind(record: PreferenceRecord) -> PreferenceRecord:
    prompt = tuple(
        Message(message.role, tuple(part for part in message.parts if part.image is None))
        for message in record.prompt
    )
    return dataclasses.replace(record, prompt=prompt, images=(), scenes=())


def _another(
    rng: random.Random, record: PreferenceRecord, pool: Sequence[PreferenceRecord]
) -> PreferenceRecord | None:
    own = _pictures(record)

    def fits(other: PreferenceRecord) -> bool:
        return len(other.images) == len(record.images) and not own & _pictures(other)

    if not pool:
        return None
    # most draws fit; only a data set of a few pictures needs the whole search
    for _ in range(TRIES):
        other = pool[rng.randrange(len(pool))]
        if fits(other):
            return other
    rest = [i for i, other in enumerate(pool) if fits(other)]
    return pool[rng.choice(rest)] if rest else None


def _pictures(record: PreferenceRecord) -> set[str]:
    return {image.sha256 or image.path or "" for image in record.images}


def _shrink(image: Image.Image, most_pixels: int) -> Image.Image:
    """The image in its proportions with at most `most_pixels`; itself where it has no more."""
    factor = math.sqrt(most_pixels / (image.width * image.height))
    if factor >= 1:
        return image
    width, height = (max(1, int(side * factor)) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)


def _enlarge(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _crop(rng: random.Random, image: Image.Image, most_pixels: int) -> Image.Image:
    """A part with the image's own proportions, from anywhere in it."""
    side = math.sqrt(rng.uniform(*CROP))
    width, height = (max(1, round(side * size)) for size in image.size)
    left, top = rng.randint(0, image.width - width), rng.randint(0, image.height - height)
    return _shrink(image.crop((left, top, left + width, top + height)), most_pixels)


def _noise(rng: random.Random, image: Image.Image, most_pixels: int) -> Image.Image:
    pixels = np.asarray(_shrink(image, most_pixels), dtype=np.float32) / 127.5 - 1
    noise = np.random.default_rng(rng.getrandbits(64)).standard_normal(pixels.shape, dtype=np.float32)
    mixed = math.sqrt(1 - NOISE) * pixels + math.sqrt(NOISE) * noise
    return Image.fromarray(((mixed + 1) * 127.5).round().clip(0, 255).astype(np.uint8))
