"""Units, of which none is torn apart: a record, or the two of a flip pair; and luck that is the same for both."""

from __future__ import annotations

import hashlib

import numpy as np

from data_tools.hashes import mix, numbered
from data_tools.parts.index import Index


def units(index: Index, split_N: np.ndarray | None = None) -> np.ndarray:
    """A number for each of N records, the same for both of a flip pair; counted from 0, int64. With the records' splits
    only for both of one that lie in one split: halves in two of them are no pair to whoever looks at one.
    """
    paired = index["flip"].any(axis=1)
    flips, _ = numbered(index["flip"])
    if split_N is not None and len(index):
        names, split = np.unique(split_N.astype(str), return_inverse=True)
        flips = flips * len(names) + split
    apart = np.where(paired, flips, flips.max(initial=0) + 1 + np.arange(len(index)))
    return np.unique(apart, return_inverse=True)[1].astype(np.int64)


def luck(index: Index, seed: int, what: str) -> np.ndarray:
    """A number for each of N records that looks random; uint64.

    It hangs on the seed, on what it is for, and on the hash of the record's id or flip pair, and on nothing else: the
    same for both of a pair, whatever other records there are.
    """
    paired_N1 = index["flip"].any(axis=1, keepdims=True)
    keys = np.where(paired_N1, index["flip"], index["id"])
    mixed = keys[:, 0] ^ mix(keys[:, 1])
    for word in np.frombuffer(hashlib.sha256(f"{seed}/{what}".encode()).digest(), "<u8"):
        mixed = mix(mixed ^ word)
    return mixed
