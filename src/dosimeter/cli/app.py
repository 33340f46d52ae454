"""The command group: registers the commands and turns whatever happens into one sentence and an exit code."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from dosimeter.cli import (
    audit,
    compare,
    init,
    list_methods,
    plan,
    report,
    reproduce,
    runs,
    selftest,
    serve,
    show,
)
from dosimeter.core.errors import DosimeterError, SpecError

_COULD_NOT_COMPLETE, _WRONG_INPUT, _INTERRUPTED = 3, 4, 130
# Typer has no public name for the base class of its usage errors.
_UsageError: type[Exception] = typer.BadParameter.__bases__[0]


class ExitCodeGroup(TyperGroup):
    """A command group whose exit codes are Dosimeter's, and whose errors are one JSON document where that is asked for."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        given = list(sys.argv[1:] if args is None else args)
        # Pillow logs what is wrong with a picture before it raises, and Python prints what no handler takes.
        logging.getLogger("PIL").setLevel(logging.CRITICAL)
        try:
            code = super().main(given, *rest, **{**options, "standalone_mode": False})
            if code == _INTERRUPTED:  # how Typer hands on Ctrl-C
                raise KeyboardInterrupt
        except _UsageError as error:
            message: str = error.format_message().replace("Value error, ", "")  # type: ignore[attr-defined]
            hint = " Run it with --help to see its usage." if given else ""
            end = "" if message.endswith((".", "?", "!")) or not given else "."
            code = _fail(message + end + hint, _WRONG_INPUT, given)
        except DosimeterError as error:
            problems = error.problems if isinstance(error, SpecError) else None
            code = _fail(str(error), error.exit_code, given, problems)
        except (KeyboardInterrupt, typer.Abort):
            code = _fail(
                f"interrupted. {_RESUME if given[:1] == ['audit'] else ''}".strip(), _INTERRUPTED, given
            )
        except Exception as error:
            traceback.print_exc()
            code = _fail(f"a bug: {type(error).__name__}: {error}", _COULD_NOT_COMPLETE, given)
        sys.exit(code if isinstance(code, int) else 0)


_RESUME = "Start the same command again to go on; what was answered and finished is kept."


def _fail(message: str, code: int, given: list[str], problems: list[str] | None = None) -> int:
    print(message, file=sys.stderr)
    if "--json" in given:
        details = {"problems": problems} if problems else {}
        print(json.dumps({"error": message, "exit_code": code, **details}))
    return code


app = typer.Typer(
    cls=ExitCodeGroup,
    name="dosimeter",
    help="Measure what a machine-learning model leaks and what protecting it costs.",
    epilog="Exit codes: 0 pass, 1 policy or claim does not hold, 2 undetermined, 3 could not be completed, "
    "4 wrong input or usage, 130 interrupted.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"dosimeter {version('dosimeter')}")
        raise typer.Exit


@app.callback()
def options(
    _: Annotated[
        bool,
        typer.Option("--version", help="Show the version and exit.", callback=_print_version, is_eager=True),
    ] = False,
) -> None:
    """What stands before the name of a command."""


app.command("audit")(audit.audit)
app.command("plan")(plan.plan)
app.command("reproduce")(reproduce.reproduce)
app.command("list")(list_methods.list_methods)
app.command("show")(show.show)
app.command("init")(init.init)
app.command("runs")(runs.runs)
app.command("report")(report.report)
app.command("compare")(compare.compare)
app.command("selftest")(selftest.selftest)
app.command("serve")(serve.serve)
