from __future__ import annotations

import base64
import io
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from sample_records import image_record, pixel, png, text_record
from typer.testing import CliRunner

from data_tools.cli import app
from data_tools.errors import UserError
from data_tools.preview import Choice, shares, write_preview
from data_tools.preview_sample import differing
from data_tools.schema import Comparison, Correction, Critique, ImageRef, Ranking, Rating, Response, user
from data_tools.shards import write_shards

VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """The elements of a page, which must be balanced, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def page_of(directory: Path, choice: Choice | None = None) -> Page:
    out = directory.parent / "page.html"
    write_preview(directory, out, choice or Choice())
    return Page(out.read_text(encoding="utf-8"))


def test_all_that_is_known_of_a_record_is_shown(tmp_path: Path) -> None:
    record = text_record(
        0,
        responses=(Response("The cat sat."), Response("The dog sat.", model="m"), Response("Nothing.")),
        comparisons=(
            Comparison("helpfulness", 0, 1, margin=1.5),
            Comparison("safety", 2, 0, judge="rules"),
            Comparison("tone", 0, 1, tie=True),
        ),
        rankings=(Ranking("style", ((2,), (0, 1))),),
        ratings=(
            Rating("helpfulness", 0, value=4, low=1, high=5),
            Rating("safety", 1, value=0, low=0, high=1, kind="binary"),
        ),
        corrections=(Correction("factuality", corrected=0, original=1),),
        critiques=(
            Critique("too short", response=2, judge="anna"),
            Critique("hard to tell", objective="tone"),
        ),
        votes=tuple(Comparison("helpfulness", *pair) for pair in ((0, 1), (0, 1), (0, 1), (1, 0))),
        provenance={"group": "g7"},
    )
    write_shards([record], tmp_path / "d")
    page = page_of(tmp_path / "d")
    for words in (
        "1 of 1 records",
        "question 0",
        "A The cat sat. ✓ better: helpfulness ✗ worse: safety ✗ worse: style helpfulness: 4 of 1 to 5",
        "B by m The dog sat. ✗ worse: helpfulness ✗ worse: style safety: no",
        "C Nothing. ✓ better: safety ✓ better: style",
        "too short anna",
        "hard to tell human, on tone",
        "helpfulness: A > B, by 1.5 (human)",
        "safety: C > A (rules)",
        "tone: A = B (human)",
        "style: C > A = B (human)",
        "helpfulness, single votes: 3 x A > B, 1 x B > A",
        "B corrected to A on factuality (human) The dog cat sat.",
        '"group": "g7"',
    ):
        assert words in page.words
    assert (page.tags["del"], page.tags["ins"], page.tags["details"]) == (1, 1, 1)
    assert page.tags["script"] == 0
    assert [value for tag, name, value in page.attributes if (tag, name) == ("div", "class")].count(
        "answer best"
    ) == 1


def test_text_of_the_data_is_never_markup(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ 7 * 7 }}</main></html>\u202e"
    record = text_record(
        0,
        id=evil,
        prompt=(user(evil),),
        responses=(Response(evil, model=evil), Response("b")),
        comparisons=(Comparison(evil, 0, 1, judge=evil),),
        corrections=(Correction(evil, 0, 1, judge=evil),),
        critiques=(Critique(evil, response=0, objective=evil, judge=evil), Critique(evil)),
        ratings=(Rating(evil, 0, 1, 0, 1, judge=evil),),
        provenance={evil: evil},
        reference={"a": evil},
    )
    image = image_record(0, images=(ImageRef.of_bytes(png(), (evil,)), ImageRef.of_bytes(png())))
    write_shards([record, image], tmp_path / "d")
    out = tmp_path / "page.html"
    write_preview(tmp_path / "d", out)
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags["script"] == 0
    assert page.tags["img"] == 2
    assert page.tags["html"] == 1
    assert "<script" not in text
    assert text.count("{{ 7 * 7 }}") == text.count("&lt;/html&gt;") > 10
    assert {name for _, name, _ in page.attributes} <= {
        *("lang", "charset", "name", "content", "http-equiv", "class", "colspan"),
        *("src", "width", "height", "alt", "loading"),
    }
    sources = [value for tag, name, value in page.attributes if name == "src"]
    assert all(source.startswith("data:image/") for source in sources)


def test_thumbnails(tmp_path: Path) -> None:
    large = Image.new("RGB", (1000, 500), (200, 10, 10))
    large.paste(Image.effect_noise((200, 500), 90), (800, 0))  # which can't be packed into few bytes
    buffer = io.BytesIO()
    large.save(buffer, "PNG")
    refs = (ImageRef.of_bytes(png((1, 2, 3))), ImageRef.of_bytes(buffer.getvalue()))
    cut = (ImageRef.of_bytes(png()[:-20]), ImageRef.of_bytes(png(), ("animated: its first frame is used",)))
    write_shards([image_record(0, images=refs), image_record(1, images=cut)], tmp_path / "d")
    page = page_of(tmp_path / "d")
    sources = [value for tag, name, value in page.attributes if name == "src"]
    small, shrunk, _ = (
        Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))) for source in sources
    )
    assert (small.format, small.size, small.getpixel((0, 0))) == ("PNG", (4, 3), (1, 2, 3))
    assert (shrunk.format, shrunk.size) == ("JPEG", (400, 200))
    assert all(abs(a - b) < 4 for a, b in zip(pixel(shrunk, 9, 9), (200, 10, 10), strict=True))
    assert f"image 2, 1000 x 500, {len(buffer.getvalue()):,} bytes" in page.words
    assert "image 1: the PNG image is truncated: its end is missing" in page.words
    assert "; animated: its first frame is used" in page.words


def test_each_group_gives_its_share(tmp_path: Path) -> None:
    assert shares({"a": 1, "b": 100, "c": 3}, 10) == {"a": 1, "b": 6, "c": 3}
    assert shares({"a": 1, "b": 1}, 10) == {"a": 1, "b": 1}
    assert shares({}, 3) == {}
    records = [text_record(number) for number in range(40)] + [image_record(number) for number in range(5)]
    records += [text_record(number, split="test") for number in range(40, 43)]
    write_shards(records, tmp_path / "d", max_records=7)

    def shown(choice: Choice) -> list[str]:
        write_preview(tmp_path / "d", tmp_path / "p.html", choice)
        return re.findall(r'class="place"><b>(\w+)</b>', (tmp_path / "p.html").read_text(encoding="utf-8"))

    drawn = shown(Choice(12))
    assert len(set(drawn)) == 12
    assert len([name for name in drawn if name.startswith("i")]) == 5
    assert {"t40", "t41", "t42"} <= set(drawn)
    assert shown(Choice(12)) == drawn
    assert shown(Choice(12, seed=1)) != drawn
    assert sorted(shown(Choice(99, split="test"))) == ["t40", "t41", "t42"]
    assert len(shown(Choice(99, source="pictures"))) == 5
    assert len(shown(Choice(99))) == 48
    with pytest.raises(UserError, match="has no source 'x'; it has: pictures, words"):
        shown(Choice(source="x"))
    with pytest.raises(UserError, match="has no split 'x'; it has: test, train"):
        shown(Choice(split="x"))


def test_the_words_that_differ() -> None:
    assert list(differing("a red cat", "a blue cat!")) == [
        ("same", "a "),
        ("gone", "red"),
        ("new", "blue"),
        ("same", " cat"),
        ("new", "!"),
    ]
    assert list(differing("", "x")) == [("new", "x")]


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    write_shards([text_record(0, responses=(Response("x" * 5234), Response("b")))], tmp_path / "d")
    page = page_of(tmp_path / "d")
    assert "x" * 4000 in page.words
    assert "x" * 4001 not in page.words
    assert "… 1,234 characters more" in page.words


def test_the_command(tmp_path: Path) -> None:
    write_shards([text_record(number) for number in range(3)], tmp_path / "d")
    out = tmp_path / "pages" / "p.html"
    done = CliRunner().invoke(app, ["preview", str(tmp_path / "d"), "-o", str(out), "--samples", "2"])
    assert (done.exit_code, done.stdout) == (0, f"{out}: 2 samples\n")
    assert "<!doctype html>" in out.read_text(encoding="utf-8")
