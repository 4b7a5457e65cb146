"""Hazards 18 to 28: ways in which preference data get lost or wrong, each through the commands that a user would run.

Where another reader at hand fails, the test shows that first. More about each is tested in tests/data_tools:

    18  test_shards.py (modalities never share a tar), test_rows_tar.py
    19  test_rows_tar.py (a tar cut anywhere), test_shards.py (ours, cut anywhere), test_fuzz_convert.py
    20  test_rows_tar.py (keys in two places, unsafe names), test_shards.py (what breaks the format)
    21  test_images.py (each format and mode), test_fuzz_convert.py (damaged ones)
    22  test_dedup.py, test_audit_copies.py, test_remedies.py
    23  adapters/test_ratings.py, adapters/test_text_preferences.py
    24  adapters/test_ratings.py
    25  test_mixture.py, test_solver.py
    26  test_build_steps.py (ten kills), test_shards.py (a full disk)
    27  test_rows_tar.py (every suffix that can hold a pickle), test_shards.py (links)
    28  test_splits.py, test_audit_copies.py, test_remedies.py
"""

import io
import json
import os
import pickle
import signal
import struct
import subprocess
import sys
import tarfile
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from PIL import Image, ImageFile, ImageOps
from typer.testing import CliRunner

from data_tools.balance.mixture import Label, Layout, Mixture
from data_tools.cli import app
from data_tools.images import decode_image
from data_tools.manifest import read_manifest
from data_tools.schema import PreferenceRecord
from data_tools.shards import open_records
from data_tools.tar import scan

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "data_tools"))

from sample_records import pixel, png  # noqa: E402 (beside the tests of the data tools)
from tar_files import tar_bytes  # noqa: E402


