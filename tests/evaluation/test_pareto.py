import random

import pytest

from mmrlhf.evaluation.pareto import hypervolume, pareto_front


def test_front_of_three_kinds_of_points():
    # (1, 1) is beaten by (2, 1); the others trade off
    assert pareto_front([(1, 1), (2, 1), (1, 2), (0, 3)]) == [False, True, True, True]


def test_front_keeps_both_of_equal_points():
    assert pareto_front([(1.0, 2.0), (1.0, 2.0), (0.0, 2.0)]) == [True, True, False]


def test_front_of_one_objective_is_the_largest():
    assert pareto_front([(1,), (3,), (2,)]) == [False, True, False]


def test_front_of_nothing():
    assert pareto_front([]) == []


@pytest.mark.parametrize(
    ("points", "reference", "expected"),
    [
        ([(2,), (5,), (3,)], (1,), 4.0),
        # 3 x 1 and 1 x 3 overlap in 1 x 1
        ([(3, 1), (1, 3)], (0, 0), 5.0),
        # 2 x 2 within 3 x 1 adds 2 x 1, (1, 3) adds 1 x 1: 3 + 2 + 1
        ([(3, 1), (2, 2), (1, 3)], (0, 0), 6.0),
        ([(3, 1), (2, 2), (1, 3)], (-1, 0), 9.0),
        # a box of 2 x 2 x 1 and one of 1 x 1 x 3, overlapping in 1 x 1 x 1
        ([(2, 2, 1), (1, 1, 3)], (0, 0, 0), 6.0),
        # the corners of a cube, each 2 in one direction and 1 in the others: 1 + 3
        ([(2, 1, 1), (1, 2, 1), (1, 1, 2)], (0, 0, 0), 4.0),
        ([(1, 1), (1, 1)], (0, 0), 1.0),
        ([(1, -1)], (0, 0), 0.0),
        ([(1, 0)], (0, 0), 0.0),
        ([], (0, 0), 0.0),
    ],
)
def test_hypervolume_by_hand(points, reference, expected):
    assert hypervolume(points, reference) == pytest.approx(expected)


def test_hypervolume_agrees_with_random_darts():
    rng = random.Random(0)
    points = [tuple(rng.random() for _ in range(4)) for _ in range(6)]
    darts = [tuple(rng.random() for _ in range(4)) for _ in range(20_000)]
    inside = sum(any(all(d <= x for d, x in zip(dart, p, strict=True)) for p in points) for dart in darts)
    # the deviation of such an estimate is at most 0.5 / sqrt(20000) = 0.0035
    assert hypervolume(points, (0, 0, 0, 0)) == pytest.approx(inside / 20_000, abs=0.014)


def test_hypervolume_refuses_other_dimensions():
    with pytest.raises(ValueError, match="zip"):
        hypervolume([(1, 2, 3)], (0, 0))
