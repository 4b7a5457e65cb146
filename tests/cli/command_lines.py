"""What the tests of command lines share."""

from collections.abc import Callable

Tell = Callable[..., tuple[int, str, str]]

DATA = {
    "sources": [
        {"type": "demonstrations", "images": 8, "texts": 0},
        {"type": "flip_pairs", "count": 6},
        {"type": "prompts", "images": 4, "texts": 4},
    ]
}


def is_clear(code: int, err: str, *words: str) -> None:
    """A mistake of the user: code 2, and everything that helps in the message."""
    assert code == 2, err
    assert "Traceback" not in err
    assert err.count("error: ") == 1  # behind the lines that say how far the run is
    message = err[err.index("error: ") :]
    for word in words:
        assert word in message, err


def code_and_err(told: tuple[int, str, str]) -> tuple[int, str]:
    return told[0], told[2]
