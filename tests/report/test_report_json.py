import json

import numpy as np
import pytest

from dosimeter.core.errors import InputError
from dosimeter.core.result import Table
from dosimeter.report.json import render_json
from dosimeter.study.outcome import CellOutcome, StudyOutcome


def test_round_trip(outcome):
    assert StudyOutcome.model_validate_json(render_json(outcome)) == outcome


def test_hostile_texts_are_data(hostile):
    document = json.loads(render_json(hostile))
    assert document["cells"][0]["result"]["title"] == "<script>alert(1)</script>"
    assert document["cells"][0]["result"]["tables"][0]["rows"][0][1] is None


@pytest.mark.parametrize("value", ["half \ud83d", np.float32(0.5), object()])
def test_what_json_cannot_hold_is_named(outcome, value):
    table = Table.model_construct(name="t", title="t", columns=["c"], rows=[[value]], caption="")
    result = outcome.cells[0].result.model_copy(update={"tables": [table]})
    broken = outcome.model_copy(update={"cells": [CellOutcome(cell=outcome.cells[0].cell, result=result)]})
    with pytest.raises(
        InputError, match=r"run '20260314-102205-7f3a' cannot be written as JSON.*plain numbers"
    ):
        render_json(broken)
