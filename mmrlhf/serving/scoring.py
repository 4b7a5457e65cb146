"""Between requests and the reward model: rows of a request's items, and what the model says of rows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from data_tools.errors import UserError
from data_tools.images import ImageError, decode_image, decoded_size
from data_tools.schema import PreferenceRecord, content_hash
from mmrlhf.models.batch import encode_answer, encode_prompt
from mmrlhf.rewards.model import RewardModel
from mmrlhf.serving.settings import ServerSettings
from mmrlhf.serving.wire import Item, Refused
from mmrlhf.tensors import hash_tensors
from mmrlhf.types import EncodedPrompt, Row

TEXT_A_TOKEN = 64  # characters; text of more than so many for each token allowed isn't even cut into tokens


@dataclass(frozen=True)
class Verdict:
    """What the reward model says of one answer, an entry an objective."""

    score: list[float]  # normalised means, 0 where not judged
    std: list[float]  # how unsure the model is
    judged: list[bool]  # the objective applies to such a prompt


class Scorer:
    """A reward model as the server uses it. `read` and `judge` may be at work at the same time, each in one thread."""

    def __init__(self, reward_model: RewardModel, settings: ServerSettings) -> None:
        self.model, self.settings = reward_model, settings
        self.limits = settings.image_limits
        heads = hash_tensors(sorted(reward_model.heads.state_dict().items()))
        self.card: dict[str, Any] = dataclasses.asdict(reward_model.card)
        # any training moves the heads, so they tell models apart; all weights of a large one take long to hash
        text = json.dumps([self.card, heads, reward_model.vlm.reading], sort_keys=True)
        self.fingerprint = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    @property
    def objectives(self) -> list[str]:
        """The names of what is judged, in the order of every answer."""
        return list(self.model.card.objectives)

    def read(self, items: Sequence[Item]) -> list[Row]:
        """The items as the model reads them; those of one prompt with the same images share it.

        Raises:
            Refused: an item that can't be read (422): a damaged image or one over the limits, a prompt that the model's
                processor doesn't take, or too many tokens; or all images together have too many pixels (413).
        """
        keys = [content_hash(item.record) for item in items]
        self._check_pixels({key: item.record for key, item in zip(keys, items, strict=True)}.values())
        prompts: dict[str, EncodedPrompt] = {}
        rows = []
        for number, (key, item) in enumerate(zip(keys, items, strict=True)):
            try:
                if key not in prompts:
                    prompts[key] = self._prompt(item.record)
                rows.append(Row(prompts[key], self._answer(item, prompts[key])))
            except UserError as error:
                # a client knows of items, not of records
                raise Refused(422, str(error).removeprefix("record "), number) from error
        return rows

    def judge(self, rows: Sequence[Row]) -> list[Verdict | Refused]:
        """What the model says of each row, or why it can't: a reward that isn't finite spoils no other row."""
        rewards = self.model.judge(
            rows,
            self.settings.max_batch,
            finite=False,
            micro_batch_tokens=self.settings.max_batch_tokens,
        )
        fine_BK = (rewards.mean_BK.isfinite() & rewards.std_BK.isfinite()) | ~rewards.judged_BK
        verdicts: list[Verdict | Refused] = []
        for score, std, judged, fine in zip(
            rewards.mean_BK.tolist(),
            rewards.std_BK.tolist(),
            rewards.judged_BK.tolist(),
            fine_BK.tolist(),
            strict=True,
        ):
            if all(fine):
                verdicts.append(Verdict(score, std, judged))
            else:
                k = fine.index(False)
                verdicts.append(
                    Refused(422, f"the reward for {rewards.objectives[k]} is {score[k]} +- {std[k]}")
                )
        return verdicts

    def _check_pixels(self, records: Iterable[PreferenceRecord]) -> None:
        """Adds up the pixels of all images as they will be decoded, by their headers: of a prompt that several items
        share once. Images of one prompt are in memory together, since the processor takes them together."""
        total = 0
        for record in records:
            for ref in record.images:
                assert ref.data is not None
                total += math.prod(decoded_size(ref.data, self.limits) or (0, 0))
        if total > self.settings.max_request_pixels:
            raise Refused(
                413,
                f"the images of the request have {total:,} pixels; the server takes at most "
                f"{self.settings.max_request_pixels:,} in a request",
            )

    def _prompt(self, record: PreferenceRecord) -> EncodedPrompt:
        self._check_length(record.id, sum(len(message.text) for message in record.prompt))
        images = []
        for i, ref in enumerate(record.images):
            assert ref.data is not None
            try:
                images.append(decode_image(ref.data, self.limits))
            except ImageError as error:
                raise ImageError(f"{record.id}.images.{i}: {error}") from error
        return encode_prompt(self.model.vlm, record, self.settings.max_tokens, images)

    def _answer(self, item: Item, prompt: EncodedPrompt) -> Tensor:
        name = item.record.id
        self._check_length(name, len(item.response))
        ids = encode_answer(self.model.vlm, item.response)
        count = len(prompt.input_ids) + len(ids)
        if count > self.settings.max_tokens:
            raise UserError(
                f"{name}: {count} tokens of prompt and answer are over the limit of {self.settings.max_tokens}"
            )
        return ids

    def _check_length(self, name: str, characters: int) -> None:
        if characters > TEXT_A_TOKEN * self.settings.max_tokens:
            raise UserError(
                f"{name}: a text of {characters:,} characters is over the limit of {self.settings.max_tokens} tokens"
            )
