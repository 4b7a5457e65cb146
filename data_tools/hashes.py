"""Hashes of 16 bytes that stand for ids, contents and names, alone and a million at once.

Two things with the same hash are taken for one: among ten million, the chance that any two that differ have one is less
than one in 10^24.
"""

from __future__ import annotations

import hashlib

import numpy as np


def hash16(text: str) -> bytes:
    """The first 16 bytes of the text's sha256; half a character in it counts as what escapes it."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).digest()[:16]


def as_hashes(data: bytes | bytearray) -> np.ndarray:
    """N hashes that stand one behind the other, as an array (N, 2) of uint64 that sorts as the bytes do."""
    return np.frombuffer(bytes(data), dtype=">u8").astype(np.uint64).reshape(-1, 2)


def numbered(hash_N2: np.ndarray) -> tuple[np.ndarray, int]:
    """A number for each of N hashes, equal for equal ones and counted from 0 in the order of the hashes; and how many
    differ.
    """
    order = np.lexsort((hash_N2[:, 1], hash_N2[:, 0]))
    new = np.any(np.diff(hash_N2[order], axis=0) != 0, axis=1)
    number_N = np.empty(len(order), dtype=np.int64)
    number_N[order] = np.concatenate([[0], np.cumsum(new)]) if len(order) else []
    return number_N, int(new.sum()) + min(1, len(order))
