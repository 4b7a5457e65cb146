"""`mmrlhf config`: every setting with its type, default and description."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.table import Table

from data_tools.errors import UserError
from mmrlhf.config import RunConfig


def print_settings(name: str | None) -> None:
    """Prints the settings of a section (dotted path), or the run's own.

    Raises:
        UserError: there is no such section.
    """
    model: type[BaseModel] = RunConfig
    for key in name.split(".") if name else []:
        info = model.model_fields.get(key)
        nested = _model_in(info.annotation) if info else None
        if nested is None:
            sections = [k for k, f in model.model_fields.items() if _model_in(f.annotation)]
            raise UserError(
                f"config {name}: {key!r} is no section; there are {', '.join(sections) or 'none below'}"
            )
        model = nested
    table = Table(
        "setting", "default", "what it does", box=None, title=model.__doc__ and model.__doc__.split("\n")[0]
    )
    for key, info in model.model_fields.items():
        nested = _model_in(info.annotation)
        about = (
            info.description or (nested.__doc__ or "").split("\n")[0] if nested else info.description or ""
        )
        more = f" [dim](mmrlhf config {f'{name}.' if name else ''}{key})[/]" if nested else ""
        table.add_row(key, _shown(info.default), about + more)
    Console().print(table)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation if annotation.model_fields else None
    return next((found for item in get_args(annotation) if (found := _model_in(item))), None)


def _shown(default: Any) -> str:
    if default is PydanticUndefined:
        return "[bold]required[/]"
    return (
        "..."
        if isinstance(default, BaseModel)
        or (isinstance(default, list) and default and isinstance(default[0], BaseModel))
        else str(default)
    )
