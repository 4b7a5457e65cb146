"""A judge's verdict in words on two responses: which one is better, where it says so plainly.

A verdict is read sentence by sentence. A plain judgement is "the first response is better" as a sentence's main clause;
a tie is "equally good" and the like. All plain judgements must agree, and no other word that compares may point
elsewhere: a winner or a "better" anywhere, a "more" from the last judgement on. Whatever isn't plain is no verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Side = Literal[0, 1]
Verdict = Side | Literal["tie"]

_LONGEST = 2000  # characters of a sentence: no plain one is longer, and each word is looked up in it
_SENTENCE = re.compile(r"(?<=[.!?;])\s+|\n")
_MARKUP = re.compile(r"[*_`#>]+")
_SIDE = r"(?:the )?(?:(?P<order>first|second) (?:response|answer)|(?:response|answer) (?P<number>[12]))"
_JUDGED = re.compile(
    rf"\b{_SIDE} is (?:(?:the|a|bit|little|much|far|overall|also|still|therefore|thus|clearly|significantly|slightly"
    r"|considerably|substantially|generally|definitely|somewhat|marginally|strongly|obviously) ){0,3}"
    r"(?:better|superior|preferred|preferable)\b",
    re.IGNORECASE,
)
_TIED = re.compile(
    r"\bequally (?:good|bad|well|helpful)\b|\b(?:of|in) equal quality\b|\bis a tie\b|\bare tied\b",
    re.IGNORECASE,
)
# what may stand before a judgement, in its sentence
_LEAD = re.compile(
    r"(?:.*,(?: (?:so|and|thus|therefore|hence|overall|then))?"
    r"|(?:and |so )?(?:so|thus|therefore|hence|overall|consequently|ultimately|finally|however)"
    r"|(?:in (?:conclusion|summary|short|general|total)|as a result|to (?:conclude|sum up|summarize))"
    r"|(?:\w+ ){0,2}(?:verdict|answer|judge?ment|conclusion|decision|preference|result|choice|evaluation):"
    r"|(?:i|we) (?:\w+ )?(?:think|believe|find|judge|conclude)(?: that)?)?",
    re.IGNORECASE,
)
# words there that make it none
_OPEN = re.compile(
    r"\b(?:if|unless|whether|suppose|supposing|assuming|were|would|could|might|may|should|neither|nor|says?|said|saying"
    r"|claim\w*|argu\w+|hardly|false|untrue|doubt\w*|den(?:y|ies)|cannot|never|contrary|some|many)\b"
    r"|(?:\bnot|n't) (?:\w+ ){0,2}(?:that|because|think|believe|find|judge|conclude)\b",
    re.IGNORECASE,
)
_OPEN_TIE = re.compile(r"\b(?:no|not|almost|nearly|although|though|while)\b|n't\b", re.IGNORECASE)
# what may stand right behind a judgement: neither "better at colours" nor "better written" is about the whole
_BEHIND = re.compile(
    r"\s*(?:$|[.!:)\]]|,(?!\s*(?:or|if|only|unless|except|when|but only|according)\b)"
    r"|(?:than|over|to|because|since|as|due|by|and|here|overall|in general|response|answer|one|choice|option)\b)",
    re.IGNORECASE,
)
_WITHDRAWN = re.compile(
    r"(?:no|nope|not|wait|actually|on second thought|correction|just kidding|(?:that|this) is (?:false|wrong|not))\b",
    re.IGNORECASE,
)
_MENTION = re.compile(
    r"\b(?:(?P<order>first|second)|(?P<other>former|latter|(?<=\bthe )other)|(?:response|answer) (?P<number>[12]))\b",
    re.IGNORECASE,
)
_COMPLEMENT = re.compile(
    r"\b(?:than|to|with|unlike|over|from|of|by|as|against)(?: the| that of the)? $", re.IGNORECASE
)
_WHOLE = re.compile(
    r"\b(?P<up>better|best|superior|prefer\w*|winner|wins?|won|winning|outperform\w*|beats?|surpass\w*)\b"
    r"|\b(?P<down>worse|worst|inferior|los(?:es?|er|t))\b"
    r"|\b(?P<tie>ties?|tied|equal\w*|equivalent|comparable|on par)\b",
    re.IGNORECASE,
)
_PARTLY = re.compile(
    r"\b(?P<up>more|stronger|clearer|richer|closer|greater|higher|deeper)\b|\b(?P<down>less|fewer|weaker|lower)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"\b(?:it|its|this|which)\b", re.IGNORECASE)  # of what was spoken of before
_DENIED = re.compile(r"(?:\b(?:not|no|neither|nor|never|cannot)|n't) (?:\w+ ){0,3}$", re.IGNORECASE)


@dataclass(frozen=True)
class _Judgement:
    """What a sentence says plainly, and where in it that stands."""

    verdict: Verdict
    start: int
    stop: int


def read_verdict(text: str) -> Verdict | None:
    """The index of the response that the verdict says plainly is better, "tie", or None where it isn't plain."""
    sentences = [sentence.strip() for sentence in _SENTENCE.split(_MARKUP.sub("", text)) if sentence.strip()]
    if any(len(sentence) > _LONGEST for sentence in sentences):
        return None
    judged = [(place, judgement) for place, one in enumerate(sentences) for judgement in _judgements(one)]
    verdicts = {judgement.verdict for _, judgement in judged}
    if len(verdicts) != 1:
        return None
    (verdict,) = verdicts
    last = judged[-1][0]
    for place, sentence in enumerate(sentences):
        own = [judgement for at, judgement in judged if at == place]
        if place > last and _WITHDRAWN.match(sentence):
            return None
        if not all(
            _agrees(pointed, verdict)
            for pointed in _pointed(sentence, own, verdict == "tie" or place >= last)
        ):
            return None
    return verdict


