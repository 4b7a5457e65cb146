"""Strict YAML into typed configs: unknown keys, wrong types and impossible values are refused with their
path.

Paths are expanded (`data_tools.paths`): those of fields of type `Path`, and texts of type `PathText`. What is left out
on purpose: includes, and interpolation anywhere else. A config is one file that says all.
"""

from __future__ import annotations

import difflib
import importlib
import operator
import os
import re
import sys
import types
from pathlib import Path
from typing import Annotated, Any, ClassVar, TypeVar, Union, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainSerializer,
    SerializationInfo,
    ValidationError,
    ValidationInfo,
    field_validator,
)
from pydantic_core import PydanticCustomError

from data_tools.errors import UserError
from data_tools.inputs import did_you_mean
from data_tools.numbers import check_numbers
from data_tools.paths import expand_path
from data_tools.yaml_values import MOST_VALUES, count_values

ConfigT = TypeVar("ConfigT", bound=BaseModel)


def expand_paths(value: Any) -> Any:
    """A path of a config, or several, with every text among them expanded; raises ValueError, as validators do."""
    if isinstance(value, list | tuple):
        return [expand_paths(item) for item in value]
    try:
        return expand_path(value) if isinstance(value, str) else value
    except UserError as error:
        raise ValueError(str(error)) from None


def _holds_path(annotation: Any) -> bool:
    return annotation is Path or any(map(_holds_path, get_args(annotation)))


# a text that may be a path, or something else, such as the name of a model on the hub
PathText = Annotated[str, AfterValidator(expand_paths)]


