import json
import math

import numpy as np
import pytest

from dosimeter.core.claim import Claim, Reproduction


def claim(value=1.0, relation=">=", bound=0.5, **more):
    return Claim(name="c", statement="it holds", value=value, relation=relation, bound=bound, **more)


def reproduction(*claims):
    return Reproduction(slug="a-system", size="quick", seed=0, seconds=1.5, claims=list(claims))


@pytest.mark.parametrize(
    ("value", "relation", "bound", "holds"),
    [
        (1, ">=", 1, True),
        (0.99, ">=", 1, False),
        (1, "<=", 1, True),
        (1.01, "<=", 1, False),
        (1, "==", 1, True),
        (1.5, "==", 1, False),
        (math.nan, "<=", 1, False),
        (math.nan, "==", math.nan, False),
        (math.inf, ">=", 1, False),
        (-math.inf, "<=", 1, False),
    ],
)
def test_a_relation_holds_for_finite_values_only(value, relation, bound, holds):
    assert claim(value, relation, bound).holds is holds


@pytest.mark.parametrize(
    ("claims", "exit_code"),
    [
        ([claim(), claim(control=True)], 0),
        ([claim(0.1), claim(control=True)], 1),
        ([claim(0.1, open="needs more data"), claim(control=True)], 0),
        ([claim(), claim(0.1, control=True)], 1),
        ([claim(), claim()], 1),
        ([], 1),
    ],
    ids=["holds", "fails", "open", "control fails", "no control", "nothing"],
)
def test_exit_code(claims, exit_code):
    assert reproduction(*claims).exit_code == exit_code


def test_an_open_claim_still_shows_as_not_holding():
    shown = claim(0.1, open="needs more data").as_dict()
    assert (shown["holds"], shown["open"]) == (False, "needs more data")


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, float])
def test_json_whatever_kind_of_number_was_measured(kind):
    run = reproduction(claim(kind(2), bound=kind(1), low=kind(1), high=kind(3), control=True))
    document = json.loads(json.dumps(run.as_dict(), allow_nan=False))
    assert document == {
        "slug": "a-system",
        "size": "quick",
        "seed": 0,
        "seconds": 1.5,
        "claims": [
            {
                "name": "c",
                "statement": "it holds",
                "value": 2.0,
                "relation": ">=",
                "bound": 1.0,
                "low": 1.0,
                "high": 3.0,
                "control": True,
                "open": None,
                "holds": True,
            }
        ],
        "tables": [],
    }


def test_what_is_not_finite_is_null_in_json():
    shown = claim(math.nan, low=-math.inf, high=np.float64("nan")).as_dict()
    assert (shown["value"], shown["low"], shown["high"], shown["holds"]) == (None, None, None, False)
