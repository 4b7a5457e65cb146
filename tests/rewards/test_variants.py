"""Degraded images: what each kind shows, and that only seed and record decide it."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from data_tools.images import ImageError
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response, user
from mmrlhf.rewards.variants import KINDS, Kind, Variant, variant

SIZE = (40, 20)


def gradient(tone: int = 0) -> ImageRef:
    """A picture whose red grows by 6 a column and whose green by 12 a row; blue is `tone`."""
    pixels = np.zeros((SIZE[1], SIZE[0], 3), dtype=np.uint8)
    pixels[..., 0] = 6 * np.arange(SIZE[0])
    pixels[..., 1] = 12 * np.arange(SIZE[1])[:, None]
    pixels[..., 2] = tone
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return ImageRef.of_bytes(buffer.getvalue())


def record(number: int, images: int = 1, source: str = "pictures") -> PreferenceRecord:
    return PreferenceRecord(
        id=f"r{number}",
        source=source,
        prompt=(user("Look: ", *range(images), " what is it?"),),
        responses=(Response("A cat."), Response("A dog.")),
        images=tuple(gradient(10 * number + place) for place in range(images)),
        comparisons=(Comparison("factuality", better=0, worse=1),),
        scenes=tuple({"tone": 10 * number + place} for place in range(images)),
    )


def pixels(of: Variant) -> np.ndarray:
    assert of.pictures is not None
    return np.asarray(of.pictures[0], dtype=np.float64)


def seen(of: Variant) -> object:
    """What tells one variant from another."""
    return [picture.tobytes() for picture in of.pictures] if of.pictures else of.record.images


@pytest.mark.parametrize("kind", KINDS)
def test_a_variant_is_a_function_of_seed_and_record(kind: Kind) -> None:
    pool = [record(number) for number in range(6)]
    first, again = variant(pool[2], kind, 7, pool), variant(pool[2], kind, 7, pool)
    assert first is not None
    assert again is not None
    assert (first.record, seen(first)) == (again.record, seen(again))
    changed = first.record
    assert (changed.id, changed.responses, changed.comparisons) == (
        "r2",
        pool[2].responses,
        pool[2].comparisons,
    )
    assert changed.prompt[0].text == "Look:  what is it?"
    assert seen(first) != pool[2].images
    if kind != "blind":
        others = [variant(pool[2], kind, seed, pool) for seed in range(8, 20)]
        assert any(other is not None and seen(other) != seen(first) for other in others)


@pytest.mark.parametrize("kind", ["crop", "noise"])
def test_records_of_one_name_in_two_sources_are_changed_apart(kind: Kind) -> None:
    one, other = (variant(record(1, source=name), kind, 0) for name in ("a", "b"))
    assert one is not None
    assert other is not None
    assert seen(one) != seen(other)


def test_a_crop_shows_a_small_part_at_the_old_size() -> None:
    """The picture grows by 6 a column and 12 a row: a crop of a share s of the area spans sqrt(s) of both ranges."""
    for number in range(20):
        cropped = variant(record(number), "crop", 0)
        assert cropped is not None
        assert cropped.record.scenes == ()
        found = pixels(cropped)
        assert found.shape == (20, 40, 3)
        wide = (np.ptp(found[..., 0]) / 6 + 1) / 40
        high = (np.ptp(found[..., 1]) / 12 + 1) / 20
        assert 0.15 < wide < 0.5
        assert 0.15 < high < 0.5
        assert (found[..., 2] == 10 * number).all()


def test_noise_has_the_variance_that_is_stated() -> None:
    """On a flat picture of x = 1 (white): mean sqrt(0.05) = 0.2236, deviation sqrt(0.95) = 0.9747, both before what
    lies outside [-1, 1] is cut off; below the mean by less than one deviation, 0.2236 - 0.9747 = -0.751, nothing is."""
    buffer = io.BytesIO()
    Image.new("RGB", (100, 100), "white").save(buffer, "PNG")
    white = dataclasses.replace(record(0), images=(ImageRef.of_bytes(buffer.getvalue()),), scenes=())
    noised = variant(white, "noise", 0)
    assert noised is not None
    found = pixels(noised) / 127.5 - 1
    assert np.median(found) == pytest.approx(0.2236, abs=0.03)
    assert np.quantile(found, 0.158655) == pytest.approx(-0.751, abs=0.03)  # one deviation below


@pytest.mark.parametrize("kind", ["crop", "noise"])
@pytest.mark.parametrize("shown", [None, 401_408])
def test_a_changed_photo_is_as_large_as_it_was(kind: Kind, shown: int | None) -> None:
    """So that it takes as many tokens in every family. 24 megapixels of noise would be 60 MB as PNG: more than a reader
    of images takes, so it isn't made a file."""
    buffer = io.BytesIO()
    Image.new("RGB", (5712, 4284), "teal").save(buffer, "JPEG")
    photo = dataclasses.replace(record(0), images=(ImageRef.of_bytes(buffer.getvalue()),), scenes=())
    changed = variant(photo, kind, 0, most_pixels=shown)
    assert changed is not None
    assert changed.pictures is not None
    assert changed.pictures[0].size == (5712, 4284)


def test_a_swap_shows_as_many_images_of_another_record() -> None:
    pool = [record(0), record(1, images=2), record(2), record(3, images=2)]
    swapped = variant(pool[1], "swap", 0, pool)
    assert swapped is not None
    assert (swapped.record.images, swapped.record.scenes) == (pool[3].images, pool[3].scenes)
    assert variant(pool[1], "swap", 0, pool[:3]) is None
    assert variant(pool[1], "swap", 0) is None


def test_blind_has_no_place_for_an_image() -> None:
    hidden = variant(record(0, images=2), "blind", 0)
    assert hidden is not None
    blind = hidden.record
    assert (blind.images, blind.scenes, blind.modality) == ((), (), "text")
    assert [part.text for part in blind.prompt[0].parts] == ["Look: ", " what is it?"]


@pytest.mark.parametrize("kind", KINDS)
def test_text_has_no_variant(kind: Kind) -> None:
    assert variant(record(0, images=0), kind, 0, [record(1)]) is None


def test_a_damaged_image_is_named() -> None:
    broken = dataclasses.replace(record(4), images=(ImageRef.of_bytes(b"\x89PNG nothing"),))
    with pytest.raises(ImageError, match="record r4, image 0: not a readable"):
        variant(broken, "crop", 0)