def run(*arguments: object) -> Result:
    """`mmrlhf data ...`, as a user runs it."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def told(*arguments: object) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, (done.output, done.exception)
    return done.output


def converted(path: Path, out: Path, form: str = "trl", most: float = 0.9) -> str:
    return told("convert", "--from", form, path, "-o", out, "--max-rejected", most, "--workers", 1)


def lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def built(folder: Path, sources: list[dict[str, Any]], **more: Any) -> Path:
    (folder / "c.yaml").write_text(yaml.safe_dump({"sources": sources, **more}))
    told("build", folder / "c.yaml", "-o", folder / "built", "--workers", 1, "--overwrite")
    return folder / "built"


def kept(out: Path) -> dict[str, PreferenceRecord]:
    splits = dict.fromkeys(shard.split for shard in read_manifest(out).shards)
    return {record.id: record for split in splits for record in open_records(out, split, verify=True)}


def codes(out: Path) -> Counter[str]:
    return Counter(row["code"] for row in quarantined(out))


def quarantined(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "quarantine" / "rows.jsonl").read_text().splitlines()]


def pair(prompt: str, **more: Any) -> dict[str, Any]:
    return {"prompt": prompt, "chosen": "yes", "rejected": "no", **more}


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def samples(path: Path, handler: Any) -> list[dict[str, Any]]:
    """What `webdataset` makes of a tar; it leaves files open that it opens itself."""
    from webdataset import tariterators

    with open(path, "rb") as stream:
        members = tariterators.tar_file_expander([{"url": str(path), "stream": stream}], handler=handler)
        return list(tariterators.group_by_keys(members, handler=handler))


@pytest.mark.parametrize("first", ["text", "image"])
def test_hazard_18_rows_with_and_without_images_in_one_tar(first: str, tmp_path: Path) -> None:
    """`datasets` drops all images where the first rows have none, and refuses the tar where some have."""
    import datasets

    texts = [(f"t{n}.json", json.dumps(pair(f"q{n}"))) for n in range(6)]
    images = []
    for n in range(2):
        images += [(f"i{n}.json", json.dumps(pair(f"p{n}"))), (f"i{n}.png", png((n, 0, 0)))]
    (tmp_path / "x.tar").write_bytes(tar_bytes([*texts, *images] if first == "text" else [*images, *texts]))
    files, cache = str(tmp_path / "x.tar"), str(tmp_path / "cache")
    if first == "text":
        theirs = datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=cache)
        assert (len(theirs), "png" in theirs.column_names) == (8, False)
    else:
        with pytest.raises(ValueError, match="don't share the same prefix or the same types"):
            datasets.load_dataset("webdataset", data_files=files, split="train", cache_dir=cache)
    assert "rows of trl: 8 in + 0 quarantined = 8 read" in converted(tmp_path / "x.tar", tmp_path / "d")
    records = kept(tmp_path / "d")
    shown = {
        name: [image.data for image in record.images] for name, record in records.items() if record.images
    }
    assert shown == {"trl-x.tar:i0": [png((0, 0, 0))], "trl-x.tar:i1": [png((1, 0, 0))]}
    assert len(records) == 8
    for shard in read_manifest(tmp_path / "d").shards:
        kinds = {member.name.rpartition(".")[2] for member in scan(tmp_path / "d" / shard.name)}
        assert kinds == ({"json"} if shard.modality == "text" else {"json", "png"})


def test_hazard_19_a_tar_cut_short_gives_no_partial_pair(tmp_path: Path) -> None:
    """`webdataset`, told to go on after errors, gives the second sample without its `rejected`."""
    import webdataset

    whole = tar_bytes(
        [
            (f"{n}.{suffix}", content)
            for n in range(2)
            for suffix, content in (
                ("prompt.txt", f"q{n}"),
                ("chosen.txt", "yes"),
                ("rejected.txt", "no" * 300),
            )
        ]
    )
    cut = whole[: 512 * 13]  # in the last member's content
    (tmp_path / "x.tar").write_bytes(cut)
    theirs = samples(tmp_path / "x.tar", webdataset.ignore_and_continue)
    assert [("chosen.txt" in sample, "rejected.txt" in sample) for sample in theirs] == [
        (True, True),
        (True, False),
    ]
    # one row for the sample, and one for what may have come behind it
    assert "rows of trl: 1 in + 2 quarantined = 3 read" in converted(tmp_path / "x.tar", tmp_path / "d")
    assert list(kept(tmp_path / "d")) == ["trl-x.tar:0"]
    reasons = {row["where"]: row["reason"] for row in quarantined(tmp_path / "d")}
    assert reasons["x.tar:1"] == "the archive is cut short in this sample"
    (shard,) = (tmp_path / "d").glob("*.tar")
    shard.write_bytes(shard.read_bytes()[:-1024])  # and of ours, nothing is read that is cut
    assert run("check", tmp_path / "d").exit_code == 1
    assert "truncated" in str(run("stats", tmp_path / "d").exception)


def test_hazard_20_keys_in_two_places_and_keys_that_lead_out(tmp_path: Path) -> None:
    """`webdataset` makes two samples of the first, and hands the second on as it is."""
    import webdataset

    good = [(f"b{n}.json", json.dumps(pair(f"q{n}"))) for n in range(2)]
    torn = [("a.json", json.dumps(pair("look"))), *good, ("a.png", png())]
    (tmp_path / "x.tar").write_bytes(tar_bytes([*torn, ("../../etc/x.json", json.dumps(pair("out")))]))
    theirs = [sample["__key__"] for sample in samples(tmp_path / "x.tar", webdataset.reraise_exception)]
    assert theirs == ["a", "b0", "b1", "a", "../../etc/x"]
    assert "rows of trl: 2 in + 2 quarantined = 4 read" in converted(tmp_path / "x.tar", tmp_path / "d")
    assert {row["where"]: row["reason"] for row in quarantined(tmp_path / "d")} == {
        "x.tar:a": "its members aren't side by side",
        "x.tar:../../etc/x.json": "a member's name leads out of its folder, or is no plain text",
    }
    names = [m.name for shard in (tmp_path / "d").glob("*.tar") for m in scan(shard)]
    assert names == ["00000-00000000.json", "00000-00000001.json"]  # keys of our own


def _bomb() -> bytes:
    """400 megapixels of one bit in 48 KB."""
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", 20000, 20000, 1, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(bytes(2501 * 20000), 9)),
        (b"IEND", b""),
    )
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def test_hazard_21_images_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A JPEG cut in half is accepted with grey rows by programs that set Pillow's switch, as some libraries do."""
    turned = Image.Exif()
    turned[0x0112] = 6  # to be turned by a quarter
    wide = Image.new("RGB", (8, 4), (250, 0, 0))
    wide.paste((0, 0, 250), (4, 0, 8, 4))
    palette = Image.new("P", (4, 4), 1)
    palette.putpalette([0, 0, 0, 10, 20, 30])
    noise = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), "JPEG")
    images = {
        "cmyk": encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95),
        "palette": encoded(palette, "PNG"),
        "deep": encoded(Image.fromarray(__import__("numpy").full((4, 4), 0x8080, "uint16")), "PNG"),
        "alpha": encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 0)), "PNG"),
        "moving": encoded(
            Image.new("RGB", (4, 4), (255, 0, 0)),
            "GIF",
            save_all=True,
            append_images=[Image.new("RGB", (4, 4), (0, 0, 255))],
        ),
        "turned": encoded(wide, "JPEG", exif=turned, quality=95),
        "bomb": _bomb(),
        "cut": noise[: len(noise) // 2],
    }
    assert len(images["bomb"]) < 49_000
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with Image.open(io.BytesIO(images["cut"])) as half:
        half.load()
        assert half.getpixel((60, 63)) == (128, 128, 128)
    for name, data in images.items():
        (tmp_path / name).write_bytes(data)
    rows = lines(tmp_path / "x.jsonl", [pair(name, images=[name]) for name in images])
    assert "rows of trl: 6 in + 2 quarantined = 8 read" in converted(rows, tmp_path / "d")
    kinds = {row["row"]["prompt"]: row["code"] for row in quarantined(tmp_path / "d")}
    assert kinds == {"bomb": "image-size", "cut": "image-truncated"}
    held = {row["row"]["prompt"]: row["image"] for row in quarantined(tmp_path / "d")}
    assert held["bomb"].startswith("images/image-size/")
    assert (tmp_path / "d" / "quarantine" / held["cut"]).read_bytes() == images["cut"]
    shown = {}
    for record in kept(tmp_path / "d").values():
        (image,) = record.images
        shown[record.prompt[0].text] = decode_image(image.data or b"")
        if record.prompt[0].text == "moving":
            assert image.notes == ("animated: its first frame is used",)
    seen = {name: pixel(image, 1, 1) for name, image in shown.items()}
    assert seen["palette"] == (10, 20, 30)
    assert seen["deep"] == (128, 128, 128)
    assert seen["alpha"] == (255, 255, 255)
    assert seen["moving"] == (255, 0, 0)
    assert seen["cmyk"][0] > 240
    assert max(seen["cmyk"][1:]) < 15
    assert shown["turned"].size == (4, 8)
    assert pixel(shown["turned"], 1, 1)[0] > 200


