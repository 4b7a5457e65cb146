"""Records for the tests of the audits, and what the audits find in them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from data_tools.audits.base import Finding, Options, Scope
from data_tools.audits.run import Report, run_audits
from data_tools.intervals import Estimate
from data_tools.schema import Comparison, ImageRef, PreferenceRecord, Response, user
from data_tools.shards import write_shards
from tests.data_tools.sample_records import png

TRAIN = Scope("train")
NOUNS = ("cat", "dog", "house", "tree", "river", "stone", "cloud", "lamp", "chair", "horse", "boat", "road")
VERBS = (
    "sees",
    "finds",
    "takes",
    "holds",
    "wants",
    "keeps",
    "makes",
    "brings",
    "shows",
    "moves",
    "turns",
    "opens",
)


def sentence(number: int, words: int = 6) -> str:
    """Some words, other ones for every number."""
    found = []
    for place in range(words):
        number = (number * 1103515245 + 12345 + place) % 2**31
        found.append((NOUNS, VERBS)[place % 2][(number >> 8) % 12])
    return " ".join(found)


def pair(
    number: int, better: str, worse: str, first: bool = True, picture: bool = True, **changes: object
) -> PreferenceRecord:
    """A record with two answers, the better one first or second, about a picture of its own."""
    texts = (better, worse) if first else (worse, better)
    prompt = f"Question {number}: {sentence(number)}?"
    fields: dict[str, object] = {
        "id": f"r{number}",
        "source": "pictures" if picture else "words",
        "prompt": (user(0, prompt) if picture else user(prompt),),
        "responses": tuple(Response(text) for text in texts),
        "images": (ImageRef.of_bytes(png((number % 256, number // 256 % 256, 7))),) if picture else (),
        "comparisons": (Comparison("factuality", better=0 if first else 1, worse=1 if first else 0),),
    }
    return PreferenceRecord(**{**fields, **changes})  # type: ignore[arg-type]


def audited(
    folder: Path, records: Iterable[PreferenceRecord], *only: str, options: Options | None = None
) -> Report:
    """What the named audits find in the records."""
    write_shards(records, folder)
    return run_audits(folder, only=only, options=options)


def found(report: Report, metric: str, scope: Scope = TRAIN) -> Estimate:
    """The one number of this name and part of the data."""
    (finding,) = [f for f in report.findings if (f.metric, f.scope) == (metric, scope)]
    assert isinstance(finding.value, Estimate)
    return finding.value


def numbers(findings: Iterable[Finding]) -> dict[str, float]:
    """By scope and metric, without intervals."""
    return {f"{f.scope}.{f.metric}": round(f.number, 6) for f in findings}
