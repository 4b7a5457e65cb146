"""A conversation with a model about a picture, at the terminal."""

from __future__ import annotations

import math
import sys
from pathlib import Path

from data_tools.errors import UserError
from data_tools.images import ImageError, read_image
from data_tools.printing import say
from data_tools.schema import ImageRef, Message, PreferenceRecord, assistant, user
from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import PromptTooLong, encode_prompt
from mmrlhf.models.generate import generate
from mmrlhf.models.load import choose_device, load_vlm
from mmrlhf.models.vlm import VLM, decode
from mmrlhf.rewards.card import check_policy
from mmrlhf.rewards.scalarizers.asking import read_asks, wish, with_weights
from mmrlhf.terminal import console


class QuestionTooLong(UserError):
    """What was said and asked is longer than what the model reads."""


def converse(
    model: str,
    image: Path | None,
    question: str | None,
    temperature: float,
    max_new_tokens: int,
    weights: str | None = None,
) -> None:
    """Answers one question, or, without one, each line that is typed until an empty line or end of file. `weights`,
    such as "helpfulness=0.7,factuality=0.3", are told to a policy that was trained to read them.

    Raises:
        UserError: no such model or image, a reward model in place of a policy, an image that can't be read, weights for
            a model that reads none, or weights of an objective that it doesn't know.
    """
    check_policy(model)
    if not math.isfinite(temperature):
        raise UserError(f"--temperature {temperature}: needs a number from 0 on")
    if image is not None and not image.is_file():
        raise UserError(f"{image}: no such image file")
    refs = (ImageRef(path=str(image)),) if image else ()
    for ref in refs:
        try:
            read_image(ref)  # a bad picture is told before the model is loaded
        except ImageError as error:
            raise UserError(f"{image}: {error}") from error
    wanted = _wanted(model, weights)
    vlm = load_vlm(ModelConfig(path=model), choose_device())
    turns: list[Message] = []
    if question is not None:
        say(_answer(vlm, turns, refs, question, temperature, max_new_tokens, wanted))
        return
    if sys.stdin.isatty():
        console.print("Ask away; an empty line ends it.", style="dim")
    while True:
        try:
            line = console.input("> ") if sys.stdin.isatty() else input()
        except EOFError:
            return
        if not line.strip():
            return
        try:
            say(_answer(vlm, turns, refs, line, temperature, max_new_tokens, wanted))
        except QuestionTooLong as error:
            console.print(str(error), style="yellow", markup=False)


def _wanted(model: str, weights: str | None) -> dict[str, float] | None:
    """What a policy is told to weigh, as it was trained to read it: all objectives alike where nothing is said."""
    objectives = read_asks(model)
    if objectives is None:
        if weights is not None:
            raise UserError(
                f"--weights: {model} wasn't trained to read weights (scalarizer preference_conditioned)"
            )
        return None
    given: dict[str, float] = {}
    for item in weights.split(",") if weights else []:
        name, _, value = item.partition("=")
        try:
            given[name.strip()] = float(value)
        except ValueError:
            raise UserError(f"--weights {item}: write it as objective=number") from None
    return wish(given, objectives, "--weights")


def _answer(
    vlm: VLM,
    turns: list[Message],
    refs: tuple[ImageRef, ...],
    question: str,
    temperature: float,
    max_new_tokens: int,
    wanted: dict[str, float] | None,
) -> str:
    """Adds the question and the answer to `turns`; the picture stands before the first question."""
    turns.append(user(*range(len(refs)), question) if not turns else user(question))
    record = PreferenceRecord(id="chat", source="chat", prompt=tuple(turns), images=refs)
    try:
        prompt = encode_prompt(vlm, with_weights(record, wanted) if wanted else record)
    except PromptTooLong as error:
        turns.pop()
        raise QuestionTooLong(
            f"the question is too long: {str(error).removeprefix('record chat: ')}"
        ) from error
    room = max_new_tokens if vlm.context is None else vlm.context - len(prompt.input_ids)
    text = decode(vlm, generate(vlm, [prompt], min(max_new_tokens, room), temperature)[0])
    turns.append(assistant(text))
    return text
