"""Exceptions that are told to the user as a message.

Everything that reads input raises ``UserError`` with a message that names the file, row or key and says what
to do; the command line prints the message without a traceback and exits with code 2. ``RunError`` is for what
went wrong in a run itself, such as a loss that is not finite: code 1, also without a traceback. Any other
exception is our own bug and exits with code 1.
"""


class UserError(Exception):
    """A mistake in the input, the config or the command, with a message that says what to do about it."""


class PromptRefused(UserError):
    """A prompt that can't be used; training leaves it out, tells of it by name and counts it, up to a bound.

    `remedy` is what to do where there are too many.
    """

    remedy = "mend the data"


class RunError(Exception):
    """A run that can't go on through no mistake of the user's command: a clear message, and exit code 1."""


class Stopped(Exception):
    """SIGTERM or Ctrl-C (`interrupted`) came; the run is saved up to its last whole step."""

    def __init__(self, message: str, interrupted: bool = False) -> None:
        super().__init__(message)
        self.interrupted = interrupted
