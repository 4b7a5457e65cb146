"""docs/data.md: its own adapter, remedy and source work as they stand there, and it names what there is."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from data_tools.adapters import ADAPTERS
from data_tools.cli import main
from data_tools.remedies import REMEDIES

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "data.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("page", "members"), [("data_formats.md", ADAPTERS), ("data.md", REMEDIES)])
def test_the_pages_name_every_type(page: str, members: tuple) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    names = [member.model_fields["type"].default for member in members]
    assert [name for name in names if f"| `{name}` |" not in text] == []


def test_the_examples_of_ones_own_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, code in re.findall(r"```python\n# (my_\w+\.py)\n(.*?)```", GUIDE, re.DOTALL):
        Path(name).write_text(code)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my_short.py", "my_sums.py", "my_votes.py"]
    for number, color in enumerate(("red", "blue", "green")):
        Image.new("RGB", (8, 8), color).save(f"{number}.png")
    rows = [
        {"photo": "0.png", "question": "What color?", "up": "Red.", "down": "Blue."},
        {"photo": "1.png", "question": "What color?", "up": "Blue. " * 50, "down": "Red."},
        {"photo": "2.png", "question": "What color?", "up": "Green.", "down": "Red.", "votes": 0},
        {"photo": "lost.png", "question": "What color?", "up": "Green.", "down": "Red."},
    ]
    Path("votes.jsonl").write_text("\n".join(map(json.dumps, rows)))
    yaml = re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL)[-1]
    Path("mine.yaml").write_text(f"max_rejected: 0.5\n{yaml}")
    for command in (
        "convert --from my_votes:Votes votes.jsonl -o votes --set objective=safety --max-rejected 0.5",
        "build mine.yaml -o mine --workers 1",
    ):
        with pytest.raises(SystemExit) as stopped:
            main(command.split())
        assert stopped.value.code == 0
    said = capsys.readouterr().out
    assert "votes: built, 2 records" in said
    assert "mine: built, 21 records" in said  # 2 + 20 less a long one
    assert "filtered from votes: answers over 200 characters: 1" in said
    assert "rejected from votes: 1 x nobody voted" in said
    assert "rows of all: 22 in + 2 quarantined = 24 read" in said