def test_hazard_22_text_only_rows_are_no_copies_of_one_another(tmp_path: Path) -> None:
    """Hashing "no image" as an image would keep one of them."""
    subjects = ["a ship at sea", "tax forms", "how bees dance", "the moon", "bread without yeast"]
    rows: list[dict[str, Any]] = [pair(f"Tell me about {subject}, please.") for subject in subjects]
    rows += [pair("Tell me about tax forms, please."), pair("Look.", images=["a.png"])]
    (tmp_path / "a.png").write_bytes(png())
    path = lines(tmp_path / "x.jsonl", rows)
    source = {"type": "trl", "name": "t", "path": str(path), "splits": {"train": 1.0}}
    out = built(tmp_path, [source], remedies=[{"type": "near_copies"}])
    assert sorted(kept(out)) == [f"t-x.jsonl:{n}" for n in (1, 2, 3, 4, 5, 7)]
    extra = read_manifest(out).extra
    assert extra["duplicates"] == {"t": 1}
    assert extra["filtered"] == {}


def test_hazard_23_equal_ratings_same_answers_and_ratings_that_are_no_number(tmp_path: Path) -> None:
    said = ["4", "4", "N/A", "five", "4.0", 4.5, None, "9"]
    completions = [
        {"response": f"answer {n}", "annotations": {"honesty": {"Rating": rating}}}
        for n, rating in enumerate(said)
    ]
    rows: list[Any] = [{"instruction": "q", "source": "s", "models": [], "completions": completions}]
    rows.append({"instruction": "q", "source": "s", "models": [], "completions": completions[2:4]})
    lines(tmp_path / "u.jsonl", rows)
    assert "rows of ultrafeedback: 1 in + 1 quarantined = 2 read" in converted(
        tmp_path / "u.jsonl", tmp_path / "u", "ultrafeedback"
    )
    (record,) = kept(tmp_path / "u").values()
    assert {rating.response: rating.value for rating in record.ratings if rating.objective == "honesty"} == {
        0: 4.0,
        1: 4.0,
        4: 4.0,
        5: 4.5,
    }
    assert (record.comparisons, record.rankings) == ((), ())  # equal ratings choose nothing
    assert codes(tmp_path / "u") == {"no-preference": 1}
    pairs = lines(tmp_path / "t.jsonl", [{"prompt": "q", "chosen": "a", "rejected": " a "}, pair("r")])
    converted(pairs, tmp_path / "t")
    assert codes(tmp_path / "t") == {"same-answers": 1}
    assert list(kept(tmp_path / "t")) == ["trl-t.jsonl:2"]


