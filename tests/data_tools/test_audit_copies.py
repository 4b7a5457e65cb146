from __future__ import annotations

import io
import json
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from sample_records import image_record, png, text_record

from data_tools.audits.base import AuditResult, Data, Options
from data_tools.audits.collide import candidates
from data_tools.audits.contamination import Contamination
from data_tools.audits.copies import Copies
from data_tools.audits.near_images import column_hash, near_clusters, perceptual_hash, sketch
from data_tools.audits.near_texts import PERMUTATIONS, run_hashes, signatures, words_of
from data_tools.audits.near_texts import near_clusters as near_texts
from data_tools.schema import ImageRef, PreferenceRecord, Response, user
from data_tools.shards import write_shards


def drawing(seed: int) -> Image.Image:
    rng = random.Random(seed)
    image = Image.new("RGB", (160, 120), (240, 240, 240))
    pen = ImageDraw.Draw(image)
    for _ in range(6):
        x, y = rng.randrange(140), rng.randrange(100)
        color = (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        pen.rectangle((x, y, x + rng.randrange(5, 60), y + rng.randrange(5, 50)), fill=color)
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("seed", "bits"),
    # the package imagehash 4.3.2 gives these for the same drawings
    list(enumerate(["bfe22914c9c919d9", "b8c7c6580938de6d", "bc1ddbd2c66470e0"])),
)
def test_perceptual_hash_is_the_known_one(seed: int, bits: str) -> None:
    assert f"{perceptual_hash(drawing(seed)):016x}" == bits


def test_a_re_encoded_picture_stays_near_and_another_is_far() -> None:
    one, other = perceptual_hash(drawing(0)), perceptual_hash(drawing(1))
    copies = [
        Image.open(io.BytesIO(encoded(drawing(0), "JPEG", quality=40))),
        drawing(0).resize((80, 60)),
        ImageOps.autocontrast(drawing(0)),
    ]
    assert one is not None
    assert other is not None
    for copy in copies:
        found = perceptual_hash(copy)
        assert found is not None
        assert (one ^ found).bit_count() <= 4
    assert (one ^ other).bit_count() > 16
    assert perceptual_hash(Image.new("RGB", (50, 50), (10, 200, 30))) is None


def boxes(*stacks: tuple[str, ...]) -> Image.Image:
    """Three boxes with a stack of blocks in each, from below, as NLVR draws them."""
    image = Image.new("RGB", (400, 100), (211, 211, 211))
    pen = ImageDraw.Draw(image)
    for left in (100, 250):
        pen.rectangle((left, 0, left + 49, 99), fill=(128, 128, 128))
    for place, stack in enumerate(stacks):
        for height, color in enumerate(stack):
            top = 80 - 21 * height
            pen.rectangle((40 + 150 * place, top, 59 + 150 * place, top + 19), fill=color)
    return image


def test_drawings_with_another_block_are_not_near() -> None:
    """Their perceptual hashes are."""
    first = boxes(("#09f",), ("#09f", "#ff0"), ("#000",))
    pictures = [
        first,
        boxes(("#09f",), ("#09f",), ("#000",)),  # without the yellow block
        boxes(("#ff0",), ("#09f", "#ff0"), ("#000",)),  # one block in another color
        first.resize((200, 50)),
        Image.open(io.BytesIO(encoded(first, "JPEG", quality=40))),
        drawing(0),
        ImageOps.autocontrast(drawing(0)),
    ]
    hashes = np.array([perceptual_hash(picture) for picture in pictures], np.uint64)
    near = near_clusters(hashes).tolist()
    assert near[0] == near[1] == near[2] == near[3] == near[4]
    sketches = np.frombuffer(b"".join(map(sketch, pictures)), np.uint8).reshape(7, 384)
    found = near_clusters(hashes, sketches=sketches).tolist()
    assert found[0] == found[3] == found[4]
    assert found[5] == found[6]
    assert len(set(found)) == 4


def test_clusters_of_hashes_are_exact() -> None:
    rng = np.random.default_rng(0)
    base = rng.integers(0, 2**63, 400, dtype=np.uint64)
    flips = [sum(1 << int(bit) for bit in rng.choice(64, size, replace=False)) for size in (1, 2, 3, 4, 5, 9)]
    hashes = np.concatenate([base, base[:6] ^ np.array(flips, np.uint64)])
    found = near_clusters(hashes, distance=4)
    assert [bool(found[400 + i] == found[i]) for i in range(6)] == [True, True, True, True, False, False]
    assert len(set(found[:400].tolist())) == 400


