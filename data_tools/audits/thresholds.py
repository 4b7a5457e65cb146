"""Conditions on an audit's numbers, such as `blind_accuracy>0.6` or `test.image-text.blind_accuracy.low>0.5`."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from data_tools.audits.base import Finding, Scope
from data_tools.audits.run import distinct, known_metrics
from data_tools.errors import UserError
from data_tools.intervals import Estimate

OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_FORM = re.compile(r"(?P<name>[^<>=]+?)\s*(?P<sign>>=|<=|>|<)\s*(?P<value>[^<>=]+)")
_ENDS = (".low", ".high")


@dataclass(frozen=True)
class Threshold:
    """Fails where `metric` is beyond `value`. `where` is a part of the data ("" for all of it), `end` an end of the
    interval instead of the number itself."""

    text: str
    where: str
    metric: str
    end: str
    sign: str
    value: float


def parse_threshold(text: str, only: Sequence[str] = ()) -> Threshold:
    """Reads `[SPLIT.][MODALITY.][OBJECTIVE.][SOURCE.]METRIC[.low|.high] OP VALUE`; `only` names the audits that run.

    Raises:
        UserError: it has another form, or no audit that runs gives such a metric.
    """
    match = _FORM.fullmatch(text.strip())
    try:
        value = float(match["value"]) if match else math.nan
    except ValueError:
        value = math.nan
    if match is None or not math.isfinite(value):
        raise UserError(
            f"--fail-on {text!r}: write METRIC OP NUMBER, such as blind_accuracy>0.6 or "
            "image-text.blind_accuracy.low>0.5, with one of > >= < <="
        )
    name, end = match["name"], ""
    for possible in _ENDS:
        if name.endswith(possible):
            name, end = name.removesuffix(possible), possible[1:]
    where, _, metric = name.rpartition(".")
    if metric not in known_metrics(only):
        which = (
            f"the audits {', '.join(only)} give none" if metric in known_metrics() else "there is no metric"
        )
        raise UserError(
            f"--fail-on {text!r}: {which} {metric!r}; there are: {', '.join(sorted(known_metrics(only)))}"
        )
    return Threshold(text.strip(), where, metric, end, match["sign"], value)


def broken(threshold: Threshold, findings: Sequence[Finding]) -> list[str]:
    """What fails, a sentence each; without a split in `where` every split is looked at. Where chance has a number of
    the metric, so is each source, objective and kind of prompt that is beyond it by more than luck.

    Raises:
        UserError: nothing was found under that name, or a number that isn't one: what can't be told doesn't pass.
    """
    of_metric = [finding for finding in findings if finding.metric == threshold.metric]
    chosen = _chosen(threshold, of_metric)
    if not chosen:
        raise UserError(
            f"--fail-on {threshold.text!r}: the data has no such number; of {threshold.metric} there are: "
            f"{', '.join(dict.fromkeys(str(finding.scope) for finding in of_metric)) or 'none'}"
        )
    failed = []
    for finding in [*chosen, *_beyond_luck(threshold, of_metric, chosen)]:
        number = _number(threshold, finding)
        if math.isnan(number):
            raise UserError(
                f"--fail-on {threshold.text!r}: {threshold.metric} of {finding.scope} isn't defined (NaN)"
            )
        if OPERATORS[threshold.sign](number, threshold.value):
            name = f"{threshold.metric}.{threshold.end}" if threshold.end else threshold.metric
            failed.append(f"{finding.scope}: {name} is {number:.4g} ({threshold.text})")
    return failed


def _beyond_luck(
    threshold: Threshold, findings: Sequence[Finding], chosen: Sequence[Finding]
) -> list[Finding]:
    """Of a metric that chance has a number of, the narrower parts of those chosen that are beyond it by more than luck,
    on the side that the condition looks to: a small source that is solved may not hide in a large one that isn't.
    """
    base = known_metrics()[threshold.metric].base
    if base is None:
        return []
    upwards = threshold.sign in (">", ">=")
    found = [
        finding
        for finding in findings
        if isinstance(finding.value, Estimate)
        and (finding.value.low > base if upwards else finding.value.high < base)
        and any(finding.scope != wide.scope and _covers(wide.scope, finding.scope) for wide in chosen)
    ]
    same = {(wide.scope.split, repr(wide.value)) for wide in chosen}
    return [other for other in distinct(found) if (other.scope.split, repr(other.value)) not in same]


def _number(threshold: Threshold, finding: Finding) -> float:
    if not threshold.end:
        return finding.number
    if not isinstance(finding.value, Estimate):
        raise UserError(f"--fail-on {threshold.text!r}: {threshold.metric} has no interval")
    return finding.value.low if threshold.end == "low" else finding.value.high


def _chosen(threshold: Threshold, findings: Sequence[Finding]) -> list[Finding]:
    """The findings of the part of the data that is meant, each as wide as there is one."""
    meanings = _meanings(threshold.where, {finding.scope for finding in findings})
    if len(meanings) > 1:
        raise UserError(
            f"--fail-on {threshold.text!r}: {threshold.where!r} may be {' or '.join(map(_spelled, meanings))}; "
            "name more of them"
        )
    if not meanings:
        return []
    inside = [finding for finding in findings if _covers(meanings[0], finding.scope)]
    return [
        finding
        for finding in inside
        if not any(other.scope != finding.scope and _covers(other.scope, finding.scope) for other in inside)
    ]


def _meanings(where: str, scopes: set[Scope]) -> list[Scope]:
    """The parts of the data that a dotted name can mean; names may hold dots themselves."""
    found = {(Scope(), where)}
    done: set[Scope] = set()
    while found:
        scope, rest = found.pop()
        if not rest:
            done.add(scope)
            continue
        for field, name in {item for known in scopes for item in vars(known).items()}:
            if name and not getattr(scope, field) and f"{rest}.".startswith(f"{name}."):
                found.add((replace(scope, **{field: name}), rest[len(name) + 1 :]))
    return sorted(scope for scope in done if any(_covers(scope, known) for known in scopes))


def _covers(wide: Scope, narrow: Scope) -> bool:
    return all(not name or getattr(narrow, field) == name for field, name in vars(wide).items())


def _spelled(scope: Scope) -> str:
    return " and ".join(f"{field} {name}" for field, name in vars(scope).items() if name)