def test_hazard_24_rationales_and_the_order_of_answers(tmp_path: Path) -> None:
    reason = "Rating: 2\n\nThe second paragraph would give it more.\n\nRating: 5"

    def completion(text: str, rating: object, why: str = reason) -> dict[str, Any]:
        return {"response": text, "annotations": {"honesty": {"Rating": rating, "Rationale": why}}}

    answers = [completion("a", "4"), completion("b", reason), completion("c", "1", "Rating: 5")]
    rows = [
        {"instruction": "q", "source": "s", "models": [], "completions": [answers[n] for n in order]}
        for order in ((0, 1, 2), (2, 1, 0), (1, 0, 2))
    ]
    converted(lines(tmp_path / "x.jsonl", rows), tmp_path / "d", "ultrafeedback")
    records = kept(tmp_path / "d")
    assert len(records) == 3
    for record in records.values():
        ratings = [
            (record.responses[rating.response].text, rating.value)
            for rating in record.ratings
            if rating.objective == "honesty"
        ]
        assert sorted(ratings) == [
            ("a", 4.0),
            ("c", 1.0),
        ]  # the text in the place of a rating is none, not two
        words = {record.responses[said.response].text: said.text for said in record.critiques}
        assert words == {"a": reason, "b": reason, "c": "Rating: 5"}


def test_hazard_25_a_mixture_that_was_stopped_shows_each_record_as_often_as_planned(tmp_path: Path) -> None:
    """Interleaving until all are exhausted would show the small source ten times, until the first ends drop 90 %."""
    for name, number in (("large", 100), ("small", 10)):
        lines(tmp_path / f"{name}.jsonl", [pair(f"{name} {n}") for n in range(number)])
    sources = [
        {"type": "trl", "name": n, "path": str(tmp_path / f"{n}.jsonl"), "splits": {"train": 1.0}}
        for n in ("large", "small")
    ]
    balance = {"strategy": "repeat", "sources": {"large": 0.75, "small": 0.25}, "max_epochs": 4}
    records = open_records(built(tmp_path, sources, balance=balance), "train")
    labels = [
        Label(source, modality, repeat)
        for (source, modality), repeat in zip(records.strata, records.repeats, strict=True)
    ]
    layout = Layout(labels)
    epoch = Mixture(layout.strata(), seed=3).period

    def shown(begin: int, end: int, workers: int) -> list[int]:
        """What workers that share nothing draw, each its own positions."""
        found = []
        for worker in range(workers):
            mixture = Mixture(layout.strata(), seed=3)
            draws = (mixture.at(position) for position in range(begin + worker, end, workers))
            found += [layout.record(draw.stratum, draw.row) for draw in draws]
        return found

    stopped = shown(0, 47, 3) + shown(47, 3 * epoch, 5)
    times = Counter(records.meta(index)["id"] for index in stopped)
    assert times == Counter(records.meta(index)["id"] for index in shown(0, 3 * epoch, 1))
    assert {times[f"large-large.jsonl:{n}"] for n in range(1, 101)} == {
        3
    }  # in three epochs, each once an epoch
    small = [times[f"small-small.jsonl:{n}"] for n in range(1, 11)]
    assert (sum(small), max(small) - min(small) <= 1) == (99, True)  # 33 of 133 an epoch are a quarter


