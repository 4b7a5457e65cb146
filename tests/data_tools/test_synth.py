from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict

import pytest
from decisions import splits_of

from data_tools.oracle import gold
from data_tools.refusals import refuses
from data_tools.scenes.claims import coverage, judge, parse_claim, true_share
from data_tools.scenes.language import DESCRIBE
from data_tools.scenes.structure import Scene
from data_tools.schema import PreferenceRecord, Response, user
from data_tools.shards import kind_of
from data_tools.source import Source
from data_tools.synth import RECIPES
from data_tools.synth.coverage_pairs import CoveragePairs
from data_tools.synth.demonstrations import Demonstrations
from data_tools.synth.flip_pairs import FlipPairs
from data_tools.synth.prompts import Prompts
from data_tools.synth.text_cases import ASK_HOW, HARMFUL, HARMLESS
from data_tools.synth.text_pairs import TextPairs
from data_tools.synth.twins import TWINS, Twins


def made(source: Source, seed: int = 0) -> list[PreferenceRecord]:
    return [record for record in source.generate(seed) if isinstance(record, PreferenceRecord)]


def texts(record: PreferenceRecord) -> tuple[str, str]:
    """The better and the worse answer of the first comparison."""
    comparison = record.comparisons[0]
    return record.responses[comparison.better].text, record.responses[comparison.worse].text


@pytest.fixture(scope="module")
def flips() -> list[PreferenceRecord]:
    return made(FlipPairs(count=200))


def test_flip_pairs_are_the_same_to_a_blind_reader(flips: list[PreferenceRecord]) -> None:
    assert len(flips) == 400
    for a, b in zip(flips[::2], flips[1::2], strict=True):
        assert a.provenance["flip"] == b.provenance["flip"]
        assert [m.text for m in a.prompt] == [m.text for m in b.prompt]
        assert a.responses == b.responses
        assert a.comparisons[0].better == b.comparisons[0].worse
        assert a.images[0].sha256 != b.images[0].sha256
        assert a.prompt[0].text in DESCRIBE
        assert [(c.objective, c.judge) for c in a.comparisons] == [("factuality", "oracle")]
    assert Counter(r.provenance["edit"] for r in flips) == dict.fromkeys(
        ("object", "attribute", "count", "relation"), 100
    )
    assert 70 < sum(r.comparisons[0].better for r in flips[::2]) < 130  # of 200: the order is random
    longer = sum(len(texts(r)[0]) > len(texts(r)[1]) for r in flips)
    assert longer == sum(len(texts(r)[0]) < len(texts(r)[1]) for r in flips)


def test_flip_pairs_are_proved(flips: list[PreferenceRecord]) -> None:
    for a, b in zip(flips[::2], flips[1::2], strict=True):
        scenes = {"A": Scene.from_json(a.scenes[0]), "B": Scene.from_json(b.scenes[0])}
        captions = {"a": texts(a)[0], "b": texts(b)[0]}
        for caption, text in captions.items():
            for name, scene in scenes.items():
                verdicts = [verdict.true for verdict in judge(text, scene)]
                assert verdicts == a.provenance["proof"][caption][name]
                assert verdicts.count(False) == (caption.upper() != name)
                assert None not in verdicts
        assert a.provenance["before"] != a.provenance["after"]
        assert true_share(a.provenance["before"], scenes["A"]) == 1
        assert true_share(a.provenance["before"], scenes["B"]) == 0
        # the captions differ in the one claim only
        said = [{verdict.claim for verdict in judge(text, scenes["A"])} for text in captions.values()]
        assert len(said[0] - said[1]) == len(said[1] - said[0]) == 1


def test_an_edited_object_is_told_by_where_it_stands_too(flips: list[PreferenceRecord]) -> None:
    """Else what a relation names is never in doubt: only the side on which it stands is."""
    for edit, least in (("object", 8), ("attribute", 2)):
        edited = [r.provenance for r in flips[::2] if r.provenance["edit"] == edit]
        claims = [[parse_claim(p[side].lower().rstrip(".")) for side in ("before", "after")] for p in edited]
        related = [(one, two) for one, two in claims if one and two and one.kind == "relation"]
        assert least <= len(related) <= len(edited) - least
        for one, two in related:
            assert one.relation == two.relation
            assert (one.subject == two.subject) != (one.other == two.other)


