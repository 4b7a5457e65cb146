"""Filling in a page. Everything that isn't the template's own is escaped: data sets hold untrusted text."""

from __future__ import annotations

from typing import Any


def render(template: str, **context: Any) -> str:
    """The page that a template of this folder makes of the values; a name that isn't given is an error."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("data_tools", "pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = "{:,}".format
    return environment.get_template(template).render(**context)