KILLED = """
import os, signal, sys
from data_tools import tar
from data_tools.cli import app

finish = tar.TarWriter.finish
done = 0

def finish_or_die(self):
    global done
    done += 1
    if done == 3:
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    return finish(self)

tar.TarWriter.finish = finish_or_die
app(sys.argv[1:])
"""


def test_hazard_26_a_crash_leaves_no_half_shard_and_runs_give_the_same_bytes(tmp_path: Path) -> None:
    path = lines(tmp_path / "x.jsonl", [pair(f"q{n}") for n in range(50)])
    config = {"sources": [{"type": "trl", "name": "t", "path": str(path)}], "shard_records": 10}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))

    def all_bytes(out: Path) -> dict[str, bytes]:
        return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}

    arguments = ["build", tmp_path / "c.yaml", "--workers", 1, "-o"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments), str(tmp_path / "d")],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        timeout=100,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "d").exists()
    shards = list((tmp_path / ".d.build").rglob("t-*.tar"))
    assert len(shards) == 2  # those that were finished: the third has no such name
    refused = run(*arguments, tmp_path / "d")
    assert "an earlier build of it is unfinished; go on with --resume" in str(refused.exception)
    told(*arguments, tmp_path / "d", "--resume")
    os.utime(path, (0, 0))  # neither the input's time nor the hour of the day is in the output
    told(*arguments, tmp_path / "e")
    assert all_bytes(tmp_path / "d") == all_bytes(tmp_path / "e")
    assert {member.mtime for shard in (tmp_path / "d").glob("*.tar") for member in scan_times(shard)} == {0}


def scan_times(shard: Path) -> list[Any]:
    with tarfile.open(shard) as archive:
        return archive.getmembers()


