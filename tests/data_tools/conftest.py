"""What several tests of the data tools need."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

REAL_DATA = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture
def real_data() -> Callable[[str], Path]:
    """A file of the public data beside the checkout; skips where it isn't there."""

    def find(name: str) -> Path:
        path = REAL_DATA / name
        if not path.exists():
            pytest.skip(f"needs the public data in {REAL_DATA}, which is not part of the project")
        return path

    return find
