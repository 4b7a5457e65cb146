"""Greedy answers of a policy, ours beside those of a server that serves the same folder (vLLM or another).

    python examples/compare_with_server.py runs/quickstart/ppo/balanced/model --served policy --url http://127.0.0.1:8000

A server may scale pictures, lay out prompts or name weights in ways of its own, and then answers well enough not to be
noticed, and otherwise than the model that was trained. This asks it the same prompts, each with a picture, over
`/v1/chat/completions`, and compares the answers' texts and, where the server tells them, the prompts' tokens.
docs/serving.md says how a policy is served. Exits with 1 where a prompt differs, or where fewer than `--at-least` of
the answers are the same.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import urllib.request
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_tools.images import data_url
from data_tools.schema import Message, PreferenceRecord
from data_tools.shards import open_records
from data_tools.synth.prompts import Prompts
from mmrlhf.config import ModelConfig
from mmrlhf.models.batch import encode_prompt
from mmrlhf.models.generate import generate
from mmrlhf.models.load import choose_device, load_vlm
from mmrlhf.models.vlm import decode


def main() -> None:
    """Reads the options, asks both, and prints how many answers agree and which don't."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="folder of the model, the one that is served")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where the server listens")
    parser.add_argument("--served", help="the model's name at the server (default: the folder)")
    parser.add_argument("--data", type=Path, help="a data set with pictures (default: generated scenes)")
    parser.add_argument("--split", default="test", help="split of --data")
    parser.add_argument("--count", type=int, default=100, help="prompts, each with a picture")
    parser.add_argument("--seed", type=int, default=0, help="of the generated scenes")
    parser.add_argument("--max-new-tokens", type=int, default=48)
    parser.add_argument(
        "--at-least", type=float, default=0.99, help="share of the same answers that is asked for"
    )
    options = parser.parse_args()
    records = pictured(options)
    ours = answer_locally(options.model, records, options.max_new_tokens)
    name = options.served or options.model
    theirs = [ask(options.url, name, record, options.max_new_tokens) for record in records]
    same, prompts_differ = 0, False
    for record, our_answer, server_answer in zip(records, ours, theirs, strict=True):
        same += our_answer.text == server_answer.text
        if our_answer.text != server_answer.text:
            print(f"{record.id}\n  ours:   {our_answer.text!r}\n  server: {server_answer.text!r}")
        if server_answer.prompt_ids not in (None, our_answer.prompt_ids):
            prompts_differ = True
            print(
                f"{record.id}: prompt\n  ours:   {our_answer.prompt_ids}\n  server: {server_answer.prompt_ids}"
            )
    texts = {answer.text for answer in ours}
    print(f"{same} of {len(records)} answers are the same ({len(texts)} different texts)")
    print("the prompts' tokens " + prompts_verdict(theirs, prompts_differ))
    sys.exit(prompts_differ or same < options.at_least * len(records))


@dataclass(frozen=True)
class Answer:
    """A greedy answer, and the token ids of its prompt, placeholders of the picture expanded (None: not told)."""

    text: str
    prompt_ids: list[int] | None


def prompts_verdict(answers: list[Answer], differ: bool) -> str:
    """How the prompts compare, in words."""
    if any(answer.prompt_ids is None for answer in answers):
        return "aren't told by the server"
    return "differ" if differ else "are the same"


def pictured(options: argparse.Namespace) -> list[PreferenceRecord]:
    """The first `--count` records with a picture."""
    records: Iterable[PreferenceRecord] = Prompts(images=options.count, texts=1).generate(options.seed)
    if options.data:
        records = open_records(options.data, options.split)
    with_picture = (record for record in records if record.images)
    return list(itertools.islice(with_picture, options.count))


def answer_locally(model: str, records: list[PreferenceRecord], max_new_tokens: int) -> list[Answer]:
    """The likeliest tokens by our own sampler."""
    vlm = load_vlm(ModelConfig(path=model), choose_device())
    prompts = [encode_prompt(vlm, record) for record in records]
    texts = [decode(vlm, ids) for ids in generate(vlm, prompts, max_new_tokens, temperature=0)]
    return [Answer(text, prompt.input_ids.tolist()) for text, prompt in zip(texts, prompts, strict=True)]


def ask(url: str, model: str, record: PreferenceRecord, max_new_tokens: int) -> Answer:
    """The server's answer at temperature 0."""
    body = {
        "model": model,
        "messages": [message_of(message, record) for message in record.prompt],
        "temperature": 0,
        "max_tokens": max_new_tokens,
        "return_token_ids": True,  # vLLM's; servers that don't know it ignore it
    }
    request = urllib.request.Request(
        f"{url.rstrip('/')}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as response:
        reply = json.load(response)
    return Answer(reply["choices"][0]["message"]["content"] or "", reply.get("prompt_token_ids"))


def message_of(message: Message, record: PreferenceRecord) -> dict[str, Any]:
    """A message in the form of OpenAI's API, with pictures as data URLs where they stand."""
    parts: list[dict[str, Any]] = []
    for piece in message.parts:
        if piece.image is None:
            parts.append({"type": "text", "text": piece.text})
        else:
            url = data_url(record.images[piece.image])
            parts.append({"type": "image_url", "image_url": {"url": url}})
    return {"role": message.role, "content": parts}


if __name__ == "__main__":
    main()
