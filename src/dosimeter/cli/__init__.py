"""The command line: commands parse, call the function a library user would call, and print.

Exit codes are the same for every command: 0 pass, 1 a policy or claim does not hold, 2 undetermined, 3 something could
not be completed, 4 the input or usage is wrong, 130 interrupted. Nothing outside this package prints.
"""

from dosimeter.cli.app import app


def main() -> None:
    """Entry point of the ``dosimeter`` command."""
    app()