def test_candidates_meet_once_and_crowds_are_cut() -> None:
    pairs = [
        tuple(sorted(pair))
        for left, right in candidates(np.array([7, 3, 7, 5, 7]))
        for pair in zip(left, right, strict=True)
    ]
    assert sorted(pairs) == [(0, 2), (0, 4), (2, 4)]
    cut = list(candidates(np.zeros(10, int), most=1))
    assert [len(left) for left, _ in cut] == [9]


def test_rearranged_columns_have_one_hash() -> None:
    boxes = [drawing(seed).crop((0, 0, 50, 120)) for seed in range(3)]

    def row(order: tuple[int, ...]) -> Image.Image:
        image = Image.new("RGB", (150, 120))
        for place, box in enumerate(order):
            image.paste(boxes[box], (50 * place, 0))
        return image

    first = column_hash(row((0, 1, 2)))
    assert column_hash(row((2, 0, 1))) == first
    assert column_hash(ImageOps.mirror(row((0, 1, 2)))) == first
    assert column_hash(ImageOps.flip(row((0, 1, 2)))) != first
    assert column_hash(row((0, 0, 2))) != first


def test_minhash_estimates_the_overlap() -> None:
    words = [f"w{number}" for number in range(102)]  # 100 runs of three
    changed = [*words[:90], "x", *words[91:]]  # three runs differ: an overlap of 97 / 103
    one, other = signatures([" ".join(words), " ".join(changed)])[1]
    assert one.shape == (PERMUTATIONS,)
    assert abs(float((one == other).mean()) - 97 / 103) < 0.1
    estimates = []
    for start in range(60):  # half of each pair is shared: 33 % overlap
        a = [f"{start}a{i}" for i in range(52)]
        both = signatures([" ".join(part) for part in (a, [*a[:27], *(f"{start}b{i}" for i in range(25))])])[
            1
        ]
        estimates.append(float((both[0] == both[1]).mean()))
    assert abs(sum(estimates) / 60 - 25 / 75) < 0.02
    assert signatures(["?!"])[0] == []
    assert words_of("It's  a CAT.") == ["it", "s", "a", "cat"]
    assert len(run_hashes(["a", "b"], 3)) == 1


def test_signatures_are_those_of_the_formula_whatever_else_is_hashed() -> None:
    """By whole numbers of Python, of texts with fewer words than a run, none, and more."""
    word = 2**64 - 1

    def mixed(value: int) -> int:
        for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
            value = (value ^ value >> 33) * factor & word
        return value ^ value >> 33

    def runs(words: list[str]) -> list[int]:
        found, length = [], min(3, len(words))
        for start in range(len(words) - length + 1):
            total = 0
            for name in words[start : start + length]:
                total = total * 0x9E3779B97F4A7C15 + zlib.crc32(name.encode()) + 1 & word
            found.append(mixed(total))
        return found

    drawn = [mixed(number * 0x9E3779B97F4A7C15 & word) for number in range(1, 2 * PERMUTATIONS + 1)]
    pairs = list(zip(drawn[:PERMUTATIONS], drawn[PERMUTATIONS:], strict=True))

    def minima(words: list[str]) -> list[int]:
        return [
            min((value * (factor | 1) + shift & word) >> 32 for value in runs(words))
            for factor, shift in pairs
        ]

    texts = ["one two three four", "", "short", "?", "two words", "a b c d e f", "x y z"]
    found, rows = signatures(texts)
    assert found == [0, 2, 4, 5, 6]
    assert rows.tolist() == [minima(texts[number].split()) for number in found]
    assert run_hashes(["a", "b", "c", "d", "e", "f"]).tolist() == runs(["a", "b", "c", "d", "e", "f"])


