"""What all tests share: one thread, no network. Files whose tests start processes of their own come first, so that on
several cores none is left alone with them at the end."""

import os

import pytest

LONG = ("test_processes.py", "test_kill.py")

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONG)
