"""Code of a checkpoint, such as its chat template, that may take for ever is stopped."""

from __future__ import annotations

import contextlib
import ctypes
import threading
from collections.abc import Iterator


class TookTooLong(Exception):
    """It did."""


@contextlib.contextmanager
def deadline(seconds: float) -> Iterator[None]:
    """Raises TookTooLong in this thread where what is done meanwhile takes longer. Python code alone is stopped: a call
    into a library ends first."""
    thread = ctypes.c_ulong(threading.get_ident())
    lock = threading.Lock()
    done = False

    def stop() -> None:
        with lock:
            if not done:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TookTooLong))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            done = True
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
        timer.cancel()
