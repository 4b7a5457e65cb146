"""The command line of the data tools: `mmrlhf data ...`; each command is a file of `data_tools.commands`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from data_tools.commands import audit, build, check, convert, export, preview
from data_tools.paths import user_path
from data_tools.printing import PlainConsole, mute_libraries, say

app = typer.Typer(
    name="data",
    help="Make data sets of preferences, demonstrations and prompts, and look into them.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


@app.command(
    epilog="Examples:\n\n  mmrlhf data stats data/mix\n\n  mmrlhf data stats data/mix --json | jq .length"
)
def stats(
    directory: Annotated[
        Path, typer.Argument(help="A finished data directory.", metavar="DIR", parser=user_path)
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of tables.")] = False,
) -> None:
    """Count what a data directory holds, and audit whether longer answers are the chosen ones."""
    import json

    from data_tools.stats import stats as compute
    from data_tools.stats import table

    row = compute(directory)
    if as_json:
        say(json.dumps(row, indent=1))
    else:
        PlainConsole().print(table(row))


app.command("build", epilog=build.EPILOG)(build.build)
app.command("convert", epilog=convert.EPILOG)(convert.convert)
app.command("audit", cls=audit.AuditCommand)(audit.audit)
app.command("check", epilog=check.EPILOG)(check.check)
app.command("preview", epilog=preview.EPILOG)(preview.preview)
app.command("export", epilog=export.EPILOG)(export.export)


def main(arguments: list[str] | None = None) -> None:
    """The data tools on their own (`python -m data_tools.cli`): a user's mistake is a message and exit code 2.

    Within `mmrlhf data`, mmrlhf's own command line does this.
    """
    from data_tools.errors import RunError, UserError

    mute_libraries()
    try:
        app(arguments)
    except (UserError, RunError) as error:
        say(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)


if __name__ == "__main__":
    main()
