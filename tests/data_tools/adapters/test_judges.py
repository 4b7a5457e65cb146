"""Every label says who judged: the format's true default, or the name that the user gives."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from test_each_recognised import FILES, TYPES, owner

from data_tools.adapters.base import FileSource
from data_tools.schema import PreferenceRecord
from data_tools.source import Rejected

# by the cards and papers of the sets; the rows of a user's own sets don't say it
JUDGES = {
    "columns": "unknown",
    "messages": "unknown",
    "rl_prompts": "unknown",
    "sharegpt": "unknown",
    "align_anything": "unknown",
    "arena": "human",
    "argilla": "human",
    "helpsteer2_preference": "human",
    "label_studio": "human",
    "llava_critic": "gpt-4o",
    "mmpr": "construction",
    "multipref": "human",
    "nectar": "gpt-4",
    "povid": "construction",
    "skywork_reward": "mixed",
    "tulu3": "gpt-4o",
    "beavertails_v": "unknown",
    "helpsteer": "human",
    "helpsteer3": "human",
    "hh_rlhf": "human",
    "llamafactory": "unknown",
    "llava_rlhf": "human",
    "mm_rlhf": "human",
    "mm_rlhf_ratings": "human",
    "nlvr": "human",
    "pku_saferlhf": "human",
    "rlaif_v": "model",
    "rlhf_v": "human",
    "spa_vl": "model",
    "trl": "unknown",
    "ultrafeedback": "gpt-4",
    "vlfeedback": "gpt-4v",
}
FIXED = {"pku_saferlhf": {"human-and-model"}}  # judges of other labels of the same rows


def judges(config: FileSource) -> Iterator[str]:
    """The judge of every label of the fixture but of single votes, whose judges have names of their own."""
    for read in config.read(0):
        for record in () if isinstance(read, Rejected) else read:
            assert isinstance(record, PreferenceRecord)
            yield from (
                label.judge
                for labels in (
                    record.comparisons,
                    record.ratings,
                    record.rankings,
                    record.corrections,
                    record.critiques,
                )
                for label in labels
            )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_labels_name_the_judge(path: Path) -> None:
    adapter = owner(path)
    kind = str(adapter.model_fields["type"].default)
    if not adapter.judged:
        assert list(judges(adapter(name="x", path=path))) == []
        with pytest.raises(
            ValueError, match="judge does nothing, since nothing is judged in rows of this format"
        ):
            adapter(name="x", path=path, judge="somebody")
        return
    for settings, judge in (({}, JUDGES[kind]), ({"judge": "somebody"}, "somebody")):
        told = set(judges(adapter(name="x", path=path, **settings)))
        numbered = {
            name for name in told if name.startswith(f"{judge}-") and name[len(judge) + 1 :].isdigit()
        }
        assert told - numbered - FIXED.get(kind, set()) <= {judge}, (kind, told)


def test_every_adapter_has_a_judge_of_its_own() -> None:
    assert {kind: adapter.model_fields["judge"].default for kind, adapter in TYPES.items()} == JUDGES
