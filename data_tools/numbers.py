"""Numbers in configs that pydantic would take and nobody means: true as 1, and whole numbers beyond all use."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Annotated, Any, Union, get_args, get_origin

LARGEST = 2**31 - 1  # of a whole number whose field names no bound
BOUNDED = 2**63 - 1  # of one whose field does, which tells of smaller ones


def check_numbers(value: Any, annotation: Any, metadata: list[Any]) -> None:
    """Sees that the numbers in a raw value may be meant for a field of that type.

    Raises:
        ValueError: true or false stands where a number belongs, or a whole number is too large.
    """
    kinds = set(_kinds(annotation))
    if bool in kinds or not kinds & {int, float}:
        return
    bounded = any(hasattr(item, "le") or hasattr(item, "lt") for item in _all(metadata, annotation))
    largest = BOUNDED if bounded else LARGEST
    for number in _scalars(value):
        if isinstance(number, bool):
            raise ValueError(f"needs a number, not {str(number).lower()}")
        if float not in kinds and isinstance(number, int | float) and abs(number) > largest:
            raise ValueError(f"is beyond all use; at most {largest:,}")


def _kinds(annotation: Any) -> Iterator[Any]:
    """The types of the values in a field: of a list's items, of a mapping's values, of each member of a union."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from _kinds(arguments[0])
    elif origin is dict:
        yield from _kinds(arguments[1])
    elif origin in (Union, types.UnionType, list, tuple):
        for argument in arguments:
            yield from _kinds(argument)
    else:
        yield annotation


def _all(metadata: list[Any], annotation: Any) -> Iterator[Any]:
    """What is said of a field's values: of the field, and of the types inside its own."""
    for item in metadata:
        yield item
        yield from getattr(item, "metadata", ())  # Annotated[int, Field(ge=1)]
    for argument in get_args(annotation):
        yield from _all(list(getattr(argument, "__metadata__", ())), argument)


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _scalars(item)
    else:
        yield value
