"""What YAML holds, with a bound on what its aliases stand for.

A few lines of aliases to aliases stand for more values than any machine holds (a "billion laughs" bomb); an alias
inside what it names has no end at all.
"""

from __future__ import annotations

import yaml

MOST_VALUES = 1_000_000  # that a file may stand for


def count_values(node: yaml.Node) -> int:
    """How many values a node stands for, each alias counted for all that it names, up to a little over `MOST_VALUES`.

    Raises:
        ValueError: it holds itself.
    """
    counted: dict[int, int] = {}
    at_work: set[int] = set()

    def count(node: yaml.Node) -> int:
        key = id(node)
        if key in at_work:
            raise ValueError("an alias (*) names what it stands in")
        if key not in counted:
            at_work.add(key)
            counted[key] = min(1 + sum(map(count, _below(node))), MOST_VALUES + 1)
            at_work.remove(key)
        return counted[key]

    return count(node)


def _below(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []
