"""What loading tries out of a family, on those that fail it."""

import pytest
import torch
from model_samples import ANSWERS, logprobs, picture, record, rows_of

from mmrlhf.config import ModelConfig
from mmrlhf.models.load import load_vlm


@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-4), ("bfloat16", 0.1)])
def test_a_row_that_reads_the_first_rows_picture_is_seen_in_any_precision(checkpoint, dtype, close) -> None:
    """Molmo 2 names patches by their number in a processor's call, so that every row of a plain batch reads the first
    row's; its pictures are encoded one prompt at a time instead."""
    vlm = load_vlm(ModelConfig(path=checkpoint("molmo2"), dtype=dtype))
    assert vlm.one_by_one
    assert vlm.apart_because
    shown = [picture("red"), picture("blue"), picture("green")]
    records = [record(str(i), 0, "What color?", images=[image]) for i, image in enumerate(shown)]
    rows = rows_of(vlm, records, ANSWERS[:3])
    for row, together in zip(rows, logprobs(vlm, rows), strict=True):
        torch.testing.assert_close(together, logprobs(vlm, [row])[0], rtol=close, atol=close)