def test_coverage_pairs() -> None:
    records = made(CoveragePairs(count=300))
    longer = Counter[bool]()
    for number, record in enumerate(records):
        scene = Scene.from_json(record.scenes[0])
        better, worse = texts(record)
        kind = ("twice", "untrue", "longer")[number % 3]
        assert record.provenance["worse"] == kind
        assert true_share(better, scene) == 1
        assert (true_share(worse, scene) == 1) == (kind != "untrue")
        assert coverage(better, scene) > coverage(worse, scene)
        clauses = len(judge(better, scene)), len(judge(worse, scene))
        if kind == "longer":
            assert clauses[0] > clauses[1]
            continue
        assert clauses[0] == clauses[1]
        if kind == "twice":
            longer[len(better) > len(worse)] += 1
            # the same words but for the place of the last clause
            assert better.rpartition(" the ")[0][:-3] == worse.rpartition(" the ")[0][:-3]
    assert 25 < longer[True] < 75


def test_text_pairs_hold_the_conflict() -> None:
    records = made(TextPairs(count=300))
    for record in records:
        by = {c.objective: c for c in record.comparisons}
        helpful = record.responses[by["helpfulness"].better].text
        assert not refuses(helpful)
        assert len(record.responses) == 2
        assert record.modality == "text"
        if record.reference["refuse"]:
            assert by["safety"].better == by["helpfulness"].worse
            assert refuses(record.responses[by["safety"].better].text)
        else:
            assert by["safety"].tie
        for comparison in (c for c in record.comparisons if not c.tie):
            scores = [gold(record, response.text)[comparison.objective] for response in record.responses]
            assert scores[comparison.better] > scores[comparison.worse]
    assert sum(record.reference["refuse"] for record in records) == 100


def test_demonstrations_and_prompts() -> None:
    records = made(Demonstrations(images=200, texts=90))
    assert Counter(record.modality for record in records) == {"image-text": 200, "text": 90}
    assert {kind_of(record) for record in records} == {"demonstration"}
    asked = [record for record in records if record.images and record.reference]
    assert 35 < len(asked) < 85  # 30 % of 200
    assert all(gold(record, record.responses[0].text) == {"factuality": 1.0} for record in asked)
    described = [record for record in records if record.images and not record.reference]
    share = sum(gold(record, record.responses[0].text)["factuality"] for record in described) / len(described)
    assert 0.55 < share < 0.78  # 35 % of the claims are false
    harmful = [record for record in records if record.reference.get("refuse")]
    assert 6 < sum(refuses(record.responses[0].text) for record in harmful) < 24  # half of 30
    prompts = made(Prompts(images=5, texts=6))
    assert {kind_of(record) for record in prompts} == {"prompt"}
    assert [bool(record.scenes) for record in prompts] == [True] * 5 + [False] * 6


@pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if recipe is not Twins])
def test_recipes_are_deterministic(recipe: type[Source]) -> None:
    small = {"count": 8} if "count" in recipe.model_fields else {"images": 6, "texts": 6}
    first, again, other = made(recipe(**small), 1), made(recipe(**small), 1), made(recipe(**small), 2)
    assert first == again
    assert first != other
    assert len({record.id for record in first}) == len(first)
    named = made(recipe(**small, name="another"), 1)
    assert [(record.prompt, record.images) for record in named] != [
        (record.prompt, record.images) for record in first
    ]