def _judgements(sentence: str) -> Iterator[_Judgement]:
    """The plain judgements of a sentence; one that is asked, limited or denied is none."""
    if sentence.endswith("?"):
        return
    for match in _JUDGED.finditer(sentence):
        before = sentence[: match.start()].strip()
        if _LEAD.fullmatch(before) and not _OPEN.search(before) and _BEHIND.match(sentence, match.end()):
            yield _Judgement(_side(match), match.start(), match.end())
    for match in _TIED.finditer(sentence):
        before = sentence[: match.start()]
        named = {
            mention["order"] or mention["other"] or mention["number"]
            for mention in _MENTION.finditer(sentence)
        }
        if len(named) != 1 and not _OPEN.search(before) and not _OPEN_TIE.search(before):
            yield _Judgement("tie", match.start(), match.end())


def _side(match: re.Match[str]) -> Side:
    return 1 if (match["number"] or match["order"].lower()) in ("2", "second") else 0


def _pointed(sentence: str, own: list[_Judgement], partly: bool) -> Iterator[Verdict | None]:
    """What each comparing word outside of the sentence's own judgements speaks for; None where that isn't plain. Words
    of a part only, such as "more", count where `partly` says so, and only where a response is named.
    """
    for pattern in (_WHOLE, _PARTLY) if partly else (_WHOLE,):
        for word in pattern.finditer(sentence):
            if any(judgement.start <= word.start() < judgement.stop for judgement in own):
                continue
            if word.groupdict().get("tie"):
                yield "tie"
                continue
            mention = _subject(sentence, word)
            if mention is None:
                if pattern is _WHOLE and not _PRONOUN.search(sentence, 0, word.start()):
                    yield None
                continue
            if mention["other"] or _DENIED.search(sentence, 0, word.start()):
                yield None
            else:
                side = _side(mention)
                yield side if word["up"] else 0 if side else 1


def _subject(sentence: str, word: re.Match[str]) -> re.Match[str] | None:
    """The response that a comparing word is about: the nearest that is named before it, and not as what it is compared
    with, else the first one behind it.
    """
    after = None
    before = None
    for mention in _MENTION.finditer(sentence):
        if mention["order"] and mention.start() == 0 and sentence[mention.end() : mention.end() + 1] == ",":
            continue  # "First, ..."
        if mention.start() > word.start():
            after = after or mention
        elif not _COMPLEMENT.search(sentence, 0, mention.start()):
            before = mention
    return before or (after if word.re is _WHOLE else None)


def _agrees(pointed: Verdict | None, verdict: Verdict) -> bool:
    return pointed == verdict and pointed is not None
