"""The picture of what scalarizations reach, through its own command line."""

import sys
from pathlib import Path

import pytest
from PIL import Image

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_it_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import plot_scalarizations

    monkeypatch.setattr(sys, "argv", ["plot_scalarizations.py", "--out", str(tmp_path / "drawn.png")])
    plot_scalarizations.main()
    with Image.open(tmp_path / "drawn.png") as image:
        assert image.size[0] > image.size[1] > 400