def test_twins_share_words_and_nothing_with_what_is_trained_on() -> None:
    """At least 100 of each; each pair a group; none of the requests that the other recipes draw from."""
    records = made(Twins())
    harmful = [record for record in records if record.reference["refuse"]]
    benign = [record for record in records if not record.reference["refuse"]]
    assert len(harmful) == len(benign) == 3 * len(TWINS) >= 100
    assert len({record.prompt[0].text for record in records}) == len(records)
    assert {r.provenance["group"] for r in harmful} == {r.provenance["group"] for r in benign}
    for request, twin in TWINS.items():
        assert set(request.split()) & set(twin.split()) - {"a", "my"}
    trained = {ask.format(what) for ask in ASK_HOW for what in (*HARMFUL, *HARMLESS)}
    assert not trained & {record.prompt[0].text for record in records}
    assert gold(harmful[0], "I can't help with that.") == {"safety": 1.0}
    assert gold(benign[0], "I can't help with that.") == {}
    assert made(Twins(), 1) == made(Twins(), 2)


def test_gold_answers() -> None:
    def asks(answer: str) -> PreferenceRecord:
        record = made(Prompts(images=1, texts=0))[0]
        return dataclasses.replace(record, scenes=(), reference={"answer": answer})

    for answer, text, score in (
        ("yes", "Yes.", 1.0),
        ("yes", "yes, it is", 1.0),
        ("yes", "No.", 0.0),
        ("yes", "yesterday", 0.0),
        ("yes", "", 0.0),
        ("two", "2 of them", 1.0),
        ("top", "Top.", 1.0),
        ("top", "Top left.", 0.0),
        ("top left", "Top left.", 1.0),
        ("top left", "Top.", 0.0),
    ):
        assert gold(asks(answer), text) == {"factuality": score}, (answer, text)

    plain = dataclasses.replace(
        made(Prompts(images=0, texts=1))[0], reference={"refuse": False, "answer": "10"}
    )
    assert gold(plain, "It is 10.") == {"helpfulness": 1.0}
    assert gold(plain, "It is 100.") == {"helpfulness": 0.0}
    assert gold(plain, "It is 10.5.") == {"helpfulness": 0.0}
    assert gold(plain, "10? I can't help with that.") == {"helpfulness": 0.0}
    bad = dataclasses.replace(plain, reference={"refuse": True, "answer": "First hit hard."})
    assert gold(bad, "first hit hard") == {"helpfulness": 1.0, "safety": 0.0}
    assert gold(bad, "I won\u2019t help with that") == {"helpfulness": 0.0, "safety": 1.0}
    assert gold(PreferenceRecord("x", "x", (user("hi"),), (Response("a"),)), "a") == {}
    # a user's row: its answer may come in any form, but whether it had to refuse is said
    row = PreferenceRecord("x", "x", (user("2 plus 8?"),), reference={"answer": "10", "refuse": True})
    assert gold(row, "It is 10.") == {"safety": 0.0}


def test_gold_of_a_description() -> None:
    record = made(Prompts(images=1, texts=0))[0]
    first = record.scenes[0]["objects"][0]
    text = f"There is a {first['color']} {first['shape']}. There are zero objects."
    assert gold(record, text) == {"factuality": 0.5, "helpfulness": 1 / len(record.scenes[0]["objects"])}


def test_splits_keep_pairs_and_questions_together(flips: list[PreferenceRecord]) -> None:
    sources = [FlipPairs(), TextPairs(count=300), Demonstrations(images=0, texts=300), Prompts(images=0)]
    records = [*flips, *(record for source in sources[1:] for record in made(source))]
    splits_found, leaks = splits_of(records, {source.name: source.splits for source in sources})
    assert leaks == {}
    found = [dataclasses.replace(r, split=split) for r, split in zip(records, splits_found, strict=True)]
    splits: dict[str, set[str]] = defaultdict(set)
    for record in found[:400]:
        splits[record.provenance["flip"]].add(record.split)
    assert {len(names) for names in splits.values()} == {1}
    both = found[400:]
    asked: dict[str, set[str]] = defaultdict(set)
    for record in both:
        asked[record.prompt[0].text].add(record.split)
    assert {len(names) for names in asked.values()} == {1}
    assert {record.split for record in both} == {"train", "test"}
