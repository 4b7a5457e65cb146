"""A permutation of [0, n) for every key, computed at one place at a time: no list of n is made.

A Feistel network permutes the smallest domain of 4^half numbers that holds [0, n); where it leaves [0, n) it is applied
again until it comes back (cycle walking; Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"), less than
four times on the average, but for the smallest n. It takes integers of 64 bits alone, so it is the same on every
platform. It mixes; it hides nothing.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

WORD = 2**64 - 1
ROUNDS = 8
LEAST_HALF = 2  # bits; a network of fewer has too few permutations for sets of two or three
# odd constants of splitmix64 (Steele, Lea, Flood 2014, "Fast Splittable Pseudorandom Number Generators")
FIRST, SECOND = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@lru_cache(maxsize=4096)
def round_keys(name: str) -> tuple[int, ...]:
    """The network's round keys, each of 64 bits, from a name: SHA-512, so that neighbours share nothing."""
    digest = hashlib.sha512(name.encode()).digest()
    return tuple(int.from_bytes(digest[8 * i : 8 * i + 8], "big") for i in range(ROUNDS))


def permuted(place: int, size: int, keys: tuple[int, ...]) -> int:
    """Where the permutation of [0, size) of these keys sends `place`, one of [0, size)."""
    if size == 1:
        return 0
    half = max(LEAST_HALF, ((size - 1).bit_length() + 1) // 2)
    mask, shift = (1 << half) - 1, 64 - half
    while True:
        left, right = place >> half, place & mask
        for key in keys:
            mixed = (right ^ key) * FIRST & WORD
            mixed = ((mixed ^ mixed >> 32) * SECOND & WORD) >> shift
            left, right = right, left ^ mixed
        place = left << half | right
        if place < size:
            return place