def test_near_texts_are_joined() -> None:
    rng = random.Random(0)
    texts = [" ".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=80)) for _ in range(50)]
    texts += [texts[7] + " and more", texts[7].upper(), texts[9][: len(texts[9]) // 2]]
    found = near_texts(signatures(texts)[1])
    assert found[50] == found[7] == found[51]
    assert found[52] != found[9]
    assert len(set(found.tolist())) == 51


def audit(
    folder: Path, records: list[PreferenceRecord], kind: type[Copies] | type[Contamination], *against: Path
) -> AuditResult:
    write_shards(records, folder)
    data = Data.of_directory(folder, options=Options(against=against))
    found = kind(data)
    for split in data.splits:
        for index in range(len(data.records(split))):
            found.see(split, index, data.records(split).meta(index))
    return found.finish()


def numbers(result: AuditResult) -> dict[tuple[str, str], float]:
    return {(finding.metric, finding.scope.split): finding.number for finding in result.findings}


def shown(number: int, data: bytes, split: str, question: str = "", **changes: object) -> PreferenceRecord:
    fields: dict[str, object] = {
        "prompt": (user(0, question or f"What is in picture {number}?"),),
        "images": (ImageRef.of_bytes(data),),
        "provenance": {},
        "scenes": (),
        "split": split,
    }
    return image_record(number, **{**fields, **changes})


LONG = "Tell me in a few short sentences how to bake a loaf of bread with rye flour and caraway seeds at home"


def test_every_way_to_leak_is_found(tmp_path: Path) -> None:
    mirrored = ImageOps.mirror(drawing(3))
    records = [
        *(shown(number, encoded(drawing(number)), "train") for number in range(5)),
        shown(10, encoded(drawing(0)), "test"),
        shown(11, encoded(drawing(1), "JPEG", quality=60), "test"),
        shown(12, encoded(mirrored), "test"),
        shown(13, encoded(drawing(20)), "test"),
        shown(14, encoded(drawing(21)), "test", provenance={"group": "g"}),
        shown(15, encoded(drawing(22)), "train", provenance={"group": "g"}),
        text_record(0, prompt=(user(LONG),)),
        text_record(1, prompt=(user(LONG + " please"),), split="test"),
        text_record(
            2,
            prompt=(user("Why is the sky blue at noon and red in the evening over the sea?"),),
            split="test",
        ),
    ]
    result = audit(tmp_path / "d", records, Copies)
    found = numbers(result)
    assert found["leak_image", "test"] == 1 / 7
    assert found["leak_near_image", "test"] == 2 / 7  # the copy and the re-encoded one
    assert found["leak_rearranged", "test"] == 2 / 7  # the copy and the mirrored one
    assert found["leak_group", "test"] == 1 / 7
    assert found["leak_text", "test"] == 1 / 7
    assert found["leak", "test"] == 5 / 7
    assert {example.why for example in result.examples} >= {
        "same picture, in train and test",
        "nearly the same question, in train and test",
    }
    assert json.loads(json.dumps(result.to_json()))["name"] == "copies"


def test_copies_within_a_split(tmp_path: Path) -> None:
    answers = (Response(LONG), Response("No idea."))
    records = [
        text_record(0, prompt=(user(LONG),), responses=answers),
        text_record(1, prompt=(user(LONG),), responses=answers[::-1]),
        text_record(2),
        *(shown(number, encoded(drawing(number)), "train", question=LONG) for number in range(3)),
        shown(3, encoded(drawing(0), "JPEG", quality=70), "train", question=LONG),
        # two flat pictures look alike and are no copies
        shown(4, png((9, 9, 9)), "train"),
        shown(5, png((200, 9, 9)), "train"),
    ]
    found = numbers(audit(tmp_path / "d", records, Copies))
    assert found["near_texts", ""] == 2 / 3
    assert found["near_images", ""] == 2 / 6
    assert found["near_records", ""] == 2 / 6
    assert ("leak", "test") not in found


def test_contamination_by_texts_and_pictures(tmp_path: Path) -> None:
    bench = tmp_path / "bench"
    bench.mkdir()
    (bench / "a.png").write_bytes(encoded(drawing(0)))
    rows = [
        {"question": "Is there a snowboard in the image?", "image": "a.png", "label": "yes"},
        {"question": "x", "context": [{"text": "before " + LONG + " after"}], "image": "gone.png"},
    ]
    (bench / "b.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{\n")
    records = [
        shown(0, encoded(drawing(0).resize((200, 150))), "train"),
        shown(1, encoded(drawing(1)), "train", question="Is there a snowboard in the image"),
        text_record(0, prompt=(user("so " + LONG),)),
        text_record(1, prompt=(user("is there a SNOWBOARD in the image?!"),)),
        text_record(2, prompt=(user("yes"),)),
        text_record(3, prompt=(user("a b c d e f g"),)),
    ]
    result = audit(tmp_path / "d", records, Contamination, bench / "b.jsonl")
    found = numbers(result)
    assert found["contamination", "train"] == 3 / 6
    assert found["contaminated_texts", "train"] == 3 / 6
    assert result.tables[0].rows == (("b.jsonl", 2, 1, 3, 1),)
    assert len(result.notes) == 2  # the picture that is gone, and the row that is no JSON
    assert "no benchmark" in audit(tmp_path / "e", records, Contamination).says.lower()
