"""Texts that are already under a model's chat template: they would be put under one twice, with the first one's marks
taken apart as words, so their rows are refused.

Only what frames a text counts, its beginning and its end: a question about `<|im_start|>` is a question.
"""

from __future__ import annotations

import re

from data_tools.adapters.row_error import RowError

_BEGIN = re.compile(
    r"\s*(?:<s>|<bos>|<\|endoftext\|>|<\|begin_of_text\|>)?\s*"
    r"(<\|im_start\|>|\[INST\]|<<SYS>>|<\|start_header_id\|>|<start_of_turn>|<\|header_start\|>|<\|turn>"
    r"|<\|(?:user|system|assistant|developer)\|>|\[gMASK\])"
)
_ALONE = re.compile(r"\s*(<bos>|<\|begin_of_text\|>|<\|startoftext\|>)")
_END = re.compile(
    r"(<\|im_end\|>|\[/INST\]|<\|eot_id\|>|<\|eot\|>|<\|end_of_text\|>|<end_of_turn>|<turn\|>|<eos>|<\|endoftext\|>"
    r"|<\|end\|>|</s>)\s*\Z"
)
_SPEAKERS = (
    re.compile(r"(?:\A|\s)USER:\s.*\s(ASSISTANT:)\s*\Z", re.DOTALL),
    re.compile(r"(?:\A|\n)### ?(?:Human|User):\s.*\n(### ?Assistant:)\s*\Z", re.DOTALL),
    re.compile(r"(?:\A|\n)### ?Instruction:\s.*\n(### ?Response:)\s*\Z", re.DOTALL),
)
_PICTURES = re.compile(
    r"<\|vision_start\|>|<\|image_pad\|>|<\|image\|>|<start_of_image>|<image_soft_token>|<\|image_\d+\|>|\[IMG\]"
    r"|<fake_token_around_image>|<IMG_CONTEXT>|<ImageHere>"
)


def template_mark(text: str) -> str | None:
    """The mark of a chat template that the text begins or ends with; None where there is none."""
    for pattern in (_BEGIN, _ALONE):
        if begin := pattern.match(text):
            return begin[1]
    end = _END.search(text[-200:])
    if end and not (end[1] == "</s>" and "<s>" in text):  # struck-out words of HTML end so, too
        return end[1]
    return next((found[1] for pattern in _SPEAKERS if (found := pattern.search(text))), None)


def refuse_templated(text: str, what: str) -> None:
    """Raises RowError where the text is under a chat template; `what` names it."""
    mark = template_mark(text)
    if mark is not None:
        raise RowError(
            f"{what} is under a chat template already: it begins or ends with {mark}; give the bare text, or messages "
            "with roles"
        )


def refuse_picture_tokens(text: str) -> None:
    """Raises RowError where the text of a row with pictures marks their places by a model's own token."""
    if found := _PICTURES.search(text):
        raise RowError(
            f"a text marks a picture's place by a model's own token, {found[0]}; write <image> there"
        )