class _Touch:
    """Makes a file when it is unpickled."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (self.path, "w")


def test_hazard_27_no_pickle_is_opened_and_no_command_run(tmp_path: Path) -> None:
    """`webdataset` runs the command in an address, and its decoder unpickles."""
    import webdataset

    trap = tmp_path / "sprung"
    bomb = pickle.dumps(_Touch(str(trap)))
    pickle.loads(bomb).close()
    assert trap.exists()
    trap.unlink()
    with pytest.raises(tarfile.ReadError):  # which comes after the command
        list(webdataset.WebDataset(f"pipe:touch {trap}", shardshuffle=False))
    assert trap.exists()
    trap.unlink()
    members = [("a.json", json.dumps(pair("q"))), ("a.pkl", bomb), ("b.json", json.dumps(pair("r")))]
    (tmp_path / "x.tar").write_bytes(tar_bytes([*members, ("c.pyd", bomb)]))
    assert "rows of trl: 1 in + 2 quarantined = 3 read" in converted(tmp_path / "x.tar", tmp_path / "d")
    assert codes(tmp_path / "d") == {"not-supported": 2}
    for form in ("trl", "auto"):
        for address in (f"pipe:touch {trap}", f"pipe:cat {tmp_path / 'x.tar'}; touch {trap}"):
            refused = run("convert", "--from", form, address, "-o", tmp_path / "e")
            assert "is an address or a command, which is never opened" in str(refused.exception)
    lines(tmp_path / "p.jsonl", [pair("q", images=[f"pipe:touch {trap}"]), pair("r")])
    converted(tmp_path / "p.jsonl", tmp_path / "p")
    assert not trap.exists()


def _drawing(seed: int) -> Image.Image:
    """Three boxes side by side, each with a few rectangles of its own."""
    import random

    chance = random.Random(seed)
    image = Image.new("RGB", (180, 90), (240, 240, 240))
    for box in range(3):
        for _ in range(5):
            left, top = 60 * box + chance.randrange(45), chance.randrange(70)
            color = tuple(chance.randrange(256) for _ in range(3))
            right, low = min(left + chance.randrange(6, 40), 60 * box + 60), top + chance.randrange(6, 40)
            image.paste(color, (left, top, right, low))
    return image.resize((720, 360), Image.Resampling.NEAREST)


def test_hazard_28_pictures_of_train_in_test(tmp_path: Path) -> None:
    """Found: the same bytes, other bytes of one look (JPEG, half the size), and boxes in another order. Not found, and
    said so: a crop.
    """
    whole = [_drawing(seed) for seed in range(6)]
    moved = Image.new("RGB", (720, 360))
    for place, box in enumerate((2, 0, 1)):
        moved.paste(whole[1].crop((240 * box, 0, 240 * box + 240, 360)), (240 * place, 0))
    tests = {
        "bytes": encoded(whole[0], "PNG"),
        "moved": encoded(moved, "PNG"),
        "jpeg": encoded(whole[2], "JPEG", quality=60),
        "half": encoded(whole[3].resize((360, 180)), "PNG"),
        "crop": encoded(ImageOps.crop(whole[4], 100), "PNG"),
        "new": encoded(_drawing(99), "PNG"),
    }
    for number, image in enumerate(whole):
        (tmp_path / f"{number}.png").write_bytes(encoded(image, "PNG"))
    for name, data in tests.items():
        (tmp_path / name).write_bytes(data)
    lines(tmp_path / "train.jsonl", [pair(f"What is {n}?", images=[f"{n}.png"]) for n in range(6)])
    lines(tmp_path / "test.jsonl", [pair(f"And {name}?", images=[name]) for name in tests])
    sources: list[dict[str, Any]] = [
        {"type": "trl", "name": split, "path": str(tmp_path / f"{split}.jsonl"), "splits": {split: 1.0}}
        for split in ("train", "test")
    ]

    def audited(out: Path) -> tuple[int, dict[str, float]]:
        done = run("audit", out, "--only", "copies", "--fail-on", "test.leak>0", "-o", tmp_path / "audit")
        report = json.loads((tmp_path / "audit" / "audit.json").read_text())
        (copies,) = (result for result in report["audits"] if result["name"] == "copies")
        found = {
            f["metric"]: f.get("value", f.get("mean"))
            for f in copies["findings"]
            if f["scope"].get("split") == "test"
        }
        assert "Crops, and texts in other words, aren't found." in copies["notes"]
        return done.exit_code, {name: round(6 * value) for name, value in found.items()}

    code, found = audited(built(tmp_path, sources))
    assert (code, found["leak"]) == (1, 4)  # bytes, moved, jpeg, half; not the crop
    assert (found["leak_image"], found["leak_near_image"], found["leak_rearranged"]) == (1, 3, 2)
    out = built(tmp_path, sources, remedies=[{"type": "leaks"}])
    assert [n for n in range(6) if f"train-train.jsonl:{n + 1}" in kept(out)] == [4, 5]
    assert audited(out) == (0, dict.fromkeys(found, 0))
    # splits that we draw: rows that share a picture's bytes are never drawn apart
    rows = [pair(f"{n} of {k}", images=[f"{n}.png"]) for n in range(6) for k in range(4)]
    half = {"train": 0.5, "test": 0.5}
    path = str(lines(tmp_path / "all.jsonl", rows))
    out = built(tmp_path, [{"type": "trl", "name": "t", "path": path, "splits": half}])
    sides = {split: {r.images[0].sha256 for r in open_records(out, split)} for split in half}
    assert (len(sides["train"] | sides["test"]), sides["train"] & sides["test"]) == (6, set())
