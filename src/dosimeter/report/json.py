"""The outcome as one JSON document: every number of the page, unrounded, and every row that the page leaves out."""

from __future__ import annotations

from dosimeter.core.errors import InputError
from dosimeter.study.outcome import StudyOutcome


def render_json(outcome: StudyOutcome) -> str:
    """The text of ``report.json``; ``StudyOutcome.model_validate_json`` gives the outcome back.

    Raises:
        InputError: a table or a figure holds something that JSON cannot.
    """
    try:
        return outcome.to_json() + "\n"
    except ValueError as error:
        raise InputError(
            f"run '{outcome.run}' cannot be written as JSON: {error}. Give tables and figures of results plain "
            "numbers, valid text, lists and None."
        ) from error