class Config(BaseModel):
    """Base of every config: immutable, refuses unknown keys, expands paths; class defaults are the vetted settings."""

    model_config: ClassVar[ConfigDict] = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _check_value(cls, value: Any, info: ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        check_numbers(value, field.annotation, field.metadata)
        return expand_paths(value) if _holds_path(field.annotation) else value


class _Refused(Exception):
    """YAML that is valid and yet not read, because it is more likely a mistake; `line` is where."""

    def __init__(self, why: str, node: yaml.Node) -> None:
        super().__init__(why)
        self.line = node.start_mark.line + 1


class _Loader(yaml.SafeLoader):
    """PyYAML reads `3e-6` as text and lets a key stand twice; both have cost people a run."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)
# the resolver above also matches whole numbers; those stay integers
for _first, _resolvers in _Loader.yaml_implicit_resolvers.items():
    _Loader.yaml_implicit_resolvers[_first] = sorted(
        _resolvers, key=lambda r: r[0] != "tag:yaml.org,2002:int"
    )


def _mapping_without_twins(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: dict[Any, int] = {}
    for key_node, _ in node.value:
        if key_node.tag == "tag:yaml.org,2002:merge":
            raise _Refused("merge keys (<<) are not supported; write the keys out", key_node)
        if not isinstance(key_node, yaml.ScalarNode):
            raise _Refused(
                "a key must be a plain word, not a mapping or list; a template such as {{ name }} isn't "
                "filled in here, and a text with braces needs quotes",
                key_node,
            )
        key = loader.construct_object(key_node, deep=True)
        if key in seen:
            raise _Refused(f"the key {key!r} stands twice (first on line {seen[key]})", key_node)
        seen[key] = key_node.start_mark.line + 1
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping_without_twins)


def _load(text: str, where: str) -> Any:
    """The value that YAML stands for; raises UserError with `where` and, where it is one line's, the line."""
    try:
        loader = _Loader(text)
        loader.name = where
        node = loader.get_single_node()
        if node is None:
            return None
        if count_values(node) > MOST_VALUES:
            raise UserError(
                f"{where}: its aliases (*) stand for more than {MOST_VALUES:,} values; write out what is meant"
            )
        return loader.construct_document(node)
    except _Refused as error:
        raise UserError(f"{where}, line {error.line}: {error}") from None
    # a ValueError, where a tag or the form of a date promises more than the value holds
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{where} is not valid YAML: {error}") from error


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping a YAML file holds.

    Raises:
        UserError: no such file, not YAML, a key twice, a merge (<<), a key that is no plain word, or not a mapping;
            the message names the file and line.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UserError(f"{path}: no such config file.{did_you_mean(path, '*.y*ml')}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: can't be read as UTF-8 text ({error})") from error
    row = _load(text, str(path))
    if not isinstance(row, dict):
        raise UserError(f"{path}: holds {type(row).__name__}, not a mapping of settings (key: value)")
    return row


def apply_overrides(row: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A copy of `row` with every `a.b.c=value` put in (values are read as YAML; lists take an index:
    `a.0.b=1`).
    """

    def copy(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: copy(item) for key, item in value.items()}
        return [copy(item) for item in value] if isinstance(value, list) else value

    out = copy(row)
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            raise UserError(f"--set {override}: write it as a.b=value")
        value = _load(text, f"--set {override}: the value")
        *parents, last = path.split(".")
        place: Any = out
        for key in parents:
            place = _step(place, key, override, create=True)
        if isinstance(place, list):
            _step(place, last, override, create=False)
            place[int(last)] = value
        elif isinstance(place, dict):
            place[last] = value
        else:
            raise UserError(
                f"--set {override}: {'.'.join(parents)} is a single value, it has no key {last!r}"
            )
    return out


def _step(place: Any, key: str, override: str, create: bool) -> Any:
    if isinstance(place, list):
        if not key.isdigit() or int(key) >= len(place):
            raise UserError(f"--set {override}: {key!r} is no index of a list of {len(place)}")
        return place[int(key)]
    if not isinstance(place, dict):
        raise UserError(f"--set {override}: there is nothing to set below {key!r}")
    if create and place.get(key) is None:
        place[key] = {}
    return place.get(key)


def parse_config(row: dict[str, Any], model: type[ConfigT], where: str) -> ConfigT:
    """`row` as a `model`; `where` names its origin in messages.

    Raises:
        UserError: one line a mistake, each with the path of the key and, for unknown keys, the nearest valid
            name.
    """
    try:
        return model.model_validate(row)
    except ValidationError as error:
        raise UserError("\n".join(f"{where}: {line}" for line in explain(error, model))) from None


def load_config(path: str | Path, model: type[ConfigT], overrides: list[str] | None = None) -> ConfigT:
    """Reads, overrides and validates a config file; raises `UserError` with every mistake found."""
    return parse_config(apply_overrides(read_yaml(path), overrides or []), model, str(path))


def dump_yaml(config: BaseModel) -> str:
    """The whole config, defaults included, as YAML that `load_config` reads back."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def validate_nested(row: Any, model: type[ConfigT]) -> ConfigT:
    """For a validator of a field that holds a `model`: validates so that mistakes inside keep the path of their key."""
    try:
        return model.model_validate(row)
    except ValidationError as error:
        # `explain` puts these lines behind the path of the field
        raise PydanticCustomError("nested", "{lines}", {"lines": explain(error, model, root="")}) from None


def explain(
    error: ValidationError, model: type[BaseModel], most: int | None = None, root: str = "the file"
) -> list[str]:
    """One line a mistake, each with the path of the key, at most `most` of them; a mistake of `model` as a whole is one
    of `root`."""
    lines = []
    for item in error.errors(include_url=False)[:most]:
        loc = [str(part) for part in item["loc"]]
        path = ".".join(loc) or root
        if item["type"] == "extra_forbidden":
            known = _keys_at(model, loc[:-1])
            near = difflib.get_close_matches(loc[-1], known, n=1, cutoff=0.5)
            hint = (
                f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(sorted(known)) or 'none'}"
            )
            lines.append(f"{path}: unknown key; {hint}")
        elif item["type"] == "missing":
            lines.append(f"{path}: missing; it has no default")
        elif item["type"] == "nested":
            # a nested mistake of the whole section has no path of its own
            lines += [f"{path}{line if line[0] == ':' else f'.{line}'}" for line in item["ctx"]["lines"]]
        else:
            got = item.get("input")
            shown = f" (got {got!r})" if isinstance(got, str | int | float | bool) or got is None else ""
            why = item["msg"].removeprefix("Value error, ")
            if item["type"] == "string_pattern_mismatch" and (field := model.model_fields.get(loc[-1])):
                why = f"doesn't fit. {field.description}"  # which says it in words, unlike the pattern
            lines.append(f"{path}: {why}{shown}")
    return lines


def _keys_at(annotation: Any, loc: list[str]) -> list[str]:
    """The field names of the config that `loc` leads to from `annotation` (every union member counts)."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _keys_at(arguments[0], loc)
    if origin in (Union, types.UnionType):
        return [key for member in arguments for key in _keys_at(member, loc)]
    if origin in (dict, list, tuple):
        return _keys_at(arguments[1 if origin is dict else 0], loc[1:]) if loc else []
    if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
        return []
    if not loc:
        return list(annotation.model_fields)
    info = annotation.model_fields.get(loc[0])
    return _keys_at(info.annotation, loc[1:]) if info else []


class _Plugins:
    """The members of a plug-in family by their `type`, and the reader of a row of one."""

    def __init__(self, members: tuple[type[Config], ...], functions: type[Config] | None) -> None:
        self.members = {member.model_fields["type"].default: member for member in members}
        self.functions = functions

    def read(self, row: Any) -> Any:
        if isinstance(row, Config):
            return row
        if isinstance(row, str):
            row = {"type": row}
        if not isinstance(row, dict) or not isinstance(row.get("type"), str):
            # a ValueError, because that is what pydantic reports with the path of the key
            own = "your_package.module:Class" + (" or :function" if self.functions else "")
            raise ValueError(f"needs a type: one of {', '.join(self.members)}, or {own}")
        name = row["type"]
        if ":" in name:
            row = {key: value for key, value in row.items() if key != "type"}
            member = import_object(name)
            if self.functions and callable(member) and not isinstance(member, type):
                row, member = {**row, "function": name}, self.functions
            elif not (isinstance(member, type) and issubclass(member, Config)):
                also = ", nor a function" if self.functions else ""
                raise ValueError(f"{name} is not a class made from data_tools.config.Config{also}")
        elif name in self.members:
            member = self.members[name]
        else:
            near = difflib.get_close_matches(name, self.members, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"unknown type {name!r}.{hint} Known: {', '.join(self.members)}")
        return validate_nested(row, member)

    def write(self, value: Config, info: SerializationInfo) -> dict[str, Any]:
        """The row that `read` takes back: a class that is no member is named by its module."""
        row = value.model_dump(
            mode=info.mode, exclude_unset=info.exclude_unset, exclude_defaults=info.exclude_defaults
        )
        row.pop("type", None)
        member = type(value)
        own = f"{member.__module__}:{member.__qualname__}"
        return {"type": next((name for name, other in self.members.items() if other is member), own), **row}


def plugin(*members: type[Config], functions: type[Config] | None = None) -> Any:
    """The field type of a plug-in family: a row whose `type` names a member, or a user's own
    `package.module:Class`.

    Each member is a `Config` with a field `type: Literal["name"] = "name"`; a user's class needs none. Where plain
    functions may be named too, `functions` is the member that wraps one, which it names in its field `function`.
    """
    family = _Plugins(members, functions)
    return Annotated[Config, BeforeValidator(family.read), PlainSerializer(family.write), family]


def plugin_name(config: Config) -> str:
    """What messages call a plug-in: its `type`, or the name of a user's class, which has none."""
    return str(getattr(config, "type", type(config).__name__))


def import_object(name: str) -> Any:
    """What `package.module:Name` names; raises ValueError saying which half is not there.

    Modules in the working directory count, also where the program is a command, for which Python doesn't look there.
    """
    here = os.getcwd()
    if here not in sys.path:
        sys.path.append(here)
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, SyntaxError) as error:
        raise ValueError(f"{name}: can't import {module_name} ({error})") from error
    try:
        return operator.attrgetter(attribute)(module)  # a class may stand in another
    except AttributeError:
        raise ValueError(f"{name}: {module_name} has no {attribute}") from None
