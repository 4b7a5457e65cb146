"""How templates of pages are read, and how they show numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

# nothing is fetched and no script runs, whatever stands in the data
CONTENT_POLICY = Markup(
    '<meta http-equiv="Content-Security-Policy" '
    "content=\"default-src 'none'; img-src data:; style-src 'unsafe-inline'\">"
)


def environment(package: str) -> Environment:
    """The templates of a package, and the style sheet `page.css`; everything that isn't markup is escaped, and what
    isn't there is an error."""
    made = Environment(
        loader=ChoiceLoader([PackageLoader(package, "."), PackageLoader("data_tools.pages", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= FILTERS
    made.globals["content_policy"] = CONTENT_POLICY
    return made


def _minus(text: str) -> str:
    """The text with a proper minus sign."""
    return text.replace("-", "\N{MINUS SIGN}")


def _with_interval(form: str, scale: float = 1, unit: str = "") -> Callable[[dict[str, Any] | None], Markup]:
    """A filter that shows an estimate with its interval in small print, where it has one; a dash where there is no
    estimate."""

    def show(estimate: dict[str, Any] | None) -> Markup:
        if estimate is None:
            return Markup("<span class=none>–</span>")
        if estimate["low"] is None:
            return Markup("{}{}<small>no interval</small>").format(
                _minus(form.format(scale * estimate["mean"])), unit
            )
        mean, low, high = (_minus(form.format(scale * estimate[key])) for key in ("mean", "low", "high"))
        return Markup("{}{}<small>{} to {}</small>").format(mean, unit, low, high)

    return show


def longer(value: float | None) -> str:
    """A relative change of length in words: "4% longer"."""
    if value is None:
        return "of unknown length"
    if abs(value) < 0.005:
        return "as long"
    return f"{abs(value):.0%} {'longer' if value > 0 else 'shorter'}"


def relative(value: float | None) -> str:
    """A relative change: "+4%"."""
    return "–" if value is None else _minus(f"{value:+.0%}")


FILTERS: dict[str, Callable[..., Any]] = {
    "share": _with_interval("{:.1f}", 100, "%"),
    "reward": _with_interval("{:+.2f}"),
    "plain": _with_interval("{:.1f}"),
    "small": _with_interval("{:.3f}"),
    "points": _with_interval("{:+.1f}", 100),
    "longer": longer,
    "relative": relative,
    "figure_class": lambda name: Markup(' class="{}"').format(name) if name else "",
    "number": lambda value: _minus(f"{value:.2f}"),
    "signed_number": lambda value: _minus(f"{value:+.2f}"),
    "signed_points": lambda value: _minus(f"{100 * value:+.1f}"),
}
