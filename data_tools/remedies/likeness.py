"""What makes a view's records alike (`data_tools.audits.likeness`)."""

from __future__ import annotations

from data_tools.audits.likeness import Likeness
from data_tools.audits.pictures import Pictures
from data_tools.remedies.base import View


def likeness_of(view: View) -> Likeness:
    """The likeness of all records of a view, in their order; reads and decodes every picture."""
    likeness = Likeness(Pictures(lambda split, index: view.record(index)))
    for index, row in enumerate(view.rows()):
        likeness.add("", index, row)
    return likeness
