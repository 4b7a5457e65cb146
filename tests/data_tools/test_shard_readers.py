"""Other programs read our shards: every record is there, with every image."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sample_records import image_record, png, text_record

from data_tools.schema import ImageRef, PreferenceRecord, user
from data_tools.shards import write_shards


def color(number: int) -> tuple[int, int, int]:
    return (number, 10, 20)


def three_images(number: int) -> PreferenceRecord:
    """A record with one to three images, whose colours tell which record's they are."""
    count = 1 + number % 3
    return image_record(
        number,
        prompt=(user(*range(count), "What is it?"),),
        images=tuple(ImageRef.of_bytes(png(color(number * 3 + k))) for k in range(count)),
        scenes=(),
    )


@pytest.fixture
def shards(tmp_path: Path) -> dict[str, list[str]]:
    """The paths of several shards of each modality, three records each but for the last."""
    records = [make(number) for number in range(8) for make in (text_record, three_images)]
    infos = write_shards(records, tmp_path / "d", max_records=3)
    return {
        modality: [str(tmp_path / "d" / info.name) for info in infos if info.modality == modality]
        for modality in ("text", "image-text")
    }


# that library leaves closing the tar to the garbage collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_webdataset_decodes_every_image(shards: dict[str, list[str]]) -> None:
    import webdataset
    from torch.utils.data import DataLoader

    for modality, make in (("text", "t"), ("image-text", "i")):
        assert len(shards[modality]) == 3
        data = webdataset.WebDataset(shards[modality], shardshuffle=False).decode("pil")
        samples: list[dict[str, Any]] = list(DataLoader(data, batch_size=None, num_workers=0))
        assert [sample["json"]["id"] for sample in samples] == [f"{make}{k}" for k in range(8)]
        for number, sample in enumerate(samples):
            images = sorted(name for name in sample if name.endswith(".png"))
            assert images == [f"{k}.png" for k in range(1 + number % 3 if modality == "image-text" else 0)]
            for k, name in enumerate(images):
                assert sample[name].getpixel((0, 0)) == color(number * 3 + k)


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """`datasets.load_dataset` of shards, without the network."""
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def read(paths: list[str], features: Any = None) -> Any:
        cache = tempfile.mkdtemp(dir=tmp_path)
        return datasets.load_dataset(
            "webdataset", data_files=paths, split="train", features=features, cache_dir=cache
        )

    return read


def test_datasets_reads_every_record(shards: dict[str, list[str]], load: Callable[..., Any]) -> None:
    rows = list(load(shards["text"]))
    assert [row["json"]["id"] for row in rows] == [f"t{k}" for k in range(8)]
    assert rows[7]["json"]["comparisons"][0]["objective"] == "helpfulness"


def test_datasets_reads_every_image(tmp_path: Path, load: Callable[..., Any]) -> None:
    records = [
        image_record(
            k, prompt=(user(0, "What?"),), images=(ImageRef.of_bytes(png(color(k))),), scenes=({"a": k},)
        )
        for k in range(8)
    ]
    infos = write_shards(records, tmp_path / "e", max_records=3)
    rows = list(load([str(tmp_path / "e" / info.name) for info in infos]))
    assert [row["json"]["id"] for row in rows] == [f"i{k}" for k in range(8)]
    assert [row["0.png"].getpixel((0, 0)) for row in rows] == [color(k) for k in range(8)]


def test_datasets_reads_numbers_of_images_that_differ_if_told(
    shards: dict[str, list[str]], load: Callable[..., Any]
) -> None:
    """It takes the columns from the first five records and asks that they are alike, unless it is told them."""
    import datasets

    names = {f"{k}.png": datasets.Image() for k in range(3)}
    features = datasets.Features(
        {"__key__": datasets.Value("string"), "json": {"id": datasets.Value("string")}}
    )
    rows = list(load(shards["image-text"], datasets.Features({**features, **names})))
    assert [row["json"]["id"] for row in rows] == [f"i{k}" for k in range(8)]
    for number, row in enumerate(rows):
        found = [row[name].getpixel((0, 0)) for name in names if row[name] is not None]
        assert found == [color(number * 3 + k) for k in range(1 + number % 3)]
