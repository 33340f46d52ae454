"""``dosimeter selftest``: the tool examines itself."""

from __future__ import annotations

import importlib
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from dosimeter.cli.options import AsJson

if TYPE_CHECKING:
    from dosimeter.selftest.report import SelftestReport


class SelftestName(StrEnum):
    """Self-tests, each a module of ``dosimeter.selftest`` with a ``run``."""

    kill = "kill"
    loaders = "loaders"


def selftest(
    name: Annotated[
        SelftestName, typer.Argument(help="kill: resume after kill -9. loaders: malicious files.")
    ],
    engine: Annotated[
        str, typer.Option(metavar="local|ray", help="Of kill: where the killed audit works.")
    ] = "local",
    as_json: AsJson = False,
) -> int:
    """Examine the tool itself."""
    from dosimeter.cli.display import print_entry, print_json, print_text, reporting
    from dosimeter.core.errors import InputError
    from dosimeter.study.engine import engine_named

    options = {}
    if engine != "local":
        if name != SelftestName.kill:
            raise InputError(f"--engine is an option of 'selftest kill'; leave it out for {name.value}.")
        engine_named(engine)
        options = {"engine": engine}
    with reporting():
        found: SelftestReport = importlib.import_module(f"dosimeter.selftest.{name.value}").run(**options)
    code = 0 if found.ok else 1
    if as_json:
        print_json({**found.as_dict(), "exit_code": code})
        return code
    passed = sum(case.ok for case in found.cases)
    for case in sorted(found.cases, key=lambda case: not case.ok):
        detail = f" ({case.detail})" if case.detail else ""
        print_entry("pass" if case.ok else "FAIL", f"{case.name}: {case.what}: {case.outcome}{detail}")
    print_text(f"selftest {found.name}: {passed} of {len(found.cases)} passed")
    return code
