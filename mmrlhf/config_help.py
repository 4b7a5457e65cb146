"""`mmrlhf config`: every setting with its type, default and description, those of plug-ins too."""

from __future__ import annotations

import difflib
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.table import Table

from data_tools.errors import UserError
from data_tools.printing import PlainConsole, styled
from mmrlhf.config import RunConfig

Model = type[BaseModel]
WORD = 2**63  # a bound of the machine's, which tells a reader nothing
SIGNS = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
NAMES = {str: "text", Path: "path", type(None): "null"}


def print_settings(name: str | None) -> None:
    """Prints the settings of a section (dotted path), or the run's own; of a plug-in family those of each member; or
    one setting.

    Raises:
        UserError: there is no such section or setting.
    """
    path = name or ""
    section, _, key = path.rpartition(".")
    above, _ = _find(section)
    one = above is not None and key in above.model_fields and key not in _sections(above)
    model, members = (above, dict[str, Model]()) if one else _find(path)
    console = PlainConsole()
    if model:
        console.print(_table(section, model, key) if one else _table(path, model))
    for member, plugin in members.items():
        console.print(_table(f"{name}.{member}", plugin))


def _find(name: str) -> tuple[Model | None, dict[str, Model]]:
    """The section that a path leads to: a config, or the members of a plug-in family by their type.

    Raises:
        UserError: it leads to none.
    """
    model: Model | None = RunConfig
    members: dict[str, Model] = {}
    for key in name.split(".") if name else []:
        if key.isdigit():
            continue  # an index of a list, as mistakes name it: ppo.variants.0
        below = dict(members) if model is None else _sections(model)
        if key not in below:
            raise UserError(
                f"config {name}: {key!r} is no section; there are {', '.join(below) or 'none'}{_near(key, below)}"
            )
        if model is None:
            model, members = members[key], {}
        else:
            info = model.model_fields[key]
            members = _members(info)
            model = None if members else _model_in(info.annotation)
    return model, members


def _near(key: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    return f". Did you mean {near[0]!r}?" if near else ""


def _sections(model: Model) -> dict[str, FieldInfo]:
    """The fields below which there are settings."""
    return {
        key: info
        for key, info in model.model_fields.items()
        if _members(info) or _model_in(info.annotation) is not None
    }


def _members(info: FieldInfo) -> dict[str, Model]:
    """The members of a field's plug-in family by their type; they are in the metadata of its annotation."""
    return next((m.members for m in _metadata(info) if hasattr(m, "members")), {})


def _metadata(info: FieldInfo) -> list[Any]:
    """A field's metadata, and that of what it is a list of."""

    def nested(annotation: Any) -> list[Any]:
        own = list(getattr(annotation, "__metadata__", ()))
        return own + [item for argument in get_args(annotation) for item in nested(argument)]

    return [*info.metadata, *nested(info.annotation)]


def _model_in(annotation: Any) -> Model | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation if annotation.model_fields else None
    return next((found for item in get_args(annotation) if (found := _model_in(item))), None)


def _table(name: str, model: Model, only: str | None = None) -> Table:
    about = _summary(model)
    table = Table("setting", "type", "default", "what it does", box=None, title_justify="left")
    table.title = f"{name}: {about}" if name else about
    for key, info in model.model_fields.items():
        if only not in (None, key):
            continue
        more = f"mmrlhf config {f'{name}.' if name else ''}{key}" if key in _sections(model) else ""
        table.add_row(key, _type(info), _default(info), _about(info))
        if more:
            table.add_row("", "", "", styled(more, "dim"))
    return table


def _about(info: FieldInfo) -> str:
    nested = None if _members(info) else _model_in(info.annotation)
    return info.description or (_summary(nested) if nested else "")


def _summary(model: Model) -> str:
    """The first paragraph of a section's docstring, in one line."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _type(info: FieldInfo) -> str:
    if members := _members(info):
        one = "one of " + ", ".join(members)
        return f"list: {one}" if get_origin(info.annotation) is list else one
    return _type_name(info.annotation, info.metadata)


def _type_name(annotation: Any, metadata: Sequence[Any] = ()) -> str:
    """A type in words, with the bounds in its metadata: "int >= 1", "list of text"."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_name(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(_type_name(item, metadata) for item in arguments)
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin is list:
        return f"list of {_type_name(arguments[0])}"
    if origin is tuple:
        return ", ".join(_type_name(item) for item in arguments)
    if origin is dict:
        return f"{_type_name(arguments[1])}, by {_type_name(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    name = NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))
    return " ".join([name, *(_bounds(metadata) if annotation in (int, float) else ())])


def _bounds(metadata: Sequence[Any]) -> list[str]:
    found: list[str] = []
    for item in metadata:
        for inner in getattr(item, "metadata", ()):  # Annotated[int, Field(ge=1)]
            found += _bounds([inner])
        bounds = {sign: getattr(item, key) for key, sign in SIGNS.items() if hasattr(item, key)}
        found += [f"{sign} {_number(bound)}" for sign, bound in bounds.items() if bound < WORD]
    return found


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    default = info.default
    if default is PydanticUndefined:
        default = info.get_default(call_default_factory=True, validated_data={})
    first = default[0] if isinstance(default, list) and default else default
    if isinstance(first, BaseModel):
        return "..."
    return "null" if default is None else str(default)
