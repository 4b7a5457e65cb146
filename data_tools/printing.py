"""All that commands print goes through here: names, paths and answers come from others' files, and are text.

Rich would read `[b]` in them as markup, and a terminal would obey the control characters in them: set colours and the
window's title, move the cursor over what stands there, turn the direction of writing round. They are printed as JSON
writes them, such as \\u001b.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import warnings
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import TextColumn
from rich.text import Text

if TYPE_CHECKING:
    from rich.progress import Task

# C0 but for tab and new line, DEL and C1; turns of direction; halves of characters, which no terminal takes
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def visible(text: str) -> str:
    """The text with every control character spelled out."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def say(text: object, err: bool = False) -> None:
    """Prints a line, on stderr where `err`."""
    print(visible(str(text)), file=sys.stderr if err else sys.stdout, flush=True)


def mute_libraries() -> None:
    """Keeps warnings and log lines of libraries off the terminal, in this process and those that it starts: they speak
    to programmers. `python -W default` or PYTHONWARNINGS=default brings warnings back."""
    logging.getLogger().setLevel(logging.ERROR)
    logging.getLogger("mmrlhf").setLevel(logging.WARNING)
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        os.environ["PYTHONWARNINGS"] = "ignore"


class PlainConsole(Console):
    """Rich's console, for tables and styles, that takes every text as it is; what is to be styled is a `Text`."""

    def __init__(self, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **settings: Any) -> Text:
        return super().render_str(visible(text), **settings)


class PlainColumn(TextColumn):
    """A column of a progress bar that takes its text as it is."""

    def __init__(self, form: str, style: str = "none") -> None:
        super().__init__(form, style, markup=False)

    def render(self, task: Task) -> Text:
        return Text(visible(self.text_format.format(task=task)), self.style)


def styled(text: str, style: str) -> Text:
    """A text of one style."""
    return Text(visible(text), style)
