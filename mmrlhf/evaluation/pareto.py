"""Which points of a set no other beats on everything, and how much of the space they cover. All objectives:
more is better."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[Sequence[float]]) -> list[bool]:
    """Whether each of N points (K numbers each) is on the front: no other is at least as good everywhere and
    better somewhere. Equal points don't beat each other."""

    def beats(a: Sequence[float], b: Sequence[float]) -> bool:
        pairs = list(zip(a, b, strict=True))
        return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)

    return [not any(beats(other, point) for other in points) for point in points]


def hypervolume(points: Sequence[Sequence[float]], reference: Sequence[float]) -> float:
    """The volume between `reference` and N points of K >= 1 numbers: of all that some point beats and that
    beats the reference (Zitzler and Thiele 1999). Points that aren't above the reference everywhere cover
    nothing.

    Exact, by slicing along the last objective (While et al. 2006, "A faster algorithm for calculating
    hypervolume"); its cost grows with N^K, which is nothing for the few policies of a run.

    Raises:
        ValueError: a point has another number of objectives than the reference.
    """
    above = [
        [x - r for x, r in zip(point, reference, strict=True)]
        for point in points
        if all(x > r for x, r in zip(point, reference, strict=True))
    ]
    return _volume(above, len(reference))


def _volume(points: list[list[float]], size: int) -> float:
    """The volume between the origin and points above it, in their first `size` coordinates."""
    if not points:
        return 0.0
    if size == 1:
        return max(point[0] for point in points)
    ordered = sorted(points, key=lambda point: -point[size - 1])
    heights = [point[size - 1] for point in ordered] + [0.0]
    # between two heights the cut through the body is the volume of the points that reach at least as high
    return sum(
        (heights[i] - heights[i + 1]) * _volume(ordered[: i + 1], size - 1)
        for i in range(len(ordered))
        if heights[i] > heights[i + 1]
    )
