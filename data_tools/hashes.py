"""Hashes that stand for ids, contents and names, alone and a million at once.

Two things with the same hash are taken for one. Of 16 bytes, the chance that any two among ten million that differ have
one is less than one in 10^24; of 8 bytes, which do where little hangs on it, one in 100,000.
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


def hash64(*parts: object) -> int:
    """A hash of some values that is the same on every machine, from 0 to 2^63 - 1."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "big") >> 1


def mix(values: np.ndarray) -> np.ndarray:
    """A bijection of 64 bits whose output looks random (the finaliser of MurmurHash3); uint64."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return values ^ (values >> np.uint64(33))
